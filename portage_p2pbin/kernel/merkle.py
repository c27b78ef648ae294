"""The hash tree of the log: which leaves are in it, and that it only ever grew (P8.2).

Whoever runs the log chooses leaves and hashes.  What it cannot do, short of breaking SHA-256, is to make a proof for a leaf that is not in
the tree of a given root, or to make one tree look like the beginning of another that it is not.

Tree hashes and proofs are those of RFC 6962, section 2.1; they are checked as RFC 9162, sections 2.1.3.2 and 2.1.4.2, describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from portage_p2pbin.kernel.errors import RefusedError

HASH_SIZE = 32
"""Bytes of one hash."""

Nodes = Callable[[int, int], bytes]
"""`nodes(level, index)`: the hash of the complete subtree of the 2**level leaves from number `index` * 2**level on."""

EMPTY = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of the leaf that holds `entry`."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, nodes: Nodes) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return _range_hash(0, size, nodes) if size else EMPTY


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The hashes beside the way from leaf `index` to the root of the first `size` leaves, lowest first.  `index` is below `size`."""
    proof: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_range_hash(middle, stop, nodes))
            stop = middle
        else:
            proof.append(_range_hash(start, middle, nodes))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, nodes: Nodes) -> list[bytes]:
    """What shows that the first `old` of `size` leaves are the whole older tree.  0 < `old` <= `size`.

    Empty if they are equal.
    """
    path = consistency_path(old, size, nodes)
    return path[1:] if old == size or _starts_with_old_root(old) else path


def consistency_path(old: int, size: int, nodes: Nodes) -> list[bytes]:
    """Like :func:`consistency_proof`, but never without its first hash, so that :func:`roots_of_path` needs nothing else."""
    proof: list[bytes] = []
    start, stop = 0, size
    while old < stop:
        middle = start + _split(stop - start)
        if old <= middle:
            proof.append(_range_hash(middle, stop, nodes))
            stop = middle
        else:
            proof.append(_range_hash(start, middle, nodes))
            start = middle
    return [_range_hash(start, stop, nodes), *reversed(proof)]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> None:
    """Refuse (P8.7) unless `proof` shows that `leaf` is leaf number `index` of the tree of `size` leaves whose root is `expected`."""
    if not 0 <= index < size:
        raise RefusedError("P8.7", f"leaf {index}", f"the tree has {size} leaves")
    found, place, last = leaf, index, size - 1
    for hash_ in proof:
        if last == 0:
            raise RefusedError("P8.7", f"leaf {index}", "its proof is too long")
        if place & 1 or place == last:
            found = node_hash(hash_, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, hash_)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise RefusedError("P8.7", f"leaf {index}", "its proof is too short")
    if found != expected:
        raise RefusedError("P8.7", f"leaf {index}", "it is not in the log at this place")


def check_consistency(old: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Refuse (P8.6) unless `proof` shows that the tree of `old` leaves is how the one of `size` leaves began."""
    what = f"log of {size} leaves"
    if not 0 <= old <= size:
        raise RefusedError("P8.6", what, f"it is smaller than the one of {old} leaves")
    if old in (0, size):
        if proof or old_root != (EMPTY if old == 0 else new_root):
            raise RefusedError("P8.6", what, f"it is not how the one of {old} leaves goes on")
        return
    path = [old_root, *proof] if _starts_with_old_root(old) else proof
    if roots_of_path(old, size, path) != (old_root, new_root):
        raise RefusedError("P8.6", what, f"it is not how the one of {old} leaves goes on")


def roots_of_path(old: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of the first `old` and of all `size` leaves that `path` leads to, 0 < `old` < `size`.

    Raises RefusedError (P8.6) if a path between these sizes has another length.
    """
    what = f"path from {old} to {size} leaves"
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    if not path:
        raise RefusedError("P8.6", what, "it is empty")
    old_root = new_root = path[0]
    for hash_ in path[1:]:
        if last == 0:
            raise RefusedError("P8.6", what, "it is too long")
        if place & 1 or place == last:
            old_root, new_root = node_hash(hash_, old_root), node_hash(hash_, new_root)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new_root = node_hash(new_root, hash_)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise RefusedError("P8.6", what, "it is too short")
    return old_root, new_root


def levels_above(hashes: Iterable[bytes]) -> list[list[bytes]]:
    """The given hashes and, above them, the hashes of all complete subtrees over them, level by level."""
    levels = [list(hashes)]
    while len(levels[-1]) > 1:
        levels.append(list(_pairs(levels[-1])))
    return levels


def _pairs(level: Sequence[bytes]) -> Iterator[bytes]:
    return (node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2))


def _range_hash(start: int, stop: int, nodes: Nodes) -> bytes:
    """The root over leaves `start` to `stop`; `start` is a multiple of the largest power of two that fits between them."""
    count = stop - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_hash(start, middle, nodes), _range_hash(middle, stop, nodes))


def _split(count: int) -> int:
    """The largest power of two smaller than `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _starts_with_old_root(old: int) -> bool:
    """Is the older tree one complete subtree?  Then a proof leaves its root out, since the reader has it."""
    return old & (old - 1) == 0
