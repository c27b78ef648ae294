"""The tree hashes, compared with pymerkle's, which somebody else wrote from the same RFC."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.errors import RefusedError

MOST = 70
ENTRIES = [f"entry {number}".encode() for number in range(MOST)]
LEVELS = merkle.levels_above(map(merkle.leaf_hash, ENTRIES))
ORACLE = InmemoryTree.init_from_entries(ENTRIES, algorithm="sha256")

sizes = st.integers(1, MOST)
pairs = st.tuples(sizes, sizes).map(sorted)
places = sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


def nodes(level, index):
    return LEVELS[level][index]


def root(size):
    return merkle.root(size, nodes)


def test_the_hashes_of_rfc_6962():
    assert merkle.EMPTY == hashlib.sha256(b"").digest() == merkle.root(0, nodes)
    assert merkle.leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    left, right = merkle.leaf_hash(b""), merkle.leaf_hash(b"\x00")
    assert merkle.node_hash(left, right).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_roots_are_those_of_the_oracle(size):
    assert root(size) == ORACLE.get_root(size)


@given(places)
def test_inclusion_proofs_are_those_of_the_oracle(place):
    index, size = place
    theirs = ORACLE.prove_inclusion(index + 1, size)
    ours = merkle.inclusion_proof(index, size, nodes)
    assert ours == theirs.path[1:]
    merkle.check_inclusion(merkle.leaf_hash(ENTRIES[index]), index, size, ours, ORACLE.get_root(size))


@given(pairs)
def test_consistency_proofs_lead_to_the_roots_of_the_oracle(pair):
    old, size = pair
    ours = merkle.consistency_proof(old, size, nodes)
    merkle.check_consistency(old, ORACLE.get_root(old), size, ORACLE.get_root(size), ours)
    if old < size:
        assert merkle.roots_of_path(old, size, merkle.consistency_path(old, size, nodes)) == (root(old), root(size))


def test_every_pair_of_sizes_has_a_proof():
    for size in range(1, MOST + 1):
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, nodes) if old else []
            merkle.check_consistency(old, root(old), size, root(size), proof)


def changed(proof, at):
    return [*proof[:at], bytes(32), *proof[at + 1 :]]


@given(places.filter(lambda place: place[1] > 1), st.data())
def test_a_changed_inclusion_proof_is_refused(place, data):
    index, size = place
    proof = merkle.inclusion_proof(index, size, nodes)
    leaf = merkle.leaf_hash(ENTRIES[index])
    at = data.draw(st.integers(0, len(proof) - 1))
    with pytest.raises(RefusedError, match=r"P8\.7.*not in the log at this place"):
        merkle.check_inclusion(leaf, index, size, changed(proof, at), root(size))
    with pytest.raises(RefusedError, match=r"P8\.7"):
        merkle.check_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root(size))


def test_an_inclusion_proof_of_another_length_is_refused():
    leaf = merkle.leaf_hash(ENTRIES[0])
    with pytest.raises(RefusedError, match="too long"):
        merkle.check_inclusion(leaf, 0, 1, [bytes(32)], root(1))
    # One leaf short of a proof, with the root that this would lead to.
    with pytest.raises(RefusedError, match="too short"):
        merkle.check_inclusion(leaf, 0, 2, [], leaf)


@pytest.mark.parametrize("index", [-1, 5])
def test_a_leaf_outside_the_tree_is_refused(index):
    with pytest.raises(RefusedError, match="the tree has 5 leaves"):
        merkle.check_inclusion(root(5), index, 5, [], root(5))


def test_a_leaf_is_not_a_node():
    """RFC 6962 puts another byte before each, or two leaves could pass for one."""
    entry = merkle.leaf_hash(ENTRIES[0]) + merkle.leaf_hash(ENTRIES[1])
    with pytest.raises(RefusedError, match="not in the log"):
        merkle.check_inclusion(merkle.leaf_hash(entry), 0, 1, [], root(2))


@given(pairs.filter(lambda pair: pair[0] < pair[1]), st.data())
def test_a_changed_consistency_proof_is_refused(pair, data):
    old, size = pair
    proof = merkle.consistency_proof(old, size, nodes)
    at = data.draw(st.integers(0, len(proof) - 1))
    for wrong in (changed(proof, at), proof[:at] + proof[at + 1 :], [*proof, bytes(32)]):
        with pytest.raises(RefusedError, match=r"P8\.6"):
            merkle.check_consistency(old, root(old), size, root(size), wrong)


@given(pairs.filter(lambda pair: pair[0] < pair[1]))
def test_an_older_tree_with_another_leaf_is_not_how_this_one_began(pair):
    old, size = pair
    other = merkle.levels_above(map(merkle.leaf_hash, [*ENTRIES[: old - 1], b"another"]))
    old_root = merkle.root(old, lambda level, index: other[level][index])
    with pytest.raises(RefusedError, match="not how the one"):
        merkle.check_consistency(old, old_root, size, root(size), merkle.consistency_proof(old, size, nodes))


def test_equal_sizes_need_equal_roots_and_no_proof():
    merkle.check_consistency(7, root(7), 7, root(7), [])
    with pytest.raises(RefusedError, match="not how the one"):
        merkle.check_consistency(7, root(6), 7, root(7), [])
    with pytest.raises(RefusedError, match="not how the one"):
        merkle.check_consistency(7, root(7), 7, root(7), [bytes(32)])


def test_the_empty_tree_begins_every_other():
    merkle.check_consistency(0, merkle.EMPTY, 7, root(7), [])
    with pytest.raises(RefusedError, match="not how the one"):
        merkle.check_consistency(0, root(1), 7, root(7), [])


def test_a_tree_never_shrinks():
    with pytest.raises(RefusedError, match="it is smaller than"):
        merkle.check_consistency(7, root(7), 6, root(6), [])


@pytest.mark.parametrize(("path", "reason"), [([], "empty"), ([bytes(32)] * 9, "too long"), ([bytes(32)], "too short")])
def test_a_path_of_another_length_is_refused(path, reason):
    with pytest.raises(RefusedError, match=reason):
        merkle.roots_of_path(3, 7, path)
