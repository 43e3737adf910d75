"""The store's database, which may go away and come back.

WAL, one writer.  ``synchronous`` is NORMAL for messages and FULL for a transaction that
ends with a slot or a session's start: the one fsync puts all of the log before it on disk
as well.  So a slot that is stored survives a power cut with every message it names, for
two fsyncs a second instead of a hundred; what a power cut may take are the messages of
the last half second that no stored slot names.  A killed process takes nothing with it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from attestation.errors import QuotaryError, UnavailableError
from prover.feed.records import Record, Slot, Started
from prover.feed.store_tables import Outcome, Tables, prepare, read_identity

DATABASE_FILE = "feed.db"
"""Its name in the store's folder."""

Connect: TypeAlias = Callable[[Path], sqlite3.Connection]
Result: TypeAlias = "Outcome | Exception"
"""What became of a record; an exception for one that can never be stored."""

_T = TypeVar("_T")

_BUSY_S = 0.1
"""How long another writer may hold the database before it counts as away."""


class Database:
    """The database at ``path``; used by one thread at a time.

    Every method that reaches for it raises UnavailableError while it is away, and leaves it
    closed; ``open`` tries again.
    """

    def __init__(self, path: Path, connect: Connect | None = None) -> None:
        self._path = path
        self._connect = connect or connect_writer
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._tables: Tables | None = None
        self.identity: str | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection."""
        if self._connection is None:
            raise _away("the database is closed")
        return self._connection

    def create(self, identity: str) -> None:
        """Makes the database, if there is none, and opens it; UsageError for another's."""
        # 0600 before SQLite creates it: the journal files inherit the mode.
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise _away(str(error)) from error
        self._open(identity)

    def open(self) -> None:
        """Opens the database that is there; it must be the one that was open before."""
        self._open(None)

    def _open(self, new_identity: str | None) -> None:
        self.close()
        try:
            connection = self._connect(self._path)
            self._connection = connection
            for pragma in (
                "journal_mode=WAL",
                "synchronous=NORMAL",
                "fullfsync=ON",
                f"journal_size_limit={64 * 2**20}",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            if new_identity is None:
                found = read_identity(connection)
            else:
                found = prepare(connection, new_identity)
            if self.identity not in (None, found):
                raise _away("another store is in its place")
            self.identity = found
            self._place = self._stat()
            self._tables = Tables(connection)
            # Reading succeeds on a full disk, and behind another writer's lock.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _away(str(error)) from error
        except QuotaryError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if one is open."""
        connection, self._connection = self._connection, None
        self._tables = None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def write(self, records: Sequence[Record], now_us: int) -> list[Result]:
        """Writes records in one transaction; returns what became of each."""
        durable = any(isinstance(record, (Slot, Started)) for record in records)

        def run(connection: sqlite3.Connection, tables: Tables) -> list[Result]:
            return list(tables.write_all(records, now_us))

        try:
            results = self._transact(run, durable=durable)
        except UnavailableError:
            raise
        except _UNFIT:
            # One of them has no rows: each on its own, to find out which.
            results = self._transact(
                lambda connection, tables: [
                    _try(connection, tables, record, now_us) for record in records
                ],
                durable=durable,
            )
        self._check_place()
        return results

    def run(self, operation: Callable[[sqlite3.Connection], int]) -> int:
        """Runs an operation of the store's own in a transaction."""
        try:
            return self._transact(lambda connection, tables: operation(connection), durable=False)
        except UnavailableError:
            raise
        except _UNFIT as error:
            self.close()
            raise _away(str(error)) from error

    def newest_slots(self) -> list[tuple[str, str, int]]:
        """Returns (notary, feed, newest slot, attested or missed) of every stream."""
        try:
            return self.connection.execute(
                "SELECT notary, feed, max("
                "coalesce((SELECT max(slot_us) FROM slots WHERE stream = streams.no), 0), "
                "coalesce((SELECT max(slot_us) FROM missed WHERE stream = streams.no), 0)) "
                "FROM streams"
            ).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise _away(str(error)) from error

    def forget(self) -> None:
        """To be called after rows were deleted that the next records might name."""
        if self._tables is not None:
            self._tables.forget()

    def _transact(self, run: Callable[[sqlite3.Connection, Tables], _T], *, durable: bool) -> _T:
        connection, tables = self.connection, self._tables
        assert tables is not None
        try:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            found = run(connection, tables)
            connection.execute("COMMIT")
        except BaseException as error:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not is_away(error):
                    tables.forget()
            except sqlite3.Error as failure:
                error = failure
            if is_away(error):
                self.close()
                raise _away(str(error)) from error
            raise
        return found

    def _check_place(self) -> None:
        """What was written to a file that is no longer at its path is written nowhere."""
        try:
            moved = self._stat() != self._place
        except OSError:
            moved = True
        if moved:
            self.close()
            raise _away("the database was moved or unmounted")

    def _stat(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_dev, found.st_ino


def connect_writer(path: Path) -> sqlite3.Connection:
    """Connects to a database that exists; one that is away is never made anew."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_S,
    )


def is_away(error: BaseException) -> bool:
    """Whether an error is the database's condition, not the fault of a record."""
    return isinstance(error, (sqlite3.OperationalError, OSError)) or (
        type(error) is sqlite3.DatabaseError
    )


def _try(connection: sqlite3.Connection, tables: Tables, record: Record, now_us: int) -> Result:
    connection.execute("SAVEPOINT record")
    try:
        result: Result = tables.write(record, now_us)
    except _UNFIT as error:
        if is_away(error):
            raise
        connection.execute("ROLLBACK TO record")
        tables.forget()
        result = error
    connection.execute("RELEASE record")
    return result


_UNFIT = (QuotaryError, ValueError, TypeError, OverflowError, sqlite3.Error)


def _away(detail: str) -> UnavailableError:
    return UnavailableError(f"the store is away: {detail}", rule="store")
