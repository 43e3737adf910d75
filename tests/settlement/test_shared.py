"""What bundles share is verified once, and never lets through what alone would be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from attestation.document import Attestation
from attestation.errors import QuotaryError, UntrustedError
from attestation.recent import Recent, Same
from attestation.settlement.attested import AttestationVerifier
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.parts import PartReader, TradePart, WrittenParts, split_bundle
from attestation.settlement.recompute import SettlementVerifier, recompute
from attestation.trust import Trust
from attestation.venues import shipped_venues
from tests.settlement import samples, world
from tests.settlement.day import Day, a_day


def verifier(day: Day, trust: Trust | None = None) -> SettlementVerifier:
    return SettlementVerifier(
        trust=world.trust(day.policy) if trust is None else trust,
        log_policy=world.log_policy(1),
        venue_files=shipped_venues(),
    )


def expected(day: Day, trade: str | None = None) -> SettlementExpect:
    return SettlementExpect(policy_id=day.policy.policy_id, trade=trade)


def joined(day: Day) -> dict[str, SettlementBundle]:
    """The day's bundles, joined of parts that they share."""
    written, own = dict[str, bytes](), dict[str, TradePart]()
    once = WrittenParts()
    for trade, bundle in day.bundles.items():
        own[trade], parts = split_bundle(bundle, once)
        written |= parts
    reader = PartReader(written.__getitem__)
    return {trade: reader.join(part) for trade, part in own.items()}


def test_joined_bundles_are_those_that_were_split_and_share_what_they_have_in_common() -> None:
    day = a_day()
    bundles = joined(day)
    assert {trade: one.encode() for trade, one in bundles.items()} == {
        trade: one.encode() for trade, one in day.bundles.items()
    }
    assert len({id(one.logs) for one in bundles.values()}) == 2


def test_every_trade_comes_out_as_it_does_alone() -> None:
    day = a_day()
    known = verifier(day)
    for trade, bundle in joined(day).items():
        found = known.verify(bundle, expected(day, trade))
        alone = recompute(
            day.bundles[trade],
            trust=world.trust(day.policy),
            log_policy=world.log_policy(1),
            expect=expected(day, trade),
            venue_files=shipped_venues(),
        )
        assert found.outcome.encode() == alone.encode()


def _no_message(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, messages=bundle.messages[1:])


def _no_slot(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, slots=bundle.slots[1:])


def _signature(bundle: SettlementBundle) -> SettlementBundle:
    first, *rest = bundle.slots
    wrong = dataclasses.replace(first, signature="00" * 64)
    return dataclasses.replace(bundle, slots=(wrong, *rest))


def _no_session(bundle: SettlementBundle) -> SettlementBundle:
    (log,) = bundle.logs
    return dataclasses.replace(bundle, logs=(dataclasses.replace(log, sessions=log.sessions[1:]),))


def _no_entry(bundle: SettlementBundle) -> SettlementBundle:
    (log,) = bundle.logs
    return dataclasses.replace(bundle, logs=(dataclasses.replace(log, entries=log.entries[1:]),))


def _stake(bundle: SettlementBundle) -> SettlementBundle:
    leaf = dataclasses.replace(bundle.trade.leaf, stake="24")
    return dataclasses.replace(bundle, trade=dataclasses.replace(bundle.trade, leaf=leaf))


def _claim(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, settlement="sha256:" + "0f" * 32)


def _batch(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, batch=bundle.batch + 1)


@pytest.mark.parametrize(
    "tamper",
    [_no_message, _no_slot, _signature, _no_session, _no_entry, _stake, _claim, _batch],
)
def test_whatever_was_verified_before_a_changed_bundle_is_refused_as_it_is_alone(
    tamper: Callable[[SettlementBundle], SettlementBundle],
) -> None:
    day = a_day()
    known = verifier(day)
    bundles = joined(day)
    for trade, bundle in bundles.items():
        known.verify(bundle, expected(day, trade))
    for trade, bundle in bundles.items():
        changed = tamper(bundle)
        with pytest.raises(QuotaryError) as alone:
            verifier(day).verify(changed, expected(day, trade))
        for _ in range(2):
            with pytest.raises(QuotaryError) as caught:
                known.verify(changed, expected(day, trade))
            assert type(caught.value) is type(alone.value)
            assert (caught.value.rule, caught.value.detail) == (
                alone.value.rule,
                alone.value.detail,
            )
        known.verify(bundle, expected(day, trade))


def test_nothing_verified_passes_to_another_trust_policy_or_expectation() -> None:
    day = a_day()
    known = verifier(day)
    trade, bundle = next(iter(joined(day).items()))
    known.verify(bundle, expected(day, trade))
    with pytest.raises(UntrustedError):
        verifier(day, Trust()).verify(bundle, expected(day, trade))
    for wrong in (
        dataclasses.replace(expected(day, trade), policy_id="0f" * 32),
        dataclasses.replace(expected(day, trade), trade="0f" * 32),
        dataclasses.replace(expected(day, trade), operators=("nobody",)),
        dataclasses.replace(expected(day, trade), logged_by_us=1),
    ):
        with pytest.raises(QuotaryError):
            known.verify(bundle, wrong)
    other = SettlementVerifier(
        trust=world.trust(day.policy),
        log_policy=world.log_policy(3),
        venue_files=shipped_venues(),
    )
    with pytest.raises(QuotaryError):
        other.verify(bundle, expected(day, trade))
    none = SettlementVerifier(
        trust=world.trust(day.policy), log_policy=world.log_policy(1), venue_files={}
    )
    with pytest.raises(UntrustedError):
        none.verify(bundle, expected(day, trade))


def test_key_revoked_is_looked_up_for_every_use_of_what_was_verified() -> None:
    made = samples.settled(40)
    (attestation, *_) = made.attestations.values()
    issued_us = attestation.header.issued_us
    trust = world.trust(made.policy)
    revoked = Trust(
        keys=tuple([dataclasses.replace(key, revoked_at_us=issued_us + 10) for key in trust.keys])
    )
    known = AttestationVerifier(revoked)
    # In time it had been seen; then it is met again, seen after the key was revoked.
    known.slot(attestation, witnessed_us=issued_us + 5)
    for witnessed_us in (None, issued_us + 20):
        with pytest.raises(UntrustedError):
            known.slot(attestation, witnessed_us=witnessed_us)


def test_equal_objects_are_not_the_same() -> None:
    kept = Same[str](2)
    first, second = ["a"], ["a"]
    kept.keep(first, value="first")
    assert (kept.get(first), kept.get(second)) == ("first", None)
    for item in (["b"], ["c"]):
        kept.keep(item, value="other")
    assert kept.get(first) is None


def test_no_more_is_kept_than_was_asked_for() -> None:
    kept = Recent[int, int](3)
    for number in range(5):
        kept.keep(number, number)
        kept.get(2)
    assert [kept.get(number) for number in range(5)] == [None, None, 2, 3, 4]


def test_forged_attestation_is_refused_however_often_it_comes() -> None:
    made = samples.settled(40)
    (true, *_) = made.attestations.values()
    known = AttestationVerifier(world.trust(made.policy))
    forged = dataclasses.replace(true, signature="00" * 64)
    for attestation, holds in [(forged, False), (true, True), (forged, False), (true, True)]:
        assert _holds(known, attestation) is holds


def _holds(known: AttestationVerifier, attestation: Attestation) -> bool:
    try:
        known.slot(attestation)
    except QuotaryError:
        return False
    return True
