"""Proofs read from tiles: which tiles a proof needs, and the proof from them.

Nothing read is believed: what is proven is checked against a signed root by
``merkle.verify_inclusion`` and ``merkle.verify_consistency``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attestation import merkle
from attestation.errors import UsageError
from attestation.log.tiles import HEIGHT, WIDTH, Tile, TileNodes, tile_at
from attestation.merkle import node_hash

DEFAULT_CAPACITY = 256
"""Tiles whose inner nodes are kept: 2 to 4 MiB."""


class TileReader:
    """Proves from tiles that ``read`` returns, and keeps those used last.

    ``read(tile)`` returns the bytes of a tile at the width asked for; what it raises
    goes through.  A tile of another length raises MalformedError.
    """

    __slots__ = ("_capacity", "_kept", "_read")

    def __init__(self, read: Callable[[Tile], bytes], capacity: int = DEFAULT_CAPACITY) -> None:
        self._read = read
        self._capacity = capacity
        self._kept: dict[Tile, TileNodes] = {}

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Returns the audit path of an entry in the tree of ``size`` entries."""
        path = []
        kept, where = None, (-1, -1)
        for height, position in inclusion_nodes(index, size):
            # Eight siblings in a row lie in one tile, but for those that size cuts short.
            level, inner = divmod(height, HEIGHT)
            first = position << inner
            if first + (1 << inner) << (HEIGHT * level) > size:
                path.append(self._subtree(height, position, size))
                continue
            if where != (level, first // WIDTH):
                where = (level, first // WIDTH)
                kept = self._tile(tile_at(*where, size))
            assert kept is not None
            path.append(kept.node(inner, (first % WIDTH) >> inner))
        return path

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Returns the proof that the tree of ``old_size`` entries is a prefix; empty from 0."""
        return [self._subtree(*place, size) for place in consistency_nodes(old_size, size)]

    def root(self, size: int) -> bytes:
        """Returns the root that the tiles give the tree of ``size`` entries."""
        return self.prefix_root(size, size)

    def prefix_root(self, old_size: int, size: int) -> bytes:
        """Returns the root over the first entries, from the tiles of the tree of ``size``."""
        if not 0 <= old_size <= size:
            raise UsageError("no such older tree", found=old_size, wanted=size)
        if old_size == 0:
            return merkle.root(())
        *rest, last = _complete(old_size.bit_length(), 0, old_size)
        node = self._node(*last, size)
        for place in reversed(rest):
            node = node_hash(self._node(*place, size), node)
        return node

    def frontier(self, old_size: int, size: int) -> list[bytes]:
        """Returns the roots of the perfect subtrees of the first entries, left to right."""
        if not 0 <= old_size <= size:
            raise UsageError("no such older tree", found=old_size, wanted=size)
        places = _complete(old_size.bit_length(), 0, old_size)
        return [self._node(*place, size) for place in places]

    def _subtree(self, height: int, position: int, size: int) -> bytes:
        """Returns the root of the subtree that ``size`` may cut short."""
        *rest, last = _complete(height, position, size)
        node = self._node(*last, size)
        for place in reversed(rest):
            node = node_hash(self._node(*place, size), node)
        return node

    def _node(self, height: int, position: int, size: int) -> bytes:
        tile, inner, offset = _where(height, position, size)
        return self._tile(tile).node(inner, offset)

    def _tile(self, tile: Tile) -> TileNodes:
        nodes = self._kept.pop(tile, None)
        if nodes is None:
            nodes = TileNodes(tile, self._read(tile))
            if len(self._kept) >= self._capacity:
                del self._kept[next(iter(self._kept))]
        # Insertion order is the order of use.
        self._kept[tile] = nodes
        return nodes


def inclusion_tiles(index: int, size: int) -> tuple[Tile, ...]:
    """Returns the tiles that an inclusion proof is read from."""
    return _tiles(inclusion_nodes(index, size), size)


def consistency_tiles(old_size: int, size: int) -> tuple[Tile, ...]:
    """Returns the tiles that a consistency proof is read from."""
    return _tiles(consistency_nodes(old_size, size), size)


def root_tiles(size: int) -> tuple[Tile, ...]:
    """Returns the tiles that the root of a tree is read from."""
    return _tiles([(size.bit_length(), 0)] if size else [], size)


def inclusion_nodes(index: int, size: int) -> list[tuple[int, int]]:
    """Returns the (height, position) of each node of an audit path (RFC 9162 2.1.3.1)."""
    if not 0 <= index < size:
        raise UsageError("no entry with this index", found=index, wanted=size)
    path = []
    height = 0
    while (size - 1) >> height:
        sibling = (index >> height) ^ 1
        if sibling << height < size:
            path.append((height, sibling))
        height += 1
    return path


def consistency_nodes(old_size: int, size: int) -> list[tuple[int, int]]:
    """Returns the (height, position) of each node of a consistency proof (RFC 9162 2.1.4.1)."""
    if not 0 <= old_size <= size:
        raise UsageError("no such older tree", found=old_size, wanted=size)
    if old_size in (0, size):
        return []
    # The largest complete subtree that ends the older tree; its path follows.
    height = (old_size & -old_size).bit_length() - 1
    position = (old_size - 1) >> height
    path = [] if position == 0 else [(height, position)]
    while (size - 1) >> height:
        sibling = position ^ 1
        if sibling << height < size:
            path.append((height, sibling))
        height += 1
        position >>= 1
    return path


def _tiles(nodes: Iterable[tuple[int, int]], size: int) -> tuple[Tile, ...]:
    places = [place for node in nodes for place in _complete(*node, size)]
    return tuple(dict.fromkeys(_where(*place, size)[0] for place in places))


def _complete(height: int, position: int, size: int) -> list[tuple[int, int]]:
    """Returns the complete nodes that make up a subtree, left to right."""
    start, stop = position << height, min((position + 1) << height, size)
    result = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        result.append((level, start >> level))
        start += 1 << level
    return result


def _where(height: int, position: int, size: int) -> tuple[Tile, int, int]:
    """Returns the tile of a complete node, its height inside, its place in that row."""
    level, inner = divmod(height, HEIGHT)
    first = position << inner
    tile = tile_at(level, first // WIDTH, size)
    return tile, inner, (first % WIDTH) >> inner
