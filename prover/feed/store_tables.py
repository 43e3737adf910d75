"""The store's tables, and how each kind of record becomes rows.

Every message is first ``recent``: raw, for minutes.  A slot that names messages has them
``kept``, compressed against the first kept message of their session; one that is named
before it came is ``wanted``.  A quote by REST names none: it rests on the one message of
its session, the body.  Each row has a key of its own, so that a record that comes twice
changes nothing.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from typing import Literal, TypeAlias

from attestation.document import ObservationField
from attestation.errors import UsageError
from attestation.hashing import hash_string
from prover.feed.records import DeadLetter, Ended, Missed, Received, Record, Slot, Started, Tick
from prover.feed.store_packing import pack, start_of

VERSION = 1

Outcome: TypeAlias = Literal["stored", "duplicate"]

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    no INTEGER PRIMARY KEY, notary TEXT NOT NULL, venue TEXT NOT NULL, session TEXT NOT NULL,
    since_us INTEGER NOT NULL, start BLOB, dictionary BLOB,
    ended_us INTEGER, reason TEXT, detail TEXT,
    UNIQUE (session, notary));
CREATE TABLE recent (
    no INTEGER PRIMARY KEY, session INTEGER NOT NULL, idx INTEGER NOT NULL,
    received_us INTEGER NOT NULL, payload BLOB NOT NULL, UNIQUE (session, idx));
CREATE TABLE kept (
    no INTEGER PRIMARY KEY, session INTEGER NOT NULL, idx INTEGER NOT NULL,
    received_us INTEGER NOT NULL, hash INTEGER NOT NULL, last_slot_us INTEGER NOT NULL,
    packed BLOB NOT NULL, UNIQUE (session, idx));
CREATE INDEX kept_hash ON kept (hash);
CREATE TABLE wanted (
    session INTEGER NOT NULL, idx INTEGER NOT NULL, hash INTEGER,
    last_slot_us INTEGER NOT NULL, PRIMARY KEY (session, idx)) WITHOUT ROWID;
CREATE TABLE streams (
    no INTEGER PRIMARY KEY, notary TEXT NOT NULL, feed TEXT NOT NULL, market TEXT,
    dictionary BLOB, UNIQUE (notary, feed));
CREATE TABLE slots (
    no INTEGER PRIMARY KEY, stream INTEGER NOT NULL, slot_us INTEGER NOT NULL,
    header TEXT NOT NULL, packed BLOB NOT NULL, UNIQUE (stream, slot_us));
CREATE TABLE disputed (
    stream INTEGER NOT NULL, slot_us INTEGER NOT NULL, header TEXT NOT NULL,
    record BLOB NOT NULL, PRIMARY KEY (stream, slot_us, header)) WITHOUT ROWID;
CREATE TABLE observations (
    stream INTEGER NOT NULL, slot_us INTEGER NOT NULL, venue TEXT NOT NULL,
    instrument TEXT, bid TEXT, ask TEXT, received_us INTEGER, exchange_us INTEGER,
    reason TEXT, fault TEXT, PRIMARY KEY (stream, slot_us, venue)) WITHOUT ROWID;
CREATE TABLE missed (
    stream INTEGER NOT NULL, slot_us INTEGER NOT NULL, fault TEXT NOT NULL,
    PRIMARY KEY (stream, slot_us)) WITHOUT ROWID;
CREATE TABLE dead_letters (
    no INTEGER PRIMARY KEY, session INTEGER NOT NULL, idx INTEGER NOT NULL,
    received_us INTEGER NOT NULL, payload BLOB NOT NULL, rule TEXT NOT NULL,
    detail TEXT NOT NULL, UNIQUE (session, idx));
CREATE TABLE reconciled (at_us INTEGER PRIMARY KEY, document BLOB NOT NULL);
"""


def prepare(database: sqlite3.Connection, identity: str) -> str:
    """Makes the tables of a new store; returns the store's identity.

    Raises UsageError for another version's store.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('store_id', ?)", (identity,))
        database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("COMMIT")
    elif version != VERSION:
        raise UsageError(
            "the store was written by another version", rule="store", found=version, wanted=VERSION
        )
    return read_identity(database)


def read_identity(database: sqlite3.Connection) -> str:
    """Returns the store's identity."""
    row = database.execute("SELECT value FROM meta WHERE name = 'store_id'").fetchone()
    if row is None:
        raise UsageError("not a store of a feed", rule="store")
    return str(row[0])


class Tables:
    """Writes records within the caller's transactions.

    After a transaction that was undone, ``forget`` is due: what is remembered of rows may
    not be there.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.forget()

    def forget(self) -> None:
        """Reads again from the tables what the next records need."""
        self._sessions: dict[tuple[str, str], int] = {}
        self._streams: dict[tuple[str, str], tuple[int, bytes | None]] = {}
        self._dictionaries: dict[int, bytes | None] = {}
        self._wanted: set[tuple[int, int]] = set(
            self._database.execute("SELECT session, idx FROM wanted")
        )

    def write_all(self, records: Sequence[Record], now_us: int) -> list[Outcome]:
        """Writes records in their order, messages in a row together; raises as ``write``.

        Every statement waits for the interpreter's other threads: one for many messages
        is what keeps a batch short beside a busy event loop.
        """
        outcomes: list[Outcome] = []
        for kind, run in itertools.groupby(records, key=type):
            if kind is not Received:
                outcomes += [self.write(record, now_us) for record in run]
                continue
            messages = [record for record in run if isinstance(record, Received)]
            for at in range(0, len(messages), _TOGETHER):
                outcomes += self._write_messages(messages[at : at + _TOGETHER])
        return outcomes

    def write(self, record: Record, now_us: int) -> Outcome:
        """Writes a record's rows; tells whether it was there already.

        Raises QuotaryError, ValueError or sqlite3.Error for a record that has no rows,
        or none that the tables can hold.
        """
        if isinstance(record, Received):
            (outcome,) = self._write_messages([record])
            return outcome
        if isinstance(record, Slot):
            return self._write_slot(record)
        if isinstance(record, Missed):
            stream, _ = self._stream(record.notary, record.feed, None)
            return self._insert(
                "INSERT OR IGNORE INTO missed VALUES (?, ?, ?)",
                (stream, record.slot_us, record.fault),
            )
        if isinstance(record, DeadLetter):
            received = record.received
            session = self._session(
                received.notary, received.venue, received.session, received.received_us
            )
            return self._insert(
                "INSERT OR IGNORE INTO dead_letters "
                "(session, idx, received_us, payload, rule, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    session,
                    received.index,
                    received.received_us,
                    received.payload,
                    record.rule,
                    record.detail,
                ),
            )
        if isinstance(record, Started):
            return self._write_start(record, now_us)
        if isinstance(record, Ended):
            session = self._session(record.notary, record.venue, record.session, now_us)
            return self._insert(
                "UPDATE sessions SET ended_us = ?, reason = ?, detail = ? "
                "WHERE no = ? AND ended_us IS NULL",
                (now_us, record.reason, record.detail, session),
            )
        assert isinstance(record, Tick)
        raise UsageError("ticks are for display and not stored", rule="record")

    def _write_messages(self, messages: Sequence[Received]) -> list[Outcome]:
        values: list[object] = []
        places: list[tuple[int, int]] = []
        for each in messages:
            session = self._session(each.notary, each.venue, each.session, each.received_us)
            places.append((session, each.index))
            values += (session, each.index, each.received_us, each.payload)
        count = self._database.execute(_INSERT_MESSAGES[len(messages)], values).rowcount
        for place, each in zip(places, messages, strict=True):
            if place in self._wanted:
                self._keep_wanted(place, each)
        if count == len(messages):
            return ["stored"] * count
        # Rows are numbered in their order: the last ones are those that are new.
        new = set(
            self._database.execute(
                "SELECT session, idx FROM recent WHERE no > (SELECT max(no) FROM recent) - ?",
                (count,),
            )
        )
        outcomes: list[Outcome] = []
        for place in places:
            outcomes.append("stored" if place in new else "duplicate")
            new.discard(place)
        return outcomes

    def _keep_wanted(self, place: tuple[int, int], message: Received) -> None:
        """Keeps a message that a slot named before it came."""
        (hash_start, slot_us) = self._database.execute(
            "SELECT hash, last_slot_us FROM wanted WHERE session = ? AND idx = ?", place
        ).fetchone()
        self._keep(*place, hash_start, slot_us, message.received_us, message.payload)
        self._database.execute("DELETE FROM wanted WHERE session = ? AND idx = ?", place)
        self._wanted.discard(place)

    def _write_start(self, record: Started, now_us: int) -> Outcome:
        session = self._session(record.notary, record.venue, record.session, now_us)
        return self._insert(
            "UPDATE sessions SET start = ? WHERE no = ? AND start IS NULL",
            (pack(record.encode(), None), session),
        )

    def _write_slot(self, record: Slot) -> Outcome:
        head, data = record.head, record.encode()
        stream, dictionary = self._stream(record.notary, head.feed, head.market)
        if dictionary is None:
            dictionary = data
            self._database.execute("UPDATE streams SET dictionary = ? WHERE no = ?", (data, stream))
            self._streams[record.notary, head.feed] = (stream, data)
        header = record.attestation.header.id
        outcome = self._insert(
            "INSERT OR IGNORE INTO slots (stream, slot_us, header, packed) VALUES (?, ?, ?, ?)",
            (stream, head.slot_us, header, pack(data, dictionary)),
        )
        if outcome == "duplicate":
            key = (stream, head.slot_us)
            (stored,) = self._database.execute(
                "SELECT header FROM slots WHERE stream = ? AND slot_us = ?", key
            ).fetchone()
            if stored == header:
                return outcome
            # Two attestations of one slot: what shows the notary's fault is kept.
            return self._insert(
                "INSERT OR IGNORE INTO disputed VALUES (?, ?, ?, ?)", (*key, header, data)
            )
        rows: list[object] = []
        for venue, field in record.fields.items():
            if isinstance(field, ObservationField):
                quote = (field.bid, field.ask, field.received_us, field.exchange_us)
                rows += (stream, head.slot_us, venue, field.instrument, *quote, None, None)
                session = self._session(record.notary, venue, field.session, head.slot_us)
                if field.source == "rest":
                    self._refer(session, 0, None, head.slot_us)
                for message in field.messages:
                    self._refer(session, message.index, start_of(message.hash), head.slot_us)
            else:
                gap = (None, None, None, None, None, field.reason, field.fault)
                rows += (stream, head.slot_us, venue, *gap)
        for at in range(0, len(rows), _TOGETHER * _COLUMNS):
            some = rows[at : at + _TOGETHER * _COLUMNS]
            self._database.execute(_INSERT_OBSERVATIONS[len(some) // _COLUMNS], some)
        return outcome

    def _refer(self, session: int, index: int, hash_start: int | None, slot_us: int) -> None:
        """Has a message kept that a slot names, or rests on without naming it."""
        key = (session, index)
        renewed = self._database.execute(
            "UPDATE kept SET last_slot_us = max(last_slot_us, ?) WHERE session = ? AND idx = ?",
            (slot_us, *key),
        )
        if renewed.rowcount:
            return
        found = self._database.execute(
            "SELECT received_us, payload FROM recent WHERE session = ? AND idx = ?", key
        ).fetchone()
        if found is not None:
            self._keep(*key, hash_start, slot_us, *found)
            return
        self._database.execute(
            "INSERT INTO wanted VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET last_slot_us = max(last_slot_us, excluded.last_slot_us)",
            (*key, hash_start, slot_us),
        )
        self._wanted.add(key)

    def _keep(
        self,
        session: int,
        index: int,
        hash_start: int | None,
        slot_us: int,
        received_us: int,
        payload: bytes,
    ) -> None:
        dictionary = None
        if hash_start is None:
            # The body of a response, the only message of its session.
            hash_start = start_of(hash_string(payload))
        else:
            dictionary = self._dictionary(session, payload)
        self._database.execute(
            "INSERT OR IGNORE INTO kept "
            "(session, idx, received_us, hash, last_slot_us, packed) VALUES (?, ?, ?, ?, ?, ?)",
            (session, index, received_us, hash_start, slot_us, pack(payload, dictionary)),
        )

    def _dictionary(self, session: int, payload: bytes) -> bytes:
        """Returns a session's dictionary: the first of its messages that was kept.

        A quote is like the next quote; the session's very first messages are not.
        """
        if session not in self._dictionaries:
            (self._dictionaries[session],) = self._database.execute(
                "SELECT dictionary FROM sessions WHERE no = ?", (session,)
            ).fetchone()
        dictionary = self._dictionaries[session]
        if dictionary is None:
            dictionary = self._dictionaries[session] = payload
            self._database.execute(
                "UPDATE sessions SET dictionary = ? WHERE no = ?", (payload, session)
            )
        return dictionary

    def _session(self, notary: str, venue: str, session: str, since_us: int) -> int:
        number = self._sessions.get((notary, session))
        if number is None:
            self._database.execute(
                "INSERT OR IGNORE INTO sessions (notary, venue, session, since_us) "
                "VALUES (?, ?, ?, ?)",
                (notary, venue, session, since_us),
            )
            (number,) = self._database.execute(
                "SELECT no FROM sessions WHERE session = ? AND notary = ?", (session, notary)
            ).fetchone()
            if len(self._sessions) >= _REMEMBERED:
                self._sessions.clear()
                self._dictionaries.clear()
            self._sessions[notary, session] = number
        return int(number)

    def _stream(self, notary: str, feed: str, market: str | None) -> tuple[int, bytes | None]:
        found = self._streams.get((notary, feed))
        if found is None:
            self._database.execute(
                "INSERT INTO streams (notary, feed, market) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET market = coalesce(market, excluded.market)",
                (notary, feed, market),
            )
            found = self._database.execute(
                "SELECT no, dictionary FROM streams WHERE notary = ? AND feed = ?", (notary, feed)
            ).fetchone()
            if market is not None:
                self._streams[notary, feed] = found
        return found

    def _insert(self, statement: str, values: tuple[object, ...]) -> Outcome:
        return "stored" if self._database.execute(statement, values).rowcount else "duplicate"


_TOGETHER = 64
"""Rows, at most, of one statement: older SQLite takes 999 values."""
_COLUMNS = 10
_MESSAGE, _OBSERVATION = "(?, ?, ?, ?)", "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_MESSAGES, _INSERT_OBSERVATIONS = (
    [" ".join([statement, ", ".join([row] * count)]) for count in range(_TOGETHER + 1)]
    for statement, row in (
        ("INSERT OR IGNORE INTO recent (session, idx, received_us, payload) VALUES", _MESSAGE),
        ("INSERT OR IGNORE INTO observations VALUES", _OBSERVATION),
    )
)
"""By the number of rows."""

_REMEMBERED = 10_000
"""Sessions whose numbers are remembered; a feed has a few dozen at a time."""
