"""What survives a crash: sessions and attestations in SQLite.

One thread writes, in group commits: whatever waits when a transaction begins
goes into it, and a lone write is committed at once.  WAL with synchronous=FULL:
when a returned future resolves, its rows are on disk.  A failed commit is never
retried (after a failed fsync nobody knows what is on disk): the store refuses
everything from then on, and the restart finds out.  A full disk is no such failure:
SQLite says so before anything is committed.  The transaction is undone whole, ends of
sessions are owed until there is room, and no session is begun before.

State of the world after a crash: an ``attested`` session has its attestation,
all leaves and the seed, in the same transaction; every session still ``open``
when a store is opened ends as ``aborted {restart}``.
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
from typing import Any, TypeAlias

from attestation.document import Header
from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.log.entry import AbortedEntry, AttestedEntry, Entry, OpenedEntry
from attestation.reasons import FAULTS
from notary import rows
from notary.log.sequencer import Sequencer, SignedHead, Ticket
from notary.log.tables import has_log
from notary.outcomes import REFUSALS, announce, refused, retrieve
from notary.places import check_place, is_place
from notary.rows import OpenedRow, StoredAttestation

STORE_FILE = "notary.db"
"""Its name in the data folder."""
MAX_BATCH = 256
LEAST_ROOM = 16 * 2**20
"""Bytes of disk below which no session is begun, so that those under way can be ended."""

_PROVEN = (AttestedEntry,)
"""Entries whose caller is handed a proof."""

_Operation: TypeAlias = Callable[[sqlite3.Connection], Any]


class Store:
    """The notary's store at ``path``; one process may hold it.

    Every write returns a future of the running loop that resolves when the write
    is durable.  Raises UsageError if another process holds the store or another
    version wrote it, UnavailableError when the disk fails.  ``sequence`` makes the
    sequencer of a notary that keeps a log.
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
        self._owed: list[_Operation] = []
        self._lock = _lock(path)
        self._connect = connect or _connect
        self._queue: queue.SimpleQueue[
            tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], _Operation, bool] | None
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
            self._submit(self._touch).add_done_callback(retrieve)

    def _touch(self, database: sqlite3.Connection) -> None:
        rows.touch(database)
        self._touched = True

    def latest_head(self) -> SignedHead:
        """Returns the log's latest signed head; raises UsageError without a log."""
        if self._sequencer is None:
            raise UsageError("this notary keeps no log", rule="log")
        return self._sequencer.latest

    def recover(self, now_us: int) -> asyncio.Future[int]:
        """Ends every open session as ``aborted {restart}``; resolves to their number."""

        def run(database: sqlite3.Connection) -> int:
            sessions = rows.open_sessions(database)
            for session in sessions:
                rows.end_aborted(database, session, "restart", now_us, retriable=False)
                # One that was opened before the log was made is none of the log's.
                if self._sequencer is None or self._sequencer.has_open(session):
                    self._add(AbortedEntry, session=session, reason="restart", fault="notary")
            return len(sessions)

        return self._submit(run)

    def open_session(self, row: OpenedRow) -> asyncio.Future[None]:
        """Makes a session's ``opened`` durable; RefusedError if its place is taken."""

        def run(database: sqlite3.Connection) -> None:
            if is_place(row.purpose):
                check_place(rows.sessions_at(database, row.purpose, row.venue), row.retry_of)
            rows.insert_session(database, row)
            self._add(
                OpenedEntry,
                session=row.id,
                conn=row.conn,
                prover=row.prover,
                purpose=row.purpose,
                venue=row.venue,
                host=row.host,
                mode=row.mode,
                deadline_us=row.deadline_us,
                retry_of=row.retry_of,
            )

        return self._submit(run)

    def abort_session(
        self, session: str, reason: str, now_us: int, *, retriable: bool = False
    ) -> asyncio.Future[None]:
        """Ends a session without an attestation; RefusedError if it has ended."""

        def run(database: sqlite3.Connection) -> None:
            rows.end_aborted(database, session, reason, now_us, retriable=retriable)
            self._add(AbortedEntry, session=session, reason=reason, fault=FAULTS[reason])

        return self._submit(run, owed=True)

    def check_place(
        self, purpose: str, venue: str | None, retry_of: str | None
    ) -> asyncio.Future[None]:
        """RefusedError if a session for a place could not be opened now."""

        def run(database: sqlite3.Connection) -> None:
            check_place(rows.sessions_at(database, purpose, venue), retry_of)

        return self._submit(run)

    def attest_session(
        self, session: str, header: Header, body: bytes, *, retriable: bool = False
    ) -> asyncio.Future[Ticket | None]:
        """Ends a session with its attestation, both and its log entry in one transaction.

        ``body`` holds all leaves and the seed.  Resolves to the log's ticket, None
        without a log.  RefusedError if the session has ended.
        """

        def run(database: sqlite3.Connection) -> Ticket | None:
            rows.end_attested(
                database, session, header.id, body, header.issued_us, retriable=retriable
            )
            ticket = self._add(AttestedEntry, session=session, header=hash_string(header.encode()))
            if ticket is not None:
                rows.note_entry(database, header.id, ticket.index)
            return ticket

        return self._submit(run)

    def log_entry(self, kind: type[Entry], **members: Any) -> asyncio.Future[Ticket | None]:
        """Logs an entry of its own; resolves to its ticket, None without a log."""
        return self._submit(lambda database: self._add(kind, **members))

    def attestation(
        self, identifier: str, token: bytes
    ) -> asyncio.Future[StoredAttestation | None]:
        """Reads an attestation by its header's id and its session's token hash."""
        return self._submit(lambda database: rows.attestation(database, identifier, token))

    def attestation_of(
        self, session: str, token: bytes
    ) -> asyncio.Future[StoredAttestation | None]:
        """Reads a session's attestation, by the hash of its token."""
        return self._submit(lambda database: rows.attestation_of(database, session, token))

    def session(self, session: str) -> asyncio.Future[dict[str, Any] | None]:
        """Reads a session's row."""
        return self._submit(lambda database: rows.session_row(database, session))

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

    def _add(self, kind: type[Entry], **members: Any) -> Ticket | None:
        """Takes an entry into the transaction under way, of a notary that keeps a log."""
        if self._sequencer is None:
            return None
        return self._sequencer.add(kind(**members), wants_proof=kind in _PROVEN)

    def _submit(self, operation: _Operation, *, owed: bool = False) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._closed or self._failure is not None:
            future.set_exception(_unavailable(self._failure or "the store is closed"))
        else:
            self._queue.put((loop, future, operation, owed))
        return future

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
            first = list(self._owed)
            outcomes = self._commit(first + [operation for _, _, operation, _ in batch])
            if not self._full:
                self._owed.clear()
            else:
                self._owed += [operation for _, _, operation, owed in batch if owed]
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

    def _commit(self, operations: list[_Operation]) -> list[Any]:
        """Runs operations in one transaction; an outcome may be an exception."""
        if self._failure is not None:
            return [_unavailable(self._failure)] * len(operations)
        database, sequencer = self._database, self._sequencer
        # A lone operation needs no savepoint: it is the transaction.
        several = len(operations) > 1
        outcomes: list[Any] = []
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
    rows.prepare(database)


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
