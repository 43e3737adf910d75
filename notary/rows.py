"""The rows of sessions and attestations, as statements on the notary's database."""

from __future__ import annotations

import dataclasses
import operator
import sqlite3
from typing import Any

from attestation.errors import RefusedError, UsageError
from attestation.reasons import FAULTS
from notary.places import Earlier

SCHEMA_VERSION = 4

_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    conn TEXT,
    prover TEXT NOT NULL,
    purpose TEXT NOT NULL,
    venue TEXT,
    host TEXT NOT NULL,
    mode TEXT NOT NULL,
    opened_us INTEGER NOT NULL,
    deadline_us INTEGER NOT NULL,
    retry_of TEXT,
    token BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'started', 'attested', 'aborted', 'closed')),
    reason TEXT,
    fault TEXT,
    messages INTEGER,
    retriable INTEGER NOT NULL DEFAULT 0,
    ended_us INTEGER,
    CHECK ((state IN ('open', 'started')) = (ended_us IS NULL)),
    CHECK ((state IN ('aborted', 'closed')) = (reason IS NOT NULL)),
    CHECK ((state IN ('started', 'closed')) <= (mode = 'live')),
    CHECK ((state = 'attested') <= (mode != 'live')),
    CHECK ((state = 'closed') = (messages IS NOT NULL)),
    CHECK ((reason IS NULL) = (fault IS NULL))
) WITHOUT ROWID;
CREATE INDEX sessions_by_place ON sessions (purpose, venue);
CREATE INDEX sessions_left ON sessions (state) WHERE ended_us IS NULL;
CREATE TABLE attestations (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL UNIQUE REFERENCES sessions (id),
    body BLOB NOT NULL,
    entry INTEGER
);
"""
_STORED = "SELECT a.body, a.entry FROM attestations a JOIN sessions s ON s.id = a.session WHERE"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRow:
    """What is durable about a session before its first application byte passes.

    ``token`` is the hash of the session's token, to which its attestation is given.
    """

    id: str
    conn: str | None
    prover: str
    purpose: str
    venue: str | None
    host: str
    mode: str
    opened_us: int
    deadline_us: int
    token: bytes
    retry_of: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttestation:
    """An accepted body, and the place of its log entry where there is a log."""

    body: bytes
    entry: int | None


_INSERT = (
    "INSERT INTO sessions (id, conn, prover, purpose, venue, host, mode, opened_us, deadline_us,"
    " token, retry_of, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')"
)
_values = operator.attrgetter(*[field.name for field in dataclasses.fields(OpenedRow)])
"""In the order of ``_INSERT``."""


def prepare(database: sqlite3.Connection) -> None:
    """Makes the tables of a new database; raises UsageError for another version's."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise UsageError(
            "the store was written by another version",
            rule="store",
            found=version,
            wanted=SCHEMA_VERSION,
        )


def touch(database: sqlite3.Connection) -> None:
    """Writes what is there already."""
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def insert_session(database: sqlite3.Connection, row: OpenedRow) -> None:
    """Inserts a session as open; sqlite3.IntegrityError if its id is there."""
    database.execute(_INSERT, _values(row))


def sessions_at(database: sqlite3.Connection, purpose: str, venue: str | None) -> list[Earlier]:
    """Returns the sessions of a place."""
    found = database.execute(
        "SELECT id, retry_of, retriable FROM sessions WHERE purpose = ? AND venue IS ?"
        " ORDER BY opened_us",
        (purpose, venue),
    )
    return [
        Earlier(session=session, retry_of=retry_of, retriable=bool(retriable))
        for session, retry_of, retriable in found
    ]


def sessions_left(database: sqlite3.Connection) -> list[tuple[str, bool]]:
    """Returns the sessions without an end, and whether each was started."""
    found = database.execute(
        "SELECT id, state = 'started' FROM sessions WHERE ended_us IS NULL ORDER BY opened_us, id"
    )
    return [(session, bool(started)) for session, started in found]


def end_aborted(
    database: sqlite3.Connection, session: str, reason: str, now_us: int, *, retriable: bool
) -> None:
    """Ends a session without an attestation; raises RefusedError if it has ended."""
    _end(
        database,
        "UPDATE sessions SET state = 'aborted', reason = ?, fault = ?, retriable = ?,"
        " ended_us = max(?, opened_us) WHERE id = ? AND state = 'open'",
        (reason, FAULTS[reason], retriable, now_us, session),
    )


def end_attested(
    database: sqlite3.Connection,
    session: str,
    attestation: str,
    body: bytes,
    now_us: int,
    *,
    retriable: bool,
) -> None:
    """Ends a session with its attestation, and starts a live one; RefusedError if it has ended."""
    _end(
        database,
        "UPDATE sessions SET state = CASE mode WHEN 'live' THEN 'started' ELSE 'attested' END,"
        " retriable = ?, ended_us = CASE mode WHEN 'live' THEN NULL ELSE ? END"
        " WHERE id = ? AND state = 'open'",
        (retriable, now_us, session),
    )
    database.execute(
        "INSERT INTO attestations (id, session, body) VALUES (?, ?, ?)",
        (attestation, session, body),
    )


def end_closed(
    database: sqlite3.Connection, session: str, reason: str, messages: int, now_us: int
) -> None:
    """Ends a live session that was started; raises RefusedError for any other."""
    _end(
        database,
        "UPDATE sessions SET state = 'closed', reason = ?, fault = ?, messages = ?,"
        " ended_us = max(?, opened_us) WHERE id = ? AND state = 'started'",
        (reason, FAULTS[reason], messages, now_us, session),
    )


def note_entry(database: sqlite3.Connection, attestation: str, place: int) -> None:
    """Notes where an attestation's entry is in the log."""
    database.execute("UPDATE attestations SET entry = ? WHERE id = ?", (place, attestation))


def attestation(
    database: sqlite3.Connection, identifier: str, token: bytes
) -> StoredAttestation | None:
    """Reads an attestation by its header's id and its session's token hash."""
    return _stored(database.execute(f"{_STORED} a.id = ? AND s.token = ?", (identifier, token)))


def attestation_of(
    database: sqlite3.Connection, session: str, token: bytes
) -> StoredAttestation | None:
    """Reads a session's attestation, by the hash of its token."""
    return _stored(database.execute(f"{_STORED} s.id = ? AND s.token = ?", (session, token)))


def session_row(database: sqlite3.Connection, session: str) -> dict[str, Any] | None:
    """Reads a session's row."""
    cursor = database.execute("SELECT * FROM sessions WHERE id = ?", (session,))
    row = cursor.fetchone()
    names = [column[0] for column in cursor.description]
    return None if row is None else dict(zip(names, row, strict=True))


def _end(database: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> None:
    if database.execute(statement, values).rowcount != 1:
        raise RefusedError("the session has ended already", rule="store", http_status=409)


def _stored(cursor: sqlite3.Cursor) -> StoredAttestation | None:
    row = cursor.fetchone()
    return None if row is None else StoredAttestation(body=bytes(row[0]), entry=row[1])
