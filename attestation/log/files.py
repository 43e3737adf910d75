"""A log's files (docs/log.md, "Tiles and entry bundles"), by any function of a path.

Nothing is opened here: ``read(path)`` is the caller's, over HTTP or from a folder.
Nothing read is believed either: what is made of it is checked against a signed root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.hashing import HASH_SIZE
from attestation.log.bundle import encode_bundle, parse_bundle
from attestation.log.tileproof import TileReader
from attestation.log.tiles import WIDTH, Tile, tile_at

Read: TypeAlias = Callable[[str], bytes]
"""Returns the bytes at a path of the log; raises UnavailableError where it cannot."""


def read_bundle(read: Read, tile: Tile) -> bytes:
    """Returns the entry bundle under a level-0 tile, cut from the whole one if it is gone."""
    try:
        return read(tile.entries_path())
    except UnavailableError:
        if tile.width == WIDTH:
            raise
    data = read(Tile(0, tile.index).entries_path())
    try:
        return encode_bundle(parse_bundle(data, WIDTH)[: tile.width])
    except MalformedError:
        return data


def read_tile(read: Read, tile: Tile) -> bytes:
    """Returns a tile's hashes, cut from the whole tile if the partial one is gone."""
    try:
        return read(tile.path())
    except UnavailableError:
        if tile.width == WIDTH:
            raise
    return read(Tile(tile.level, tile.index).path())[: HASH_SIZE * tile.width]


class LogFiles:
    """The tree of the first ``size`` entries of a log, read by path and kept while in use.

    Raises UnavailableError where the log does not serve what is asked for.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._tiles = TileReader(self._tile)
        self._kept: dict[int, list[bytes]] = {}

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._size

    def entry(self, index: int) -> bytes:
        """Returns one entry."""
        return self.entries(index, index + 1)[0]

    def entries(self, first: int, stop: int) -> list[bytes]:
        """Returns the entries ``first`` to just before ``stop``; UsageError outside the tree."""
        if not 0 <= first <= stop <= self._size:
            raise UsageError("no such entries", found=[first, stop], wanted=self._size)
        found: list[bytes] = []
        for index in range(first // WIDTH, -(-stop // WIDTH)):
            found += self._under(index)
        start = first - first % WIDTH
        return found[first - start : stop - start]

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Returns an entry's audit path in the tree of the first ``size`` entries."""
        return self._prove(lambda: self._tiles.inclusion_proof(index, size))

    def frontier(self, size: int) -> list[bytes]:
        """Returns the roots of the perfect subtrees of the first ``size`` entries."""
        return self._prove(lambda: self._tiles.frontier(size, self._size))

    def _tile(self, tile: Tile) -> bytes:
        # As it is in the whole tree: the partial tile of an older one may be gone.
        whole = read_tile(self._read, tile_at(tile.level, tile.index, self._size))
        return whole[: HASH_SIZE * tile.width]

    def _prove(self, prove: Callable[[], list[bytes]]) -> list[bytes]:
        try:
            return prove()
        except MalformedError as error:
            raise UnavailableError(
                f"the log serves no proof: {error.detail}", rule="log.proof"
            ) from error

    def _under(self, index: int) -> list[bytes]:
        if index not in self._kept:
            tile = tile_at(0, index, self._size)
            try:
                self._kept[index] = parse_bundle(read_bundle(self._read, tile), tile.width)
            except MalformedError as error:
                raise UnavailableError(
                    f"the log serves no entries: {error.detail}", rule="log.entries"
                ) from error
        return self._kept[index]
