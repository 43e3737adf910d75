"""The game's book: players, trades, and every movement of tokens, in one SQLite database.

Tokens move between accounts and are never made but by ``mint``: all balances together are 0
at any time.  A stake moves to ``held`` in the same transaction that writes the order down; a
trade's end moves it on, once.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from attestation.encoding import MAX_INTEGER
from attestation.errors import RefusedError, UsageError
from examples.game.bet import HOLDING, OPEN, TOKEN, UNRESOLVED, Bet, Resolution

GRANT = 1_000 * TOKEN
"""What a new player is given."""
MINT, HELD, HOUSE = "mint", "held", "house"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    account TEXT PRIMARY KEY,
    balance INTEGER NOT NULL,
    CHECK (balance >= 0 OR account IN ('mint', 'house'))
);
CREATE TABLE IF NOT EXISTS players (
    player TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, secret TEXT NOT NULL UNIQUE,
    since_us INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS trades (
    trade TEXT PRIMARY KEY, player TEXT NOT NULL REFERENCES players, nonce TEXT NOT NULL,
    side TEXT NOT NULL, stake INTEGER NOT NULL CHECK (stake > 0), seen TEXT,
    clicked_us INTEGER NOT NULL, state TEXT NOT NULL, promise TEXT, logged_by_us INTEGER,
    digest TEXT, entry INTEGER, logged_us INTEGER, open_us INTEGER, close_us INTEGER,
    outcome TEXT, payout INTEGER, house TEXT, result TEXT, rule TEXT, detail TEXT
);
CREATE INDEX IF NOT EXISTS trades_by_state ON trades (state);
CREATE INDEX IF NOT EXISTS trades_by_player ON trades (player, clicked_us);
CREATE TABLE IF NOT EXISTS states (
    number INTEGER PRIMARY KEY, trade TEXT NOT NULL, state TEXT NOT NULL, at_us INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS transfers (
    number INTEGER PRIMARY KEY, reference TEXT NOT NULL, kind TEXT NOT NULL,
    source TEXT NOT NULL REFERENCES accounts, target TEXT NOT NULL REFERENCES accounts,
    amount INTEGER NOT NULL CHECK (amount > 0), at_us INTEGER NOT NULL,
    UNIQUE (reference, kind)
);
CREATE TABLE IF NOT EXISTS resolutions (
    number INTEGER PRIMARY KEY, trade TEXT NOT NULL REFERENCES trades, at_us INTEGER NOT NULL,
    by TEXT NOT NULL, action TEXT NOT NULL, reason TEXT NOT NULL, evidence TEXT
);
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), last_event INTEGER NOT NULL
);
INSERT OR IGNORE INTO accounts VALUES ('mint', 0), ('held', 0), ('house', 0);
INSERT OR IGNORE INTO position VALUES (1, 0);
"""


_COLUMNS = ", ".join(field.name for field in fields(Bet))
T = TypeVar("T")
LATE = "refunded before the trades API was known to have taken it: its outcome pays nothing"


class Book:
    """The database at ``path``; to be used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    def move_wal(self) -> None:
        """Moves the write-ahead log into the database, beside who writes through another book."""
        # What prevents it the next commit meets, too, and says so.
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def enrol(self, player: str, name: str, secret: str, at_us: int) -> None:
        """Takes a new player and grants the first tokens; RefusedError if the name is taken."""
        with self._writing() as db:
            if db.execute("SELECT 1 FROM players WHERE name = ?", (name,)).fetchone():
                raise RefusedError("the name is taken", rule="name", http_status=409)
            db.execute("INSERT INTO players VALUES (?, ?, ?, ?)", (player, name, secret, at_us))
            db.execute("INSERT INTO accounts VALUES (?, 0)", (player,))
            self._move(player, "grant", MINT, player, GRANT, at_us)

    def player_of(self, secret: str) -> str | None:
        """Returns the player whose session's hash this is."""
        row = self._db.execute("SELECT player FROM players WHERE secret = ?", (secret,)).fetchone()
        return None if row is None else str(row[0])

    def name_of(self, player: str) -> str:
        """Returns a player's name."""
        row = self._db.execute("SELECT name FROM players WHERE player = ?", (player,)).fetchone()
        return str(row[0])

    def balance(self, account: str) -> int:
        """Returns what an account has."""
        row = self._db.execute("SELECT balance FROM accounts WHERE account = ?", (account,))
        return int(row.fetchone()[0])

    def reserve(self, bet: Bet) -> Bet:
        """Writes an order down and holds its stake; the same order again is the same bet.

        Raises UsageError if the player has less, RefusedError for a nonce used otherwise.
        """
        with self._writing() as db:
            known = self.bet(bet.trade)
            if known is not None:
                same = (known.player, known.side, known.stake) == (bet.player, bet.side, bet.stake)
                if not same:
                    raise RefusedError("the nonce was used before", rule="nonce", http_status=409)
                return known
            if self.balance(bet.player) < bet.stake:
                raise UsageError("not so many tokens", rule="stake")
            values = [getattr(bet, field.name) for field in fields(Bet)]
            marks = ", ".join("?" * len(values))
            insert = f"INSERT INTO trades ({_COLUMNS}) VALUES ({marks})"  # noqa: S608
            db.execute(insert, values)
            self._note(bet.trade, bet.state, bet.clicked_us)
            self._move(bet.trade, "stake", bet.player, HELD, bet.stake, bet.clicked_us)
        return bet

    def advance(
        self, trade: str, state: str, at_us: int, *, after: tuple[str, ...], **known: Any
    ) -> bool:
        """Brings a trade into a state, from one of those in ``after``; False if it is in none."""
        with self._writing():
            return self._advance(trade, state, at_us, after, known)

    def end(
        self,
        trade: str,
        state: str,
        at_us: int,
        *,
        after: tuple[str, ...],
        payout: int,
        **known: Any,
    ) -> bool:
        """Ends a trade and pays, in one transaction; False if it ended before."""
        with self._writing():
            return self._end(trade, state, at_us, after, payout, known)

    def take_event(self, number: int, trade: str, state: str, at_us: int, **known: Any) -> bool:
        """Takes an event of the trades API and remembers its number, together; False if stale.

        ``state`` is ``promised``, ``logged`` or ``ended``; never goes back.  A trade whose
        stake went back becomes ``late``; what is not paid by itself is followed all the same.
        """
        before = OPEN[: OPEN.index(state)]
        with self._writing() as db:
            db.execute("UPDATE position SET last_event = max(last_event, ?)", (number,))
            if self._advance(trade, state, at_us, before, known):
                return True
            if self._advance(trade, "late", at_us, ("refused",), {**known, "detail": LATE}):
                return True
            return bool(known) and self._change(trade, UNRESOLVED, known)

    def resolve(
        self,
        trade: str,
        state: str,
        at_us: int,
        *,
        payout: int | None,
        note: Resolution,
        **known: Any,
    ) -> bool:
        """Ends an incident as somebody decided, and notes it; False if it is none any more.

        Without ``payout`` no tokens move: those of a late trade went back before.
        """
        with self._writing():
            if payout is None:
                changed = self._advance(trade, state, at_us, ("late",), known)
            else:
                changed = self._end(trade, state, at_us, ("incident",), payout, known)
            if changed:
                self.note_resolution(note)
            return changed

    def note_resolution(self, note: Resolution) -> None:
        """Writes down what was decided or tried; its number is the book's."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO resolutions (trade, at_us, by, action, reason, evidence)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (note.trade, note.at_us, note.by, note.action, note.reason, note.evidence),
            )

    def resolutions(self, after: int = 0) -> list[Resolution]:
        """Returns what was decided after a number, oldest first."""
        rows = self._db.execute(
            "SELECT number, trade, at_us, by, action, reason, evidence FROM resolutions"
            " WHERE number > ? ORDER BY number",
            (after,),
        )
        names = [field.name for field in fields(Resolution)]
        return [Resolution(**dict(zip(names, row, strict=True))) for row in rows]

    def history(self, trade: str) -> list[tuple[str, int]]:
        """Returns a trade's states and when it came into each, oldest first."""
        query = "SELECT state, at_us FROM states WHERE trade = ? ORDER BY number"
        return [(str(state), int(at)) for state, at in self._db.execute(query, (trade,))]

    @property
    def last_event(self) -> int:
        """Number of the last event taken."""
        return int(self._db.execute("SELECT last_event FROM position").fetchone()[0])

    def bet(self, trade: str) -> Bet | None:
        """Returns a trade."""
        found = self._bets("WHERE trade = ?", (trade,))
        return found[0] if found else None

    def bets_of(self, player: str, most: int) -> list[Bet]:
        """Returns a player's newest trades, newest first."""
        return self._bets("WHERE player = ? ORDER BY clicked_us DESC LIMIT ?", (player, most))

    def bets_in(self, *states: str, until_us: int | None = None) -> list[Bet]:
        """Returns all trades in these states, of clicks until then, oldest first."""
        marks = ", ".join("?" * len(states))
        until = MAX_INTEGER if until_us is None else until_us
        where = f"WHERE state IN ({marks}) AND clicked_us <= ? ORDER BY clicked_us"
        return self._bets(where, (*states, until))

    def board(self) -> list[dict[str, Any]]:
        """Returns all players by rank: name, tokens (held stakes included), settled and won."""
        rows = self._db.execute(
            "SELECT players.player, name, balance + coalesce(sum(CASE WHEN state IN (?, ?, ?, ?, ?)"
            " THEN stake END), 0) AS worth, coalesce(sum(state = 'settled'), 0),"
            " coalesce(sum(outcome = side), 0)"
            " FROM players JOIN accounts ON account = players.player"
            " LEFT JOIN trades ON trades.player = players.player"
            " GROUP BY players.player ORDER BY worth DESC, since_us",
            HOLDING,
        )
        members = ("player", "name", "worth", "settled", "won")
        return [dict(zip(members, row, strict=True)) for row in rows]

    def entry_delays(self, most: int) -> list[int]:
        """Returns from click to opening slot, of the newest trades, in microseconds."""
        rows = self._db.execute(
            "SELECT open_us - clicked_us FROM trades WHERE open_us NOT NULL"
            " ORDER BY clicked_us DESC LIMIT ?",
            (most,),
        )
        return [int(row[0]) for row in rows]

    def check(self) -> None:
        """Recomputes every balance from the transfers; raises AssertionError if one is off."""
        found = dict(self._db.execute("SELECT account, balance FROM accounts").fetchall())
        wanted = dict.fromkeys(found, 0)
        for source, target, amount in self._db.execute(
            "SELECT source, target, amount FROM transfers"
        ):
            wanted[source] -= amount
            wanted[target] += amount
        held = sum(bet.stake for bet in self.bets_in(*HOLDING))
        if found != wanted or sum(found.values()) or found[HELD] != held:
            raise AssertionError(f"the book does not balance: {found} is not {wanted}, {held} held")

    def _bets(self, where: str, values: tuple[Any, ...]) -> list[Bet]:
        query = f"SELECT {_COLUMNS} FROM trades {where}"  # noqa: S608
        rows = self._db.execute(query, values)
        names = [field.name for field in fields(Bet)]
        return [Bet(**dict(zip(names, row, strict=True))) for row in rows]

    def _end(
        self,
        trade: str,
        state: str,
        at_us: int,
        after: tuple[str, ...],
        payout: int,
        known: dict[str, Any],
    ) -> bool:
        if not self._advance(trade, state, at_us, after, {"payout": payout, **known}):
            return False
        bet = self.bet(trade)
        assert bet is not None
        back = min(payout, bet.stake)
        if back:
            self._move(trade, "back", HELD, bet.player, back, at_us)
        if bet.stake > back:
            self._move(trade, "lost", HELD, HOUSE, bet.stake - back, at_us)
        if payout > back:
            self._move(trade, "won", HOUSE, bet.player, payout - back, at_us)
        return True

    def _advance(
        self, trade: str, state: str, at_us: int, after: tuple[str, ...], known: dict[str, Any]
    ) -> bool:
        changed = self._change(trade, after, {"state": state, **known})
        if changed:
            self._note(trade, state, at_us)
        return changed

    def _change(self, trade: str, states: tuple[str, ...], members: dict[str, Any]) -> bool:
        given = ", ".join(f"{name} = ?" for name in members)
        marks = ", ".join("?" * len(states))
        change = f"UPDATE trades SET {given} WHERE trade = ? AND state IN ({marks})"  # noqa: S608
        return bool(self._db.execute(change, (*members.values(), trade, *states)).rowcount)

    def _note(self, trade: str, state: str, at_us: int) -> None:
        self._db.execute(
            "INSERT INTO states (trade, state, at_us) VALUES (?, ?, ?)", (trade, state, at_us)
        )

    def _move(
        self, reference: str, kind: str, source: str, target: str, amount: int, at_us: int
    ) -> None:
        self._db.execute(
            "INSERT INTO transfers (reference, kind, source, target, amount, at_us)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (reference, kind, source, target, amount, at_us),
        )
        change = "UPDATE accounts SET balance = balance + ? WHERE account = ?"
        self._db.execute(change, (-amount, source))
        self._db.execute(change, (amount, target))

    def seen(self, act: Callable[[Book], T]) -> T:
        """Reads one state of the book, whatever another connection commits meanwhile."""
        self._db.execute("BEGIN")
        try:
            return act(self)
        finally:
            self._db.execute("ROLLBACK")

    def begin(self) -> None:
        """Begins a transaction, of ``part`` after ``part``."""
        self._db.execute("BEGIN IMMEDIATE")

    def part(self, act: Callable[[Book], T]) -> T:
        """Does a part of the transaction: all of it or, if it raises, nothing."""
        with self._writing():
            return act(self)

    def commit(self) -> None:
        """Ends the transaction: durable when it returns."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Takes back what was begun and is not committed."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._db.in_transaction:
            # Within a larger one, only this much is taken back.
            begin, back, end = "SAVEPOINT part", "ROLLBACK TO part; RELEASE part", "RELEASE part"
        else:
            begin, back, end = "BEGIN IMMEDIATE", "ROLLBACK", "COMMIT"
        self._db.execute(begin)
        try:
            yield self._db
        except BaseException:
            for statement in back.split("; "):
                self._db.execute(statement)
            raise
        self._db.execute(end)
