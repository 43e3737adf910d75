"""Reads the trades, beside the connection that writes them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attestation.settlement.promise import SignedPromise
from prover.trades.records import Batch, Event, Group, Trade, batch_of, opening_of


class TradeReader:
    """Reads what a ``TradeStore`` keeps at ``path``: each answer is of one moment.

    Blocking, for one thread at a time; raises sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA query_only=ON")

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def move_wal(self) -> None:
        """Moves the write-ahead log into the database, beside the connection that writes."""
        # What prevents it the next commit meets, too, and says so.
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def batch(self, identifier: int) -> Batch:
        """Reads a batch with all its commitments."""
        entry, logged_us = self._database.execute(
            "SELECT entry, logged_us FROM batches WHERE id = ?", (identifier,)
        ).fetchone()
        rows = self._database.execute(
            "SELECT trade, salt, leaf FROM trades WHERE batch = ?", (identifier,)
        ).fetchall()
        return Batch(id=identifier, batch=batch_of(rows), entry=entry, logged_us=logged_us)

    def unlogged(self) -> list[Batch]:
        """Returns the batches of which it is not known where the log has them."""
        found = self._database.execute("SELECT id FROM batches WHERE entry IS NULL ORDER BY id")
        return [self.batch(identifier) for (identifier,) in found.fetchall()]

    def broken(self, batch: int | None = None) -> list[Trade]:
        """Returns trades that the log has later than promised and that have not ended.

        Those of one batch, or of all.
        """
        late = f"{_SELECT} WHERE t.state = 'pending' AND b.logged_us > t.log_by_us"
        order = " ORDER BY b.entry, t.trade"
        if batch is None:
            rows = self._database.execute(late + order)
        else:
            rows = self._database.execute(f"{late} AND t.batch = ?{order}", (batch,))
        return [_trade(row) for row in rows.fetchall()]

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

    def settling(self, groups: Sequence[Group]) -> list[tuple[Batch, list[Trade]]]:
        """Returns groups' batches, and their trades as ``members``."""
        return [(self.batch(group.batch), self.members(group)) for group in groups]

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

    def changes(self, after: int, *, most: int = 1_000) -> list[tuple[Event, Trade]]:
        """Returns the events after a number, oldest first, each with its trade as it stands."""
        rows = self._database.execute(
            f"SELECT e.number, e.kind, {_COLUMNS} FROM events e"  # noqa: S608 - of constants
            " JOIN trades t ON t.trade = e.trade LEFT JOIN batches b ON b.id = t.batch"
            " WHERE e.number > ? ORDER BY e.number LIMIT ?",
            (after, most),
        )
        return [
            (Event(number=row[0], trade=row[2], kind=row[1]), _trade(row[2:]))
            for row in rows.fetchall()
        ]

    def last_event(self) -> int:
        """Returns the number of the last event, 0 before the first."""
        (last,) = self._database.execute("SELECT max(number) FROM events").fetchone()
        return int(last or 0)

    def counts(self) -> dict[str, int]:
        """Returns how many trades are in each state."""
        rows = self._database.execute("SELECT state, count(*) FROM trades GROUP BY state")
        return dict(rows.fetchall())


_COLUMNS = (
    "t.trade, t.salt, t.leaf, t.promise, t.placed_us, t.batch, b.entry, b.logged_us,"
    " t.state, t.reason, t.settlement, t.payout, t.ended_us"
)
_FROM = "FROM trades t LEFT JOIN batches b ON b.id = t.batch"
_SELECT = f"SELECT {_COLUMNS} {_FROM}"


def _trade(row: Sequence[Any]) -> Trade:
    return Trade(
        trade=row[0],
        opening=opening_of(row[1], row[2]),
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
