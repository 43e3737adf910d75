"""The log's tables, in the notary's own database.

Entries, tiles and head stand beside the attestations they speak of, so that one
transaction makes them durable together.  A tile's row holds as many hashes as the
tree has; every narrower tile of the same place is its beginning.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from attestation.errors import UnavailableError, UsageError
from attestation.hashing import HASH_SIZE
from attestation.log.tiles import Tile, edge_of
from notary.log.memory import SCHEMA

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE log_entries (
    place INTEGER PRIMARY KEY,
    entry BLOB NOT NULL
);
CREATE TABLE log_tiles (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, place)
) WITHOUT ROWID;
CREATE TABLE log_head (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    version INTEGER NOT NULL,
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    logged_us INTEGER NOT NULL
);
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far the log has come: entries, the root over them, the last one's time."""

    origin: str
    size: int
    root: bytes
    logged_us: int


def create_tables(database: sqlite3.Connection, head: Head) -> None:
    """Makes an empty log; raises UsageError if there is one."""
    if has_log(database):
        raise UsageError("the store has a log already", rule="log")
    values = (SCHEMA_VERSION, head.origin, head.size, head.root, head.logged_us)
    database.execute("BEGIN IMMEDIATE")
    for statement in (_SCHEMA + SCHEMA).split(";"):
        database.execute(statement)
    database.execute("INSERT INTO log_head VALUES (0, ?, ?, ?, ?, ?)", values)
    database.execute("COMMIT")


def has_log(database: sqlite3.Connection) -> bool:
    """Whether the store has a log."""
    row = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'log_head'").fetchone()
    return row is not None


def read_head(database: sqlite3.Connection) -> Head:
    """Reads the head; raises UsageError where no log was created, or by another version."""
    if not has_log(database):
        raise UsageError("the store has no log: notary log create", rule="log")
    row = database.execute("SELECT version, origin, size, root, logged_us FROM log_head").fetchone()
    if row is None or row[0] != SCHEMA_VERSION:
        raise UsageError("the log was written by another version", rule="log", found=row and row[0])
    return Head(origin=row[1], size=row[2], root=bytes(row[3]), logged_us=row[4])


def write_head(database: sqlite3.Connection, head: Head) -> None:
    """Replaces the head."""
    database.execute(
        "UPDATE log_head SET size = ?, root = ?, logged_us = ?",
        (head.size, head.root, head.logged_us),
    )


def write_entries(database: sqlite3.Connection, first: int, entries: Iterable[bytes]) -> None:
    """Appends entries from place ``first`` on; a place that is taken fails."""
    database.executemany("INSERT INTO log_entries VALUES (?, ?)", enumerate(entries, first))


def read_entries(database: sqlite3.Connection, start: int, stop: int) -> list[bytes]:
    """Reads entries ``start`` to ``stop``; raises UnavailableError unless all are there."""
    rows = database.execute(
        "SELECT place, entry FROM log_entries WHERE place >= ? AND place < ? ORDER BY place",
        (start, stop),
    ).fetchall()
    if [row[0] for row in rows] != list(range(start, stop)):
        raise UnavailableError("the store lacks entries", rule="log", found=[start, stop])
    return [bytes(row[1]) for row in rows]


def iterate_entries(database: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    """Yields (place, entry) of all entries in order."""
    for place, entry in database.execute("SELECT place, entry FROM log_entries ORDER BY place"):
        yield place, bytes(entry)


def write_tiles(database: sqlite3.Connection, tiles: Mapping[Tile, bytes]) -> None:
    """Writes tiles, in place of narrower ones."""
    database.executemany(
        "INSERT INTO log_tiles VALUES (?, ?, ?)"
        " ON CONFLICT (level, place) DO UPDATE SET hashes = excluded.hashes",
        [(tile.level, tile.index, hashes) for tile, hashes in tiles.items()],
    )


def read_tile(database: sqlite3.Connection, tile: Tile) -> bytes:
    """Reads a tile at the width asked for; raises UnavailableError if the store has less."""
    row = database.execute(
        "SELECT hashes FROM log_tiles WHERE level = ? AND place = ?", (tile.level, tile.index)
    ).fetchone()
    size = tile.width * HASH_SIZE
    if row is None or len(row[0]) < size:
        raise UnavailableError("the store lacks a tile", rule="log", found=tile.path())
    return bytes(row[0][:size])


def read_edge(database: sqlite3.Connection, size: int) -> dict[Tile, bytes]:
    """Reads the partial tiles of a tree of ``size`` entries."""
    return {tile: read_tile(database, tile) for tile in edge_of(size)}
