"""The log as plain files, as any static web server can show it (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import open_checkpoint
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH, Tile, tiles_of
from notary.log.reader import LogReader


class PlainFiles:
    """Writes a log into ``folder``: tiles and entry bundles first, the checkpoint last.

    Every file appears whole and stays, after a power cut too; partial tiles go once the
    whole one is there.  Raises UsageError for a folder that shows what the log of ``key``
    in ``reader`` does not hold: another log, or what this one was before it was rolled back.
    """

    def __init__(self, folder: Path, key: VerifyingKey, reader: LogReader) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._size = self._written(key, reader)
        except OSError as error:
            raise UnavailableError(f"cannot read the log's folder: {error}", rule="log") from error

    def write(self, size: int, note: bytes, reader: LogReader) -> None:
        """Writes what a checkpoint of ``size`` entries needs and was not written; OSError."""
        for tile in tiles_of(size, self._size):
            self._put(tile.path(), reader.tile(tile), tile)
            if tile.level == 0:
                self._put(tile.entries_path(), reader.bundle(tile), tile)
        self._replace(self._folder / CHECKPOINT_PATH, note)
        self._size = size

    def _put(self, place: str, data: bytes, tile: Tile) -> None:
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        self._replace(path, data)
        if tile.width == WIDTH:
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)

    def _replace(self, path: Path, data: bytes) -> None:
        fresh = path.with_name(path.name + ".new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)

    def _written(self, key: VerifyingKey, reader: LogReader) -> int:
        """How many entries the folder's checkpoint covers; 0 where there is none."""
        try:
            data = (self._folder / CHECKPOINT_PATH).read_bytes()
        except FileNotFoundError:
            return 0
        try:
            shown = open_checkpoint(data, logs=[key]).checkpoint
            same = reader.root(shown.size) == shown.root
        except QuotaryError as error:
            raise UsageError(
                f"the log's folder shows another log: {error.detail}",
                rule="log.files",
                found=str(self._folder),
            ) from None
        if not same:
            raise UsageError(
                "the log's folder shows another history of this log",
                rule="log.files",
                found=str(self._folder),
            )
        return shown.size
