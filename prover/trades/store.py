"""What survives a crash of the trades: orders, batches, receipts, ends, in SQLite.

State of the world: a promise leaves only after its order is on disk; a batch only after
the trades it holds are; and ``pending -> final | void`` is one statement that happens
once.  Each change of a trade is an event with a number, in the same transaction.

Blocking, for one thread at a time; times are the caller's, in microseconds.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attestation.errors import RefusedError, UsageError
from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import TradeBatch, TradeCommitment, TradeLeaf, TradeOpening

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
CREATE INDEX trades_pending ON trades (state) WHERE state = 'pending';
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trade TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('placed', 'logged', 'final', 'void'))
);
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that was taken: its leaf and salt, and the promise given for it."""

    idempotency: str
    request: bytes
    placed_us: int
    opening: TradeOpening
    promise: SignedPromise


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch, and where the log has it once it is known."""

    id: int
    batch: TradeBatch
    entry: int | None = None
    logged_us: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A trade as it stands; ``settlement`` is the settlement document's bytes."""

    trade: str
    opening: TradeOpening
    promise: SignedPromise
    placed_us: int
    batch: int | None
    entry: int | None
    logged_us: int | None
    state: str
    reason: str | None
    settlement: bytes | None
    payout: str | None
    ended_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Trades of one batch with the same prices: the same side and duration."""

    batch: int
    side: str
    duration_us: int
    logged_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a trade ended: ``final`` or ``void``; ``settlement`` is the document's bytes."""

    trade: str
    state: str
    reason: str | None
    payout: str
    settlement: bytes | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The ``number``-th change of any trade: it was placed or logged, or it ended."""

    number: int
    trade: str
    kind: str


class TradeStore:
    """The trades at ``path``.  Raises UsageError for another version's, sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
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
        return Batch(id=identifier, batch=_batch(rows))

    def unlogged(self) -> list[Batch]:
        """Returns the batches of which it is not known where the log has them."""
        found = self._database.execute("SELECT id FROM batches WHERE entry IS NULL ORDER BY id")
        return [self.batch(identifier) for (identifier,) in found.fetchall()]

    def batch(self, identifier: int) -> Batch:
        """Reads a batch with all its commitments."""
        entry, logged_us = self._database.execute(
            "SELECT entry, logged_us FROM batches WHERE id = ?", (identifier,)
        ).fetchone()
        rows = self._database.execute(
            "SELECT trade, salt, leaf FROM trades WHERE batch = ?", (identifier,)
        ).fetchall()
        return Batch(id=identifier, batch=_batch(rows), entry=entry, logged_us=logged_us)

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

    def broken(self) -> list[Trade]:
        """Returns the trades that the log has later than promised and that have not ended."""
        rows = self._database.execute(
            f"{_SELECT} WHERE t.state = 'pending' AND b.logged_us > t.log_by_us"
            " ORDER BY b.entry, t.trade"
        )
        return [_trade(row) for row in rows.fetchall()]

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

    def get(self, trade: str) -> Trade | None:
        """Reads a trade; None if there is no such."""
        row = self._database.execute(f"{_SELECT} WHERE t.trade = ?", (trade,)).fetchone()
        return None if row is None else _trade(row)

    def pending(self) -> list[Group]:
        """Returns what is logged in time and has not ended, in the log's order."""
        rows = self._database.execute(
            "SELECT t.batch, t.side, t.duration_us, b.logged_us FROM trades t"
            " JOIN batches b ON b.id = t.batch WHERE t.state = 'pending'"
            " AND b.logged_us <= t.log_by_us"
            " GROUP BY t.batch, t.side, t.duration_us ORDER BY b.entry, t.side, t.duration_us"
        )
        return [Group(*row) for row in rows.fetchall()]

    def members(self, group: Group) -> list[Trade]:
        """Returns the trades of a group that are logged in time and have not ended."""
        rows = self._database.execute(
            f"{_SELECT} WHERE t.batch = ? AND t.side = ? AND t.duration_us = ?"
            " AND t.state = 'pending' AND b.logged_us <= t.log_by_us ORDER BY t.trade",
            (group.batch, group.side, group.duration_us),
        )
        return [_trade(row) for row in rows.fetchall()]

    def ended(self, after: tuple[int, str] = (-1, ""), *, most: int = 1_000) -> list[Trade]:
        """Returns trades that ended and are in the log, by entry and trade: the ledger's order."""
        rows = self._database.execute(
            f"{_SELECT} WHERE t.state != 'pending' AND (b.entry, t.trade) > (?, ?)"
            " ORDER BY b.entry, t.trade LIMIT ?",
            (*after, most),
        )
        return [_trade(row) for row in rows.fetchall()]

    def promises(self, after: tuple[int, str], *, most: int = 1_000) -> list[SignedPromise]:
        """Returns promises by their deadline and trade, of trades not yet logged too."""
        rows = self._database.execute(
            "SELECT promise FROM trades WHERE (log_by_us, trade) > (?, ?)"
            " ORDER BY log_by_us, trade LIMIT ?",
            (*after, most),
        )
        return [SignedPromise.decode(bytes(promise)) for (promise,) in rows.fetchall()]

    def events(self, after: int, *, most: int = 1_000) -> list[Event]:
        """Returns the events after a number, oldest first."""
        rows = self._database.execute(
            "SELECT number, trade, kind FROM events WHERE number > ? ORDER BY number LIMIT ?",
            (after, most),
        )
        return [Event(number=row[0], trade=row[1], kind=row[2]) for row in rows.fetchall()]

    def last_event(self) -> int:
        """Returns the number of the last event, 0 before the first."""
        (last,) = self._database.execute("SELECT max(number) FROM events").fetchone()
        return int(last or 0)

    def counts(self) -> dict[str, int]:
        """Returns how many trades are in each state."""
        rows = self._database.execute("SELECT state, count(*) FROM trades GROUP BY state")
        return dict(rows.fetchall())

    def _event(self, trade: str, kind: str) -> None:
        self._database.execute("INSERT INTO events (trade, kind) VALUES (?, ?)", (trade, kind))


_SELECT = (
    "SELECT t.trade, t.salt, t.leaf, t.promise, t.placed_us, t.batch, b.entry, b.logged_us,"
    " t.state, t.reason, t.settlement, t.payout, t.ended_us"
    " FROM trades t LEFT JOIN batches b ON b.id = t.batch"
)


def _trade(row: Sequence[Any]) -> Trade:
    return Trade(
        trade=row[0],
        opening=_opening(row[1], row[2]),
        promise=SignedPromise.decode(bytes(row[3])),
        placed_us=row[4],
        batch=row[5],
        entry=row[6],
        logged_us=row[7],
        state=row[8],
        reason=row[9],
        settlement=None if row[10] is None else bytes(row[10]),
        payout=row[11],
        ended_us=row[12],
    )


def _opening(salt: str, leaf: bytes) -> TradeOpening:
    return TradeOpening(salt=salt, leaf=TradeLeaf.decode(bytes(leaf)))


def _batch(rows: Sequence[Sequence[Any]]) -> TradeBatch:
    commitments: list[TradeCommitment] = [
        _opening(salt, leaf).commitment() for _, salt, leaf in rows
    ]
    return TradeBatch.of(commitments)


class _Transaction:
    """All of it or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
