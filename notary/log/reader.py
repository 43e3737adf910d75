"""What the log shows to anybody: tiles and entry bundles, read beside the writer.

A connection of its own sees what was committed, and nothing of a transaction under way.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from attestation.errors import RefusedError, UnavailableError
from attestation.log.bundle import encode_bundle
from attestation.log.proof import LogProof
from attestation.log.tileproof import TileReader
from attestation.log.tiles import WIDTH, Tile
from notary.log.tables import read_entries, read_tile

Found = TypeVar("Found")


class LogReader:
    """Reads a log from a read-only connection; callable from any thread."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        self._lock = threading.Lock()
        self._proofs = TileReader(lambda tile: read_tile(self._database, tile))

    def tile(self, tile: Tile) -> bytes:
        """Returns a tile's hashes; raises RefusedError (404) if the log is not so large."""
        with self._reading():
            return self._found(lambda: read_tile(self._database, tile), tile)

    def bundle(self, tile: Tile) -> bytes:
        """Returns the entries under a level-0 tile; raises RefusedError (404)."""
        start = tile.index * WIDTH
        with self._reading():
            entries = self._found(
                lambda: read_entries(self._database, start, start + tile.width), tile
            )
        return encode_bundle(entries)

    def prove(self, index: int, size: int, note: bytes) -> LogProof:
        """Proves an entry under a checkpoint of ``size`` entries that ``note`` is.

        Raises RefusedError (404) if the checkpoint does not cover it.
        """
        if not 0 <= index < size:
            raise RefusedError(
                "no published checkpoint covers the entry", rule="log", http_status=404
            )
        with self._reading():
            path = self._proofs.inclusion_proof(index, size)
        return LogProof(index=index, path=tuple(path), note=note)

    def root(self, size: int) -> bytes:
        """Returns the root over the first ``size`` entries; UnavailableError if it is shorter."""
        with self._reading():
            return self._proofs.root(size)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Proves that the log of ``old_size`` entries is a prefix of that of ``size``."""
        with self._reading():
            return self._proofs.consistency_proof(old_size, size)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Holds the connection; UnavailableError where the disk fails, or after ``close``."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise UnavailableError(f"cannot read the log: {error}", rule="log") from error

    def _found(self, read: Callable[[], Found], tile: Tile) -> Found:
        try:
            return read()
        except UnavailableError:
            raise RefusedError(
                "the log has no such tile", rule="log", found=tile.path(), http_status=404
            ) from None
