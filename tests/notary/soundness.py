"""One checker of a notary's store: all that must hold after whatever happened to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from attestation.hashing import hash_string
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    FeedEntry,
    MissedEntry,
    OpenedEntry,
    SlotEntry,
    read_entry,
)
from attestation.log.tiles import TileBuilder
from attestation.merkle import leaf_hash
from notary.log.fsck import check_log
from notary.log.published import PublishedFile
from notary.log.tables import iterate_entries
from notary.rows import sessions_left
from notary.slot_rows import slots_between


def check_sound(
    path: Path, key: VerifyingKey, *, shown: Iterable[Checkpoint] = (), over: bool = False
) -> int:
    """Re-reads everything; returns the log's size.

    Hashes, rules and the published checkpoint by fsck; every session's row, attestation
    and entries tell one story; what was ever shown, ``shown``, is a prefix of the log.
    ``over``: a start has ended what was open.
    """
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("BEGIN")
        report = check_log(database, key, PublishedFile(path.with_name("checkpoint")))
        assert report.damages == ()
        ends: dict[str, tuple[str, str | None, int]] = {}
        attested: dict[int, tuple[str, str]] = {}
        live: set[str] = set()
        builder, roots = TileBuilder(), {}
        wanted = {checkpoint.size: checkpoint.root for checkpoint in shown}
        for place, data in iterate_entries(database):
            builder.append([leaf_hash(data)])
            if place + 1 in wanted:
                roots[place + 1] = builder.root()
            entry = read_entry(data)
            match entry:
                case OpenedEntry():
                    ends[entry.session] = ("open", None, place)
                    live |= {entry.session} if entry.mode == "live" else set()
                case AttestedEntry():
                    state = "started" if entry.session in live else "attested"
                    ends[entry.session] = (state, None, place)
                    attested[place] = (entry.session, entry.header)
                case AbortedEntry():
                    ends[entry.session] = ("aborted", entry.reason, place)
                case ClosedEntry():
                    ends[entry.session] = ("closed", entry.reason, place)
        wanted.pop(0, None)
        assert roots == wanted
        rows = database.execute("SELECT id, state, reason FROM sessions").fetchall()
        assert {row[0]: row[1:] for row in rows} == {
            session: end[:2] for session, end in ends.items()
        }
        stored = database.execute("SELECT entry, session, body FROM attestations").fetchall()
        assert {row[0]: (row[1], hash_string(bytes(row[2]))) for row in stored} == attested
        check_slots(database, over=over)
        if over:
            assert sessions_left(database) == []
        return report.size
    finally:
        database.close()


def check_slots(database: sqlite3.Connection, *, over: bool) -> None:
    """Every slot has one row and one entry, which tell one story; fsck has looked at bodies.

    ``over``: a start has missed what passed, so that there is no hole.
    """
    feeds: dict[str, FeedEntry] = {}
    logged: dict[tuple[str, int], tuple[int, bool]] = {}
    for place, data in iterate_entries(database):
        entry = read_entry(data)
        if isinstance(entry, FeedEntry):
            feeds[entry.feed] = entry
        elif isinstance(entry, SlotEntry | MissedEntry):
            assert (entry.feed, entry.slot_us) not in logged
            logged[entry.feed, entry.slot_us] = (place, isinstance(entry, SlotEntry))
    stored: dict[tuple[str, int], tuple[int, bool]] = {}
    for name, feed in feeds.items():
        rows = slots_between(database, name, 0, 2**53, 2**31)
        for row in rows:
            stored[name, row.slot_us] = (row.entry, row.body is not None)
        slots = [row.slot_us for row in rows]
        if over and slots:
            first_us = -(-feed.from_us // feed.grid_us) * feed.grid_us
            assert slots == list(range(first_us, slots[-1] + 1, feed.grid_us))
    assert stored == logged
    assert len(stored) == database.execute("SELECT count(*) FROM slots").fetchone()[0]
