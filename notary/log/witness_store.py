"""What a witness has cosigned of each log, durable before any cosignature leaves."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from pathlib import Path

from attestation.errors import UnavailableError, UsageError
from attestation.log.witness import Head

_SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL
) WITHOUT ROWID;
"""


class WitnessStore:
    """Heads by origin, in SQLite; one process may hold it.  Callable from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_file)
            raise UsageError("another witness holds this store", rule="store") from error
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON"):
                self._database.execute(f"PRAGMA {pragma}").fetchall()
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            os.close(self._lock_file)
            raise UnavailableError(f"cannot open the store: {error}", rule="store") from error

    def latest(self, origin: str) -> Head | None:
        """Returns what was cosigned last of a log."""
        with self._lock:
            row = self._database.execute(
                "SELECT size, root FROM heads WHERE origin = ?", (origin,)
            ).fetchone()
        return None if row is None else Head(size=row[0], root=bytes(row[1]))

    def advance(self, origin: str, old: Head | None, new: Head) -> bool:
        """Makes ``new`` durable where ``old`` still stands; False if another came first.

        Raises UnavailableError if the disk fails.
        """
        try:
            with self._lock:
                if old is None:
                    changed = self._database.execute(
                        "INSERT INTO heads VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        (origin, new.size, new.root),
                    ).rowcount
                else:
                    changed = self._database.execute(
                        "UPDATE heads SET size = ?, root = ?"
                        " WHERE origin = ? AND size = ? AND root = ?",
                        (new.size, new.root, origin, old.size, old.root),
                    ).rowcount
        except sqlite3.Error as error:
            raise UnavailableError(f"a write failed: {error}", rule="store") from error
        return changed == 1

    def close(self) -> None:
        """Closes the store."""
        with self._lock:
            self._database.close()
        os.close(self._lock_file)
