"""An append-only tree as its frontier: the roots of its perfect subtrees, left to right.

A tree of n entries has one subtree for each bit set in n, largest first: O(log n)
state, from which the root follows and to which entries can be appended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from attestation import merkle
from attestation.errors import MalformedError
from attestation.hashing import HASH_SIZE

_sha256 = hashlib.sha256


class Frontier:
    """The frontier of a tree of SHA-256 (RFC 9162); starts empty or from ``nodes``.

    Raises MalformedError unless there is a 32-byte node for each bit of ``size``.
    """

    __slots__ = ("_nodes", "_size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        if not 0 <= size <= merkle.MAX_SIZE or len(nodes) != size.bit_count():
            raise MalformedError("a frontier has a node for each bit of its size", found=len(nodes))
        if any(len(node) != HASH_SIZE for node in nodes):
            raise MalformedError(f"a node is not {HASH_SIZE} bytes")
        self._size = size
        self._nodes = list(nodes)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._size

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees, largest first."""
        return tuple(self._nodes)

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash at the end."""
        nodes, place = self._nodes, self._size
        # As in a binary counter: equal subtrees merge while the low bit is set.
        while place & 1:
            leaf = _sha256(b"\x01" + nodes.pop() + leaf).digest()
            place >>= 1
        nodes.append(leaf)
        self._size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Adds leaf hashes at the end."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Returns the root; of an empty tree the hash of nothing."""
        if not self._nodes:
            return merkle.root(())
        node = self._nodes[-1]
        for left in reversed(self._nodes[:-1]):
            node = _sha256(b"\x01" + left + node).digest()
        return node

    def copy(self) -> Frontier:
        """Returns one that grows on its own."""
        return Frontier(self._size, self._nodes)
