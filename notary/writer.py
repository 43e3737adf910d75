"""The one thread that writes to the notary's database, in group commits.

Whatever waits when a transaction begins goes into it, and a lone write is committed at
once: a brief one by its caller's own thread, where nothing else waits and the disk is quick,
which saves two threads from waking each other.  WAL with synchronous=FULL: when a returned
future resolves, its rows are on disk.
A failed commit is never retried (after a failed fsync nobody knows what is on disk): the
writer refuses everything from then on, and the restart finds out.  A full disk is no such
failure: SQLite says so before anything is committed.  The transaction is undone whole,
what is owed is written once there is room, and no session is begun before.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.log.entry import Entry
from notary import rows, slot_rows
from notary.log.sequencer import Sequencer, SignedHead, Ticket
from notary.log.tables import has_log
from notary.outcomes import REFUSALS, announce, refused, resolve, retrieve

MAX_BATCH = 256
BRIEF_SECONDS = 0.000_5
"""While commits take longer than this, in the mean, the writer's thread does all of them."""
_WEIGHT = 1 / 8
"""Of the latest commit, in the mean of them."""
MOST_HERE = 400
"""Commits by callers until the thread gets one, and moves the WAL into the database.

Of a session's two each has five or six pages, so that it is not a caller who comes to
``WAL_PAGES``, and waits.
"""
WAL_PAGES = 4_000
"""After so many pages SQLite moves the WAL itself, in the commit that comes to them."""
LEAST_ROOM = 16 * 2**20
"""Bytes of disk below which no session is begun, so that those under way can be ended."""

Operation: TypeAlias = Callable[[sqlite3.Connection], Any]
"""A part of a transaction; what it raises of ``outcomes.REFUSALS`` undoes it alone."""


class Writer:
    """The database at ``path``; one process may hold it.

    Raises UsageError if another process holds it or another version wrote it,
    UnavailableError when the disk fails.  ``sequence`` makes the sequencer of a notary
    that keeps a log.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
        sequence: Callable[[sqlite3.Connection], Sequencer] | None = None,
        room: Callable[[], int] | None = None,
    ) -> None:
        self._room = room or (lambda: _free_bytes(path.parent))
        self._scarce = self._full = self._touched = False
        self._owed: list[Operation] = []
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self._pending = self._here = 0
        self._mean = 0.0
        self._lock = _lock(path)
        self._connect = connect or _connect
        self._queue: queue.SimpleQueue[
            tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Operation, bool] | None
        ] = queue.SimpleQueue()
        self._failure: str | None = None
        self._closed = False
        try:
            self._database = self._connect(path)
            _prepare(self._database)
            if sequence is None and has_log(self._database):
                # What happened unlogged could never be shown again.
                raise UsageError("the store has a log: configure [log]", rule="log")
            self._sequencer = None if sequence is None else sequence(self._database)
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise UnavailableError(f"cannot open the store: {error}", rule="store") from error
        except QuotaryError:
            os.close(self._lock)
            raise
        self._thread = threading.Thread(target=self._write, name="store", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> UnavailableError | None:
        """Why no session can be begun: ``store`` for good, ``disk`` until there is room."""
        if self._failure is not None or self._closed:
            return _unavailable(self._failure or "the store is closed")
        return _full() if self._full or self._scarce else None

    def check_room(self) -> None:
        """To be called each second: looks at the disk, and writes what is owed once it can."""
        try:
            self._scarce = self._room() < LEAST_ROOM
        except OSError:
            self._scarce = True
        if self._full and not self._scarce and self._failure is None and not self._closed:
            # A true write, however small, is what shows that writes succeed.
            self.submit(self._touch).add_done_callback(retrieve)

    def _touch(self, database: sqlite3.Connection) -> None:
        rows.touch(database)
        self._touched = True

    def latest_head(self) -> SignedHead:
        """Returns the log's latest signed head; raises UsageError without a log."""
        return self.sequencer.latest

    def close(self) -> None:
        """Writes what waits, then closes; blocks until done.  UnavailableError."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        try:
            if self._sequencer is not None:
                self._sequencer.close()
        except OSError as error:
            raise _unavailable(f"a write failed: {error}") from error
        finally:
            self._database.close()
            os.close(self._lock)

    @property
    def sequencer(self) -> Sequencer:
        """The log's end; for operations alone.  Raises UsageError without a log."""
        if self._sequencer is None:
            raise UsageError("this notary keeps no log", rule="log")
        return self._sequencer

    def has_open(self, session: str) -> bool:
        """Whether the log has a session's ``opened`` and no terminal; for operations alone."""
        return self._sequencer is not None and self._sequencer.has_open(session)

    def add(self, kind: type[Entry], *, wants_proof: bool = False, **members: Any) -> Ticket | None:
        """Takes an entry into the transaction under way; without a log makes none.

        For operations alone.  Raises RefusedError for an entry that breaks a rule of the log.
        """
        if self._sequencer is None:
            return None
        return self._sequencer.add(kind(**members), wants_proof=wants_proof)

    def submit(
        self, operation: Operation, *, owed: bool = False, brief: bool = False
    ) -> asyncio.Future[Any]:
        """Runs an operation in the next transaction; resolves once that is durable.

        One that is ``owed`` and finds no room is written as soon as there is some.  One that
        is ``brief`` may be written before this returns.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._closed or self._failure is not None:
            future.set_exception(_unavailable(self._failure or "the store is closed"))
        elif brief and self._commits_here():
            try:
                (outcome,) = self._commit([operation])
            finally:
                self._here += 1
                self._turn.release()
            resolve([(future, outcome)])
        else:
            with self._counting:
                self._pending += 1
            self._queue.put((loop, future, operation, owed))
        return future

    def _commits_here(self) -> bool:
        """Whether the caller takes the writer's turn; it keeps the order of what was asked."""
        if self._mean > BRIEF_SECONDS or self._here >= MOST_HERE or self._full:
            return False
        # What the thread has taken and not committed is pending, too.
        return not self._pending and self._turn.acquire(blocking=False)

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            batch = [item]
            ended = False
            while len(batch) < MAX_BATCH:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                batch.append(more)
            with self._turn:
                first = list(self._owed)
                outcomes = self._commit(first + [operation for _, _, operation, _ in batch])
                if not self._full:
                    self._owed.clear()
                else:
                    self._owed += [operation for _, _, operation, owed in batch if owed]
                with self._counting:
                    self._pending -= len(batch)
            announce(
                [
                    (loop, future, outcome)
                    for (loop, future, *_), outcome in zip(
                        batch, outcomes[len(first) :], strict=True
                    )
                ]
            )
            if ended:
                return
            if self._here >= MOST_HERE:
                self._move_wal()

    def _move_wal(self) -> None:
        """Moves what is in the WAL into the database, while nobody waits for it."""
        with self._turn:
            # Whatever prevents it, the next commit meets it too, and says so.
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._here = 0

    def _commit(self, operations: list[Operation]) -> list[Any]:
        """Runs operations in one transaction; an outcome may be an exception."""
        if self._failure is not None:
            return [_unavailable(self._failure)] * len(operations)
        database, sequencer = self._database, self._sequencer
        # A lone operation needs no savepoint: it is the transaction.
        several = len(operations) > 1
        outcomes: list[Any] = []
        started = perf_counter()
        changes, self._touched = database.total_changes, False
        try:
            database.execute("BEGIN IMMEDIATE")
            for operation in operations:
                if several:
                    database.execute("SAVEPOINT operation")
                try:
                    outcomes.append(operation(database))
                except REFUSALS as error:
                    database.execute("ROLLBACK TO operation" if several else "ROLLBACK")
                    outcomes.append(refused(error))
                    if not several:
                        return outcomes
                if several:
                    database.execute("RELEASE operation")
            if sequencer is not None:
                sequencer.write()
            database.execute("COMMIT")
            if sequencer is not None:
                sequencer.publish()
            self._mean += (perf_counter() - started - self._mean) * _WEIGHT
            # Reads succeed on a full disk, too.
            if self._touched or database.total_changes != changes:
                self._full = self._touched = False
        except sqlite3.OperationalError as error:
            return [self._undo(error)] * len(operations)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives to refuse
            self._failure = f"a write failed: {error}"
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            return [_unavailable(self._failure)] * len(operations)
        return outcomes

    def _undo(self, error: sqlite3.OperationalError) -> UnavailableError:
        """Undoes a transaction for which there was no room; anything else is a failure."""
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if not full:
            self._failure = f"a write failed: {error}"
        try:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if full and self._sequencer is not None:
                self._sequencer.abandon()
        except (sqlite3.Error, QuotaryError) as failure:
            self._failure = self._failure or f"a write could not be undone: {failure}"
        if self._failure is not None:
            return _unavailable(self._failure)
        self._full = True
        return _full()


@contextlib.contextmanager
def offline(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens the store while no notary serves it; raises UsageError if one does."""
    lock = _lock(path)
    try:
        database = _connect(path)
        try:
            _prepare(database)
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise UnavailableError(f"cannot open the store: {error}", rule="store") from error
    finally:
        os.close(lock)


def _connect(path: Path) -> sqlite3.Connection:
    # 0600 before SQLite creates it: the journal files inherit the mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _prepare(database: sqlite3.Connection) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}").fetchall()
    rows.prepare(database)
    slot_rows.prepare(database)


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError("another notary holds this store", rule="store") from error
    return descriptor


def _full() -> UnavailableError:
    return UnavailableError("the notary's disk is full", rule="disk")


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(detail, rule="store")
