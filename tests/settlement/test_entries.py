"""From logs and attestations to what counts: the same as the case says, or a named error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from attestation.document import Attestation, Field
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
)
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.entry import Entry, MissedEntry, PolicyEntry, SlotEntry
from attestation.settlement.attested import AttestedSlot, verify_slot
from attestation.settlement.entries import (
    LogRange,
    ReadSlots,
    check_feed,
    check_policy,
    read_slots,
    trade_terms,
)
from attestation.settlement.rule import Settlement, settle
from attestation.settlement.slots import LoggedSlot
from attestation.trust import Trust
from tests.settlement import cases, world


def simple(notaries: int = 1) -> world.World:
    """Every venue at one price, in every slot of every notary."""
    policy, terms = cases.policy(notaries=notaries), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    return world.build(policy, terms, cases.whole(policy, terms, mids))


def outcome(made: world.World, read: ReadSlots) -> Settlement:
    return settle(
        made.policy,
        made.terms,
        read.logged,
        read_from_us=read.read_from_us,
        read_until_us=read.read_until_us,
    )


def place(made: world.World, kind: str, number: int = 0) -> int:
    """The index of the first notary's ``number``-th entry of a kind."""
    return [index for index, entry in enumerate(made.logs["n0"]) if entry.kind == kind][number]


def slot_at(made: world.World, number: int) -> SlotEntry:
    entry = made.logs["n0"][place(made, "slot", number)]
    assert isinstance(entry, SlotEntry)
    return entry


def by_slot(made: world.World, slot_us: int, notary: str = "n0") -> LoggedSlot | None:
    read = read_slots(made.policy, made.ranges(), made.attested())
    records = {(record.notary, record.slot_us): record for record in read.logged}
    return records.get((notary, slot_us))


def test_logs_give_back_what_the_case_says_and_the_same_outcome() -> None:
    for seed in range(120):
        policy, terms, logged = cases.random_case(seed)
        made = world.build(policy, terms, logged)
        read = read_slots(policy, made.ranges(), made.attested())
        wanted = {(record.notary, record.slot_us): record for record in logged}
        assert len(read.logged) == len(wanted)
        for record in read.logged:
            case = world.heard(wanted[record.notary, record.slot_us])
            assert (record.fields, record.fault) == (case.fields, case.fault)
        direct = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
        assert outcome(made, read) == direct


def test_terms_come_from_the_batch_in_the_first_log() -> None:
    made = simple(3)
    proof = made.batch.prove(made.opening)
    first, second, _ = made.ranges()
    assert trade_terms(made.policy, first, made.trade_index, proof) == made.terms
    with pytest.raises(ExpectationError) as caught:
        trade_terms(made.policy, second, made.trade_index, proof)
    assert caught.value.rule == "trade.log"
    with pytest.raises(InvalidProofError) as refused:
        trade_terms(made.policy, first, made.trade_index + 1, proof)
    assert refused.value.rule == "trade.entry"
    later = made.ranges(made.trade_index + 1)[0]
    with pytest.raises(IncompleteError):
        trade_terms(made.policy, later, made.trade_index, proof)


def test_slot_entry_counts_until_late_and_not_a_microsecond_longer() -> None:
    for late, counts in ((0, True), (1, False)):
        made = simple()
        entry = slot_at(made, 3)
        at = place(made, "slot", 3)
        moved = dataclasses.replace(entry, logged_us=entry.slot_us + made.policy.late_us + late)
        made.logs["n0"][at] = moved
        made.logs["n0"].sort(key=lambda item: item.logged_us)
        record = by_slot(made, entry.slot_us)
        assert record is not None
        assert (record.fields is not None) == counts
        assert record.fault == "notary"
        assert (record.attestation is not None) == counts


@pytest.mark.parametrize("fault", ["venue", "prover", "notary"])
def test_missed_slot_has_the_fault_that_was_logged_in_time(fault: str) -> None:
    for late in (0, 1):
        made = simple()
        entry = slot_at(made, 3)
        made.logs["n0"][place(made, "slot", 3)] = MissedEntry(
            logged_us=entry.slot_us + made.policy.late_us + late,
            feed=world.FEED,
            slot_us=entry.slot_us,
            fault=fault,
        )
        made.logs["n0"].sort(key=lambda item: item.logged_us)
        del made.attestations["n0", entry.slot_us]
        record = by_slot(made, entry.slot_us)
        assert record is not None
        assert (record.fields, record.not_given) == (None, False)
        assert record.fault == ("notary" if late else fault)


def test_slot_with_no_entry_has_no_record() -> None:
    made = simple()
    entry = slot_at(made, 3)
    del made.logs["n0"][place(made, "slot", 3)]
    del made.attestations["n0", entry.slot_us]
    assert by_slot(made, entry.slot_us) is None


def test_first_entry_of_a_slot_counts_whatever_follows() -> None:
    made = simple()
    entry = slot_at(made, 3)
    second = MissedEntry(
        logged_us=entry.logged_us, feed=world.FEED, slot_us=entry.slot_us, fault="prover"
    )
    made.logs["n0"].insert(place(made, "slot", 3) + 1, second)
    record = by_slot(made, entry.slot_us)
    assert record is not None
    assert record.fields is not None
    # The other way round the attestation is nothing, and may not be shown as something.
    at = place(made, "slot", 3)
    made.logs["n0"][at], made.logs["n0"][at + 1] = second, entry
    with pytest.raises(InvalidProofError) as caught:
        by_slot(made, entry.slot_us)
    assert caught.value.rule == "slots.unlogged"
    del made.attestations["n0", entry.slot_us]
    record = by_slot(made, entry.slot_us)
    assert record is not None
    assert (record.fields, record.fault) == (None, "prover")


def test_entry_of_a_slot_before_the_slot_is_none() -> None:
    made = simple()
    entry = slot_at(made, 3)
    early = MissedEntry(
        logged_us=entry.slot_us - 1, feed=world.FEED, slot_us=entry.slot_us, fault="venue"
    )
    made.logs["n0"].append(early)
    made.logs["n0"].sort(key=lambda item: item.logged_us)
    record = by_slot(made, entry.slot_us)
    assert record is not None
    assert record.fields is not None


def test_other_feeds_entries_are_nothing() -> None:
    made = simple()
    entry = slot_at(made, 3)
    other = dataclasses.replace(entry, feed="eth", header="sha256:" + "0f" * 32)
    made.logs["n0"].insert(place(made, "slot", 3), other)
    record = by_slot(made, entry.slot_us)
    assert record is not None
    assert record.fields is not None


def test_slot_whose_attestation_was_not_given_is_told_apart_and_not_settled() -> None:
    made = simple()
    settled = outcome(made, read_slots(made.policy, made.ranges(), made.attested()))
    del made.attestations["n0", settled.open_us]
    read = read_slots(made.policy, made.ranges(), made.attested())
    assert [record.slot_us for record in read.logged if record.not_given] == [settled.open_us]
    with pytest.raises(IncompleteError) as caught:
        outcome(made, read)
    assert caught.value.rule == "slots.missing"
    assert caught.value.found == ["n0", settled.open_us]


Cheat = Callable[[world.World, list[AttestedSlot]], list[AttestedSlot]]


def _other_feed(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    record = LoggedSlot(notary="n0", slot_us=slots[2].slot.slot_us, fields=slots[2].fields)
    return [*slots[:2], verified(made, world.attest(record, feed="eth")), *slots[3:]]


def _other_market(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    record = LoggedSlot(notary="n0", slot_us=slots[2].slot.slot_us, fields=slots[2].fields)
    return [*slots[:2], verified(made, world.attest(record, market="ETH/USD")), *slots[3:]]


def _better_prices(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    at = slots[2].slot.slot_us
    fields = {venue: cases.observation(venue, at, 650_000) for venue in slots[2].fields}
    better = world.attest(LoggedSlot(notary="n0", slot_us=at, fields=fields))
    return [*slots[:2], verified(made, better), *slots[3:]]


def _twice(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    return [*slots, slots[2]]


def _retimed(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    # The notary logs one slot's attestation as another's.
    at = place(made, "slot", 3)
    entry = slot_at(made, 3)
    made.logs["n0"][at] = dataclasses.replace(entry, header=slots[2].header_hash)
    return slots


def _unlogged(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    del made.logs["n0"][place(made, "slot", 2)]
    return slots


def _hurried(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    at = place(made, "slot", 2)
    entry = slot_at(made, 2)
    made.logs["n0"][at] = dataclasses.replace(entry, logged_us=slots[2].header.issued_us - 1)
    return slots


def _strange(made: world.World, slots: list[AttestedSlot]) -> list[AttestedSlot]:
    return [*slots, dataclasses.replace(slots[2], notary="n9")]


def verified(made: world.World, attestation: Attestation) -> AttestedSlot:
    return verify_slot(attestation, trust=world.trust(made.policy))


@pytest.mark.parametrize(
    ("cheat", "error", "rule"),
    [
        (_other_feed, InvalidProofError, "slots.feed"),
        (_other_market, InvalidProofError, "slots.market"),
        (_better_prices, InvalidProofError, "slots.header"),
        (_twice, MalformedError, "slots.duplicate"),
        (_retimed, InvalidProofError, "slots.slot_us"),
        (_unlogged, InvalidProofError, "slots.unlogged"),
        (_hurried, InvalidProofError, "slots.issued_us"),
        (_strange, ExpectationError, "slots.notary"),
    ],
)
def test_every_cheat_with_an_attestation_has_an_error_of_its_own(
    cheat: Cheat, error: type[QuotaryError], rule: str
) -> None:
    made = simple()
    slots = cheat(made, made.attested())
    with pytest.raises(error) as caught:
        read_slots(made.policy, made.ranges(), slots)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"feed": "eth"}, "feed.feed"),
        ({"market": "ETH/USD"}, "feed.market"),
        ({"grid_us": 250_000}, "feed.grid_us"),
        ({"late_us": 2_000_000}, "feed.late_us"),
        ({"venue": None}, "feed.venues"),
        ({"instrument": "BTCUSDT"}, "feed.venues.instrument"),
        ({"venue_file": "sha256:" + "aa" * 32}, "feed.venues.venue_file"),
    ],
)
def test_feed_that_the_policy_does_not_count_on_is_refused_by_its_member(
    change: dict[str, Any], rule: str
) -> None:
    policy = cases.policy()
    feed = world.feed(policy)
    check_feed(policy, policy.notaries[0], feed)
    (member,) = change
    if member == "venue":
        feed = dataclasses.replace(feed, venues=feed.venues[1:])
    elif member in ("instrument", "venue_file"):
        first = dataclasses.replace(feed.venues[0], **change)
        feed = dataclasses.replace(feed, venues=(first, *feed.venues[1:]))
    else:
        feed = dataclasses.replace(feed, **change)
    with pytest.raises(ExpectationError) as caught:
        check_feed(policy, policy.notaries[0], feed)
    assert caught.value.rule == rule


def test_policy_is_the_logged_one_and_logged_before_it_takes_effect() -> None:
    policy = cases.policy()

    def entry(of: Any = policy, **changes: Any) -> PolicyEntry:
        logged = PolicyEntry(
            logged_us=policy.effective_us,
            policy_id=of.policy_id,
            document=of.to_json(),
            effective_us=policy.effective_us,
        )
        return dataclasses.replace(logged, **changes)

    check_policy(policy, entry())
    other = dataclasses.replace(policy, div_bps=21)
    for wrong, rule in (
        (entry(other), "policy.policy_id"),
        (entry(effective_us=policy.effective_us + 1), "policy.effective_us"),
        (entry(logged_us=policy.effective_us + 1), "policy.logged_us"),
    ):
        with pytest.raises(ExpectationError) as caught:
            check_policy(policy, wrong)
        assert caught.value.rule == rule


def test_range_whose_times_decrease_is_a_finding() -> None:
    made = simple()
    entries: list[Entry] = made.logs["n0"]
    at = len(entries) - 1
    entries[at - 1], entries[at] = entries[at], entries[at - 1]
    with pytest.raises(AuditFinding) as caught:
        made.ranges()
    assert (caught.value.rule, caught.value.found) == ("log.backdated", at)


def test_every_notarys_log_is_needed_once_and_no_other() -> None:
    made = simple(3)
    ranges = made.ranges()
    with pytest.raises(IncompleteError) as caught:
        read_slots(made.policy, ranges[:2], [])
    assert (caught.value.rule, caught.value.found) == ("logs", "n2")
    with pytest.raises(MalformedError):
        read_slots(made.policy, [*ranges, ranges[0]], [])
    with pytest.raises(ExpectationError):
        read_slots(made.policy, [*ranges, dataclasses.replace(ranges[0], notary="n9")], [])
    with pytest.raises(IncompleteError):
        LogRange(notary="n0", feed=world.feed(made.policy), first=0, entries=())


def test_shortest_of_the_ranges_tells_what_was_read() -> None:
    made = simple(3)
    settled = outcome(made, read_slots(made.policy, made.ranges(), made.attested()))
    first, second, third = made.ranges(5)
    kept = [entry for entry in second.entries if entry.logged_us <= settled.final_after_us]
    second = dataclasses.replace(second, entries=tuple(kept))
    third = dataclasses.replace(third, entries=third.entries[2:], first=third.first + 2)
    attested = [slot for slot in made.attested() if slot.slot.slot_us <= settled.close_us]
    read = read_slots(made.policy, [first, second, third], attested)
    assert read.read_until_us == kept[-1].logged_us
    assert read.read_from_us == third.entries[0].logged_us
    with pytest.raises(IncompleteError) as caught:
        outcome(made, read)
    assert caught.value.rule == "settlement.final"


def lie(attestation: Attestation, index: int, **changes: Any) -> Attestation:
    """The notary signs its slot with one field's value changed."""
    fields = list(attestation.fields)
    fields[index] = Field(name=fields[index].name, value={**fields[index].value, **changes})
    return world.sign(fields, world.attest_key("n0"), "lie", attestation.header.issued_us)


def test_attestation_is_refused_by_what_is_wrong_with_it() -> None:
    policy, slot_us = cases.policy(), cases.START
    fields = {
        "v00": cases.gap("v00", "venue_closed"),
        "v01": cases.observation("v01", slot_us, 640_000),
    }
    good = world.attest(LoggedSlot(notary="n0", slot_us=slot_us, fields=fields))
    known = world.trust(policy)
    found = verify_slot(good, trust=known)
    assert (found.notary, dict(found.fields)) == ("n0", fields)
    assert found.header_hash == hash_string(good.header.encode())
    key = world.attest_key("n0")
    ec = SigningKey(name="n0", algorithm="ecdsa-secp256k1", seed=world.seeded("ec"))
    thief = SigningKey(name="n0", algorithm="ed25519", seed=bytes(32))
    flipped = f"{int(good.signature[:2], 16) ^ 1:02x}{good.signature[2:]}"
    swapped = (good.fields[0], good.fields[2], good.fields[1], good.fields[3])
    doubled = (good.fields[0], good.fields[1], good.fields[1], good.fields[3])
    issued = good.header.issued_us
    for wrong, error, rule in (
        (dataclasses.replace(good, signature=flipped), InvalidProofError, None),
        (dataclasses.replace(good, seed="00" * 32), InvalidProofError, "header.root"),
        (dataclasses.replace(good, fields=good.fields[:-1]), InvalidProofError, "header.size"),
        (
            world.attest(LoggedSlot(notary="n0", slot_us=slot_us, fields=fields), thief),
            UntrustedError,
            "trust.unknown",
        ),
        (lie(good, 1, fault="prover"), InvalidProofError, "gap.fault"),
        (lie(good, 1, reason="fog"), InvalidProofError, "gap.fault"),
        (lie(good, 1, venue="v02"), MalformedError, "slot.venues"),
        (lie(good, 0, venues=["v01", "v00"]), MalformedError, "slot.venues"),
        (lie(good, 0, slot_us=issued + 1), InvalidProofError, "slot.slot_us"),
        (lie(good, 3, vkey=thief.verifying_key.vkey), InvalidProofError, "notary.vkey"),
        (world.sign(list(swapped), key, "x", issued), MalformedError, "slot.venues"),
        (world.sign(list(doubled), key, "x", issued), MalformedError, "slot.venues"),
        (world.sign(list(good.fields[1:]), key, "x", issued), MalformedError, None),
        (world.sign(list(good.fields[:-1]), key, "x", issued), MalformedError, None),
    ):
        with pytest.raises(error) as caught:
            verify_slot(wrong, trust=known)
        assert rule is None or caught.value.rule == rule
    both = Trust(keys=(world.trusted(ec, "attest"),))
    with pytest.raises(UntrustedError) as refused:
        verify_slot(
            world.attest(LoggedSlot(notary="n0", slot_us=slot_us, fields=fields), ec), trust=both
        )
    assert refused.value.rule == "slots.algorithm"
