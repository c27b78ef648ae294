"""The one torrent that a package file has: version 1, one file, everything about it fixed but its name and bytes (P10.4).

Whoever sends a torrent chooses every byte of it.  There is exactly one spelling for a given file and name, so that everybody
computes the same info-hash, and the reader accepts that spelling only: no trackers, web seeds, extra keys, other piece sizes or
second files ever reach libtorrent from outside.

Formats: BEP 3 (https://www.bittorrent.org/beps/bep_0003.html), version 1 because aria2 and transmission 3 read nothing newer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.index import MOST_FILE
from portage_p2pbin.kernel.model import InfoHash, Token

LEAST_PIECE = 16 * 1024
"""Bytes: one block, the smallest that peers ask each other for.  Smaller pieces cannot be traded sooner."""

PIECES = 512
"""Pieces that a large file is cut into, at least.  32 for each of 16 peers keep all of them trading (measured)."""

MOST_TORRENT = 64 * 1024
"""Bytes of a torrent: at most 2 * PIECES hashes of 20 bytes, and some hundred bytes round them."""

_HEAD = re.compile(
    rb"d4:infod6:lengthi([1-9][0-9]{0,13})e4:name[1-9][0-9]{0,2}:([ -~]{1,200})12:piece lengthi[0-9]{5,9}e6:pieces[0-9]{2,5}:"
)
"""What stands before the hashes.  Whether its numbers are right is found out by writing the torrent again."""


class FileName(Token):
    """The name of a package file inside its torrent: one path component that begins with a letter or digit."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,199}")


def piece_size(size: int) -> int:
    """Bytes of each piece but the last of a file of `size` bytes: the power of two that makes 512 to 1023 pieces, or 16 KiB."""
    return max(LEAST_PIECE, 1 << (size // PIECES).bit_length() - 1) if size >= PIECES else LEAST_PIECE


@dataclass(frozen=True)
class Torrent:
    """Name, size in bytes, and the SHA-1 of each piece, 20 bytes each in order."""

    name: FileName
    size: int
    pieces: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MOST_FILE:
            raise DecodeError("P9.5", f"torrent of {self.name}", f"{self.size} bytes; between 1 and {MOST_FILE} are allowed")
        if len(self.pieces) != 20 * -(-self.size // piece_size(self.size)):
            raise DecodeError("P9.5", f"torrent of {self.name}", "the number of pieces does not belong to the size")

    @cached_property
    def data(self) -> bytes:
        """The .torrent file."""
        return b"d4:info" + self._info + b"e"

    @cached_property
    def info_hash(self) -> InfoHash:
        """SHA-1 of the info dictionary: the torrent's name in the swarm."""
        return InfoHash(hashlib.sha1(self._info, usedforsecurity=False).hexdigest())

    @property
    def _info(self) -> bytes:
        name = self.name.encode("ascii")
        head = b"d6:lengthi%de4:name%d:%b12:piece lengthi%de6:pieces%d:" % (
            self.size, len(name), name, piece_size(self.size), len(self.pieces),
        )  # fmt: skip
        return head + self.pieces + b"e"

    def expect(self, info_hash: InfoHash, name: str, size: int) -> None:
        """Refuse (P9.5) unless this is the torrent that was listed."""
        for what, listed, found in (("info-hash", info_hash, self.info_hash), ("name", name, self.name), ("size", size, self.size)):
            if listed != found:
                raise RefusedError("P9.5", f"torrent of {name}", f"its {what} is {found}, but {listed} is listed")


def make_torrent(name: str, pieces: Iterable[bytes]) -> Torrent:
    """The torrent of a file whose bytes come as `pieces` of :func:`piece_size` bytes, the last one shorter."""
    size = 0
    hashes = []
    for piece in pieces:
        size += len(piece)
        hashes.append(hashlib.sha1(piece, usedforsecurity=False).digest())
    return Torrent(FileName(name), size, b"".join(hashes))


def read_torrent(data: bytes) -> Torrent:
    """Read the .torrent file `data`.

    Raises DecodeError (P9.5) for everything but the one spelling that :attr:`Torrent.data` has.  Not checked: whether it is the
    torrent of any package; see :meth:`Torrent.expect`.
    """
    if len(data) > MOST_TORRENT:
        raise DecodeError("P9.5", "torrent", f"{len(data)} bytes, more than the {MOST_TORRENT} allowed")
    head = _HEAD.match(data)
    if head is None:
        raise DecodeError("P9.5", "torrent", "not of the one form that we make")
    torrent = Torrent(FileName(head[2].decode("ascii")), int(head[1]), data[head.end() : -2])
    if torrent.data != data:
        raise DecodeError("P9.5", "torrent", "not of the one form that we make")
    return torrent
