"""A notary's log as the operator follows it: its files, and the checkpoints it has shown."""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from pathlib import Path

from attestation.errors import ExpectationError
from attestation.log.entry import read_entry
from attestation.log.files import LogFiles, Read
from attestation.log.policy import LogPolicy

MAX_FILES = 512
"""Files kept in memory: what a path names never changes."""
CHECKPOINT = "checkpoint"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
    log TEXT NOT NULL,
    size INTEGER NOT NULL,
    now_us INTEGER NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (log, size)
) WITHOUT ROWID;
"""


class NoteStore:
    """Checkpoints on disk: a bundle begins with one from before its trade.

    Blocking, for one thread at a time; raises sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.executescript(_SCHEMA)

    def read(self, log: str) -> dict[int, tuple[int, bytes]]:
        """Returns a log's checkpoints by size, each with the time of its last entry."""
        rows = self._database.execute("SELECT size, now_us, note FROM notes WHERE log = ?", (log,))
        return {size: (now_us, bytes(note)) for size, now_us, note in rows}

    def keep(self, log: str, size: int, now_us: int, note: bytes) -> None:
        """Keeps a checkpoint in the place of another of its size."""
        self._database.execute(
            "INSERT OR REPLACE INTO notes (log, size, now_us, note) VALUES (?, ?, ?, ?)",
            (log, size, now_us, note),
        )

    def drop(self, log: str, size: int) -> None:
        """Drops a log's checkpoints that are smaller."""
        self._database.execute("DELETE FROM notes WHERE log = ? AND size < ?", (log, size))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


class LogWatch:
    """Follows the log of ``origin``.  ``read`` blocks; for one thread at a time.

    Checkpoints of one size are one: the newest has the most cosignatures.
    """

    def __init__(self, origin: str, read: Read, known: LogPolicy, store: NoteStore) -> None:
        self.origin = origin
        self._fetch = read
        self._known = known
        self._store = store
        self._notes = store.read(origin)
        self._files: OrderedDict[str, bytes] = OrderedDict()

    @property
    def notes(self) -> tuple[bytes, ...]:
        """The checkpoints, by size."""
        return tuple([self._notes[size][1] for size in sorted(self._notes)])

    @property
    def newest(self) -> bytes | None:
        """The newest checkpoint; None before the first."""
        return self._notes[max(self._notes)][1] if self._notes else None

    @property
    def now_us(self) -> int:
        """The time of the last entry under the newest checkpoint; 0 before the first."""
        return self._notes[max(self._notes)][0] if self._notes else 0

    def spans(self, length_us: int) -> bool:
        """Whether there is a checkpoint so much older than the newest."""
        oldest_us = min([now_us for now_us, _ in self._notes.values()], default=self.now_us)
        return bool(self._notes) and oldest_us + length_us <= self.now_us

    def poll(self) -> bool:
        """Looks for a checkpoint that is new, or has other cosignatures; whether there is one.

        Raises UnavailableError where the log does not answer, ExpectationError
        (``log.origin``) for another log's, and what ``LogPolicy.open_log`` raises.
        """
        note = self._fetch(CHECKPOINT)
        checkpoint = self._known.open_log(note).checkpoint
        if checkpoint.origin != self.origin:
            raise ExpectationError(
                "the checkpoint of another log",
                rule="log.origin",
                found=checkpoint.origin,
                wanted=self.origin,
            )
        size = checkpoint.size
        if size == 0 or size < max(self._notes, default=0):
            return False
        if size in self._notes and self._notes[size][1] == note:
            return False
        now_us = read_entry(LogFiles(self.read, size).entry(size - 1)).logged_us
        self._notes[size] = now_us, note
        self._store.keep(self.origin, size, now_us, note)
        return True

    def forget(self, before_us: int) -> int | None:
        """Drops checkpoints that are older, but for the newest of them; returns its size.

        None if there is none to drop.
        """
        older = [size for size, (now_us, _) in self._notes.items() if now_us < before_us]
        if len(older) < 2:
            return None
        keep = max(older)
        self._notes = {size: one for size, one in self._notes.items() if size >= keep}
        self._store.drop(self.origin, keep)
        return keep

    def read(self, path: str) -> bytes:
        """Returns a file of the log; raises UnavailableError."""
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        data = self._files[path] = self._fetch(path)
        if len(self._files) > MAX_FILES:
            self._files.popitem(last=False)
        return data
