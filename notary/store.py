"""What survives a crash: sessions and attestations in SQLite.

One thread writes, in group commits: whatever waits when a transaction begins
goes into it, and a lone write is committed at once.  WAL with synchronous=FULL:
when a returned future resolves, its rows are on disk.  A failed commit is never
retried (after a failed fsync nobody knows what is on disk): the store refuses
everything from then on, and the restart finds out.

State of the world after a crash: an ``attested`` session has its attestation,
all leaves and the seed, in the same transaction; every session still ``open``
when a store is opened ends as ``aborted {restart}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from attestation.errors import RefusedError, UnavailableError, UsageError
from attestation.reasons import FAULTS

SCHEMA_VERSION = 2
STORE_FILE = "notary.db"
"""Its name in the data folder."""
MAX_BATCH = 256

_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    conn TEXT,
    prover TEXT NOT NULL,
    purpose TEXT NOT NULL,
    venue TEXT,
    host TEXT NOT NULL,
    mode TEXT NOT NULL,
    opened_us INTEGER NOT NULL,
    deadline_us INTEGER NOT NULL,
    token BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'attested', 'aborted')),
    reason TEXT,
    fault TEXT,
    ended_us INTEGER,
    CHECK ((state = 'open') = (ended_us IS NULL)),
    CHECK ((state = 'aborted') = (reason IS NOT NULL)),
    CHECK ((reason IS NULL) = (fault IS NULL))
) WITHOUT ROWID;
CREATE TABLE attestations (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL UNIQUE REFERENCES sessions (id),
    body BLOB NOT NULL
);
"""

_BODY = "SELECT a.body FROM attestations a JOIN sessions s ON s.id = a.session WHERE"

_Operation: TypeAlias = Callable[[sqlite3.Connection], Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRow:
    """What is durable about a session before its first application byte passes.

    ``token`` is the hash of the session's token, to which its attestation is given.
    """

    id: str
    conn: str | None
    prover: str
    purpose: str
    venue: str | None
    host: str
    mode: str
    opened_us: int
    deadline_us: int
    token: bytes


class Store:
    """The notary's store at ``path``; one process may hold it.

    Every write returns a future of the running loop that resolves when the write
    is durable.  Raises UsageError if another process holds the store or another
    version wrote it, UnavailableError when the disk fails.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
    ) -> None:
        self._lock = _lock(path)
        self._connect = connect or _connect
        self._queue: queue.SimpleQueue[
            tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], _Operation] | None
        ] = queue.SimpleQueue()
        self._failure: str | None = None
        self._closed = False
        try:
            self._database = self._connect(path)
            _prepare(self._database)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise UnavailableError(f"cannot open the store: {error}", rule="store") from error
        except UsageError:
            os.close(self._lock)
            raise
        self._thread = threading.Thread(target=self._write, name="store", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether writes can still succeed."""
        return self._failure is None and not self._closed

    def recover(self, now_us: int) -> asyncio.Future[int]:
        """Ends every open session as ``aborted {restart}``; resolves to their number."""
        return self._submit(
            lambda database: (
                database.execute(
                    "UPDATE sessions SET state = 'aborted', reason = 'restart', fault = 'notary',"
                    " ended_us = max(?, opened_us) WHERE state = 'open'",
                    (now_us,),
                ).rowcount
            )
        )

    def open_session(self, row: OpenedRow) -> asyncio.Future[None]:
        """Makes a session's ``opened`` row durable."""
        values = (
            *(row.id, row.conn, row.prover, row.purpose, row.venue, row.host, row.mode),
            *(row.opened_us, row.deadline_us, row.token),
        )

        def run(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO sessions (id, conn, prover, purpose, venue, host, mode, opened_us,"
                " deadline_us, token, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')",
                values,
            )

        return self._submit(run)

    def abort_session(self, session: str, reason: str, now_us: int) -> asyncio.Future[None]:
        """Ends a session without an attestation; RefusedError if it has ended."""
        fault = FAULTS[reason]

        def run(database: sqlite3.Connection) -> None:
            _end(
                database,
                "UPDATE sessions SET state = 'aborted', reason = ?, fault = ?, ended_us = ?"
                " WHERE id = ? AND state = 'open'",
                (reason, fault, now_us, session),
            )

        return self._submit(run)

    def attest_session(
        self, session: str, attestation: str, body: bytes, now_us: int
    ) -> asyncio.Future[None]:
        """Ends a session with its attestation, both in one transaction.

        ``body`` holds all leaves and the seed.  RefusedError if it has ended.
        """

        def run(database: sqlite3.Connection) -> None:
            _end(
                database,
                "UPDATE sessions SET state = 'attested', ended_us = ?"
                " WHERE id = ? AND state = 'open'",
                (now_us, session),
            )
            database.execute(
                "INSERT INTO attestations (id, session, body) VALUES (?, ?, ?)",
                (attestation, session, body),
            )

        return self._submit(run)

    def attestation(self, identifier: str, token: bytes) -> asyncio.Future[bytes | None]:
        """Reads the body of an attestation by its header's id and its session's token hash."""
        return self._submit(
            lambda database: _single(
                database, f"{_BODY} a.id = ? AND s.token = ?", identifier, token
            )
        )

    def attestation_of(self, session: str, token: bytes) -> asyncio.Future[bytes | None]:
        """Reads the body of a session's attestation, by the hash of its token."""
        return self._submit(
            lambda database: _single(database, f"{_BODY} s.id = ? AND s.token = ?", session, token)
        )

    def session(self, session: str) -> asyncio.Future[dict[str, Any] | None]:
        """Reads a session's row."""

        def run(database: sqlite3.Connection) -> dict[str, Any] | None:
            cursor = database.execute("SELECT * FROM sessions WHERE id = ?", (session,))
            row = cursor.fetchone()
            names = [column[0] for column in cursor.description]
            return None if row is None else dict(zip(names, row, strict=True))

        return self._submit(run)

    def close(self) -> None:
        """Writes what waits, then closes; blocks until done."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._database.close()
        os.close(self._lock)

    def _submit(self, operation: _Operation) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._closed or self._failure is not None:
            future.set_exception(_unavailable(self._failure or "the store is closed"))
        else:
            self._queue.put((loop, future, operation))
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
            outcomes = self._commit([operation for _, _, operation in batch])
            _announce(
                [
                    (loop, future, outcome)
                    for (loop, future, _), outcome in zip(batch, outcomes, strict=True)
                ]
            )
            if ended:
                return

    def _commit(self, operations: list[_Operation]) -> list[Any]:
        """Runs operations in one transaction; an outcome may be an exception."""
        if self._failure is not None:
            return [_unavailable(self._failure)] * len(operations)
        database = self._database
        # A lone operation needs no savepoint: it is the transaction.
        several = len(operations) > 1
        outcomes: list[Any] = []
        try:
            database.execute("BEGIN IMMEDIATE")
            for operation in operations:
                if several:
                    database.execute("SAVEPOINT operation")
                try:
                    outcomes.append(operation(database))
                except (RefusedError, sqlite3.IntegrityError) as error:
                    database.execute("ROLLBACK TO operation" if several else "ROLLBACK")
                    outcomes.append(_refused(error))
                    if not several:
                        return outcomes
                if several:
                    database.execute("RELEASE operation")
            database.execute("COMMIT")
        except (sqlite3.Error, ValueError, ArithmeticError, MemoryError) as error:
            # The latter for values that SQLite cannot take: the thread must live to refuse.
            self._failure = f"a write failed: {error}"
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            return [_unavailable(self._failure)] * len(operations)
        return outcomes


def _announce(
    outcomes: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Any]],
) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for loop, future, outcome in outcomes:
        by_loop.setdefault(loop, []).append((future, outcome))
    for loop, items in by_loop.items():
        # The loop may be gone when a test, or a shutdown, did not wait.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, items)


def _resolve(items: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in items:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _end(database: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> None:
    if database.execute(statement, values).rowcount != 1:
        raise RefusedError("the session has ended already", rule="store", http_status=409)


def _single(database: sqlite3.Connection, statement: str, *values: str | bytes) -> bytes | None:
    row = database.execute(statement, values).fetchone()
    return None if row is None else bytes(row[0])


def _connect(path: Path) -> sqlite3.Connection:
    # 0600 before SQLite creates it: the journal files inherit the mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _prepare(database: sqlite3.Connection) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise UsageError(
            "the store was written by another version",
            rule="store",
            found=version,
            wanted=SCHEMA_VERSION,
        )


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError("another notary holds this store", rule="store") from error
    return descriptor


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(detail, rule="store")


def _refused(error: RefusedError | sqlite3.IntegrityError) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    return RefusedError("the store holds this already", rule="store", http_status=409)
