"""What survives a crash: sessions and attestations in SQLite.

State of the world after a crash: an ``attested`` session has its attestation,
all leaves and the seed, in the same transaction; so has a live session that is
``started``.  When a store is opened, every session still ``open`` ends as ``aborted
{restart}``, every one still ``started`` as ``closed {restart}``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from attestation.document import Header
from attestation.hashing import hash_string
from attestation.log.entry import AbortedEntry, AttestedEntry, ClosedEntry, Entry, OpenedEntry
from attestation.reasons import FAULTS
from notary import rows
from notary.log.sequencer import Ticket
from notary.places import check_place, is_place
from notary.rows import OpenedRow, StoredAttestation
from notary.writer import Writer

STORE_FILE = "notary.db"
"""Its name in the data folder."""


class Store(Writer):
    """The notary's store.

    Every write returns a future of the running loop that resolves when the write
    is durable.
    """

    def recover(self, now_us: int) -> asyncio.Future[int]:
        """Ends what a crash left: ``aborted {restart}``, ``closed {restart}`` what was started.

        Resolves to the number of sessions.
        """

        def run(database: sqlite3.Connection) -> int:
            left = rows.sessions_left(database)
            for session, started in left:
                # One that was opened before the log was made is none of the log's.
                logged = self.has_open(session)
                if started:
                    # How many messages there were is gone with the process that counted.
                    rows.end_closed(database, session, "restart", 0, now_us)
                    if logged:
                        self.add(ClosedEntry, session=session, reason="restart", messages=0)
                    continue
                rows.end_aborted(database, session, "restart", now_us, retriable=False)
                if logged:
                    self.add(AbortedEntry, session=session, reason="restart", fault="notary")
            return len(left)

        return self.submit(run)

    def open_session(self, row: OpenedRow) -> asyncio.Future[Ticket | None]:
        """Makes a session's ``opened`` durable; RefusedError if its place is taken.

        Resolves to the log's ticket, None without a log.
        """

        def run(database: sqlite3.Connection) -> Ticket | None:
            if is_place(row.purpose):
                check_place(rows.sessions_at(database, row.purpose, row.venue), row.retry_of)
            rows.insert_session(database, row)
            return self.add(
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

        return self.submit(run, brief=True)

    def abort_session(
        self, session: str, reason: str, now_us: int, *, retriable: bool = False
    ) -> asyncio.Future[None]:
        """Ends a session without an attestation; RefusedError if it has ended."""

        def run(database: sqlite3.Connection) -> None:
            rows.end_aborted(database, session, reason, now_us, retriable=retriable)
            self.add(AbortedEntry, session=session, reason=reason, fault=FAULTS[reason])

        return self.submit(run, owed=True)

    def check_place(
        self, purpose: str, venue: str | None, retry_of: str | None
    ) -> asyncio.Future[None]:
        """RefusedError if a session for a place could not be opened now."""

        def run(database: sqlite3.Connection) -> None:
            check_place(rows.sessions_at(database, purpose, venue), retry_of)

        return self.submit(run)

    def attest_session(
        self, session: str, header: Header, body: bytes, *, retriable: bool = False
    ) -> asyncio.Future[Ticket | None]:
        """Ends a session with its attestation, both and its log entry in one transaction.

        ``body`` holds all leaves and the seed.  A live session is started by it, and ends
        by ``close_session``.  Resolves to the log's ticket, None without a log.
        RefusedError if the session has ended, or started.
        """

        def run(database: sqlite3.Connection) -> Ticket | None:
            rows.end_attested(
                database, session, header.id, body, header.issued_us, retriable=retriable
            )
            ticket = self.add(
                AttestedEntry,
                wants_proof=True,
                session=session,
                header=hash_string(header.encode()),
            )
            if ticket is not None:
                rows.note_entry(database, header.id, ticket.index)
            return ticket

        return self.submit(run, brief=True)

    def close_session(
        self, session: str, reason: str, messages: int, now_us: int
    ) -> asyncio.Future[None]:
        """Ends a live session that was started; RefusedError if it was not, or has ended."""

        def run(database: sqlite3.Connection) -> None:
            rows.end_closed(database, session, reason, messages, now_us)
            self.add(ClosedEntry, session=session, reason=reason, messages=messages)

        return self.submit(run, owed=True)

    def log_entry(self, kind: type[Entry], **members: Any) -> asyncio.Future[Ticket | None]:
        """Logs an entry of its own; resolves to its ticket, None without a log."""
        return self.submit(lambda database: self.add(kind, **members))

    def attestation(
        self, identifier: str, token: bytes
    ) -> asyncio.Future[StoredAttestation | None]:
        """Reads an attestation by its header's id and its session's token hash."""
        return self.submit(lambda database: rows.attestation(database, identifier, token))

    def attestation_of(
        self, session: str, token: bytes
    ) -> asyncio.Future[StoredAttestation | None]:
        """Reads a session's attestation, by the hash of its token."""
        return self.submit(lambda database: rows.attestation_of(database, session, token))

    def session(self, session: str) -> asyncio.Future[dict[str, Any] | None]:
        """Reads a session's row."""
        return self.submit(lambda database: rows.session_row(database, session))
