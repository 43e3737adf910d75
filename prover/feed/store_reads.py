"""Reads of a feed's store: for serving, rederiving and commands; nothing is written.

Every method may be called in any thread, and blocks for a few milliseconds; each uses a
connection of its own while it runs.  UnavailableError where the store is away,
InvalidProofError (``store``) for a row that its own bytes contradict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import queue
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from attestation.document import ObservationField
from attestation.errors import InvalidProofError, MalformedError, UnavailableError
from attestation.hashing import hash_string, parse_hash
from prover.feed.candles import Candles
from prover.feed.records import Missed, Received, Slot, Started
from prover.feed.store_database import DATABASE_FILE
from prover.feed.store_packing import start_of, unpack
from prover.feed.store_tables import read_identity

Settled: TypeAlias = Slot | Missed
"""What became of a slot at one notary."""

MAX_PAGE = 10_000
"""Slots, at most, that one read returns."""
_CANDLES = 2_000
"""Observations read at a time for candles."""
_IDLE = 4
"""Connections kept open between reads."""


class Stream(NamedTuple):
    """One notary's slots of one feed; ``first_us`` and ``newest_us`` of attested ones."""

    notary: str
    feed: str
    market: str | None
    first_us: int | None
    newest_us: int | None


class Quote(NamedTuple):
    """A venue's quote in a slot, as stored beside the attestation for queries."""

    slot_us: int
    venue: str
    bid: str
    ask: str


class _Lent(NamedTuple):
    """A connection, and the file it was opened at (device, inode)."""

    database: sqlite3.Connection
    place: tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """How a live session ended; ``reason`` is None where the prover could not tell."""

    ended_us: int
    reason: str | None
    detail: str


class StoreReader:
    """Reads the store in ``folder``, whether or not a process writes to it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE_FILE
        self._idle: queue.LifoQueue[_Lent] = queue.LifoQueue(_IDLE)

    def close(self) -> None:
        """Closes the connections that are not in use."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().database.close()

    # Slots.

    def streams(self) -> list[Stream]:
        """Returns what there is, by notary and feed."""
        with self.reading() as database:
            return [
                Stream(*row)
                for row in database.execute(
                    "SELECT notary, feed, market, "
                    "(SELECT min(slot_us) FROM slots WHERE stream = streams.no), "
                    "(SELECT max(slot_us) FROM slots WHERE stream = streams.no) "
                    "FROM streams ORDER BY notary, feed"
                )
            ]

    def slots(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int
    ) -> list[Settled]:
        """Returns what became of the slots in [from_us, to_us), oldest first.

        At most ``limit``: the next page begins after the last one returned.
        """
        limit = min(limit, MAX_PAGE)
        with self.reading() as database:
            attested = _SLOTS_FROM, (notary, feed, from_us, to_us, limit)
            found: list[Settled] = [_slot(row) for row in database.execute(*attested)]
            taken = {slot.slot_us for slot in found}
            found += [
                _missed(notary, feed, row)
                for row in database.execute(
                    "SELECT slot_us, fault FROM missed JOIN streams ON streams.no = stream "
                    "WHERE notary = ? AND feed = ? AND slot_us >= ? AND slot_us < ? "
                    "ORDER BY slot_us LIMIT ?",
                    (notary, feed, from_us, to_us, limit),
                )
                if row[0] not in taken
            ]
        return sorted(found, key=lambda settled: settled.slot_us)[:limit]

    def places(self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int) -> list[int]:
        """Returns the slots in [from_us, to_us) that are stored, attested or missed."""
        with self.reading() as database:
            return [
                slot_us
                for (slot_us,) in database.execute(
                    "SELECT slot_us FROM slots JOIN streams ON streams.no = stream "
                    "WHERE notary = ?1 AND feed = ?2 AND slot_us >= ?3 AND slot_us < ?4 UNION "
                    "SELECT slot_us FROM missed JOIN streams ON streams.no = stream "
                    "WHERE notary = ?1 AND feed = ?2 AND slot_us >= ?3 AND slot_us < ?4 "
                    "ORDER BY slot_us LIMIT ?5",
                    (notary, feed, from_us, to_us, limit),
                )
            ]

    def settled(self, feed: str, notary: str, slot_us: int) -> Settled | None:
        """Returns what became of one slot."""
        found = self.slots(feed, notary, from_us=slot_us, to_us=slot_us + 1, limit=1)
        return found[0] if found else None

    def slot_before(self, feed: str, notary: str, slot_us: int) -> Slot | None:
        """Returns the newest attested slot before an instant."""
        with self.reading() as database:
            row = database.execute(
                "SELECT packed, dictionary FROM slots JOIN streams ON streams.no = stream "
                "WHERE notary = ? AND feed = ? AND slot_us < ? ORDER BY slot_us DESC LIMIT 1",
                (notary, feed, slot_us),
            ).fetchone()
        return None if row is None else _slot(row)

    def around(self, feed: str, notary: str, at_us: int) -> tuple[Slot | None, Settled | None]:
        """Returns the newest attested slot before an instant, and the first at or after it.

        The two together show that nothing lies in between: ``prev`` of the second one's
        log entry is the first one's.
        """
        following = self.slots(feed, notary, from_us=at_us, to_us=2**53, limit=1)
        return self.slot_before(feed, notary, at_us), following[0] if following else None

    def newest(self, feed: str, notary: str) -> int | None:
        """Returns the newest slot that is stored, attested or missed."""
        with self.reading() as database:
            row = database.execute(
                "SELECT max("
                "coalesce((SELECT max(slot_us) FROM slots WHERE stream = streams.no), -1), "
                "coalesce((SELECT max(slot_us) FROM missed WHERE stream = streams.no), -1)) "
                "FROM streams WHERE notary = ? AND feed = ?",
                (notary, feed),
            ).fetchone()
        return None if row is None or row[0] is None or row[0] < 0 else int(row[0])

    def quotes(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int = 200_000
    ) -> list[Quote]:
        """Returns the observations of the slots in [from_us, to_us), oldest first."""
        with self.reading() as database:
            return [
                Quote(*row)
                for row in database.execute(
                    "SELECT slot_us, venue, bid, ask FROM observations "
                    "JOIN streams ON streams.no = stream WHERE notary = ? AND feed = ? "
                    "AND slot_us >= ? AND slot_us < ? AND bid IS NOT NULL "
                    "ORDER BY slot_us, venue LIMIT ?",
                    (notary, feed, from_us, to_us, limit),
                )
            ]

    def gap_counts(
        self, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> list[tuple[str, str, str, int]]:
        """Returns (venue, reason, fault, slots) of the gaps in [from_us, to_us)."""
        with self.reading() as database:
            return database.execute(
                "SELECT venue, reason, fault, count(*) FROM observations "
                "JOIN streams ON streams.no = stream WHERE notary = ? AND feed = ? "
                "AND slot_us >= ? AND slot_us < ? AND reason IS NOT NULL "
                "GROUP BY venue, reason, fault ORDER BY venue, reason",
                (notary, feed, from_us, to_us),
            ).fetchall()

    def fill_candles(
        self, candles: Candles, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> None:
        """Gives the observations in [from_us, to_us) to candles, a page at a time."""
        while quotes := self.quotes(feed, notary, from_us=from_us, to_us=to_us, limit=_CANDLES):
            if len(quotes) == _CANDLES and quotes[0].slot_us < quotes[-1].slot_us:
                # The last slot may go on in the next page.
                quotes = [quote for quote in quotes if quote.slot_us < quotes[-1].slot_us]
            for slot_us, slot in itertools.groupby(quotes, key=lambda quote: quote.slot_us):
                candles.take_slot(slot_us, {each.venue: (each.bid, each.ask) for each in slot})
            from_us = quotes[-1].slot_us + 1

    # Messages and sessions.

    def message(self, hash: str) -> Received | None:
        """Returns a venue's message by the hash that observations name it by."""
        algorithm, _ = parse_hash(hash)
        with self.reading() as database:
            rows = database.execute(f"{_KEPT} WHERE hash = ?", (start_of(hash),)).fetchall()
        for row in rows:
            with contextlib.suppress(InvalidProofError):
                found = _message(row)
                if hash_string(found.payload, algorithm) == hash:
                    return found
        return None

    def message_at(self, notary: str, session: str, index: int) -> Received | None:
        """Returns a message by its place, whatever its hash is; no slot need name it yet."""
        with self.reading() as database:
            place = (session, notary, index)
            row = database.execute(f"{_KEPT} {_AT}", place).fetchone()
            if row is None:
                recent = database.execute(f"{_RECENT} {_AT}", place).fetchone()
                return None if recent is None else read_received(recent, recent[5])
        return _message(row)

    def kept_at(self, notary: str, session: str, index: int) -> Received | None:
        """Returns a message that is kept as evidence, by its place."""
        with self.reading() as database:
            row = database.execute(f"{_KEPT} {_AT}", (session, notary, index)).fetchone()
        return None if row is None else _message(row)

    def messages_of(self, slot: Slot) -> dict[str, tuple[Received | None, ...]]:
        """Returns the messages each venue's observation names, None for one not stored."""
        return {
            venue: tuple(
                self.kept_at(slot.notary, field.session, message.index)
                for message in field.messages
            )
            for venue, field in slot.fields.items()
            if isinstance(field, ObservationField)
        }

    def session(self, session: str, notary: str | None = None) -> Started | None:
        """Returns the attested start of a live session."""
        with self.reading() as database:
            row = database.execute(
                "SELECT start FROM sessions WHERE session = ? AND start IS NOT NULL "
                "AND (?2 IS NULL OR notary = ?2)",
                (session, notary),
            ).fetchone()
        return None if row is None else _start(row[0])

    def session_end(self, session: str, notary: str | None = None) -> SessionEnd | None:
        """Returns how a live session ended, if it has."""
        with self.reading() as database:
            row = database.execute(
                "SELECT ended_us, reason, detail FROM sessions WHERE session = ? "
                "AND ended_us IS NOT NULL AND (?2 IS NULL OR notary = ?2)",
                (session, notary),
            ).fetchone()
        return None if row is None else SessionEnd(ended_us=row[0], reason=row[1], detail=row[2])

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lends a read-only connection in a transaction: what is read is of one moment."""
        lent = self._lend()
        database = lent.database
        try:
            database.execute("BEGIN")
            yield database
            database.execute("ROLLBACK")
        except sqlite3.Error as error:
            database.close()
            raise UnavailableError(f"the store is away: {error}", rule="store") from error
        except BaseException:
            database.close()
            raise
        try:
            self._idle.put_nowait(lent)
        except queue.Full:
            database.close()

    def _lend(self) -> _Lent:
        """Returns an open connection to what is at the path now, or a new one."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise UnavailableError(f"the store is away: {error.strerror}", rule="store") from error
        place = found.st_dev, found.st_ino
        with contextlib.suppress(queue.Empty):
            while True:
                lent = self._idle.get_nowait()
                if lent.place == place:
                    return lent
                # Its file was moved or unmounted: what it reads is of the past.
                lent.database.close()
        return _Lent(self._connect(), place)

    def _connect(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=1.0,
            )
            # Not mode=ro: without a writer, SQLite could not make its index of the log.
            database.execute("PRAGMA query_only=ON")
            read_identity(database)
        except sqlite3.Error as error:
            raise UnavailableError(f"the store is away: {error}", rule="store") from error
        return database


def _slot(row: tuple[bytes, bytes | None]) -> Slot:
    try:
        return Slot.decode(unpack(*row))
    except (ValueError, MalformedError) as error:
        raise _damaged("slot") from error


def _start(packed: bytes) -> Started:
    try:
        return Started.decode(unpack(packed, None))
    except (ValueError, MalformedError) as error:
        raise _damaged("session") from error


def _missed(notary: str, feed: str, row: tuple[int, str]) -> Missed:
    return Missed(notary=notary, feed=feed, slot_us=row[0], fault=row[1])


def _message(row: Sequence[Any]) -> Received:
    try:
        return read_received(row, unpack(row[5], row[6]))
    except ValueError as error:
        raise _damaged("message") from error


def read_received(row: Sequence[Any], payload: bytes) -> Received:
    """Returns a message by a row of notary, venue, session, index and time."""
    return Received(
        notary=row[0],
        venue=row[1],
        session=row[2],
        index=row[3],
        received_us=row[4],
        payload=payload,
    )


def _damaged(what: str) -> InvalidProofError:
    return InvalidProofError(f"a stored {what} is damaged", rule="store")


_SLOTS_FROM = (
    "SELECT packed, dictionary FROM slots JOIN streams ON streams.no = stream "
    "WHERE notary = ? AND feed = ? AND slot_us >= ? AND slot_us < ? ORDER BY slot_us LIMIT ?"
)
_AT = "WHERE sessions.session = ? AND notary = ? AND idx = ?"
_RECENT = (
    "SELECT notary, venue, sessions.session, idx, received_us, payload "
    "FROM recent JOIN sessions ON sessions.no = recent.session"
)
_KEPT = (
    "SELECT notary, venue, sessions.session, idx, received_us, packed, dictionary "
    "FROM kept JOIN sessions ON sessions.no = kept.session"
)
