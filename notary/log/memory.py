"""What the rules remember of the log, as rows in the transaction that changes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping

from attestation.log.entry import Entry, FeedEntry, MissedEntry, SlotEntry
from attestation.log.rules import Rules
from attestation.log.state import FeedState, OpenSession, RulesState

SCHEMA = """
CREATE TABLE log_spent (
    key BLOB PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE log_open (
    session TEXT PRIMARY KEY,
    place INTEGER NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE log_feeds (
    feed TEXT PRIMARY KEY,
    state BLOB NOT NULL
) WITHOUT ROWID;
"""


class SpentTable(MutableMapping[bytes, bytes]):
    """The sessions and places that are over, looked up where they are stored."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __getitem__(self, key: bytes) -> bytes:
        row = self._database.execute("SELECT value FROM log_spent WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._database.execute(
            "INSERT INTO log_spent VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def __delitem__(self, key: bytes) -> None:
        if not self._database.execute("DELETE FROM log_spent WHERE key = ?", (key,)).rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        for row in self._database.execute("SELECT key FROM log_spent ORDER BY key"):
            yield bytes(row[0])

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM log_spent").fetchone()
        return int(count)


def load_rules(database: sqlite3.Connection, size: int, now_us: int) -> Rules:
    """Returns the rules as they stood after ``size`` entries, the latest of ``now_us``."""
    sessions = database.execute("SELECT state FROM log_open ORDER BY place").fetchall()
    feeds = database.execute("SELECT state FROM log_feeds ORDER BY feed").fetchall()
    state = RulesState(
        size=size,
        now_us=now_us,
        feeds=tuple([FeedState.decode(bytes(row[0])) for row in feeds]),
        sessions=tuple([OpenSession.decode(bytes(row[0])) for row in sessions]),
    )
    return Rules(SpentTable(database), state)


def save_session(database: sqlite3.Connection, rules: Rules, entry: Entry) -> None:
    """Writes what one entry, taken by ``rules``, has changed of a session."""
    session = getattr(entry, "session", None)
    if session is not None:
        found = rules.open_session(session)
        if found is None:
            database.execute("DELETE FROM log_open WHERE session = ?", (session,))
        else:
            database.execute(
                "INSERT INTO log_open VALUES (?, ?, ?)"
                " ON CONFLICT (session) DO UPDATE SET state = excluded.state",
                (session, found.index, found.encode()),
            )


def save_feed(database: sqlite3.Connection, rules: Rules, name: str) -> None:
    """Writes the state of a feed that entries, taken by ``rules``, have changed."""
    feed = rules.feed_state(name)
    if feed is not None:
        database.execute(
            "INSERT INTO log_feeds VALUES (?, ?)"
            " ON CONFLICT (feed) DO UPDATE SET state = excluded.state",
            (name, feed.encode()),
        )


def feed_of(entry: Entry) -> str | None:
    """Returns the name of the feed whose state an entry changes, if any."""
    if isinstance(entry, FeedEntry | SlotEntry | MissedEntry):
        return entry.feed
    purpose: str = getattr(entry, "purpose", "")
    return purpose.split("/")[1] if purpose.startswith("slot/") else None
