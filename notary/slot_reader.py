"""Stored slots, read beside the writer: signed again, and proven under today's checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from attestation.encoding import decode_object
from attestation.errors import UnavailableError
from attestation.log.inclusion import Inclusion
from notary import slot_rows
from notary.issue import Issued, restore, sign
from notary.log.ledger import Ledger
from notary.log.tables import read_entries
from notary.signer import Signer
from notary.slot_board import MISSED, SLOT, SlotEvent
from notary.slot_rows import StoredSlot

PAGE = 50
"""Slots of one page: some tens of milliseconds of work."""


class SlotReader:
    """Reads slots from a read-only connection, each page in a thread of its own."""

    def __init__(self, path: Path, signer: Signer, ledger: Ledger) -> None:
        self._database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        self._lock = threading.Lock()
        self._signer = signer
        self._ledger = ledger

    async def page(self, feed: str, from_us: int, until_us: int) -> list[SlotEvent]:
        """Returns the first PAGE slots of a feed from ``from_us`` to before ``until_us``.

        Raises RefusedError (410) for a slot whose key is configured no more, InvalidProofError
        and UnavailableError where the store is damaged or cannot be read.
        """
        return await asyncio.to_thread(self._page, feed, from_us, until_us)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._database.close()

    def _page(self, feed: str, from_us: int, until_us: int) -> list[SlotEvent]:
        events = []
        for slot, entry in self._read(feed, from_us, until_us):
            event = self._event(slot, entry)
            if event is None:
                break  # Durable, but nobody was told of it yet: as if read a moment before.
            events.append(event)
        return events

    def _read(self, feed: str, from_us: int, until_us: int) -> list[tuple[StoredSlot, bytes]]:
        with self._lock:
            try:
                found = slot_rows.slots_between(self._database, feed, from_us, until_us, PAGE)
                return [
                    (slot, read_entries(self._database, slot.entry, slot.entry + 1)[0])
                    for slot in found
                ]
            except sqlite3.Error as error:
                raise UnavailableError(f"cannot read the slots: {error}", rule="store") from error

    def _event(self, slot: StoredSlot, entry: bytes) -> SlotEvent | None:
        """Signs and proves a slot; None while the log's head does not cover its entry."""
        if slot.body is None:
            return SlotEvent(slot.slot_us, MISSED, b'{"missed":' + entry + b"}")
        shown = self._ledger.publisher.covering(slot.entry)
        if slot.entry >= shown.checkpoint.size:
            return None
        proof = self._ledger.reader.prove(slot.entry, shown.checkpoint.size, shown.note)
        issued = Issued(
            attestation=sign(restore(slot.body), self._signer),
            log=Inclusion(entry=decode_object(entry), proof=proof.encode().decode("utf-8")),
        )
        return SlotEvent(slot.slot_us, SLOT, issued.encode())
