"""Whether the stored slots are those of the log, each of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from attestation.errors import InvalidProofError, MalformedError
from attestation.hashing import hash_string
from attestation.log.entry import MissedEntry, SlotEntry, read_entry
from notary.issue import restore
from notary.log.tables import has_log
from notary.slot_rows import inflate


def damaged_slots(database: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Yields (feed, slot) where a body does not fold, or is not what the log's entry says."""
    if not has_log(database):
        return
    found = database.execute(
        "SELECT feed, slot_us, body, log_entries.entry FROM slots"
        " LEFT JOIN log_entries ON slots.entry = log_entries.place ORDER BY feed, slot_us"
    )
    for feed, slot_us, body, data in found:
        if data is None or not _is_sound(feed, slot_us, body, bytes(data)):
            yield feed, slot_us


def _is_sound(feed: str, slot_us: int, body: bytes | None, data: bytes) -> bool:
    try:
        entry = read_entry(data)
        if body is None:
            sound = isinstance(entry, MissedEntry)
        else:
            header = hash_string(restore(inflate(body)).header.encode())
            sound = isinstance(entry, SlotEntry) and entry.header == header
    except (InvalidProofError, MalformedError):
        return False
    return sound and (entry.feed, entry.slot_us) == (feed, slot_us)  # type: ignore[union-attr]
