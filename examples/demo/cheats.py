"""What an operator might change in the bundle of a trade that it lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from attestation.encoding import encode
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.entry import SlotEntry, load_entry
from attestation.log.note import Note
from attestation.log.tree import Frontier
from attestation.merkle import leaf_hash
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle


class Cheat(NamedTuple):
    """A changed bundle, and what it was changed for; the exit code is of its refusal."""

    name: str
    what: str
    exit_code: int
    make: Callable[[SettlementBundle], SettlementBundle]


def drop_slot(bundle: SettlementBundle) -> SettlementBundle:
    """Leaves out the last slot of the close window."""
    return dataclasses.replace(bundle, slots=bundle.slots[:-1])


def drop_entry(bundle: SettlementBundle) -> SettlementBundle:
    """Leaves the last slot's entry out of the first log, as if it had never been logged."""
    first, *rest = bundle.logs
    places = [at for at, one in enumerate(first.entries) if isinstance(load_entry(one), SlotEntry)]
    entries = (*first.entries[: places[-1]], *first.entries[places[-1] + 1 :])
    return dataclasses.replace(bundle, logs=(dataclasses.replace(first, entries=entries), *rest))


def shift_window(bundle: SettlementBundle) -> SettlementBundle:
    """Tells of the batch as if it had been logged a slot later, so that all windows move."""
    first, *rest = bundle.logs
    entries = list(first.entries)
    at = bundle.batch - _start(first.start)
    logged_us = entries[at]["logged_us"]
    assert isinstance(logged_us, int)
    entries[at] = {**entries[at], "logged_us": logged_us + 500_000}
    entries.sort(key=lambda entry: (int(str(entry["logged_us"])),))
    changed = dataclasses.replace(first, entries=tuple(entries))
    return dataclasses.replace(bundle, logs=(changed, *rest))


def other_stake(bundle: SettlementBundle) -> SettlementBundle:
    """Shows another leaf for the trade: a smaller stake."""
    leaf = dataclasses.replace(bundle.trade.leaf, stake="1")
    return dataclasses.replace(bundle, trade=dataclasses.replace(bundle.trade, leaf=leaf))


def other_outcome(bundle: SettlementBundle) -> SettlementBundle:
    """Claims the other outcome, and leaves all else as it is."""
    return dataclasses.replace(bundle, outcome="down" if bundle.outcome == "up" else "up")


def rewrite_log(bundle: SettlementBundle, key: SigningKey) -> SettlementBundle:
    """Logs the last slot too late to count, and has the log's keeper sign it all again."""
    first, *rest = bundle.logs
    entries = list(first.entries)
    at = max(at for at, one in enumerate(entries) if isinstance(load_entry(one), SlotEntry))
    late_us = int(str(entries[-1]["logged_us"]))
    entries.append({**entries.pop(at), "logged_us": late_us})
    start = Checkpoint.parse(Note.parse(first.start.encode()).text)
    tree = Frontier(start.size, [bytes.fromhex(node) for node in first.frontier])
    tree.extend(leaf_hash(encode(entry)) for entry in entries)
    head = Checkpoint(origin=start.origin, size=tree.size, root=tree.root())
    changed = dataclasses.replace(
        first,
        entries=tuple(entries),
        checkpoint=sign_checkpoint(head, key).encode().decode(),
    )
    return dataclasses.replace(bundle, logs=(changed, *rest))


CHEATS = (
    Cheat("dropped_slot", "the slot that hurts is left out", 15, drop_slot),
    Cheat("dropped_entry", "and its entry in the log, too", 15, drop_entry),
    Cheat("shifted_window", "the trade's time is told a slot later", 11, shift_window),
    Cheat("other_leaf", "another leaf is shown for the trade", 11, other_stake),
    Cheat("other_outcome", "the other outcome is claimed", 14, other_outcome),
)


def read_bundle(data: bytes) -> SettlementBundle:
    """Reads a bundle as the demo wrote it."""
    return SettlementBundle.decode(data, limit=BUNDLE_LIMIT)


def _start(note: str) -> int:
    return int(note.split("\n")[1])
