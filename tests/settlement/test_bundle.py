"""Bundles: nothing can be left out, and every cheat has an error of its own."""

from __future__ import annotations

import dataclasses
import gzip
import random
from typing import Any

import pytest

from attestation.document import ObservationField
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.hashing import hash_string
from attestation.log.entry import SlotEntry
from attestation.settlement.attested import verify_slot
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.messages import check_messages
from attestation.settlement.promise import Promise
from attestation.settlement.recompute import recompute
from attestation.settlement.rule import settle
from attestation.settlement.slots import LoggedSlot
from attestation.trust import Trust
from tests.adversaries import operator
from tests.adversaries.operator import honest, log_of
from tests.fuzz.edits import mutate_json
from tests.settlement import cases, world


@pytest.mark.parametrize("notaries", [1, 3])
@pytest.mark.parametrize(
    ("close", "outcome"), [(640_001, "up"), (640_000, "tie"), (639_999, "down")]
)
def test_honest_bundle_recomputes_to_its_claim(notaries: int, close: int, outcome: str) -> None:
    made = honest(close, notaries)
    bundle = SettlementBundle.decode(world.bundle(made).encode(), limit=BUNDLE_LIMIT)
    found = world.read(bundle, made.policy)
    assert found.outcome == outcome
    assert hash_string(found.encode()) == bundle.settlement


def test_every_random_case_comes_out_of_its_bundle_as_from_the_case_itself() -> None:
    outcomes = set()
    for seed in range(60):
        policy, terms, logged = cases.random_case(seed)
        policy = world.bound(policy)
        made = world.build(policy, terms, logged)
        found = world.read(world.bundle(made), policy)
        direct = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
        assert (found.outcome, found.fee, found.slid_us) == (
            direct.outcome,
            direct.fee,
            direct.slid_us,
        )
        outcomes.add(found.outcome)
    assert outcomes >= {"up", "down", "void"}


def test_which_covering_checkpoint_and_which_start_is_used_changes_nothing() -> None:
    made = honest()
    first = world.read(world.bundle(made), made.policy)
    for start in (0, 1, 7, made.trade_index - 8):
        for later in (0, 1, 2):
            bundle = world.bundle(made, start=start, later=later)
            assert world.read(bundle, made.policy).encode() == first.encode()


def test_order_of_slots_sessions_and_messages_changes_nothing() -> None:
    made = honest(notaries=3)
    bundle = world.bundle(made)
    first = world.read(bundle, made.policy).encode()
    for seed in range(5):
        draw = random.Random(seed)
        logs = [
            dataclasses.replace(log, sessions=tuple(draw.sample(log.sessions, len(log.sessions))))
            for log in bundle.logs
        ]
        mixed = dataclasses.replace(
            bundle,
            logs=tuple(logs),
            slots=tuple(draw.sample(bundle.slots, len(bundle.slots))),
            messages=tuple(draw.sample(bundle.messages, len(bundle.messages))),
        )
        assert world.read(mixed, made.policy).encode() == first


def test_bundle_without_any_one_entry_is_incomplete() -> None:
    made = honest()
    bundle = world.bundle(made)
    entries = bundle.logs[0].entries
    for at in range(len(entries)):
        with pytest.raises(IncompleteError):
            world.read(log_of(bundle, entries=entries[:at] + entries[at + 1 :]), made.policy)


def test_bundle_without_any_one_attestation_is_incomplete() -> None:
    made = honest()
    bundle = world.bundle(made)
    for at in range(len(bundle.slots)):
        rest = bundle.slots[:at] + bundle.slots[at + 1 :]
        with pytest.raises(IncompleteError) as caught:
            world.read(dataclasses.replace(bundle, slots=rest), made.policy)
        assert caught.value.rule == "slots.missing"


def test_entry_exchanged_for_another_does_not_fold() -> None:
    made = honest()
    bundle = world.bundle(made)
    entries = bundle.logs[0].entries
    for at in range(len(entries)):
        other = {"kind": "tick", "logged_us": entries[at]["logged_us"], "type": "quotary/entry/v1"}
        if other == entries[at]:
            other["logged_us"] = 7
        swapped = (*entries[:at], other, *entries[at + 1 :])
        with pytest.raises(InvalidProofError) as caught:
            world.read(log_of(bundle, entries=swapped), made.policy)
        assert caught.value.rule == "log.entries"


@pytest.mark.parametrize("cheat", operator.CHEATS, ids=str)
def test_every_cheat_with_a_bundle_is_refused_for_its_reason(cheat: operator.Cheat) -> None:
    made = honest(notaries=cheat.notaries)
    world.read(world.bundle(made), made.policy)
    with pytest.raises(cheat.error) as caught:
        world.read(cheat.play(made), made.policy)
    assert caught.value.rule == cheat.rule


def test_slot_logged_late_does_not_save_the_operators_claim() -> None:
    # The prices that would have it UP come late; the operator counts them all the same.
    made = honest()
    claimed = world.settled_outcome(made)
    for at, entry in enumerate(made.logs["n0"]):
        if isinstance(entry, SlotEntry) and entry.slot_us > claimed.close_us - 1_500_000:
            late = entry.slot_us + made.policy.late_us + 1
            made.logs["n0"][at] = dataclasses.replace(entry, logged_us=late)
    made.logs["n0"].sort(key=lambda entry: entry.logged_us)
    bundle = world.bundle(made)
    assert world.read(bundle, made.policy).outcome == "void"
    lying = dataclasses.replace(
        bundle, outcome=claimed.outcome, settlement=hash_string(claimed.encode())
    )
    with pytest.raises(OutcomeMismatchError) as caught:
        world.read(lying, made.policy)
    assert (caught.value.found, caught.value.wanted) == ("up", "void")


def test_expectations_are_the_readers() -> None:
    made = honest()
    bundle = world.bundle(made)
    trade = bundle.trade.leaf.trade
    policy_id = made.policy.policy_id
    text = world.log_policy(1)

    def read(expect: SettlementExpect, log_policy: bytes = text) -> str:
        known = world.trust(made.policy)
        return recompute(
            bundle,
            trust=known,
            log_policy=log_policy,
            expect=expect,
            venue_files=world.venue_files(made.policy),
        ).outcome

    assert read(SettlementExpect(policy_id=policy_id, trade=trade)) == "up"
    agreed = SettlementExpect(policy_id=policy_id)
    leaf = bundle.trade.leaf
    known = {"market": leaf.market, "player": leaf.player, "side": leaf.side, "stake": leaf.stake}
    operators = tuple(entry.operator for entry in world.trust(made.policy).keys)
    assert read(dataclasses.replace(agreed, operators=operators, **known)) == "up"
    promise = Promise(
        trade=trade,
        digest=made.opening.commitment().digest,
        log_by_us=made.terms.logged_us,
    )
    assert read(agreed.promised(promise)) == "up"
    for expect, log_policy, rule in (
        (dataclasses.replace(agreed, policy_id="0f" * 32), text, "expect.policy_id"),
        (dataclasses.replace(agreed, trade="0f" * 32), text, "expect.trade"),
        (dataclasses.replace(agreed, market="ETH/USD"), text, "expect.market"),
        (dataclasses.replace(agreed, player="sha256:" + "0f" * 32), text, "expect.player"),
        (dataclasses.replace(agreed, side="down"), text, "expect.side"),
        (dataclasses.replace(agreed, stake="26"), text, "expect.stake"),
        (dataclasses.replace(agreed, operators=("Somebody",)), text, "expect.operators"),
        (dataclasses.replace(agreed, digest="sha256:" + "0f" * 32), text, "expect.digest"),
        (
            dataclasses.replace(agreed, logged_by_us=made.terms.logged_us - 1),
            text,
            "expect.logged_by_us",
        ),
        (agreed, text + b"# mine\n", "policy.log_policy"),
    ):
        with pytest.raises(ExpectationError) as caught:
            read(expect, log_policy)
        assert caught.value.rule == rule


def test_bundle_is_one_canonical_document_and_small() -> None:
    policy = dataclasses.replace(cases.policy(venues=11), durations_us=(10_000_000,))
    data = world.bundle(honest(policy=policy)).encode()
    assert SettlementBundle.decode(data, limit=BUNDLE_LIMIT).encode() == data
    assert len(gzip.compress(data)) < 150_000
    with pytest.raises(MalformedError):
        SettlementBundle.decode(data + b" ", limit=BUNDLE_LIMIT)
    with pytest.raises(MalformedError):
        SettlementBundle.decode(data, limit=len(data) - 1)


def test_no_flipped_byte_of_a_bundle_passes_for_another_outcome() -> None:
    made = honest()
    data = world.bundle(made).encode()
    wanted = world.settled_outcome(made).encode()
    for at in range(0, len(data), max(1, len(data) // 300)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = world.read(SettlementBundle.decode(changed, limit=BUNDLE_LIMIT), made.policy)
        except QuotaryError:
            continue
        # What is no part of the proof (a cosignature beyond the quorum) changes nothing.
        assert found.encode() == wanted


def test_no_bundle_changed_in_its_structure_passes_for_another_outcome() -> None:
    made = honest(policy=cases.policy(venues=3))
    data = world.bundle(made).encode()
    wanted = world.settled_outcome(made).encode()
    refused: set[str] = set()
    for seed in range(600):
        changed = mutate_json(data, 2 * len(data), seed)
        try:
            bundle = SettlementBundle.decode(changed, limit=BUNDLE_LIMIT)
            found = world.read(bundle, made.policy)
        except QuotaryError as error:
            refused.add(error.slug)
            continue
        assert found.encode() == wanted
    assert refused >= {"malformed", "invalid_proof", "incomplete"}


def test_entry_that_no_log_can_hold_is_refused() -> None:
    bundle = world.bundle(honest())
    first, *rest = bundle.logs[0].entries
    long = {**first, "feed": "x" * 70_000}
    with pytest.raises(MalformedError) as caught:
        world.read(log_of(bundle, entries=(long, *rest)), honest().policy)
    assert caught.value.rule == "log.entries"


def test_key_revoked_since_counts_for_what_witnesses_saw_before() -> None:
    made = honest()
    bundle = world.bundle(made)
    seen_us = world.settled_outcome(made).final_after_us + 2_000_000

    def read(revoked_at_us: int) -> str:
        (entry,) = world.trust(made.policy).keys
        known = Trust(keys=(dataclasses.replace(entry, revoked_at_us=revoked_at_us),))
        expect = SettlementExpect(policy_id=made.policy.policy_id)
        found = recompute(
            bundle,
            trust=known,
            log_policy=world.log_policy(1),
            expect=expect,
            venue_files=world.venue_files(made.policy),
        )
        return found.outcome

    assert read(seen_us + 1) == "up"
    with pytest.raises(UntrustedError) as caught:
        read(seen_us - 4_000_000)
    assert caught.value.rule == "trust.revoked_at"


def test_notary_that_the_reader_does_not_trust_settles_nothing() -> None:
    made = honest()
    with pytest.raises(UntrustedError) as caught:
        recompute(
            world.bundle(made),
            trust=Trust(),
            log_policy=world.log_policy(1),
            expect=SettlementExpect(policy_id=made.policy.policy_id),
            venue_files=world.venue_files(made.policy),
        )
    assert caught.value.rule == "trust.unknown"


def test_bundle_without_any_one_message_is_incomplete() -> None:
    made = honest(policy=cases.policy(venues=3))
    bundle = world.bundle(made)
    for at in range(len(bundle.messages)):
        rest = bundle.messages[:at] + bundle.messages[at + 1 :]
        with pytest.raises(IncompleteError) as caught:
            world.read(dataclasses.replace(bundle, messages=rest), made.policy)
        assert caught.value.rule == "messages.missing"


def test_venue_file_that_the_reader_does_not_have_settles_nothing() -> None:
    made = honest()
    other = {**world.venue_files(made.policy), "v01": cases.venue_file("v02")}
    for files in (other, {}):
        with pytest.raises(UntrustedError) as caught:
            recompute(
                world.bundle(made),
                trust=world.trust(made.policy),
                log_policy=world.log_policy(1),
                expect=SettlementExpect(policy_id=made.policy.policy_id),
                venue_files=files,
            )
        assert caught.value.rule == "policy.venue_file"


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"bid": "1"}, InvalidProofError, "observation.bid"),
        ({"ask": "70000"}, InvalidProofError, "observation.ask"),
        ({"exchange_us": 1}, InvalidProofError, "observation.exchange_us"),
        ({"messages": ()}, InvalidProofError, "observation.messages"),
        ({"source": "rest"}, IncompleteError, "messages.source"),
        ({"instrument": "ETHUSD", "bid": "1"}, None, ""),
        ({}, None, ""),
    ],
)
def test_notary_that_signs_another_quote_than_the_venue_sent_is_refused(
    change: dict[str, Any], error: type[QuotaryError] | None, rule: str
) -> None:
    policy = dataclasses.replace(cases.policy(), sources=("live", "rest"))
    record = world.heard(
        LoggedSlot(
            notary="n0",
            slot_us=cases.START,
            fields={"v00": cases.observation("v00", cases.START, 640_000)},
        )
    )
    seen = (record.fields or {})["v00"]
    assert isinstance(seen, ObservationField)
    lie = dataclasses.replace(record, fields={"v00": dataclasses.replace(seen, **change)})
    slot = verify_slot(world.attest(lie), trust=world.trust(policy))
    files = world.venue_files(policy)
    sent = [cases.message(seen)]
    if error is None:
        check_messages(policy, [slot], sent, files)
        return
    with pytest.raises(error) as caught:
        check_messages(policy, [slot], sent, files)
    assert caught.value.rule == rule


def test_expect_file_says_what_was_agreed_or_is_refused() -> None:
    text = f'policy_id = "{"0f" * 32}"\nside = "up"\noperators = ["Example Ltd"]\n'
    found = SettlementExpect.parse(text.encode())
    assert (found.policy_id, found.side, found.operators) == ("0f" * 32, "up", ("Example Ltd",))
    for wrong in ("", "policy_id = 7\n", "policy_id = ", text + "stakes = 1\n", text + "x = 1.5\n"):
        with pytest.raises(UsageError):
            SettlementExpect.parse(wrong.encode())
