"""The sessions behind a bundle's slots: shown, logged in time, and those of the policy's venues."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from attestation.document import ObservationField
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
)
from attestation.keys import SigningKey
from attestation.log.entry import AttestedEntry, ClosedEntry, logged_at
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.recompute import recompute, verify_settlement
from tests.adversaries.operator import honest, log_of
from tests.settlement import cases, world

OTHER = SigningKey(name="n0", algorithm="ed25519", seed=bytes(range(1, 33)))


def with_session(
    changes: dict[str, object],
    *,
    policy: SettlementPolicy | None = None,
    key: SigningKey | None = None,
    edit: Callable[[Any], Any] | None = None,
) -> world.World:
    """An honest world, but for the session of the first venue at the first notary."""
    made = honest(policy=policy or cases.policy(venues=3))
    lie = world.session(made.policy, "n0", "v00", key=key, **changes)
    return rebuilt(made, {("n0", "v00"): lie} if edit is None else {("n0", "v00"): edit(lie)})


def rebuilt(made: world.World, sessions: dict[tuple[str, str], Any]) -> world.World:
    logged = [
        world.LoggedSlot(notary=slot.notary, slot_us=slot.slot.slot_us, fields=slot.fields)
        for slot in made.attested()
    ]
    return world.build(made.policy, made.terms, logged, sessions)


def refused(made: world.World, error: type[QuotaryError], rule: str) -> None:
    with pytest.raises(error) as caught:
        world.read(world.bundle(made), made.policy)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("changes", "error", "rule"),
    [
        ({"session.purpose": "live/btc/v01"}, InvalidProofError, "session.purpose"),
        ({"session.purpose": "live/eth/v00"}, InvalidProofError, "session.purpose"),
        ({"session.purpose": "adhoc/mine"}, InvalidProofError, "session.purpose"),
        ({"session.prover": "stranger"}, InvalidProofError, "session.prover"),
        (
            {"connection.host": "api.evil.example", "server.name": "api.evil.example"},
            InvalidProofError,
            "session.host",
        ),
        ({"server.name": "api.evil.example"}, InvalidProofError, "session.server"),
        ({"connection.port": 8443}, InvalidProofError, "session.port"),
        ({"http.target": "/ws/v4/testnet"}, InvalidProofError, "session.target"),
        ({"http.method": "POST"}, InvalidProofError, "session.method"),
        ({"http.status": 200}, InvalidProofError, "http.status"),
        ({"connection.address": "10.0.0.7"}, ExpectationError, "session.address"),
        ({"connection.response_first_us": 1}, InvalidProofError, "connection.response_first_us"),
    ],
    ids=lambda item: ",".join(item) if isinstance(item, dict) else None,
)
def test_session_that_is_not_the_venues_settles_nothing(
    changes: dict[str, object], error: type[QuotaryError], rule: str
) -> None:
    refused(with_session(changes), error, rule)


def test_quote_from_before_its_session_settles_nothing() -> None:
    late = cases.START + 3_000_000
    times = ("response_first_us", "response_last_us")
    changes: dict[str, object] = {f"connection.{name}": late for name in times}

    def dated(made: Any) -> Any:
        # Signed after its last time, yet logged as the others are.
        header = dataclasses.replace(made.header, issued_us=late)
        signature = world.attest_key("n0").sign(header.encode()).hex()
        return dataclasses.replace(made, header=header, signature=signature)

    made = with_session(changes, edit=dated)
    refused(made, InvalidProofError, "session.start")


def test_session_logged_after_a_slot_that_names_it_settles_nothing() -> None:
    made = honest(policy=cases.policy(venues=3))
    log = made.logs["n0"]
    at = next(
        index
        for index, entry in enumerate(log)
        if isinstance(entry, AttestedEntry) and entry.session == world.session_id("n0", "v00")
    )
    moved = logged_at(log[at], cases.START + 3_000_000)
    made.logs["n0"] = sorted([*log[:at], moved, *log[at + 1 :]], key=lambda entry: entry.logged_us)
    refused(made, InvalidProofError, "session.order")


def test_session_that_ended_before_the_slot_settles_nothing() -> None:
    made = honest(policy=cases.policy(venues=3))
    settled = world.settled_outcome(made)

    def ended(at_us: int) -> world.World:
        entry = ClosedEntry(
            logged_us=at_us,
            session=world.session_id("n0", "v00"),
            reason="venue_closed",
            messages=8,
        )
        log = sorted([*made.logs["n0"], entry], key=lambda entry: entry.logged_us)
        return dataclasses.replace(made, logs={"n0": log})

    after = ended(settled.close_us + 1)
    assert world.read(world.bundle(after), made.policy).encode() == settled.encode()
    refused(ended(settled.close_us - 1), InvalidProofError, "session.closed")


def test_bundle_without_any_one_session_is_incomplete() -> None:
    made = honest(notaries=3, policy=cases.policy(venues=3, notaries=3))
    bundle = world.bundle(made)
    for number, log in enumerate(bundle.logs):
        for at in range(len(log.sessions)):
            rest = log.sessions[:at] + log.sessions[at + 1 :]
            logs = list(bundle.logs)
            logs[number] = dataclasses.replace(log, sessions=rest)
            with pytest.raises(IncompleteError) as caught:
                world.read(dataclasses.replace(bundle, logs=tuple(logs)), made.policy)
            assert caught.value.rule == "sessions.missing"


def _twice(bundle: SettlementBundle) -> SettlementBundle:
    first = bundle.logs[0].sessions[0]
    return log_of(bundle, sessions=(*bundle.logs[0].sessions, first))


def _entry_of_another(bundle: SettlementBundle) -> SettlementBundle:
    first, second, *rest = bundle.logs[0].sessions
    swapped = dataclasses.replace(first, entry=second.entry)
    return log_of(bundle, sessions=(swapped, second, *rest))


def _entry_that_is_not_logged(bundle: SettlementBundle) -> SettlementBundle:
    first, *rest = bundle.logs[0].sessions
    entry = {**first.entry.entry, "logged_us": 7}
    changed = dataclasses.replace(first, entry=dataclasses.replace(first.entry, entry=entry))
    return log_of(bundle, sessions=(changed, *rest))


def _entry_of_another_kind(bundle: SettlementBundle) -> SettlementBundle:
    first, *rest = bundle.logs[0].sessions
    changed = dataclasses.replace(first, entry=bundle.logs[0].feed)
    return log_of(bundle, sessions=(changed, *rest))


def _host_changed_under_the_signature(bundle: SettlementBundle) -> SettlementBundle:
    first, *rest = bundle.logs[0].sessions
    fields = list(first.attestation.fields)
    fields[1] = dataclasses.replace(fields[1], value={**fields[1].value, "host": "evil.example"})
    attestation = dataclasses.replace(first.attestation, fields=tuple(fields))
    changed = dataclasses.replace(first, attestation=attestation)
    return log_of(bundle, sessions=(changed, *rest))


def _slot_for_a_session(bundle: SettlementBundle) -> SettlementBundle:
    first, *rest = bundle.logs[0].sessions
    changed = dataclasses.replace(first, attestation=bundle.slots[0])
    return log_of(bundle, sessions=(changed, *rest))


def _session_for_a_slot(bundle: SettlementBundle) -> SettlementBundle:
    first = bundle.logs[0].sessions[0].attestation
    return dataclasses.replace(bundle, slots=(first, *bundle.slots[1:]))


@pytest.mark.parametrize(
    ("cheat", "error", "rule"),
    [
        (_twice, MalformedError, "sessions.duplicate"),
        (_entry_of_another, InvalidProofError, "session.entry.session"),
        (_entry_that_is_not_logged, InvalidProofError, "session.entry"),
        (_entry_of_another_kind, InvalidProofError, "session.entry"),
        (_host_changed_under_the_signature, InvalidProofError, "header.root"),
        (_slot_for_a_session, MalformedError, "sessions.kind"),
        (_session_for_a_slot, MalformedError, "slots.kind"),
    ],
    ids=lambda item: item.__name__.strip("_") if callable(item) else None,
)
def test_session_shown_in_another_way_than_it_was_logged_is_refused(
    cheat: Callable[[SettlementBundle], SettlementBundle], error: type[QuotaryError], rule: str
) -> None:
    made = honest(policy=cases.policy(venues=3))
    with pytest.raises(error) as caught:
        world.read(cheat(world.bundle(made)), made.policy)
    assert caught.value.rule == rule


def test_session_of_another_notary_or_key_is_refused() -> None:
    made = honest(notaries=3, policy=cases.policy(venues=3, notaries=3))
    bundle = world.bundle(made)
    theirs = bundle.logs[1].sessions[0].attestation
    entry = AttestedEntry(
        logged_us=theirs.header.issued_us + 5_000,
        session=theirs.session().id,
        header=world.hash_string(theirs.header.encode()),
    )
    # The first notary's log claims a session that the second attested.
    log = made.logs["n0"]
    at = next(index for index, other in enumerate(log) if isinstance(other, AttestedEntry))
    made.logs["n0"] = [*log[:at], entry, *log[at + 1 :]]
    del made.sessions["n0", "v00"]
    made.sessions["n0", "theirs"] = theirs
    refused(made, InvalidProofError, "session.notary")
    refused(with_session({}, key=OTHER), UntrustedError, "trust.unknown")


def test_sessions_under_other_roots_than_the_policys_are_holes() -> None:
    policy = dataclasses.replace(cases.policy(venues=3), roots=world.ROOTS)
    made = honest(policy=policy)
    assert world.read(world.bundle(made), made.policy).outcome == "up"
    # k is two of three: one venue is missed by nobody, two make a void.
    other = {"server.roots": "sha256:" + "cd" * 32}
    lies = {
        ("n0", venue): world.session(made.policy, "n0", venue, **other) for venue in ("v00", "v01")
    }
    one = rebuilt(made, {("n0", "v00"): lies["n0", "v00"]})
    found = world.read(world.bundle(one), made.policy)
    assert found.outcome == "up"
    assert {slot.why for slot in found.venues[0].opening.slots} == {
        "n0: a session under other root certificates"
    }
    two = world.read(world.bundle(rebuilt(made, lies)), made.policy)
    assert (two.outcome, two.fee) == ("void", False)


@pytest.mark.parametrize("member", ["modes", "bindings"])
def test_sessions_of_a_mode_or_binding_the_policy_does_not_take_are_holes(member: str) -> None:
    value = {"modes": ("sealed",), "bindings": ("template",)}[member]
    policy = dataclasses.replace(cases.policy(venues=3), **{member: value})  # type: ignore[arg-type]
    made = honest(policy=policy)
    assert world.read(world.bundle(made), made.policy).outcome == "void"


def test_simulated_venue_settles_only_for_who_allows_it() -> None:
    made = with_session({"connection.address": "127.0.0.1"})
    expect = SettlementExpect(policy_id=made.policy.policy_id, insecure_allow_development=True)
    found = recompute(
        world.bundle(made),
        trust=world.trust(made.policy),
        log_policy=world.log_policy(1),
        expect=expect,
        venue_files=world.venue_files(made.policy),
    )
    assert found.outcome == "up"


def test_verified_settlement_tells_what_it_rests_on() -> None:
    made = honest(policy=cases.policy(venues=3))
    bundle = world.bundle(made)
    found = verify_settlement(
        bundle,
        trust=world.trust(made.policy),
        log_policy=world.log_policy(1),
        expect=SettlementExpect(policy_id=made.policy.policy_id),
        venue_files=world.venue_files(made.policy),
    )
    assert {item.attested.session.purpose for item in found.sessions} == {
        f"live/btc/{venue}" for venue in ("v00", "v01", "v02")
    }
    (log,) = found.logs
    assert (log.origin, log.size - log.first) == ("n0/log", len(bundle.logs[0].entries))
    assert log.witnesses == ("witness.example/a", "witness.example/b")
    quotes = [
        seen
        for slot in made.attested()
        if slot.header.id in found.outcome.attestations
        for seen in slot.fields.values()
        if isinstance(seen, ObservationField)
    ]
    assert found.slots == len(found.outcome.attestations)
    assert found.messages == len({seen.messages[0].hash for seen in quotes})
