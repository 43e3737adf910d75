"""What survives a crash of feeds: each slot's body or that it was missed, with its entry.

State of the world after a crash: a slot has a body, and then its ``slot`` entry came in the
same transaction; or no body, and then its ``missed`` entry did; or neither, and the next
start misses it.  A body is signed whenever it is asked for, to the same attestation.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Iterator

from attestation.document import Header
from attestation.errors import RefusedError
from attestation.hashing import digest, hash_string
from attestation.log.entry import (
    FeedEntry,
    MissedEntry,
    PolicyEntry,
    SlotEntry,
    TradesEntry,
)
from attestation.log.state import FeedState
from notary import slot_rows
from notary.feeds import Lapsed
from notary.log.sequencer import Ticket
from notary.writer import Writer

MAX_MISSED = 500
"""Slots that one transaction misses."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoggedMiss:
    """A slot that was missed, and its entry's canonical bytes."""

    slot_us: int
    entry: bytes


class SlotStore:
    """The operations of feeds on the notary's store.

    Each returns a future that resolves when what it wrote is durable.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def attest_slot(
        self, feed: str, slot_us: int, header: Header, body: bytes
    ) -> asyncio.Future[Ticket]:
        """Stores a slot's body with its entry; ``body`` holds all leaves and the seed.

        RefusedError if the slot has its entry, or ``log.late`` if its time has passed.
        """

        def run(database: sqlite3.Connection) -> Ticket:
            if not slot_rows.insert_slot(database, feed, slot_us, body):
                raise RefusedError("the slot has its entry", rule="store", http_status=409)
            entry = SlotEntry(
                feed=feed,
                slot_us=slot_us,
                header=hash_string(header.encode()),
                prev=self._writer.sequencer.slot_index(feed),
            )
            ticket = self._writer.sequencer.add(entry, wants_proof=True)
            slot_rows.note_entry(database, feed, slot_us, ticket.index)
            return ticket

        return self._writer.submit(run)

    def miss_slots(self, lapsed: Lapsed) -> asyncio.Future[list[LoggedMiss]]:
        """Logs at most MAX_MISSED slots as missed by the notary; passes over those with entries."""
        feed, grid_us = lapsed.feed.feed, lapsed.feed.grid_us
        stop_us = min(lapsed.stop_us, lapsed.first_us + MAX_MISSED * grid_us)

        def run(database: sqlite3.Connection) -> list[LoggedMiss]:
            sequencer = self._writer.sequencer
            # Nothing may be refused once the first of them is in the log's memory.
            open_slots = [
                slot_us
                for slot_us in range(lapsed.first_us, stop_us, grid_us)
                if sequencer.slot_open(feed, slot_us)
            ]
            missed = []
            for slot_us in open_slots:
                slot_rows.insert_slot(database, feed, slot_us, None)
                ticket = sequencer.add(MissedEntry(feed=feed, slot_us=slot_us, fault="notary"))
                slot_rows.note_entry(database, feed, slot_us, ticket.index)
                missed.append(LoggedMiss(slot_us=slot_us, entry=ticket.data))
            return missed

        return self._writer.submit(run)

    def open_slots(self, now_us: int) -> asyncio.Future[tuple[list[FeedEntry], list[Lapsed]]]:
        """Reads the feeds of the log, and their slots up to ``now_us`` that have no entry."""

        def run(database: sqlite3.Connection) -> tuple[list[FeedEntry], list[Lapsed]]:
            states = self._writer.sequencer.feeds()
            runs = [run for state in states for run in _open_runs(state, now_us)]
            return [state.entry for state in states], runs

        return self._writer.submit(run)

    def submit_entry(
        self, entry: FeedEntry | PolicyEntry | TradesEntry
    ) -> asyncio.Future[Ticket | int]:
        """Logs an entry of a prover's, once: whoever sends it again gets the first one's index.

        RefusedError (409) if it breaks a rule of the log.
        """
        hashed = digest(entry.encode())

        def run(database: sqlite3.Connection) -> Ticket | int:
            place = slot_rows.submitted_at(database, hashed)
            if place is not None:
                return place
            ticket = self._writer.sequencer.add(entry, wants_proof=True)
            slot_rows.note_submitted(database, hashed, ticket.index)
            return ticket

        return self._writer.submit(run)


def _open_runs(state: FeedState, now_us: int) -> Iterator[Lapsed]:
    """Yields the runs of a feed's slots up to ``now_us`` that have no entry, oldest first."""
    entry, start = state.entry, state.floor_us
    stop = now_us - now_us % entry.grid_us + entry.grid_us
    runs = [(span.first_us, span.stop_us) for span in state.spans]
    for slot_us in state.settled:
        runs.append((start, slot_us))
        start = slot_us + entry.grid_us
    runs.append((start, stop))
    for first_us, stop_us in runs:
        if first_us < stop_us:
            yield Lapsed(feed=entry, first_us=first_us, stop_us=stop_us)
