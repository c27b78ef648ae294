"""Read an xpak package (``.tbz2``, ``.xpak``): a compressed tar, and behind it the metadata (P2.7).

Format: ``xpak(5)`` of Portage; the writers are GNU tar 1.34 (called by Portage's ``misc-functions.sh``) and
``portage.xpak.xpak_mem``.  Portage finds the metadata by a length at the file's end, so whoever made the file could let two
readers find two: accepted are only parts that fill the file without a gap, in the order in which the writer puts them (P2.2).

Extended attributes exist only here, in pax headers, and are hashed: a capability is a permission.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from portage_p2pbin.binpkg.compression import unpacked
from portage_p2pbin.binpkg.metadata import MOST_METADATA, MetadataBounds
from portage_p2pbin.binpkg.tar import GNU, HARD_LINK, USTAR, Attributes, Member, Source, TarReader
from portage_p2pbin.kernel.errors import RefusedError

LARGEST_XPAK = MOST_METADATA + (1 << 20)
"""Bytes of metadata and their index."""

LARGEST_PAX = 256 << 10
"""Bytes of one pax header; Linux allows 64 KiB of extended attributes a file on most file systems."""

_PIECE = 1 << 18
_TRAILER = 16
_INTEGER = 4
_MAGICS = {
    b"BZh9": ".bz2",
    b"\x1f\x8b": ".gz",
    b"\x04\x22\x4d\x18": ".lz4",
    b"LZIP": ".lz",
    b"\x89LZO\0\r\n\x1a\n": ".lzo",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
"""How Portage tells the compression of the image: `portage.util.compression_probe`."""

_PAX = b"x"
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\0]+)=", re.ASCII)
_TIME = re.compile(rb"-?[0-9]{1,12}(\.[0-9]{1,9})?").fullmatch
_XATTR = b"SCHILY.xattr."
_DEVICES = b"0000000\0" * 2


def has_xpak(file: BinaryIO) -> bool:
    """Say whether Portage would take `file` for an xpak package: it ends so.  Changes the file's position."""
    if file.seek(0, os.SEEK_END) < _TRAILER:
        return False
    file.seek(-_TRAILER, os.SEEK_END)
    trailer = file.read(_TRAILER)
    return trailer[:8] == b"XPAKSTOP" and trailer[-4:] == b"STOP"


class XpakPart:
    """The image: the first `size` bytes of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.name = "the image"
        self.size = size
        self._file = file
        self._left = size

    def pieces(self) -> Iterator[memoryview]:
        """Give the bytes piece by piece."""
        buffer = memoryview(bytearray(_PIECE))
        while got := self.readinto(buffer):
            yield buffer[:got]

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of `buffer` with the next bytes and return their number; 0 at the end of the part."""
        piece = self._file.read(min(len(buffer), self._left))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


class Xpak:
    """An xpak package: see :class:`portage_p2pbin.binpkg.container.Package` for the steps in which it is read."""

    droppings: tuple[str, ...] = ("the xpak format",)
    """What is published is a gpkg (P2.5)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(-_TRAILER + 8, os.SEEK_END)
        self._xpak = int.from_bytes(file.read(_INTEGER), "big") + 8
        if not 32 <= self._xpak <= min(self._size, LARGEST_XPAK):
            raise _refused("its metadata lies outside the file or is too large")

    def metadata(self) -> dict[str, bytes]:
        """Return the metadata: the value of each key, as it is stored."""
        self._file.seek(self._size - self._xpak)
        segment = self._file.read(self._xpak - 8)
        index_size, data_size = int.from_bytes(segment[8:12], "big"), int.from_bytes(segment[12:16], "big")
        if segment[:8] != b"XPAKPACK" or segment[-8:] != b"XPAKSTOP" or 24 + index_size + data_size != len(segment):
            raise _refused("its index and data do not fill the metadata")
        return _read_index(segment[16 : 16 + index_size], segment[16 + index_size : -8])

    @contextmanager
    def image(self) -> Iterator[TarReader]:
        """Give the reader of the image, whose members all have to be read."""
        self._file.seek(0)
        start = self._file.read(16)
        self._file.seek(0)
        part = XpakPart(self._file, self._size - self._xpak)
        suffix = next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")
        with unpacked(part, suffix) as source:
            yield GnuTarReader(source, part.name)

    def finish(self) -> None:
        """Do nothing: image and metadata fill the file."""


def _read_index(index: bytes, data: bytes) -> dict[str, bytes]:
    """Cut `data` where the entries of `index` say; they have to follow each other and use it up."""
    metadata: dict[str, bytes] = {}
    bounds = MetadataBounds()
    at = used = 0
    while at < len(index):
        name_end = at + _INTEGER + int.from_bytes(index[at : at + _INTEGER], "big")
        name = index[at + _INTEGER : name_end].decode("utf-8", "backslashreplace")
        at = name_end + 2 * _INTEGER
        start, size = (int.from_bytes(index[i : i + _INTEGER], "big") for i in (name_end, name_end + _INTEGER))
        if at > len(index) or start != used or used + size > len(data):
            raise _refused("its index points to other data than the writer's would")
        bounds.check(name, size)
        metadata[name] = data[start : start + size]
        used += size
    if used != len(data):
        raise _refused("it holds data that its index does not list")
    return metadata


class GnuTarReader(TarReader):
    """Reads what GNU tar writes for ``tar -c .`` and ``tar -c --xattrs .``; names come out below ``image``, as in a gpkg."""

    _long_owner = (b"0000644\0", b"root")

    def __init__(self, source: Source, what: str) -> None:
        super().__init__(source, what)
        self._records: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        for member in super().__iter__():
            is_hard_link = member.attributes.kind == HARD_LINK
            xattrs = tuple(sorted((key.removeprefix(_XATTR), value) for key, value in self._records.items() if key.startswith(_XATTR)))
            if xattrs and is_hard_link:
                raise self._refused("a hard link with extended attributes of its own")
            self._records = {}
            link = self._below_image(member.link) if is_hard_link else member.link
            yield member._replace(name=self._below_image(member.name), link=link, xattrs=xattrs)

    def repeats(self) -> Iterator[tuple[bytes, Attributes, memoryview]]:
        """Give nothing: here names are not as they are stored, and headers come in pairs."""
        return iter(())

    def _below_image(self, name: bytes) -> bytes:
        if name == b".":
            return b"image"
        if name[:2] != b"./":
            raise self._refused("a name that does not begin with ./")
        return b"image" + name[1:]

    def _extended(self, fields: tuple[bytes, ...]) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        if fields[5] != _PAX:
            return super()._extended(fields)
        name, mode, ids, numbers, checksum, _, link, rest, prefix = fields
        self._check_sum(checksum, prefix)
        if (mode, ids, link) != (b"0000644\0", b"0000000\0" * 2, bytes(100)) or rest != USTAR + bytes(80):
            raise self._refused("a pax header that the writer would not have written")
        self._records = self._read_records(self._size(numbers, name))
        return self._records.get(b"path", b""), self._records.get(b"linkpath", b""), self._header()

    def _read_records(self, size: int) -> dict[bytes, bytes]:
        """Read the records of a pax header: each key once, times and long names and extended attributes alone."""
        if not 0 < size <= LARGEST_PAX:
            raise self._refused("a pax header that is empty or too large")
        text = self._text(size)
        records: dict[bytes, bytes] = {}
        at = 0
        while at < size:
            match = _RECORD.match(text, at)
            end = at + int(match[1]) if match else 0
            if not match or not match.end() < end <= size or text[end - 1 : end] != b"\n" or match[2] in records:
                raise self._refused("a pax record that the writer would not have written")
            records[match[2]] = self._checked(match[2], text[match.end() : end - 1])
            at = end
        return records

    def _checked(self, key: bytes, value: bytes) -> bytes:
        is_time = key in (b"mtime", b"atime", b"ctime") and _TIME(value)
        is_name = key in (b"path", b"linkpath") and value and b"\0" not in value
        if not (is_time or is_name or (key.startswith(_XATTR) and key != _XATTR)):
            raise self._refused(f"a pax record {key.decode('utf-8', 'backslashreplace')!r} that the writer would not have written")
        return value

    def _is_long(self, text: bytes, field: bytes) -> bool:
        if self._magic == GNU:
            return super()._is_long(text, field)
        return field == text[:100] and (len(text) > 100 or not text.isascii())

    def _devices(self) -> bytes:
        return super()._devices() if self._magic == GNU else _DEVICES


def _refused(reason: str) -> RefusedError:
    return RefusedError("P2.2", "the xpak metadata", reason)
