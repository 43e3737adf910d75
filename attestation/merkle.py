"""Merkle trees of RFC 9162 section 2.1: prove and verify, one implementation.

leaf = H(0x00 || entry), node = H(0x01 || left || right), empty tree = H("").
A tree of n > 1 leaves splits at the largest power of two smaller than n, which
is the same as pairing level by level and carrying an odd last node upward: a
node at level l and position p covers the leaves p * 2^l .. (p + 1) * 2^l, cut
at the size.

Hashes are 32 bytes.  Index, size and algorithm come from authenticated data,
never from a proof; a proof holds exactly the nodes that they dictate.  Building
costs O(size); verifying costs O(shown leaves * log(size)), no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attestation.encoding import MAX_INTEGER
from attestation.errors import InvalidProofError, UsageError
from attestation.hashing import DEFAULT_HASH, HASH_SIZE, hasher

MAX_SIZE = MAX_INTEGER
"""Leaves a tree may have: a document cannot state a larger size."""

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(entry: bytes, algorithm: str = DEFAULT_HASH) -> bytes:
    """Hashes one entry as a leaf."""
    result: bytes = hasher(algorithm)(_LEAF + entry).digest()
    return result


def node_hash(left: bytes, right: bytes, algorithm: str = DEFAULT_HASH) -> bytes:
    """Hashes two 32-byte nodes as their parent."""
    result: bytes = hasher(algorithm)(_NODE + left + right).digest()
    return result


def root(leaf_hashes: Sequence[bytes], algorithm: str = DEFAULT_HASH) -> bytes:
    """Returns the root over leaf hashes in order; H("") over none."""
    new = hasher(algorithm)
    if not leaf_hashes:
        empty: bytes = new(b"").digest()
        return empty
    level = list(leaf_hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [new(_NODE + left + right).digest() for left, right in pairs] + odd
    return level[0]


def inclusion_proof(
    leaf_hashes: Sequence[bytes], index: int, algorithm: str = DEFAULT_HASH
) -> list[bytes]:
    """Returns the audit path of one leaf, from the leaf upward (RFC 9162 2.1.3.1)."""
    if not 0 <= index < len(leaf_hashes):
        raise UsageError("no leaf with this index", found=index, wanted=len(leaf_hashes))
    new = hasher(algorithm)
    path = []
    level = list(leaf_hashes)
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [new(_NODE + left + right).digest() for left, right in pairs] + odd
        index >>= 1
    return path


def verify_inclusion(
    *,
    leaf: bytes,
    index: int,
    size: int,
    proof: Sequence[bytes],
    root: bytes,
    algorithm: str = DEFAULT_HASH,
) -> None:
    """Checks that ``leaf``, a leaf hash, is at ``index`` of the tree (RFC 9162 2.1.3.2).

    Raises InvalidProofError, also for a path longer or shorter than ``index``
    and ``size`` dictate.
    """
    new = hasher(algorithm)
    _check_size(size)
    if not 0 <= index < size:
        raise InvalidProofError("leaf index is outside the tree", found=index, wanted=size)
    _check_nodes(proof)
    _check_nodes((leaf, root))
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise InvalidProofError("inclusion path is too long", found=len(proof))
        if position & 1 or position == last:
            node = new(_NODE + sibling + node).digest()
            # A last node without a right sibling rises until it has a left one.
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = new(_NODE + node + sibling).digest()
        position >>= 1
        last >>= 1
    if last:
        raise InvalidProofError("inclusion path is too short", found=len(proof))
    if node != root:
        raise InvalidProofError("inclusion path does not lead to the root")


def consistency_proof(
    leaf_hashes: Sequence[bytes], old_size: int, algorithm: str = DEFAULT_HASH
) -> list[bytes]:
    """Proves that the first ``old_size`` leaves are a prefix (RFC 9162 2.1.4.1).

    The proof is empty where ``old_size`` is zero or all leaves.
    """
    if not 0 <= old_size <= len(leaf_hashes):
        raise UsageError("no such older tree", found=old_size, wanted=len(leaf_hashes))
    if old_size == 0:
        return []
    path = []
    start, stop = 0, len(leaf_hashes)
    while old_size != stop:
        split = start + _split(stop - start)
        if old_size <= split:
            path.append(root(leaf_hashes[split:stop], algorithm))
            stop = split
        else:
            path.append(root(leaf_hashes[start:split], algorithm))
            start = split
    if start:
        path.append(root(leaf_hashes[start:stop], algorithm))
    return path[::-1]


def verify_consistency(
    *,
    old_size: int,
    new_size: int,
    old_root: bytes,
    new_root: bytes,
    proof: Sequence[bytes],
    algorithm: str = DEFAULT_HASH,
) -> None:
    """Checks that the newer tree starts with the older one (RFC 9162 2.1.4.2).

    Equal sizes demand equal roots; the empty tree, whose root is H(""), is a
    prefix of every tree.  Both take an empty proof.  Raises InvalidProofError.
    """
    new = hasher(algorithm)
    _check_size(new_size)
    if not 0 <= old_size <= new_size:
        raise InvalidProofError("older tree is not smaller", found=old_size, wanted=new_size)
    _check_nodes(proof)
    _check_nodes((old_root, new_root))
    if old_size in (0, new_size):
        wanted = new_root if old_size else root((), algorithm)
        if proof:
            raise InvalidProofError("consistency proof must be empty here", found=len(proof))
        if old_root != wanted or (new_size == 0 and new_root != root((), algorithm)):
            raise InvalidProofError("roots of equal trees differ")
        return
    # RFC 9162 2.1.4.2 step 2: the older root itself starts the path where the
    # older tree is a complete subtree of the newer one.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise InvalidProofError("consistency proof is too short", found=0)
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    older = newer = path[0]
    for node in path[1:]:
        if last == 0:
            raise InvalidProofError("consistency proof is too long", found=len(proof))
        if position & 1 or position == last:
            older = new(_NODE + node + older).digest()
            newer = new(_NODE + node + newer).digest()
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            newer = new(_NODE + newer + node).digest()
        position >>= 1
        last >>= 1
    if last:
        raise InvalidProofError("consistency proof is too short", found=len(proof))
    if older != old_root:
        raise InvalidProofError("consistency proof does not lead to the older root")
    if newer != new_root:
        raise InvalidProofError("consistency proof does not lead to the newer root")


class Tree:
    """A tree whose nodes are kept, to prove many of its leaves: O(log(size)) for each."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Sequence[bytes], algorithm: str = DEFAULT_HASH) -> None:
        new = hasher(algorithm)
        level = list(leaf_hashes)
        self._levels = [level]
        while len(level) > 1:
            odd = level[-1:] if len(level) % 2 else []
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [new(_NODE + left + right).digest() for left, right in pairs] + odd
            self._levels.append(level)

    def root(self) -> bytes:
        """As ``root``; UsageError for a tree without leaves."""
        if not self._levels[0]:
            raise UsageError("no tree of nothing")
        return self._levels[-1][0]

    def multiproof(self, indices: Sequence[int]) -> list[bytes]:
        """As ``multiproof``."""
        return _prove_several(
            len(self._levels[0]), indices, lambda start, level: self._levels[level][start >> level]
        )


def multiproof(
    leaf_hashes: Sequence[bytes], indices: Sequence[int], algorithm: str = DEFAULT_HASH
) -> list[bytes]:
    """Proves several leaves at once (docs/formats.md, "presentation").

    ``indices`` increase strictly and name at least one leaf.  Returns the roots
    of the maximal subtrees that hold none of them, left to right.
    """
    return _prove_several(
        len(leaf_hashes),
        indices,
        lambda start, level: root(leaf_hashes[start : start + (1 << level)], algorithm),
    )


def _prove_several(
    size: int, indices: Sequence[int], node: Callable[[int, int], bytes]
) -> list[bytes]:
    proof = []
    position = 0
    for index in indices:
        if not position <= index < size:
            raise UsageError("indices must increase inside the tree", found=index, wanted=size)
        for start, level in _cover(position, index, size):
            proof.append(node(start, level))
        position = index + 1
    if position == 0:
        raise UsageError("a multiproof shows at least one leaf")
    for start, level in _cover(position, size, size):
        proof.append(node(start, level))
    return proof


def root_from_multiproof(
    *,
    size: int,
    leaves: Mapping[int, bytes],
    proof: Sequence[bytes],
    algorithm: str = DEFAULT_HASH,
) -> bytes:
    """Returns the root that the shown leaves and a multiproof lead to.

    ``leaves`` maps index to leaf hash and is not empty.  Demands exactly the
    nodes that the indices and ``size`` dictate, else raises InvalidProofError;
    the caller compares the root with an authenticated one.
    """
    new = hasher(algorithm)
    _check_size(size)
    _check_nodes(proof)
    _check_nodes(leaves.values())
    indices = sorted(leaves)
    if not indices:
        raise InvalidProofError("no leaf is shown")
    if indices[0] < 0 or indices[-1] >= size:
        raise InvalidProofError("leaf index is outside the tree", found=indices[-1], wanted=size)
    nodes = iter(proof)
    # The complete subtrees left of ``position``, largest first, as in a binary
    # counter: adding a subtree merges it with its equals.
    stack: list[bytes] = []

    def add(node: bytes, start: int, level: int) -> None:
        place = start >> level
        while place & 1:
            node = new(_NODE + stack.pop() + node).digest()
            place >>= 1
        stack.append(node)

    position = 0
    try:
        for index in indices:
            if position != index:
                for start, level in _cover(position, index, size):
                    add(next(nodes), start, level)
            add(leaves[index], index, 0)
            position = index + 1
        for start, level in _cover(position, size, size):
            add(next(nodes), start, level)
    except StopIteration:
        raise InvalidProofError("multiproof has too few nodes", found=len(proof)) from None
    if next(nodes, None) is not None:
        raise InvalidProofError("multiproof has too many nodes", found=len(proof))
    result = stack.pop()
    while stack:
        result = new(_NODE + stack.pop() + result).digest()
    return result


def _split(size: int) -> int:
    """Returns the largest power of two smaller than ``size``, which is > 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _cover(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields (start, level) of the maximal subtrees that make up ``start..stop``.

    Not for a whole tree.  A subtree that ``size`` cuts short counts as one.
    """
    while start < stop:
        # Trailing zeros of ``start``: the highest level with a node starting there.
        level = ((start & -start) or stop).bit_length() - 1
        if stop != size:
            while start + (1 << level) > stop:
                level -= 1
        yield start, level
        start += 1 << level


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise InvalidProofError(f"tree size is not in 0..{MAX_SIZE}", found=size)


def _check_nodes(nodes: Iterable[bytes]) -> None:
    for node in nodes:
        if len(node) != HASH_SIZE:
            raise InvalidProofError(f"a node is not {HASH_SIZE} bytes", found=len(node))
