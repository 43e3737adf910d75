"""The log as plain files, as any static web server can show it (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attestation.errors import MalformedError
from attestation.log.checkpoint import Checkpoint
from attestation.log.note import Note
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH, Tile, tiles_of
from notary.log.reader import LogReader


class PlainFiles:
    """Writes a log into ``folder``: tiles and entry bundles first, the checkpoint last.

    Every file appears whole.  Partial tiles go once the whole one is there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._size = self._written()

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
        fresh.write_bytes(data)
        os.replace(fresh, path)

    def _written(self) -> int:
        """How many entries the folder's checkpoint covers; 0 where there is none to read."""
        try:
            note = Note.parse((self._folder / CHECKPOINT_PATH).read_bytes())
            return Checkpoint.parse(note.text).size
        except (OSError, MalformedError):
            return 0
