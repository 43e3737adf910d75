"""The feed's store: a sink that never blocks, and one thread that writes.

Records go from the inbox into SQLite in batches.  While the database is away - locked,
its disk full, its folder unmounted - they go to the spool, and from there into the
database once it is back, in the order they came in; what comes meanwhile queues behind
them.  If the spool fails too they wait in memory.  Each of the three is bounded, messages
are given up before anything else, and whatever is given up is counted and said.

State of the world after a kill at any instant: a slot is in the database or the spool
with all its rows, or nowhere, and then it is later than ``latest_slot``; nothing is there
twice, for every row has its key.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from attestation.errors import UnavailableError, UsageError
from prover.feed.reconcile import Reconciliation, count_rows
from prover.feed.records import Record, Tick
from prover.feed.spool import MARK, Spool
from prover.feed.store_database import DATABASE_FILE, Connect, Database
from prover.feed.store_expiry import Retention
from prover.feed.store_inbox import Inbox
from prover.feed.store_upkeep import Upkeep
from prover.feed.store_writer import Writer, log
from prover.vault import write_private

SPOOL_FOLDER = "spool"
SPOOL_BYTES = 2**30
"""Half an hour of eleven venues at a hundred messages a second."""
INBOX_BYTES = 128 * 2**20
"""A minute of the same, should the spool's disk be away as well."""
BATCH_S = 0.01
"""How long a batch gathers."""
_TICK_S = 0.2


class Store:
    """The store in ``folder``, which is made if it is not there; one process may write.

    ``spool`` is the spool's folder, by default inside; on another disk it outlives more.
    ``on_stored`` is called, in the writer's thread, with the seconds that each record took
    from ``take`` to its commit.  Raises UsageError if another process writes here, another
    version did, or the spool is another store's; UnavailableError if there is no disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spool: Path | None = None,
        retention: Retention | None = None,
        spool_bytes: int = SPOOL_BYTES,
        inbox_bytes: int = INBOX_BYTES,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        on_stored: Callable[[float], None] | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._now_us = now_us
        self._run, self._since_us = secrets.token_hex(16), now_us()
        self._closing = False
        self._between = threading.RLock()
        self._inbox = Inbox(inbox_bytes)
        spool = folder / SPOOL_FOLDER if spool is None else spool
        self._lock = _lock(folder)
        self._database = Database(folder / DATABASE_FILE, connect)
        try:
            spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            trouble = _open(self._database, folder / DATABASE_FILE, spool / MARK)
            self._spool = Spool(spool, limit=spool_bytes)
            self._writer = Writer(
                inbox=self._inbox,
                database=self._database,
                spool=self._spool,
                now_us=now_us,
                on_stored=on_stored,
                trouble=trouble,
            )
            if trouble is None:
                for place in self._database.newest_slots():
                    self._writer.progress.advance(*place)
        except OSError as error:
            self._release()
            raise UnavailableError(f"cannot open the store: {error}", rule="store") from error
        except BaseException:
            self._release()
            raise
        self._upkeep = Upkeep(
            database=self._database,
            folder=folder,
            retention=retention or Retention(),
            now_us=now_us,
            reconcile=self.reconcile,
        )
        self._thread = threading.Thread(target=self._work, name="feed store", daemon=True)
        self._thread.start()

    def take(self, record: Record) -> None:
        """Takes a record; returns at once.  Ticks are for display: they are not stored."""
        if not isinstance(record, Tick) and not self._inbox.put(record):
            self._writer.lose(record, "too much is waiting")

    def latest_slot(self, notary: str, feed: str) -> int | None:
        """Returns the slot up to which nothing that was taken is lost; None if none is known.

        The notary's slots after it are to be asked for again; those that are here already
        do no harm.
        """
        return self._writer.progress.latest(notary, feed)

    @property
    def trouble(self) -> str | None:
        """Why records go to the spool; None while the database takes them."""
        return self._writer.trouble

    @property
    def spooled_bytes(self) -> int:
        """Bytes of the spool on disk."""
        return self._spool.size

    @property
    def waiting(self) -> int:
        """Records in memory."""
        return len(self._inbox)

    @property
    def waiting_bytes(self) -> int:
        """About what they take."""
        return self._inbox.bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of the database on disk, as last looked at."""
        return self._upkeep.disk_bytes

    @property
    def reconciled(self) -> Reconciliation | None:
        """The counts that were taken for the record last: every minute."""
        return self._upkeep.reconciled

    def reconcile(self) -> Reconciliation:
        """Counts where every record went; waits for the batch under way."""
        with self._between:
            received, dropped, waiting = self._inbox.counts()
            parts = {**self._writer.parts, "waiting": waiting}
            parts["dropped"] = dropped + parts.pop("refused")
            if self._spool.empty:
                # What replay did not find again in the spool is in it no more.
                parts["spooled"] = type(waiting)()
            return Reconciliation(
                run=self._run,
                since_us=self._since_us,
                at_us=self._now_us(),
                rows=count_rows(received, parts),
                damaged=self._spool.damaged,
            )

    def flush(self, seconds: float) -> bool:
        """Waits until what was taken before is stored or spooled; False if it took longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._between:
                if not len(self._inbox):
                    return True
            time.sleep(_TICK_S / 100)
        return False

    def close(self) -> None:
        """Stores or spools what waits, then ends; blocks until done."""
        if self._closing:
            return
        self._closing = True
        self._inbox.wake()
        self._thread.join()
        if len(self._inbox):
            log.error("%d records are lost: nothing takes them", len(self._inbox))
        self._spool.close()
        self._release()

    def _work(self) -> None:
        placed = True
        while True:
            if not placed and not self._writer.replaying:
                time.sleep(_TICK_S)
            elif self._writer.replaying or self._inbox.wait(_TICK_S):
                time.sleep(0 if self._closing else BATCH_S)
            closing = self._closing
            with self._between:
                try:
                    placed = self._writer.step()
                    if self._writer.trouble is None:
                        self._upkeep.run()
                except UnavailableError as error:
                    self._writer.go_away(error)
                except Exception:  # noqa: BLE001 - a bug costs a batch, which the counts show
                    log.exception("the store's thread failed, and goes on")
            if closing and (not placed or not len(self._inbox)):
                if self._writer.trouble is None:
                    self._upkeep.record_counts()
                return

    def _release(self) -> None:
        self._database.close()
        os.close(self._lock)


def _open(database: Database, path: Path, mark: Path) -> str | None:
    """Opens or makes the database; returns why it is away, if it is.

    The mark in the spool says that there is a store: then none is made in its place.
    """
    known = mark.read_text(encoding="ascii") if mark.exists() else None
    if known is None or path.exists():
        try:
            database.create(known or secrets.token_hex(16))
        except UnavailableError as error:
            if known is None:
                raise
            database.identity = known
            return error.detail
        if known not in (None, database.identity):
            raise UsageError("the spool is another store's", rule="spool", found=str(mark.parent))
        assert database.identity is not None
        write_private(mark, database.identity.encode())
        return None
    database.identity = known
    return "the database is not there"


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot open the store: {error}", rule="store") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError("another process writes to this store", rule="store") from error
    return descriptor
