"""What survives a crash of the trades: orders, batches, receipts, ends, in SQLite.

State of the world: a promise leaves only after its order is on disk; a batch only after
the trades it holds are; and ``pending -> final | void`` is one statement that happens
once.  Each change of a trade is an event with a number, in the same transaction.

Blocking, for one thread at a time; times are the caller's, in microseconds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from attestation.errors import RefusedError, UsageError
from attestation.settlement.promise import SignedPromise
from prover.trades.records import Batch, End, Placed, batch_of

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    made_us INTEGER NOT NULL,
    entry INTEGER UNIQUE,
    logged_us INTEGER,
    CHECK ((entry IS NULL) = (logged_us IS NULL))
);
CREATE TABLE trades (
    trade TEXT PRIMARY KEY,
    idempotency TEXT NOT NULL UNIQUE,
    request BLOB NOT NULL,
    placed_us INTEGER NOT NULL,
    salt TEXT NOT NULL,
    leaf BLOB NOT NULL,
    side TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    promise BLOB NOT NULL,
    log_by_us INTEGER NOT NULL,
    batch INTEGER REFERENCES batches (id),
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'final', 'void')),
    reason TEXT,
    settlement BLOB,
    payout TEXT,
    ended_us INTEGER,
    CHECK ((state = 'pending') = (ended_us IS NULL))
) WITHOUT ROWID;
CREATE INDEX trades_unbatched ON trades (placed_us) WHERE batch IS NULL AND state = 'pending';
CREATE INDEX trades_by_deadline ON trades (log_by_us, trade);
CREATE INDEX trades_by_batch ON trades (batch);
CREATE INDEX trades_pending ON trades (batch, side, duration_us, log_by_us)
    WHERE state = 'pending';
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trade TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('placed', 'logged', 'final', 'void'))
);
"""


class TradeStore:
    """The trades at ``path``.  Raises UsageError for another version's, sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            self._database.close()
            raise UsageError(
                "the trades were written by another version", rule="trades", found=version
            )

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def place(self, placed: Sequence[Placed]) -> list[SignedPromise | RefusedError]:
        """Stores orders in one transaction; returns each one's promise, or why it is refused.

        The same order under the same key has the same promise again; another order under
        a used key, or a used nonce under another key, is refused (409).
        """
        answers: list[SignedPromise | RefusedError] = []
        with _Transaction(self._database):
            for one in placed:
                answers.append(self._place(one))
        return answers

    def _place(self, placed: Placed) -> SignedPromise | RefusedError:
        trade = placed.opening.leaf.trade
        known = self._database.execute(
            "SELECT trade, idempotency, request, promise FROM trades"
            " WHERE trade = ? OR idempotency = ?",
            (trade, placed.idempotency),
        ).fetchone()
        if known is not None:
            if (known[0], known[1], bytes(known[2])) == (
                trade,
                placed.idempotency,
                placed.request,
            ):
                return SignedPromise.decode(bytes(known[3]))
            used = "key" if known[1] == placed.idempotency else "nonce"
            return RefusedError(
                f"the {used} was used for another order",
                rule="idempotency_key" if used == "key" else "nonce",
                http_status=409,
            )
        self._database.execute(
            "INSERT INTO trades (trade, idempotency, request, placed_us, salt, leaf, side,"
            " duration_us, promise, log_by_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                trade,
                placed.idempotency,
                placed.request,
                placed.placed_us,
                placed.opening.salt,
                placed.opening.leaf.encode(),
                placed.opening.leaf.side,
                placed.opening.leaf.duration_us,
                placed.promise.encode(),
                placed.promise.promise.log_by_us,
            ),
        )
        self._event(trade, "placed")
        return placed.promise

    def make_batch(self, made_us: int, *, most: int) -> Batch | None:
        """Puts trades that are in no batch into a new one, oldest first; None without any."""
        with _Transaction(self._database):
            rows = self._database.execute(
                "SELECT trade, salt, leaf FROM trades WHERE batch IS NULL AND state = 'pending'"
                " ORDER BY placed_us, trade LIMIT ?",
                (most,),
            ).fetchall()
            if not rows:
                return None
            identifier = self._database.execute(
                "INSERT INTO batches (made_us) VALUES (?)", (made_us,)
            ).lastrowid
            assert identifier is not None
            self._database.executemany(
                "UPDATE trades SET batch = ? WHERE trade = ?",
                [(identifier, row[0]) for row in rows],
            )
        return Batch(id=identifier, batch=batch_of(rows))

    def note_logged(self, identifier: int, entry: int, logged_us: int) -> None:
        """Notes where the log has a batch."""
        with _Transaction(self._database):
            changed = self._database.execute(
                "UPDATE batches SET entry = ?, logged_us = ? WHERE id = ? AND entry IS NULL",
                (entry, logged_us, identifier),
            ).rowcount
            if not changed:
                return
            rows = self._database.execute(
                "SELECT trade FROM trades WHERE batch = ? ORDER BY trade", (identifier,)
            ).fetchall()
            for (trade,) in rows:
                self._event(trade, "logged")

    def end(self, ends: Sequence[End], ended_us: int) -> int:
        """Ends trades that have not ended, in one transaction; returns how many."""
        count = 0
        with _Transaction(self._database):
            for one in ends:
                changed = self._database.execute(
                    "UPDATE trades SET state = ?, reason = ?, payout = ?, settlement = ?,"
                    " ended_us = ? WHERE trade = ? AND state = 'pending'",
                    (one.state, one.reason, one.payout, one.settlement, ended_us, one.trade),
                ).rowcount
                if changed:
                    self._event(one.trade, one.state)
                    count += 1
        return count

    def _event(self, trade: str, kind: str) -> None:
        self._database.execute("INSERT INTO events (trade, kind) VALUES (?, ?)", (trade, kind))


class _Transaction:
    """All of it or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
