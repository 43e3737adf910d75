"""What a store does between batches: expiry, a look at the disk, counts for the record."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from attestation.errors import UnavailableError
from prover.feed.reconcile import Reconciliation
from prover.feed.store_database import DATABASE_FILE, Database
from prover.feed.store_expiry import (
    STEP,
    Retention,
    evidence_clock,
    expire_dead_letters,
    expire_evidence,
    expire_recent,
    expire_sessions,
)
from prover.feed.store_writer import log

RECONCILE_S = 60.0
_RECENT_S = 0.2
_BEHIND_S = 0.02
_EVIDENCE_S = 5.0
_KEPT_RECONCILIATIONS = 1_440


class Upkeep:
    """Runs one small task at a time, when it is due; used by the writer's thread."""

    def __init__(
        self,
        *,
        database: Database,
        folder: Path,
        retention: Retention,
        now_us: Callable[[], int],
        reconcile: Callable[[], Reconciliation],
    ) -> None:
        self._database, self._folder, self._retention = database, folder, retention
        self._now_us, self._reconcile = now_us, reconcile
        start = time.monotonic()
        self._tasks: list[tuple[float, Callable[[], float]]] = [
            (start, self._expire_recent),
            (start, self._expire_evidence),
            (start, self._measure),
            (start + RECONCILE_S, self._record_counts),
        ]
        self.disk_bytes = 0
        """Bytes of the database and its log, as last looked at."""
        self.reconciled: Reconciliation | None = None
        """The last counts taken for the record."""

    def run(self) -> None:
        """Runs the task that is due first, if any; raises UnavailableError."""
        at, (due, task) = min(enumerate(self._tasks), key=lambda each: each[1][0])
        if due <= time.monotonic():
            # Before it runs: a task that fails is not tried again at once.
            self._tasks[at] = (time.monotonic() + _EVIDENCE_S, task)
            pause = task()
            self._tasks[at] = (time.monotonic() + pause, task)

    def _expire_recent(self) -> float:
        now_us = self._now_us()
        count = self._database.run(
            lambda database: expire_recent(database, self._retention, now_us)
        )
        # Whatever the rate, messages go as fast as they come.
        return _BEHIND_S if count >= STEP else _RECENT_S

    def _expire_evidence(self) -> float:
        def run(database: sqlite3.Connection) -> int:
            now_us = evidence_clock(database, self._now_us())
            return (
                expire_evidence(database, self._retention, now_us)
                + expire_dead_letters(database)
                + expire_sessions(database, self._retention, now_us)
            )

        if not self._database.run(run):
            return _EVIDENCE_S
        self._database.forget()
        return _RECENT_S

    def _measure(self) -> float:
        size = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size += os.stat(self._folder / f"{DATABASE_FILE}{suffix}").st_size
        self.disk_bytes = size
        return _EVIDENCE_S

    def _record_counts(self) -> float:
        found = self.reconciled = self._reconcile()
        if found.missing:
            log.error("counts do not reconcile: %d records are unaccounted for", found.missing)
        if found.lost:
            log.error("%d records were given up since the start", found.lost)

        def run(database: sqlite3.Connection) -> int:
            database.execute(
                "INSERT OR REPLACE INTO reconciled VALUES (?, ?)", (found.at_us, found.encode())
            )
            return database.execute(
                "DELETE FROM reconciled WHERE at_us NOT IN "
                "(SELECT at_us FROM reconciled ORDER BY at_us DESC LIMIT ?)",
                (_KEPT_RECONCILIATIONS,),
            ).rowcount

        with contextlib.suppress(UnavailableError):
            self._database.run(run)
        return RECONCILE_S

    def record_counts(self) -> None:
        """Takes the counts for the record now, as at the end."""
        self._record_counts()
