"""The last checkpoint that left the notary, in a file of its own beside the store.

A store that was put back from a copy cannot know what was signed after it; this file
does.  It is written before a checkpoint is shown to anybody, and a backup never holds
it (docs/operations.md).
"""

from __future__ import annotations

import os
from pathlib import Path

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import Checkpoint, open_checkpoint

PUBLISHED_FILE = "checkpoint"


class PublishedFile:
    """``write`` replaces the checkpoint in place: it is shorter than a disk's sector.

    It is not synced at each write: after a power cut it may be older than the store,
    which is no contradiction; ``sync`` makes it durable now and then.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self, key: VerifyingKey) -> Checkpoint | None:
        """Reads the checkpoint, None if none was published.

        Raises UsageError for a file that the log's key has not signed.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"cannot read {self.path}: {error}", rule="log") from error
        try:
            return open_checkpoint(data, logs=[key]).checkpoint
        except QuotaryError as error:
            raise UsageError(
                f"the file of the last checkpoint is damaged: {error.detail}",
                rule="log.published",
                found=str(self.path),
            ) from None

    def create(self, note: bytes) -> None:
        """Writes the first checkpoint, durably; raises FileExistsError, OSError."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.close(descriptor)
        self.write(note)
        self.sync()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write(self, note: bytes) -> None:
        """Replaces the checkpoint by a later one, whose text is never shorter; raises OSError."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY)
        os.pwrite(self._descriptor, note, 0)

    def sync(self) -> None:
        """Makes what was written durable; raises OSError."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Syncs and closes the file."""
        if self._descriptor is not None:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = None
