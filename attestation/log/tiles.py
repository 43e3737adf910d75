"""Tiles (c2sp.org/tlog-tiles): the nodes of a tree as immutable files of 256 hashes.

Tile (level l, index n) holds the nodes at height 8l and positions 256n .. 256n+255;
the last tile of a level is partial, of width floor(size / 256^l) mod 256.  Paths:

    tile/<l>/<n>[.p/<width>]          hashes
    tile/entries/<n>[.p/<width>]      the entry bundle under level-0 tile n

with n in groups of three digits, all but the last prefixed ``x``.  Height 8, SHA-256.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from attestation import merkle
from attestation.errors import MalformedError, UsageError
from attestation.hashing import HASH_SIZE

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_LEVEL = 63
CHECKPOINT_PATH = "checkpoint"

_PATH = re.compile(
    r"tile/(?:(0|[1-9][0-9]?)|entries)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?",
    re.ASCII,
)
_sha256 = hashlib.sha256


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Where a tile is, and how many hashes it holds: 1 to 256."""

    level: int
    index: int
    width: int = WIDTH

    def path(self) -> str:
        """Returns the path of the tile's hashes."""
        return f"tile/{self.level}/{self._place()}"

    def entries_path(self) -> str:
        """Returns the path of the entry bundle under a level-0 tile."""
        if self.level:
            raise UsageError("entries lie under level 0 alone", found=self.level)
        return f"tile/entries/{self._place()}"

    def _place(self) -> str:
        digits = f"{self.index:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
        place = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        return place if self.width == WIDTH else f"{place}.p/{self.width}"


def parse_path(path: str) -> tuple[Tile, bool]:
    """Returns the tile of a path, and whether the path is that of its entries.

    Raises MalformedError for anything but a path's only spelling.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise MalformedError("not the path of a tile", rule="tile", found=path[:80])
    level, digits, width = found.groups()
    tile = Tile(int(level or 0), int(digits.replace("/", "").replace("x", "")), int(width or WIDTH))
    entries = level is None
    if tile.level > MAX_LEVEL or path != (tile.entries_path() if entries else tile.path()):
        raise MalformedError("not the only path of a tile", rule="tile", found=path[:80])
    return tile, entries


def tile_at(level: int, index: int, size: int) -> Tile:
    """Returns a tile of a tree of ``size`` entries with the width it has there.

    Raises UsageError where the tree has no such tile.
    """
    width = min((size >> (HEIGHT * level)) - index * WIDTH, WIDTH)
    if width <= 0 or min(level, index) < 0:
        raise UsageError("the tree has no such tile", found=[level, index], wanted=size)
    return Tile(level, index, width)


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """Yields the tiles of a tree that its state at ``since`` entries did not have."""
    if not 0 <= since <= size <= merkle.MAX_SIZE:
        raise UsageError("not an older size and a size", found=since, wanted=size)
    for level in range(MAX_LEVEL + 1):
        count, before = size >> (HEIGHT * level), since >> (HEIGHT * level)
        if not count:
            return
        # What was complete before stays; a partial tile is another one when it grows.
        first = before // WIDTH if count > before else -(-count // WIDTH)
        for index in range(first, -(-count // WIDTH)):
            yield tile_at(level, index, size)


def edge_of(size: int) -> tuple[Tile, ...]:
    """Returns the partial tiles of a tree, from level 0 upward: all that still changes."""
    return tuple(
        Tile(level, count // WIDTH, count % WIDTH)
        for level in range(MAX_LEVEL + 1)
        if (count := size >> (HEIGHT * level)) % WIDTH
    )


class TileBuilder:
    """Appends leaves to a tree and cuts its tiles; O(256 log(size)) state.

    ``append`` adds leaf hashes; ``take`` returns the tiles that are new since it was
    last called.  Starts empty, or from the partial tiles of a tree (``edge_of``).
    """

    __slots__ = ("_full", "_nodes", "_rows", "_size", "_taken")

    def __init__(self, size: int = 0, edge: Mapping[Tile, bytes] | None = None) -> None:
        self._size = self._taken = size
        self._full: dict[Tile, bytes] = {}
        self._rows: list[list[bytes]] = []
        self._nodes: list[bytes] = []
        wanted = edge_of(size)
        rows = {tile.level: _split(tile, (edge or {}).get(tile, b"")) for tile in wanted}
        for level in range(max(rows, default=-1), -1, -1):
            row = rows.get(level, [])
            self._rows.insert(0, row)
            start = 0
            for bit in range(HEIGHT - 1, -1, -1):
                if len(row) >> bit & 1:
                    self._nodes.append(merkle.root(row[start : start + (1 << bit)]))
                    start += 1 << bit

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, leaves: Iterable[bytes]) -> None:
        """Adds 32-byte leaf hashes at the end."""
        rows, nodes, size = self._rows, self._nodes, self._size
        if not rows:
            rows.append([])
        row = rows[0]
        for leaf in leaves:
            row.append(leaf)
            node, place = leaf, size
            if size & 255 == 255:
                node, place = self._close(leaf, size)
            else:
                while place & 1:
                    node = _sha256(b"\x01" + nodes.pop() + node).digest()
                    place >>= 1
            nodes.append(node)
            size += 1
        self._size = size

    def root(self) -> bytes:
        """Returns the root over all leaves."""
        if not self._nodes:
            return merkle.root(())
        node = self._nodes[-1]
        for left in reversed(self._nodes[:-1]):
            node = _sha256(b"\x01" + left + node).digest()
        return node

    def take(self) -> dict[Tile, bytes]:
        """Returns the tiles that are new since the last call, whole ones and partial ones."""
        taken, self._full = self._full, {}
        for tile in edge_of(self._size):
            if self._size >> (HEIGHT * tile.level) > self._taken >> (HEIGHT * tile.level):
                taken[tile] = b"".join(self._rows[tile.level])
        self._taken = self._size
        return taken

    def _close(self, node: bytes, place: int) -> tuple[bytes, int]:
        """Merges the leaf that completes a level-0 tile, and files the tiles it completes."""
        height = 0
        while place & 1:
            node = _sha256(b"\x01" + self._nodes.pop() + node).digest()
            place >>= 1
            height += 1
            if height % HEIGHT == 0:
                level = height // HEIGHT
                row = self._rows[level - 1]
                self._full[Tile(level - 1, place)] = b"".join(row)
                row.clear()
                if len(self._rows) == level:
                    self._rows.append([])
                self._rows[level].append(node)
        return node, place


def _split(tile: Tile, data: bytes) -> list[bytes]:
    if len(data) != tile.width * HASH_SIZE:
        raise MalformedError(
            "a tile has another size than its width says", rule="tile", found=len(data)
        )
    return [data[start : start + HASH_SIZE] for start in range(0, len(data), HASH_SIZE)]


class TileNodes:
    """One tile's hashes and the nodes above them, folded once when first asked for."""

    __slots__ = ("_rows",)

    def __init__(self, tile: Tile, data: bytes) -> None:
        """Raises MalformedError unless ``data`` has the tile's size."""
        self._rows = [_split(tile, data)]

    def node(self, height: int, position: int) -> bytes:
        """Returns the complete node ``height`` (0 to 7) above the tile's hashes."""
        rows = self._rows
        while len(rows) <= height:
            below = iter(rows[-1])
            # An odd last node has no parent in this tile, or not yet.
            rows.append(
                [
                    _sha256(b"\x01" + left + right).digest()
                    for left, right in zip(below, below, strict=False)
                ]
            )
        return rows[height][position]
