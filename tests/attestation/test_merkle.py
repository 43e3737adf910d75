"""Merkle trees: published RFC 6962 values, pymerkle, a recursive oracle, attacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import InvalidProofError, UntrustedError, UsageError

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)

# The reference tree of Certificate Transparency's own test suite.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
# Nodes of the tree of eight, by the leaves they cover.
L0, L1, L4, L6 = (
    bytes.fromhex(text)
    for text in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    )
)
N01, N23, N45, N67, N03, N47 = (
    bytes.fromhex(text)
    for text in (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    )
)
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]

INCLUSION = [
    (0, 1, []),
    (0, 8, [L1, N23, N47]),
    (5, 8, [L4, N67, N03]),
    (2, 3, [N01]),
    (1, 5, [L0, N23, L4]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [L1, N23, N47]),
    (6, 8, [N45, N67, N03]),
    (2, 5, [N23, L4]),
    (6, 7, [N45, L6, N03]),
]


def leaves_of(count: int, algorithm: str = "sha256") -> list[bytes]:
    return [merkle.leaf_hash(b"entry %d" % index, algorithm) for index in range(count)]


def reference_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def reference_fold(size: int, shown: Mapping[int, bytes], proof: Sequence[bytes]) -> bytes | None:
    """The root a multiproof leads to, top down; None for a wrong number of nodes."""
    nodes = list(proof)

    def fold(start: int, stop: int) -> bytes:
        if not any(start <= index < stop for index in shown):
            return nodes.pop(0)
        if stop - start == 1:
            return shown[start]
        split = 1
        while split * 2 < stop - start:
            split *= 2
        left = fold(start, start + split)
        return hashlib.sha256(b"\x01" + left + fold(start + split, stop)).digest()

    try:
        result = fold(0, size)
    except IndexError:
        return None
    return None if nodes else result


def folded(size: int, shown: Mapping[int, bytes], proof: Sequence[bytes]) -> bytes | None:
    try:
        return merkle.root_from_multiproof(size=size, leaves=shown, proof=proof)
    except InvalidProofError:
        return None


@st.composite
def shown_leaves(draw: st.DrawFn) -> tuple[int, list[int]]:
    size = draw(st.integers(1, 70))
    return size, sorted(draw(st.sets(st.integers(0, size - 1), min_size=1)))


@pytest.mark.parametrize("size", range(9))
def test_published_roots_are_reproduced(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == ROOTS[size]


def test_published_leaf_hashes_are_reproduced() -> None:
    assert [LEAVES[0], LEAVES[1], LEAVES[4], LEAVES[6]] == [L0, L1, L4, L6]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion_proofs_are_reproduced_and_verify(
    index: int, size: int, path: list[bytes]
) -> None:
    assert merkle.inclusion_proof(LEAVES[:size], index) == path
    merkle.verify_inclusion(
        leaf=LEAVES[index], index=index, size=size, proof=path, root=ROOTS[size]
    )


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_published_consistency_proofs_are_reproduced_and_verify(
    old: int, new: int, path: list[bytes]
) -> None:
    assert merkle.consistency_proof(LEAVES[:new], old) == path
    merkle.verify_consistency(
        old_size=old, new_size=new, old_root=ROOTS[old], new_root=ROOTS[new], proof=path
    )


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_corrupted_inclusion_proof_is_refused(index: int, size: int, path: list[bytes]) -> None:
    good = {"leaf": LEAVES[index], "index": index, "size": size, "proof": path, "root": ROOTS[size]}
    other = hashlib.sha256(b"other").digest()
    bad: list[dict[str, object]] = [
        {"index": index - 1},
        {"index": index + 1},
        {"index": index ^ 2},
        {"index": -1 - index},
        {"size": size * 2},
        {"size": size // 2},
        {"size": 0},
        {"size": merkle.MAX_SIZE + 1},
        {"leaf": other},
        {"leaf": b"WrongLeaf"},
        {"leaf": b""},
        {"root": other},
        {"root": ROOTS[0]},
        {"root": b""},
        {"proof": [*path, b""]},
        {"proof": [*path, ROOTS[size]]},
        {"proof": [b"", *path]},
        {"proof": [ROOTS[size], *path]},
        {"algorithm": "sha3-256", "proof": [*path, other]},
    ]
    for number, node in enumerate(path):
        bad.append(
            {"proof": [*path[:number], bytes([node[0] ^ 8]) + node[1:], *path[number + 1 :]]}
        )
        bad.append({"proof": path[:number] + path[number + 1 :]})
    for change in bad:
        with pytest.raises(InvalidProofError):
            merkle.verify_inclusion(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY[1:])
def test_corrupted_consistency_proof_is_refused(old: int, new: int, path: list[bytes]) -> None:
    good = {
        "old_size": old,
        "new_size": new,
        "old_root": ROOTS[old],
        "new_root": ROOTS[new],
        "proof": path,
    }
    bad: list[dict[str, object]] = [
        {"old_size": old - 1},
        {"old_size": old + 1},
        {"old_size": old ^ 2},
        {"old_size": -old},
        {"old_size": new},
        {"new_size": new * 2},
        {"new_size": new // 2},
        {"new_size": old},
        {"new_size": merkle.MAX_SIZE + 1},
        {"old_root": b"WrongRoot"},
        {"new_root": b"WrongRoot"},
        {"old_root": ROOTS[new], "new_root": ROOTS[old]},
        {"proof": []},
        {"proof": [*path, b""]},
        {"proof": [*path, ROOTS[old]]},
        {"proof": [*path, ROOTS[new]]},
        {"proof": [b"", *path]},
        {"proof": [ROOTS[old], *path]},
    ]
    for number, node in enumerate(path):
        bad.append(
            {"proof": [*path[:number], bytes([node[0] ^ 8]) + node[1:], *path[number + 1 :]]}
        )
        bad.append({"proof": path[:number] + path[number + 1 :]})
    for change in bad:
        with pytest.raises(InvalidProofError):
            merkle.verify_consistency(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["sha256", "sha3-256"])
def test_roots_equal_pymerkle_roots_at_every_size(algorithm: str) -> None:
    tree = pymerkle.InmemoryTree(algorithm=algorithm.replace("-", "_"))
    hashes: list[bytes] = []
    for count in range(1, 70):
        entry = b"entry %d" % count
        tree.append_entry(entry)
        hashes.append(merkle.leaf_hash(entry, algorithm))
        assert merkle.root(hashes, algorithm) == tree.get_root(count)


@pytest.mark.parametrize("size", range(40))
def test_roots_equal_the_recursive_definition(size: int) -> None:
    assert merkle.root(leaves_of(size)) == reference_root(leaves_of(size))


@pytest.mark.parametrize("size", range(1, 34))
def test_every_inclusion_proof_verifies_only_at_its_own_index(size: int) -> None:
    leaves = leaves_of(size)
    top = merkle.root(leaves)
    for index in range(size):
        proof = merkle.inclusion_proof(leaves, index)
        for claimed in range(size):
            arguments = {"leaf": leaves[index], "size": size, "proof": proof, "root": top}
            if claimed == index:
                merkle.verify_inclusion(index=claimed, **arguments)  # type: ignore[arg-type]
                continue
            with pytest.raises(InvalidProofError):
                merkle.verify_inclusion(index=claimed, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("new", range(34))
def test_every_consistency_proof_verifies_and_no_other_root_does(new: int) -> None:
    leaves = leaves_of(new)
    for old in range(new + 1):
        proof = merkle.consistency_proof(leaves, old)
        roots = {"old_root": merkle.root(leaves[:old]), "new_root": merkle.root(leaves)}
        merkle.verify_consistency(old_size=old, new_size=new, proof=proof, **roots)
        for member in roots:
            forged = {**roots, member: hashlib.sha256(b"other").digest()}
            if old == 0 and new > 0 and member == "new_root":
                continue  # The empty tree is a prefix of any tree.
            with pytest.raises(InvalidProofError):
                merkle.verify_consistency(old_size=old, new_size=new, proof=proof, **forged)


@pytest.mark.parametrize(("old", "new"), [(2, 1), (8, 4), (8, 1), (-1, 4), (-4, 8)])
def test_older_tree_that_is_larger_or_of_no_size_is_refused(old: int, new: int) -> None:
    """Also with the proof and the roots of what a shrunken log would show."""
    for proof in ([], [L1], [L1, N23]):
        for old_root, new_root in ((ROOTS[new], ROOTS[new]), (ROOTS[abs(old)], ROOTS[new])):
            with pytest.raises(InvalidProofError, match="not smaller"):
                merkle.verify_consistency(
                    old_size=old, new_size=new, old_root=old_root, new_root=new_root, proof=proof
                )


@pytest.mark.parametrize("size", [-1, merkle.MAX_SIZE + 1, 2**4096])
def test_size_that_no_tree_has_is_refused_also_for_equal_trees(size: int) -> None:
    with pytest.raises(InvalidProofError, match="size"):
        merkle.verify_consistency(
            old_size=size, new_size=size, old_root=ROOTS[1], new_root=ROOTS[1], proof=[]
        )


@pytest.mark.parametrize("size", [-1, merkle.MAX_SIZE + 1, 2**4096])
def test_size_that_no_tree_has_is_refused_with_any_path(size: int) -> None:
    with pytest.raises(InvalidProofError, match="size"):
        merkle.verify_inclusion(leaf=L0, index=0, size=size, proof=[L1] * 54, root=ROOTS[8])


@pytest.mark.parametrize("node", [b"", bytes(31), bytes(33), bytes(64)])
def test_inclusion_of_what_is_no_hash_is_refused(node: bytes) -> None:
    arguments = {"leaf": L0, "index": 0, "size": 2, "proof": [L1], "root": ROOTS[2]}
    for change in ({"leaf": node}, {"root": node}, {"proof": [node]}):
        with pytest.raises(InvalidProofError, match="32 bytes"):
            merkle.verify_inclusion(**{**arguments, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 5, 8])
def test_equal_trees_and_the_empty_one_have_no_proof(size: int) -> None:
    for old in (0, size):
        check = partial(
            merkle.verify_consistency,
            old_size=old,
            new_size=size,
            old_root=ROOTS[old],
            new_root=ROOTS[size],
        )
        check(proof=[])
        with pytest.raises(InvalidProofError, match="empty"):
            check(proof=[L1])


@pytest.mark.parametrize("root", [b"", bytes(31), bytes(33), bytes(64)])
def test_consistency_of_what_is_no_hash_is_refused(root: bytes) -> None:
    arguments = {"old_size": 1, "new_size": 2, "old_root": L0, "new_root": ROOTS[2], "proof": [L1]}
    for change in (
        {"old_root": root},
        {"new_root": root},
        {"proof": [root]},
        {"new_size": 1, "old_root": root, "new_root": root, "proof": []},
    ):
        with pytest.raises(InvalidProofError, match="32 bytes"):
            merkle.verify_consistency(**{**arguments, **change})  # type: ignore[arg-type]


def test_proof_that_goes_on_above_the_top_is_refused() -> None:
    """Also where the roots were signed over a tree that is deeper than its size."""
    above = hashlib.sha256(b"above").digest()
    for index, size, path in INCLUSION:
        with pytest.raises(InvalidProofError, match="too long"):
            merkle.verify_inclusion(
                leaf=LEAVES[index],
                index=index,
                size=size,
                proof=[*path, above],
                root=merkle.node_hash(above, ROOTS[size]),
            )
    for new, path in ((7, [N45, L6, N03]), (8, [N45, N67, N03])):
        with pytest.raises(InvalidProofError, match="too long"):
            merkle.verify_consistency(
                old_size=6,
                new_size=new,
                old_root=merkle.node_hash(above, ROOTS[6]),
                new_root=merkle.node_hash(above, ROOTS[new]),
                proof=[*path, above],
            )


def test_rewritten_history_has_no_consistency_proof() -> None:
    before, after = leaves_of(11), leaves_of(20)
    after[3] = merkle.leaf_hash(b"rewritten")
    with pytest.raises(InvalidProofError):
        merkle.verify_consistency(
            old_size=11,
            new_size=20,
            old_root=merkle.root(before),
            new_root=merkle.root(after),
            proof=merkle.consistency_proof(after, 11),
        )


@PROPERTY
@given(shown_leaves())
def test_multiproof_of_any_leaves_leads_to_the_root(case: tuple[int, list[int]]) -> None:
    size, indices = case
    leaves = leaves_of(size)
    proof = merkle.multiproof(leaves, indices)
    shown = {index: leaves[index] for index in indices}
    assert folded(size, shown, proof) == merkle.root(leaves)
    assert reference_fold(size, shown, proof) == merkle.root(leaves)


def test_multiproof_of_every_subset_of_small_trees_leads_to_the_root() -> None:
    for size in range(1, 10):
        leaves = leaves_of(size)
        for subset in range(1, 1 << size):
            shown = {index: leaves[index] for index in range(size) if subset >> index & 1}
            proof = merkle.multiproof(leaves, sorted(shown))
            assert folded(size, shown, proof) == merkle.root(leaves)


def test_multiproof_of_one_leaf_holds_the_audit_path() -> None:
    for size in range(1, 40):
        leaves = leaves_of(size)
        for index in range(size):
            path = merkle.inclusion_proof(leaves, index)
            assert sorted(merkle.multiproof(leaves, [index])) == sorted(path)


def test_multiproof_lists_maximal_subtrees_left_to_right() -> None:
    assert merkle.multiproof(LEAVES, [4]) == [N03, LEAVES[5], N67]
    assert merkle.multiproof(LEAVES, [0, 5]) == [L1, N23, L4, N67]
    assert merkle.multiproof(LEAVES[:7], [1]) == [L0, N23, merkle.node_hash(N45, L6)]
    assert merkle.multiproof(LEAVES, range(8)) == []


@PROPERTY
@given(shown_leaves(), st.data())
def test_changed_dropped_added_or_swapped_node_is_refused(
    case: tuple[int, list[int]], data: st.DataObject
) -> None:
    size, indices = case
    leaves = leaves_of(size)
    top = merkle.root(leaves)
    shown = {index: leaves[index] for index in indices}
    proof = merkle.multiproof(leaves, indices)
    place = data.draw(st.integers(0, len(proof)))
    extra = data.draw(st.sampled_from([top, leaves[0], bytes(32), *proof]))
    assert folded(size, shown, [*proof[:place], extra, *proof[place:]]) is None
    if place < len(proof):
        flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        assert folded(size, shown, [*proof[:place], flipped, *proof[place + 1 :]]) != top
        assert folded(size, shown, proof[:place] + proof[place + 1 :]) is None
    if len(proof) > 1:
        assert folded(size, shown, proof[::-1]) != top


@PROPERTY
@given(shown_leaves(), st.data())
def test_moved_changed_or_left_out_leaf_is_refused(
    case: tuple[int, list[int]], data: st.DataObject
) -> None:
    size, indices = case
    leaves = leaves_of(size)
    top = merkle.root(leaves)
    shown = {index: leaves[index] for index in indices}
    proof = merkle.multiproof(leaves, indices)
    victim = data.draw(st.sampled_from(indices))
    without = {index: leaf for index, leaf in shown.items() if index != victim}
    assert folded(size, without, proof) != top
    assert folded(size, {**shown, victim: bytes(32)}, proof) != top
    elsewhere = data.draw(st.integers(-size, 2 * size).filter(lambda index: index not in shown))
    assert folded(size, {**without, elsewhere: leaves[victim]}, proof) != top
    assert folded(size, {**shown, elsewhere: leaves[victim]}, proof) != top


@PROPERTY
@given(shown_leaves(), st.integers(0, 140))
def test_another_size_is_refused_unless_it_dictates_the_same_path(
    case: tuple[int, list[int]], claimed: int
) -> None:
    size, indices = case
    leaves = leaves_of(size)
    shown = {index: leaves[index] for index in indices}
    proof = merkle.multiproof(leaves, indices)
    if claimed <= indices[-1]:
        assert folded(claimed, shown, proof) is None
    else:
        assert folded(claimed, shown, proof) == reference_fold(claimed, shown, proof)
    if len(indices) == size and claimed != size:
        assert folded(claimed, shown, proof) is None


@PROPERTY
@given(
    st.integers(1, 40),
    st.dictionaries(st.integers(0, 39), st.binary(min_size=32, max_size=32), min_size=1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=8),
)
def test_any_multiproof_folds_as_the_recursive_definition(
    size: int, shown: dict[int, bytes], proof: list[bytes]
) -> None:
    shown = {index % size: leaf for index, leaf in shown.items()}
    assert folded(size, shown, proof) == reference_fold(size, shown, proof)


@PROPERTY
@given(
    st.integers(-5, 2**70),
    st.dictionaries(st.integers(-5, 2**60), st.binary(max_size=40), max_size=5),
    st.lists(st.binary(max_size=40), max_size=5),
)
def test_any_multiproof_input_gives_a_root_or_invalid_proof(
    size: int, shown: dict[int, bytes], proof: list[bytes]
) -> None:
    result = folded(size, shown, proof)
    assert result is None or len(result) == 32


def test_multiproof_of_no_leaf_is_refused() -> None:
    with pytest.raises(InvalidProofError, match="no leaf"):
        merkle.root_from_multiproof(size=8, leaves={}, proof=[ROOTS[8]])
    with pytest.raises(InvalidProofError, match="no leaf"):
        merkle.root_from_multiproof(size=0, leaves={}, proof=[])


@pytest.mark.parametrize("node", [b"", bytes(31), bytes(33), bytes(64)])
def test_node_of_another_length_is_refused(node: bytes) -> None:
    # 31 + 33 bytes join to the same 64 as 32 + 32.
    with pytest.raises(InvalidProofError, match="32 bytes"):
        merkle.root_from_multiproof(size=2, leaves={0: bytes(32)}, proof=[node])
    with pytest.raises(InvalidProofError, match="32 bytes"):
        merkle.root_from_multiproof(size=2, leaves={0: node}, proof=[bytes(32)])


def test_inner_node_cannot_pose_as_a_leaf() -> None:
    assert merkle.root([merkle.leaf_hash(N03 + N47)]) != ROOTS[8]
    assert merkle.root([N03, N47]) == ROOTS[8]
    # The same root at another size: why size must come from signed data.
    with pytest.raises(InvalidProofError):
        merkle.verify_inclusion(leaf=N03, index=0, size=8, proof=[N47], root=ROOTS[8])


def test_hostile_size_costs_no_more_than_its_path() -> None:
    proof = [bytes(32)] * 53
    result = merkle.root_from_multiproof(size=merkle.MAX_SIZE, leaves={0: bytes(32)}, proof=proof)
    assert len(result) == 32
    with pytest.raises(InvalidProofError, match="too few"):
        merkle.root_from_multiproof(size=merkle.MAX_SIZE, leaves={2**52: bytes(32)}, proof=[])
    with pytest.raises(InvalidProofError, match="size"):
        merkle.root_from_multiproof(size=2**4096, leaves={2**4095: bytes(32)}, proof=[])


@pytest.mark.parametrize("size", range(1, 18))
def test_tree_that_is_kept_proves_as_one_that_is_not(size: int) -> None:
    leaves = leaves_of(size)
    tree = merkle.Tree(leaves)
    assert tree.root() == merkle.root(leaves)
    for indices in ([0], [size - 1], [size // 2], [*range(0, size, 3)], [*range(size)]):
        assert tree.multiproof(indices) == merkle.multiproof(leaves, indices)


def test_multiproof_with_a_node_too_many_or_a_leaf_outside_is_refused() -> None:
    good = merkle.multiproof(LEAVES, [2])
    for leaves, proof, what in (
        ({2: LEAVES[2]}, [*good, L0], "too many"),
        ({-1: L0, 2: LEAVES[2]}, good, "outside"),
        ({2: LEAVES[2], 8: L0}, good, "outside"),
        ({8: L0}, [ROOTS[8]], "outside"),
        ({-1: L0}, [], "outside"),
    ):
        with pytest.raises(InvalidProofError, match=what):
            merkle.root_from_multiproof(size=8, leaves=leaves, proof=proof)


def test_tree_of_nothing_has_no_root_to_keep() -> None:
    with pytest.raises(UsageError):
        merkle.Tree([]).root()


@pytest.mark.parametrize("indices", [[], [3, 2], [2, 2], [-1], [8]])
def test_prover_cannot_ask_for_unordered_or_absent_leaves(indices: list[int]) -> None:
    with pytest.raises(UsageError):
        merkle.multiproof(LEAVES, indices)


def test_proofs_of_absent_leaves_and_sizes_are_usage_errors() -> None:
    for index in (-1, 8):
        with pytest.raises(UsageError):
            merkle.inclusion_proof(LEAVES, index)
    for size in (-1, 9):
        with pytest.raises(UsageError):
            merkle.consistency_proof(LEAVES, size)


def test_unknown_algorithm_is_untrusted() -> None:
    with pytest.raises(UntrustedError):
        merkle.root_from_multiproof(size=1, leaves={0: bytes(32)}, proof=[], algorithm="md5")


def test_sha3_tree_verifies_under_sha3_alone() -> None:
    leaves = leaves_of(7, "sha3-256")
    top = merkle.root(leaves, "sha3-256")
    proof = merkle.inclusion_proof(leaves, 4, "sha3-256")
    merkle.verify_inclusion(
        leaf=leaves[4], index=4, size=7, proof=proof, root=top, algorithm="sha3-256"
    )
    with pytest.raises(InvalidProofError):
        merkle.verify_inclusion(leaf=leaves[4], index=4, size=7, proof=proof, root=top)
