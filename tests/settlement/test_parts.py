"""Bundles in parts: small where it is a trade's own, shared else, and whole again when joined."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from attestation.errors import IncompleteError, InvalidProofError, MalformedError
from attestation.hashing import hash_string
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import (
    TRADE_PART_LIMIT,
    EntriesPart,
    RangePart,
    SlotPart,
    TradePart,
    join_parts,
    split_bundle,
)
from attestation.settlement.trade import TradeBatch
from tests.adversaries.operator import honest
from tests.settlement import cases, world
from tests.settlement.test_build import built


def reading(parts: dict[str, bytes]) -> Callable[[str], bytes]:
    return parts.__getitem__


@pytest.mark.parametrize("notaries", [1, 3])
def test_parts_joined_are_the_bundle_byte_for_byte(notaries: int) -> None:
    bundle, _ = built(honest(notaries=notaries))
    trade, parts = split_bundle(bundle)
    again = TradePart.decode(trade.encode(), limit=TRADE_PART_LIMIT)
    assert join_parts(again, reading(parts)).encode() == bundle.encode()
    assert {hash_string(data) for data in parts.values()} == parts.keys()


def test_trades_of_a_batch_differ_in_their_small_parts_alone() -> None:
    policy = dataclasses.replace(cases.policy(venues=11))
    made = honest(policy=policy)
    openings = [world.opening(made.policy, made.terms, number) for number in range(1, 1001)]
    batch = TradeBatch.of(opening.commitment() for opening in openings)
    bundle = world.bundle(made)
    seen: set[str] = set()
    for opening in openings[::100]:
        trade, parts = split_bundle(dataclasses.replace(bundle, trade=batch.prove(opening)))
        assert len(trade.encode()) <= 4_000
        assert not seen or seen == parts.keys()
        seen |= parts.keys()


def test_slots_are_shared_by_trades_whose_windows_meet() -> None:
    made = honest(policy=cases.policy(venues=3))
    later = dataclasses.replace(made.terms, logged_us=made.terms.logged_us + cases.GRID)
    slots = sorted(
        {*cases.all_slots(made.policy, made.terms), *cases.all_slots(made.policy, later)}
    )
    mids = {venue.venue: dict.fromkeys(slots, 640_000) for venue in made.policy.venues}
    shared = []
    for terms in (made.terms, later):
        logged = [
            world.LoggedSlot(
                notary="n0",
                slot_us=slot,
                fields={name: cases.observation(name, slot, mids[name][slot]) for name in mids},
            )
            for slot in slots
        ]
        world_of = world.build(made.policy, terms, logged)
        _, parts = split_bundle(world.bundle(world_of))
        names = [name for name, data in parts.items() if b"quotary/slot_part/v1" in data]
        shared.append(set(names))
    assert len(shared[0] & shared[1]) >= len(shared[0]) - 2


def test_entries_are_cut_where_the_logs_bundles_end() -> None:
    bundle = world.bundle(honest())
    log = bundle.logs[0]
    many = tuple([{**log.entries[0], "logged_us": number} for number in range(600)])
    long = dataclasses.replace(bundle, logs=(dataclasses.replace(log, entries=many),))
    trade, parts = split_bundle(long)
    whole = RangePart.decode(parts[trade.range])
    blocks = [EntriesPart.decode(parts[name]) for name in whole.logs[0].entries]
    start = int(log.start.split("\n")[1])
    assert [block.first for block in blocks] == [start, 256, 512]
    assert join_parts(trade, reading(parts)).logs[0].entries == many
    # A block of the whole entry bundle serves as well: what is before is passed over.
    before = tuple([{**many[0], "logged_us": 7}] * start)
    first = EntriesPart(first=0, entries=(*before, *blocks[0].entries))
    renamed = _renamed(whole, parts, 0, first)
    trade = dataclasses.replace(trade, range=renamed)
    assert join_parts(trade, reading(parts)).logs[0].entries == many


def _renamed(whole: RangePart, parts: dict[str, bytes], at: int, block: EntriesPart) -> str:
    """Puts another block into a range part; returns the name of the range."""
    parts[hash_string(block.encode())] = block.encode()
    log = whole.logs[0]
    names = list(log.entries)
    names[at] = hash_string(block.encode())
    changed = dataclasses.replace(
        whole, logs=(dataclasses.replace(log, entries=tuple(names)), *whole.logs[1:])
    )
    parts[hash_string(changed.encode())] = changed.encode()
    return hash_string(changed.encode())


def test_part_that_is_not_what_its_name_says_is_refused() -> None:
    trade, parts = split_bundle(world.bundle(honest(policy=cases.policy(venues=3))))
    for name, data in parts.items():
        for changed in (data + b" ", data.replace(b"1", b"2", 1), b""):
            with pytest.raises(InvalidProofError) as caught:
                join_parts(trade, reading({**parts, name: changed}))
            assert caught.value.rule == "parts.hash"


def test_part_of_another_kind_or_blocks_that_do_not_meet_are_refused() -> None:
    trade, parts = split_bundle(world.bundle(honest(policy=cases.policy(venues=3))))
    whole = RangePart.decode(parts[trade.range])
    with pytest.raises(MalformedError):
        join_parts(dataclasses.replace(trade, range=whole.slots[0]), reading(parts))
    block = EntriesPart.decode(parts[whole.logs[0].entries[0]])
    late = dataclasses.replace(block, first=block.first + 1)
    changed = dataclasses.replace(trade, range=_renamed(whole, parts, 0, late))
    with pytest.raises(IncompleteError) as caught:
        join_parts(changed, reading(parts))
    assert caught.value.rule == "parts.entries"


def test_messages_that_no_slot_names_are_no_part() -> None:
    bundle = world.bundle(honest(policy=cases.policy(venues=3)))
    more = dataclasses.replace(bundle, messages=(*bundle.messages, b"mine"))
    trade, parts = split_bundle(more)
    assert join_parts(trade, reading(parts)) == bundle
    held: set[Any] = set()
    for data in parts.values():
        if b"quotary/slot_part/v1" in data:
            held |= set(SlotPart.decode(data).messages)
    assert held == set(bundle.messages)


def test_bundle_of_parts_is_as_small_as_one_that_was_never_cut() -> None:
    bundle, _ = built(honest(policy=cases.policy(venues=11)))
    trade, parts = split_bundle(bundle)
    joined: SettlementBundle = join_parts(trade, reading(parts))
    assert len(gzip.compress(joined.encode())) == len(gzip.compress(bundle.encode()))
