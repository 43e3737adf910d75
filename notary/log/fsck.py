"""Rebuilds from its entries every hash of a log, and what its rules remember, and compares.

``notary log fsck``.  What the rules remember decides which session may have a place:
damage to it would let the log be wrong without any hash being so.  The slots of feeds,
which are kept beside the log, are those that it names.
"""

from __future__ import annotations

import dataclasses
import itertools
import sqlite3
from collections.abc import Callable

from attestation.errors import QuotaryError
from attestation.keys import VerifyingKey
from attestation.log.entry import read_entry
from attestation.log.rules import Rules
from attestation.log.tiles import WIDTH, Tile, TileBuilder
from attestation.merkle import leaf_hash
from notary.log.memory import load_rules
from notary.log.published import PublishedFile
from notary.log.tables import Head, iterate_entries, read_head
from notary.slot_check import damaged_slots

BATCH = 4_096
MAX_SLOTS = 100
"""Damaged slots that are named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is not as it must be: where, and what."""

    where: str
    detail: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``check_log`` found; no damage means that all follows from the entries."""

    origin: str
    size: int
    root: bytes
    damages: tuple[Damage, ...]


def check_log(
    database: sqlite3.Connection,
    key: VerifyingKey,
    published: PublishedFile,
    *,
    progress: Callable[[int, int], None] = lambda done, size: None,
) -> Report:
    """Reads the whole log; ``progress`` gets (entries read, size).

    Never raises for what is stored, however damaged, but for a head that is missing.
    """
    head = read_head(database)
    check = _Check(database)
    damage = check.damage
    if head.origin != key.name:
        damage("head", f"is of {head.origin}, not of {key.name}")
    try:
        shown = published.read(key)
    except QuotaryError as error:
        shown = None
        damage("published checkpoint", error.detail)
    else:
        if shown is None:
            damage("published checkpoint", "is missing")
    count = last_us = 0
    for place, data in iterate_entries(database):
        if place != count or place >= head.size:
            damage(f"entry {min(place, count)}", "is missing, or lies beyond the head")
            break
        last_us = check.entry(place, data, last_us)
        count += 1
        if shown is not None and shown.size == count and check.root() != shown.root:
            damage("published checkpoint", "is not of these entries")
        if count % BATCH == 0:
            progress(count, head.size)
    check.tiles()
    if count == head.size:
        check.memory(head)
    if count != head.size:
        damage("head", f"says {head.size} entries, there are {count}")
    elif check.root() != head.root:
        damage("head", "has another root than the entries")
    elif head.logged_us != last_us:
        damage("head", "has another time than the last entry")
    if shown is not None and shown.size > count:
        damage("published checkpoint", f"covers {shown.size} entries, there are {count}")
    for feed, slot_us in itertools.islice(damaged_slots(database), MAX_SLOTS):
        damage(f"slot {slot_us} of {feed}", "is not what its entry says")
    progress(count, head.size)
    return Report(origin=head.origin, size=head.size, root=head.root, damages=tuple(check.damages))


class _Check:
    """Builds the tree again and compares its tiles with those stored."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.damages: list[Damage] = []
        self._database = database
        self._builder = TileBuilder()
        self._leaves: list[bytes] = []
        self._edge: dict[tuple[int, int], tuple[Tile, bytes]] = {}
        self._compared = 0
        self._spent: dict[bytes, bytes] = {}
        self._rules = Rules(self._spent)

    def damage(self, where: str, detail: str) -> None:
        """Notes one damage."""
        self.damages.append(Damage(where=where, detail=detail))

    def entry(self, place: int, data: bytes, last_us: int) -> int:
        """Takes an entry; returns its time."""
        self._leaves.append(leaf_hash(data))
        if len(self._leaves) >= BATCH:
            self._append()
        try:
            entry = read_entry(data)
        except QuotaryError as error:
            self.damage(f"entry {place}", error.detail)
            self._rules.skip()
            return last_us
        step = self._rules.judge(entry)
        for violation in step.violations:
            # An end that came late stays in the log, for everybody to see.
            if violation.kind not in ("late", "backdated"):
                self.damage(f"entry {place}", violation.detail)
        step.take()
        if entry.logged_us < last_us:
            self.damage(f"entry {place}", "was logged before the entry in front of it")
        return max(last_us, entry.logged_us)

    def root(self) -> bytes:
        """Returns the root over the entries so far."""
        self._append()
        return self._builder.root()

    def tiles(self) -> None:
        """Compares the partial tiles, and that no others are stored."""
        self._append()
        for tile, hashes in self._edge.values():
            self._compare(tile, hashes)
        (stored,) = self._database.execute("SELECT count(*) FROM log_tiles").fetchone()
        if stored > self._compared:
            self.damage("tiles", f"{stored - self._compared} are of no entries")

    def memory(self, head: Head) -> None:
        """Compares what the rules remember."""
        stored = self._database.execute("SELECT key, value FROM log_spent")
        if {bytes(key): bytes(value) for key, value in stored} != self._spent:
            self.damage("log_spent", "does not follow from the entries")
        try:
            state = load_rules(self._database, head.size, head.logged_us).state()
        except QuotaryError as error:
            self.damage("log_open, log_feeds", error.detail)
        else:
            if state != self._rules.state():
                self.damage("log_open, log_feeds", "do not follow from the entries")

    def _append(self) -> None:
        self._builder.append(self._leaves)
        self._leaves = []
        for tile, hashes in self._builder.take().items():
            if tile.width == WIDTH:
                self._edge.pop((tile.level, tile.index), None)
                self._compare(tile, hashes)
            else:
                self._edge[tile.level, tile.index] = (tile, hashes)

    def _compare(self, tile: Tile, hashes: bytes) -> None:
        row = self._database.execute(
            "SELECT hashes FROM log_tiles WHERE level = ? AND place = ?", (tile.level, tile.index)
        ).fetchone()
        if row is None:
            self.damage(tile.path(), "is missing")
            return
        self._compared += 1
        if bytes(row[0]) != hashes:
            self.damage(tile.path(), "does not follow from the entries")
