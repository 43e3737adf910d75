"""Tiles: paths both ways, what each size has, growth from any size, proofs read from them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import MalformedError, UsageError
from attestation.log.tileproof import (
    TileReader,
    consistency_tiles,
    inclusion_tiles,
    root_tiles,
)
from attestation.log.tiles import (
    MAX_LEVEL,
    Tile,
    TileBuilder,
    TileNodes,
    edge_of,
    parse_path,
    tile_at,
    tiles_of,
)
from attestation.log.tree import Frontier
from tests.attestation.test_merkle import ENTRIES, ROOTS
from tests.log.keys import leaves

LEAVES = leaves(70_000)


def grown(steps: Sequence[int]) -> tuple[TileBuilder, dict[Tile, bytes]]:
    """A log that grew by these steps, and every tile it ever cut."""
    builder, store = TileBuilder(), {}
    for step in steps:
        builder.append(LEAVES[builder.size : builder.size + step])
        store |= builder.take()
    return builder, store


def test_paths_of_the_specification() -> None:
    assert Tile(0, 1_234_067).path() == "tile/0/x001/x234/067"
    assert Tile(2, 0).path() == "tile/2/000"
    assert Tile(0, 1_000, 3).path() == "tile/0/x001/000.p/3"
    assert Tile(0, 273, 112).entries_path() == "tile/entries/273.p/112"
    assert parse_path("tile/entries/x001/x234/067") == (Tile(0, 1_234_067), True)


def test_tiles_of_the_specifications_example_sizes() -> None:
    # c2sp.org/tlog-tiles: 70,000 entries, and 256.
    found = list(tiles_of(70_000))
    assert found == [
        *(Tile(0, index) for index in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []
    assert edge_of(70_000) == (Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1))


@given(
    st.integers(0, MAX_LEVEL),
    st.integers(0, 2**45),
    st.integers(1, 256),
    st.booleans(),
)
def test_path_is_read_back(level: int, index: int, width: int, entries: bool) -> None:
    tile = Tile(0 if entries else level, index, width)
    path = tile.entries_path() if entries else tile.path()
    assert parse_path(path) == (tile, entries)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x000/001",
        "tile/0/x001/x000",
        "tile/0/x001/000/",
        "/tile/0/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000\n",
        "tile/8/0/000",
        "tile/data/000",
        "tile/entries/../000",
        "tile/0/\N{ARABIC-INDIC DIGIT ONE}00",
        "tile/0/" + "x001/" * 6 + "000",
    ],
)
def test_any_other_path_is_malformed(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_path(path)


@given(st.text(alphabet="tile/entrisdx0123456789.p\n", max_size=30))
def test_any_text_is_a_path_or_malformed(text: str) -> None:
    try:
        tile, entries = parse_path(text)
    except MalformedError:
        return
    assert (tile.entries_path() if entries else tile.path()) == text


def test_roots_are_the_published_ones() -> None:
    builder, frontier = TileBuilder(), Frontier()
    for entry, before, after in zip(ENTRIES, ROOTS, ROOTS[1:], strict=False):
        assert builder.root() == frontier.root() == before
        builder.append([merkle.leaf_hash(entry)])
        frontier.append(merkle.leaf_hash(entry))
        assert builder.root() == frontier.root() == after


@given(st.lists(st.sampled_from([0, 1, 2, 3, 7, 100, 255, 256, 257, 511, 513]), max_size=8))
def test_log_that_grows_in_any_steps_cuts_the_tiles_of_each_size(steps: list[int]) -> None:
    builder = TileBuilder()
    store: dict[Tile, bytes] = {}
    for step in steps:
        old = builder.size
        builder.append(LEAVES[old : old + step])
        fresh = builder.take()
        assert sorted(fresh) == sorted(tiles_of(builder.size, old))
        store |= fresh
        assert builder.root() == merkle.root(LEAVES[: builder.size])
        # A restart goes on from what is stored.
        builder = TileBuilder(builder.size, {tile: store[tile] for tile in edge_of(builder.size)})
    assert store.keys() >= set(tiles_of(builder.size))
    frontier = Frontier()
    frontier.extend(LEAVES[: builder.size])
    assert builder.root() == frontier.root()


def test_tiles_are_alike_whatever_the_steps() -> None:
    _, slow = grown([1] * 700)
    _, fast = grown([700])
    assert {tile: slow[tile] for tile in fast} == fast
    assert all(len(data) == 32 * tile.width for tile, data in slow.items())


@given(st.integers(1, 1_500), st.data())
def test_proofs_from_tiles_are_those_of_the_whole_tree(size: int, data: st.DataObject) -> None:
    _, store = grown([size])
    reader = TileReader(store.__getitem__, capacity=2)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    assert reader.root(size) == merkle.root(LEAVES[:size])
    assert reader.inclusion_proof(index, size) == merkle.inclusion_proof(LEAVES[:size], index)
    assert reader.consistency_proof(old, size) == merkle.consistency_proof(LEAVES[:size], old)


@given(st.integers(1, 1_500), st.data())
def test_proofs_are_read_from_the_tiles_that_are_named(size: int, data: st.DataObject) -> None:
    _, store = grown([size])
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    for tiles, prove in (
        (inclusion_tiles(index, size), lambda reader: reader.inclusion_proof(index, size)),
        (consistency_tiles(old, size), lambda reader: reader.consistency_proof(old, size)),
        (root_tiles(size), lambda reader: reader.root(size)),
    ):
        prove(TileReader({tile: store[tile] for tile in tiles}.__getitem__))
        # Each of them is needed.
        for missing in tiles:
            few = {tile: store[tile] for tile in tiles if tile != missing}
            with pytest.raises(KeyError):
                prove(TileReader(few.__getitem__))


def test_proofs_in_a_tree_of_three_levels() -> None:
    size = 70_000
    builder, store = grown([65_000, 5_000])
    reader = TileReader(store.__getitem__)
    assert reader.root(size) == builder.root() == merkle.root(LEAVES)
    for index in (0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999):
        proof = reader.inclusion_proof(index, size)
        merkle.verify_inclusion(
            leaf=LEAVES[index], index=index, size=size, proof=proof, root=builder.root()
        )
    for old in (1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, 70_000):
        merkle.verify_consistency(
            old_size=old,
            new_size=size,
            old_root=merkle.root(LEAVES[:old]),
            new_root=builder.root(),
            proof=reader.consistency_proof(old, size),
        )


def test_frontier_of_every_older_tree_is_read_from_the_tiles() -> None:
    size = 1_500
    _, store = grown([size])
    reader = TileReader(store.__getitem__)
    frontier = Frontier()
    for old in range(size + 1):
        if old % 97 == 0 or old in (1, 255, 256, 257, size):
            assert tuple(reader.frontier(old, size)) == frontier.nodes
        if old < size:
            frontier.append(LEAVES[old])
    with pytest.raises(UsageError):
        reader.frontier(size + 1, size)


def test_flipped_bit_in_a_tile_is_in_no_valid_proof() -> None:
    size, index = 1_000, 700
    builder, store = grown([size])
    for tile in inclusion_tiles(index, size):
        # The leaf itself is the reader's own; every other hash of the path counts.
        for at in range(0, len(store[tile]), 32):
            data = bytearray(store[tile])
            data[at] ^= 1
            proof = TileReader((store | {tile: bytes(data)}).__getitem__).inclusion_proof(
                index, size
            )
            if proof != merkle.inclusion_proof(LEAVES[:size], index):
                with pytest.raises(merkle.InvalidProofError):
                    merkle.verify_inclusion(
                        leaf=LEAVES[index],
                        index=index,
                        size=size,
                        proof=proof,
                        root=builder.root(),
                    )


def test_tile_of_another_length_is_malformed() -> None:
    _, store = grown([300])
    for data in (b"", store[Tile(0, 0)][:-1], store[Tile(0, 0)] + bytes(32)):
        with pytest.raises(MalformedError):
            TileReader(lambda tile, data=data: data).inclusion_proof(5, 300)
    with pytest.raises(MalformedError):
        TileBuilder(300, {})
    with pytest.raises(MalformedError):
        TileNodes(Tile(0, 0, 2), bytes(96))


def test_what_the_tree_does_not_have_is_the_callers_mistake() -> None:
    for ask in (
        lambda: tile_at(0, 1, 256),
        lambda: tile_at(1, 0, 255),
        lambda: tile_at(0, -1, 255),
        lambda: list(tiles_of(3, 4)),
        lambda: Tile(1, 0).entries_path(),
        lambda: inclusion_tiles(5, 5),
        lambda: inclusion_tiles(-1, 5),
        lambda: consistency_tiles(6, 5),
    ):
        with pytest.raises(UsageError):
            ask()


def test_frontier_goes_on_from_its_nodes_and_takes_no_others() -> None:
    frontier = Frontier()
    frontier.extend(LEAVES[:1_000])
    again = Frontier(frontier.size, frontier.nodes)
    copy = frontier.copy()
    for one in (frontier, again, copy):
        one.extend(LEAVES[1_000:1_234])
        assert one.root() == merkle.root(LEAVES[:1_234])
    for size, nodes in ((1, ()), (0, [bytes(32)]), (3, [bytes(32)]), (2, [b""]), (-1, ())):
        with pytest.raises(MalformedError):
            Frontier(size, nodes)
