"""A store under test: its disk does as a test says, and what it holds is compared."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attestation.document import ObservationField
from prover.feed.dead_letters import read_letters
from prover.feed.reconcile import CountRow, count_rows
from prover.feed.records import DeadLetter, Ended, Missed, Received, Record, Slot, Started
from prover.feed.spool import MARK, Spool
from prover.feed.store_database import DATABASE_FILE, Database
from prover.feed.store_inbox import Inbox
from prover.feed.store_reads import StoreReader
from prover.feed.store_writer import Writer

IDENTITY = "5a" * 16


class Disk:
    """The database's disk; statements fail, done or not, when a test says so."""

    def __init__(self) -> None:
        self.away = False
        self.before: set[int] = set()
        """Commits that fail and are not persisted, by number since the database was made."""
        self.after: set[int] = set()
        """Commits that fail and are persisted anyway."""
        self.commits = 0
        self.statement: int | None = None
        """The statement that fails, by its number from 0."""
        self.statements = 0
        self.made = False

    def connect(self, path: Path) -> sqlite3.Connection:
        if self.away:
            raise sqlite3.OperationalError("unable to open database file")
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if disk.away:
                    raise sqlite3.OperationalError("disk I/O error")
                if not disk.made:
                    return super().execute(statement, *values)
                disk.statements += 1
                if disk.statements - 1 == disk.statement:
                    raise sqlite3.OperationalError("disk I/O error")
                if statement != "COMMIT":
                    return super().execute(statement, *values)
                disk.commits += 1
                if disk.commits in disk.before:
                    raise sqlite3.OperationalError("disk I/O error")
                found = super().execute(statement)
                if disk.commits in disk.after:
                    raise sqlite3.OperationalError("disk I/O error")
                return found

        return sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )


class Parts:
    """A store's parts without its thread: each step is the test's."""

    def __init__(self, folder: Path, disk: Disk | None = None, *, spool_bytes: int = 2**30) -> None:
        self.folder = folder
        spool = folder / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        (spool / MARK).write_text(IDENTITY)
        self.inbox = Inbox(2**30)
        self.database = Database(folder / DATABASE_FILE, (disk or Disk()).connect)
        self.database.create(IDENTITY)
        if disk is not None:
            disk.made = True
        self.spool = Spool(spool, limit=spool_bytes)
        self.writer = Writer(
            inbox=self.inbox, database=self.database, spool=self.spool, now_us=lambda: 7
        )

    def give(self, *records: Record) -> None:
        """Gives records and has them placed."""
        for record in records:
            assert self.inbox.put(record)
        self.writer.step()

    def settle(self) -> None:
        """Has everything come to rest in the database."""
        for _ in range(1_000):
            self.writer.step()
            if self.spool.empty and not len(self.inbox) and self.writer.trouble is None:
                return
        raise AssertionError("it does not come to rest")

    def killed(self, folder: Path) -> Path:
        """Returns a copy of the disk, as a kill at this instant leaves it."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*-shm"))
        return folder

    def rows(self) -> tuple[CountRow, ...]:
        received, dropped, waiting = self.inbox.counts()
        parts = {**self.writer.parts, "waiting": waiting}
        parts["dropped"] = dropped + parts.pop("refused")
        return count_rows(received, parts)

    def close(self) -> None:
        self.spool.close()
        self.database.close()


def holds(folder: Path, given: Iterable[Record]) -> None:
    """Asserts that a store holds each of these different records, once, and no other."""
    reader = StoreReader(folder)
    records = list(given)
    slots = [record for record in records if isinstance(record, Slot)]
    missed = [record for record in records if isinstance(record, Missed)]
    places = {(record.notary, record.feed) for record in (*slots, *missed)}
    stored = [
        settled
        for notary, feed in places
        for settled in reader.slots(feed, notary, from_us=0, to_us=2**53, limit=10_000)
    ]
    assert sorted(stored, key=repr) == sorted([*slots, *missed], key=repr)
    messages = {record for record in records if isinstance(record, Received)}
    with sqlite3.connect(folder / DATABASE_FILE) as database:
        recent = {
            Received(
                notary=row[0],
                venue=row[1],
                session=row[2],
                index=row[3],
                received_us=row[4],
                payload=row[5],
            )
            for row in database.execute(
                "SELECT notary, venue, sessions.session, idx, received_us, payload "
                "FROM recent JOIN sessions ON sessions.no = recent.session"
            )
        }
        observed = database.execute("SELECT count(*) FROM observations").fetchone()
        wanted = database.execute("SELECT session, idx FROM wanted").fetchall()
    database.close()
    assert recent == messages
    assert observed == (sum(len(slot.fields) for slot in slots),)
    by_place = {(each.session, each.index): each for each in messages}
    named = {
        (field.session, message.index)
        for slot in slots
        for field in slot.fields.values()
        if isinstance(field, ObservationField)
        for message in field.messages
    }
    assert len(wanted) == len(named - by_place.keys())
    for slot in slots:
        for venue, found in reader.messages_of(slot).items():
            field = slot.fields[venue]
            assert isinstance(field, ObservationField)
            assert found == tuple(
                by_place.get((field.session, message.index)) for message in field.messages
            )
    for record in records:
        if isinstance(record, Started):
            assert reader.session(record.session) == record
        elif isinstance(record, Ended):
            end = reader.session_end(record.session)
            assert end is not None
            assert (end.reason, end.detail) == (record.reason, record.detail)
    letters = [record for record in records if isinstance(record, DeadLetter)]
    assert sorted((each.received.session, each.received.index) for each in letters) == sorted(
        (each.received.session, each.received.index) for each in read_letters(reader)
    )
    reader.close()


def wait_for(done: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for what another thread does."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
