"""What an auditor keeps between runs: one SQLite file, written in one transaction.

The state of the last sound audit, and the map of what is over.  An audit that ends
otherwise - the log cannot be read, or is not what it was - leaves the file as it
found it, so that the next one still knows what the log once said.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from typing import Self

from attestation.encoding import MAX_INTEGER
from attestation.errors import UsageError
from attestation.log.report import AuditState

_VERSION = 1
_SCHEMA = """
CREATE TABLE state (only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL);
CREATE TABLE spent (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class SpentTable(MutableMapping[bytes, bytes]):
    """The map of what is over, on disk."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __getitem__(self, key: bytes) -> bytes:
        row = self._database.execute("SELECT value FROM spent WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO spent VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        if self._database.execute("DELETE FROM spent WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        for (key,) in self._database.execute("SELECT key FROM spent"):
            yield bytes(key)

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM spent").fetchone()
        return int(count)


class AuditStore:
    """The file at ``path``, or one of the system's that is gone afterwards.

    One auditor at a time: UsageError for another, and for a file of something else.
    """

    def __init__(self, path: str | None) -> None:
        # SQLite makes a temporary file of its own for the empty name.
        try:
            self._database = sqlite3.connect(path or "", isolation_level=None, timeout=0)
        except sqlite3.Error as error:
            raise UsageError(f"cannot use the state: {error}", rule="state", found=path) from error
        try:
            self._database.execute("BEGIN EXCLUSIVE")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version == 0 and tables == 0:
                for statement in _SCHEMA.split(";")[:-1]:
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise UsageError("the file holds something else", rule="state", found=path)
        except sqlite3.Error as error:
            self._database.close()
            raise UsageError(f"cannot use the state: {error}", rule="state", found=path) from error
        except UsageError:
            self._database.close()
            raise
        self.spent = SpentTable(self._database)

    def load(self) -> AuditState | None:
        """Returns the state, None in a new file; raises MalformedError for a broken one."""
        row = self._database.execute("SELECT body FROM state").fetchone()
        return None if row is None else AuditState.decode(bytes(row[0]), limit=MAX_INTEGER)

    def save(self, state: AuditState) -> None:
        """Keeps the state with what has been spent since the file was opened."""
        self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (state.encode(),))
        self._database.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()
