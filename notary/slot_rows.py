"""The rows of slots and of what provers submitted, as statements on the notary's database."""

from __future__ import annotations

import dataclasses
import sqlite3
import zlib

from attestation.errors import InvalidProofError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slots (
    feed TEXT NOT NULL,
    slot_us INTEGER NOT NULL,
    entry INTEGER,
    body BLOB,
    PRIMARY KEY (feed, slot_us)
);
CREATE TABLE IF NOT EXISTS submitted (
    hash BLOB PRIMARY KEY,
    entry INTEGER NOT NULL
) WITHOUT ROWID;
"""
_LEVEL = 6
"""Of zlib: a slot's body, kept for good twice a second, shrinks to a third in 40 us."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredSlot:
    """A slot's accepted body, None where it was missed, and the place of its log entry."""

    slot_us: int
    entry: int
    body: bytes | None


def prepare(database: sqlite3.Connection) -> None:
    """Makes the tables where they are not there."""
    database.executescript(_SCHEMA)


def insert_slot(database: sqlite3.Connection, feed: str, slot_us: int, body: bytes | None) -> bool:
    """Inserts a slot, without a body a missed one; tells whether there was none yet."""
    return (
        database.execute(
            "INSERT OR IGNORE INTO slots (feed, slot_us, body) VALUES (?, ?, ?)",
            (feed, slot_us, None if body is None else zlib.compress(body, _LEVEL)),
        ).rowcount
        == 1
    )


def note_entry(database: sqlite3.Connection, feed: str, slot_us: int, place: int) -> None:
    """Notes where a slot's entry is in the log."""
    database.execute(
        "UPDATE slots SET entry = ? WHERE feed = ? AND slot_us = ?", (place, feed, slot_us)
    )


def slots_between(
    database: sqlite3.Connection, feed: str, from_us: int, until_us: int, most: int
) -> list[StoredSlot]:
    """Reads the first slots of a feed from ``from_us`` to before ``until_us``, in order."""
    found = database.execute(
        "SELECT slot_us, entry, body FROM slots WHERE feed = ? AND slot_us >= ? AND slot_us < ?"
        " ORDER BY slot_us LIMIT ?",
        (feed, from_us, until_us, most),
    )
    return [
        StoredSlot(slot_us=slot_us, entry=entry, body=None if body is None else inflate(body))
        for slot_us, entry, body in found
    ]


def inflate(packed: bytes) -> bytes:
    """Unpacks a stored body; raises InvalidProofError if it is damaged."""
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise InvalidProofError(f"a stored slot is damaged: {error}", rule="store") from None


def submitted_at(database: sqlite3.Connection, hashed: bytes) -> int | None:
    """Returns the place of an entry that was submitted before, by its hash."""
    row = database.execute("SELECT entry FROM submitted WHERE hash = ?", (hashed,)).fetchone()
    return None if row is None else int(row[0])


def note_submitted(database: sqlite3.Connection, hashed: bytes, place: int) -> None:
    """Notes where a submitted entry is in the log."""
    database.execute("INSERT INTO submitted VALUES (?, ?)", (hashed, place))
