"""The layout of the log's files, and that tiles from anybody are worth what the signed root makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portage_p2pbin.kernel import merkle, tiles
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.tiles import WIDTH, Tile, Tree

LEAVES = [merkle.leaf_hash(f"entry {number}".encode()) for number in range(2 * WIDTH * WIDTH + 3 * WIDTH + 5)]
LEVELS = merkle.levels_above(LEAVES)


def nodes(level, index):
    return LEVELS[level][index]


def read(tile):
    start = tile.index * WIDTH
    return b"".join(LEVELS[tile.level * 8][start : start + tile.width])


def tree(size, reader=read):
    return Tree(size, merkle.root(size, nodes), reader)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(2, 1000), "tile/2/x001/000"),
        (Tile(1, 7, 3), "tile/1/007.p/3"),
    ],
)
def test_paths_are_those_of_the_specification(tile, path):
    assert tile.path == path
    assert tiles.is_path(path)


def test_entries_stand_beside_the_tiles():
    assert Tile(0, 1001, 12).entries_path == "tile/entries/x001/001.p/12"
    assert tiles.is_path(Tile(0, 1001, 12).entries_path)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/../../x",
        "tile/0/x001/x234/",
        "tile/0/1",
        "tile/7/000",
        "tile/0/000.p/0",
        "tile/0/000\n",
        "/tile/0/000",
        "tile/0/٠٠٠",
        "tile//000",
    ],
)
def test_no_other_path_is_one(path):
    assert not tiles.is_path(path)


def test_the_example_of_the_specification():
    """A tree of 70,000: 273 full tiles and one of 112, one full tile and one of 17 above, one of 1 at the top."""
    found = list(tiles.grown(0, 70_000))
    assert [sum(tile.level == level and tile.width == WIDTH for tile in found) for level in (0, 1, 2)] == [273, 1, 0]
    partial = [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [tile for tile in found if tile.width < WIDTH] == partial == tiles.edge(70_000)
    assert list(tiles.grown(0, WIDTH)) == [Tile(0, 0), Tile(1, 0, 1)]


@given(st.integers(0, 70_000), st.integers(0, 3000))
def test_growing_in_steps_makes_every_full_tile_once(old, more):
    middle = old + more // 2
    stepwise = [*tiles.grown(0, old), *tiles.grown(old, middle), *tiles.grown(middle, old + more)]
    full = [tile for tile in stepwise if tile.width == WIDTH]
    assert sorted(full, key=repr) == sorted((tile for tile in tiles.grown(0, old + more) if tile.width == WIDTH), key=repr)


def test_entries_are_packed_behind_their_lengths():
    assert tiles.pack([b"ab", b"", b"c" * 300]) == b"\0\x02ab\0\0\x01\x2c" + b"c" * 300


sizes = st.one_of(st.integers(1, len(LEAVES)), st.sampled_from([1, 255, 256, 257, 65535, 65536, 65537, 131072]))


@given(sizes, st.data())
def test_proofs_from_tiles_are_those_of_the_whole_tree(size, data):
    found = tree(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, found.node)
    assert proof == merkle.inclusion_proof(index, size, nodes)
    assert found.node(0, index) == LEAVES[index]
    old = data.draw(st.integers(1, size))
    assert merkle.root(old, found.node) == merkle.root(old, nodes)


def test_the_empty_tree_has_no_tiles():
    Tree(0, merkle.EMPTY, read)
    with pytest.raises(RefusedError, match="do not lead to the root"):
        Tree(0, bytes(32), read)


def spoilt(at):
    """A reader who changes one hash of one tile."""

    def reader(tile):
        data = read(tile)
        return bytes(32) + data[32:] if (tile.level, tile.index) == at else data

    return reader


@pytest.mark.parametrize("tile", tiles.edge(len(LEAVES)), ids=str)
def test_no_tile_of_the_edge_can_be_changed(tile):
    with pytest.raises(RefusedError, match=r"P8\.6.*do not lead to the root"):
        tree(len(LEAVES), spoilt((tile.level, tile.index)))


def test_no_full_tile_can_be_changed():
    for at in ((0, 3), (1, 0)):
        found = tree(len(LEAVES), spoilt(at))
        with pytest.raises(RefusedError, match=rf"P8\.6|tile/{at[0]}"):
            found.node(0, 3 * WIDTH + 7)
    # Another place is not hurt by it.
    assert tree(len(LEAVES), spoilt((0, 3))).node(0, 5 * WIDTH) == LEAVES[5 * WIDTH]


@pytest.mark.parametrize("length", [0, 31, 33, tiles.MOST_TILE + 32])
def test_a_tile_has_its_size(length):
    with pytest.raises(DecodeError, match="bytes, not 8192"):
        Tile(0, 0).hashes(bytes(length))
