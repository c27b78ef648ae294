"""The log's tree in files: which hash stands where, and what a pile of tiles from anybody is worth (P8.2).

A log is served as static files, which any mirror may hand out: tiles of up to 256 hashes, and bundles of the entries below them.  Whoever
hands them out can only withhold them.  :class:`Tree` returns no hash that does not lead up to the root which it was opened for.

Paths and layout: https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.merkle import HASH_SIZE

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes in a full tile."""

MOST_TILE = WIDTH * HASH_SIZE
"""Bytes of a tile."""

MOST_SIZE = 2**53 - 1
"""Leaves of a log: as large as the largest number that every reader understands alike."""

_PATH = re.compile(r"tile/(?:entries|[0-6])/(?:x[0-9]{3}/){0,5}[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?")


@dataclass(frozen=True, slots=True)
class Tile:
    """`width` hashes of the tree: number `index` * 256 and up of those at height `level` * 8."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it is served below the log's address."""
        return f"tile/{self.level}/{_spelt(self.index)}{_part(self.width)}"

    @property
    def entries_path(self) -> str:
        """Where the entries below it are served, if it is of level 0."""
        return f"tile/entries/{_spelt(self.index)}{_part(self.width)}"

    @property
    def full(self) -> Tile:
        """The full tile that this one is the beginning of."""
        return Tile(self.level, self.index)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.width * HASH_SIZE

    def hashes(self, data: bytes) -> list[bytes]:
        """The hashes in it.  Raises DecodeError unless `data` has its size."""
        if len(data) != self.size:
            raise DecodeError("P8.2", self.path, f"{len(data)} bytes, not {self.size}")
        return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def is_path(path: str) -> bool:
    """Could `path` be that of a tile or a bundle of entries?  Then it is also safe to look for below a folder."""
    return _PATH.fullmatch(path) is not None


def _spelt(index: int) -> str:
    """`index` in groups of three digits, all but the last behind an x: 1234067 is x001/x234/067."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def _part(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"


def edge(size: int) -> list[Tile]:
    """The tiles at the right edge of a tree of `size` leaves that are not full; they alone determine its root."""
    tiles = []
    for level in range(MOST_SIZE.bit_length() // HEIGHT + 1):
        count = size >> level * HEIGHT
        if count % WIDTH:
            tiles.append(Tile(level, count // WIDTH, count % WIDTH))
    return tiles


def grown(old: int, size: int) -> Iterator[Tile]:
    """The tiles that a tree of `size` leaves has and one of `old` leaves has not; lower levels first, from left to right."""
    level = 0
    while size >> level * HEIGHT:
        before, count = old >> level * HEIGHT, size >> level * HEIGHT
        for index in range(before // WIDTH, -(-count // WIDTH)):
            tile = Tile(level, index, min(WIDTH, count - index * WIDTH))
            if index * WIDTH + tile.width > before:
                yield tile
        level += 1


def pack(entries: Iterable[bytes]) -> bytes:
    """A bundle of entries: each behind its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


Read = Callable[[Tile], bytes]
"""Brings the bytes of a tile, from anywhere.  May raise what it likes, which is passed on."""


Levels = list[list[bytes]]
"""The hashes of a tile, and of the complete subtrees within it, level by level."""


def root_of(size: int, read: Read) -> bytes:
    """The root that the tiles at the right edge of a tree of `size` leaves lead to, whoever made them.  Raises DecodeError."""
    return _root(size, _read_edge(size, read))


class Tree:
    """The tree of `size` leaves below `root`.  What `read` brings is believed only as far as it leads up to that root."""

    def __init__(self, size: int, root: bytes, read: Read) -> None:
        """Reads the right edge.  Raises RefusedError (P8.6) if it does not lead to `root`, and DecodeError."""
        self.size = size
        self._read = read
        self._levels = _read_edge(size, read)
        if _root(size, self._levels) != root:
            raise RefusedError("P8.6", f"log of {size} leaves", "its tiles do not lead to the root that was signed")

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree that lies within the tree: see :data:`~portage_p2pbin.kernel.merkle.Nodes`.

        Raises RefusedError (P8.6) if the tile that holds it does not lead to the root, and DecodeError.
        """
        at = level // HEIGHT, index >> HEIGHT - level % HEIGHT
        if at not in self._levels:
            self._levels[at] = self._read_full(Tile(*at))
        return _within(self._levels[at], level, index)

    def _read_full(self, tile: Tile) -> Levels:
        """A full tile, whose own root stands in the tile above, or at the edge."""
        levels = _levels(tile, self._read(tile))
        if levels[HEIGHT][0] != self.node((tile.level + 1) * HEIGHT, tile.index):
            raise RefusedError("P8.6", tile.path, "it does not belong to the log whose root was signed")
        return levels


def _read_edge(size: int, read: Read) -> dict[tuple[int, int], Levels]:
    return {(tile.level, tile.index): _levels(tile, read(tile)) for tile in edge(size)}


def _root(size: int, levels: dict[tuple[int, int], Levels]) -> bytes:
    return merkle.root(size, lambda level, index: _within(levels[level // HEIGHT, index >> HEIGHT - level % HEIGHT], level, index))


def _levels(tile: Tile, data: bytes) -> Levels:
    return merkle.levels_above(tile.hashes(data))


def _within(levels: Levels, level: int, index: int) -> bytes:
    """The hash of a subtree out of the tile that holds it."""
    within = level % HEIGHT
    return levels[within][index & (1 << HEIGHT - within) - 1]
