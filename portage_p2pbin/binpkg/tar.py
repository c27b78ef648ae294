"""Read a tar stream the one way in which Portage's writer writes it.

Tar readers disagree about odd archives: what one takes for a file is the name of the next one to another, and a damaged header
ends the archive for a third.  Each disagreement is a place where a package could show us other files than it installs.  So this
reader does not try to understand tar.  It accepts a header only when Portage's writer would have written it byte for byte
(P2.2), and every other byte of the stream, padding included, must be what that writer puts there.

An attacker who controls the stream chooses names, modes, owners, link targets and contents; never where a member starts or
ends, nor which of two readings is meant.  What names may say is not decided here but in :mod:`portage_p2pbin.binpkg.manifest`.

Formats: POSIX.1-1988 "ustar" and GNU tar as written by ``tarfile.TarInfo.tobuf`` of Python's standard library, which Portage
uses for gpkg, and by GNU tar, which it uses for xpak.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from zlib import adler32

from portage_p2pbin.kernel.errors import RefusedError

FILE, HARD_LINK, SYMLINK, FOLDER = b"0", b"1", b"2", b"5"
"""The type letters of the members that a package may hold."""

BLOCK = 512
RECORD = 20 * BLOCK
"""Writers pad an archive with zeros to a multiple of this."""

MOST_NAME = 4000
"""Bytes in a name or link target: PATH_MAX is 4096, and a package is installed below some root."""

MOST_ATTRIBUTES = 10_000
"""Different combinations of type, mode and owner in one archive; a real one has some tens."""

_BUFFER = 1 << 20
_READ_AHEAD = 1 << 16
"""A member's first piece is at least this long, or the whole member, so that a normaliser sees the start of a file at once."""

_HEADER = struct.Struct("100s 8s 16s 24s 8s c 100s 88s 167s")
"""name, mode, uid and gid, size and mtime, checksum, type, link, magic to devminor, prefix and padding."""

_REPEATED = struct.Struct("100s 24s 24s 8s 356s")
"""The same header cut by what differs from file to file: name; mode, uid and gid; size and mtime; checksum; all else."""

_LONG_LINK, _LONG_NAME = b"K", b"L"
_EXTENSIONS = (_LONG_LINK, _LONG_NAME, b"x")
USTAR, GNU = b"ustar\x0000", b"ustar  \0"
"""The magic numbers and versions of the two formats."""

_NO_PREFIX = bytes(167)
_NO_BLOCK = bytes(BLOCK)
_NO_LINK = bytes(100)
_PADDING = [bytes(length) for length in range(BLOCK)]
_MODE = re.compile(rb"000([0-7]{4})\0").fullmatch
_NUMBERS = re.compile(rb"([0-7]{11})\0[0-7]{11}\0").fullmatch
_ACCOUNT = re.compile(rb"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?|").fullmatch


class Source(Protocol):
    """Where the bytes of a stream come from: raw files and the decompressors of :mod:`portage_p2pbin.binpkg.compression`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a part of `buffer` and return its length; 0 at the end."""


class Owner(NamedTuple):
    """The owner and group of a member; the names are empty where the builder's machine had none."""

    uid: int
    uname: str
    gid: int
    gname: str


@dataclass(frozen=True, slots=True, eq=False)
class Attributes:
    """What a member is and who may do what with it.  Members with equal headers share one object, so that it can be compared by
    identity; `kind` is one of the type letters above, `mode` has the twelve permission bits.
    """

    kind: bytes
    mode: int
    owner: Owner


class Member(NamedTuple):
    """One member as its header states it.

    `name` and `link` are the raw bytes, a folder's without its trailing slash; `size` is the number of content bytes, 0 for all
    but files; `xattrs` are the extended attributes, sorted.
    """

    name: bytes
    attributes: Attributes
    size: int
    link: bytes
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class _Usual(NamedTuple):
    """The parts of a file's header that most files of an archive have in common: see :meth:`TarReader.repeats`."""

    rights: bytes
    rest: bytes
    total: int
    attributes: Attributes | None


class TarReader:
    """Iterate over the members of the tar stream in `source`; :meth:`take` gives the content of the current one.

    Raises :class:`RefusedError` ``P2.2`` where a writer would have written something else.  `what` names the stream in
    messages.  The whole content of each member has to be taken before the next one.
    """

    _long_owner = (b"0000000\0", b"")
    """Mode and owner in the header before a long name."""

    def __init__(self, source: Source, what: str) -> None:
        self._source = source
        self._what = what
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._at = self._filled = 0
        self._header_at = self._read = 0
        self._left = self._padding = 0
        self._magic = b""
        self._attributes: dict[tuple[bytes, ...], Attributes] = {}
        self._usual = _Usual(b"", b"", 0, None)

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member

    def repeats(self) -> Iterator[tuple[bytes, Attributes, memoryview]]:
        """Give name, attributes and whole content of the files that follow the current member, for as long as they are plain.

        Plain is a file that lies in the buffer as a whole and whose header repeats that of a file before it but for name, size,
        time and checksum.  This is nearly every file of a package of many small ones, and what costs the time there; so it is one
        flat loop.  It refuses nothing: at whatever is not as it should be it stops, and the iteration over members goes on
        there.  Call it when the content of the current member has been taken; each content is valid until the next.
        """
        rights, rest, rest_total, attributes = self._usual
        if attributes is None or self._left:
            return
        buffer, view = self._buffer, self._view
        while (start := self._at + self._padding) + BLOCK <= self._filled:
            name, stated_rights, numbers, checksum, stated_rest = _REPEATED.unpack_from(buffer, start)
            match = _NUMBERS(numbers)
            if stated_rest != rest or stated_rights != rights or not match or not buffer.startswith(_PADDING[self._padding], self._at):
                return
            size = int(match[1], 8)
            end = start + BLOCK + size
            total = rest_total + (adler32(name) & 0xFFFF) + (adler32(numbers) & 0xFFFF)
            name = name.rstrip(b"\0")
            if end > self._filled or checksum != b"%06o\0 " % total or b"\0" in name:
                return
            self._at, self._padding = end, -size % BLOCK
            yield name, attributes, view[start + BLOCK : end]

    def take(self, most: int = _BUFFER) -> memoryview:
        """Return the next piece of the current member's content, empty at its end.  It is valid until the next call."""
        wanted = self._left
        if wanted > most:
            wanted = most
        start = self._at
        if wanted > self._filled - start:
            if self._filled - start < _READ_AHEAD:
                self._fill(min(wanted, _READ_AHEAD))
                start = 0
            wanted = min(wanted, self._filled - start)
        self._at = end = start + wanted
        self._left -= wanted
        return self._view[start:end]

    def _next(self) -> Member | None:
        """Read the header that follows the current member, or the end of the archive."""
        if self._left:
            raise RuntimeError("the content of the member before was not taken")
        fields = self._header()
        if fields[5] == b"\0":
            self._end()
            return None
        long_name = long_link = b""
        if fields[5] in _EXTENSIONS:
            long_name, long_link, fields = self._extended(fields)
        name, mode, ids, numbers, checksum, kind, link, rest, prefix = fields
        self._check_sum(checksum, prefix)
        self._magic = rest[:8]
        key = (kind, mode, ids, rest)
        attributes = self._attributes.get(key) or self._new_attributes(key)
        if kind == FILE and attributes is not self._usual.attributes and prefix == _NO_PREFIX:
            self._usual = self._as_usual(attributes)
        name = self._name(name, long_name, prefix, kind)
        link = b"" if link == _NO_LINK else self._link(link, long_link)
        size = self._size(numbers, name)
        if size < 0 or (size and kind != FILE) or (link == b"") != (kind in (FILE, FOLDER)):
            raise self._refused(f"{_shown(name)} has a size or a link target that do not fit its type")
        self._left = size
        self._padding = -size % BLOCK
        return Member(name, attributes, size, link)

    def _as_usual(self, attributes: Attributes) -> _Usual:
        """Return the header that was read last, of a file without a prefix and with `attributes`, for :meth:`repeats`.

        What is added to the sums of the two varying parts is the rest's, and as in :meth:`_check_sum` the checksum's own eight
        spaces less the one too many of each of them.
        """
        _, rights, _, _, rest = _REPEATED.unpack_from(self._buffer, self._header_at)
        return _Usual(rights, rest, sum(rights) + sum(rest) + 256 - 2, attributes)

    # Header fields ---------------------------------------------------------------------------------------------------------

    def _check_sum(self, checksum: bytes, prefix: bytes) -> None:
        """Check the header's sum of bytes.

        Adler-32's lower half is one more than the sum of the bytes modulo 65521, and exact for the at most 256 bytes that are
        summed at a time here; it takes a tenth of the time of ``sum``.
        """
        start, view = self._header_at, self._view
        total = 256 - 2 + (adler32(view[start : start + 148]) & 0xFFFF) + (adler32(view[start + 156 : start + 345]) & 0xFFFF)
        if prefix != _NO_PREFIX:
            total += (adler32(prefix) & 0xFFFF) - 1
        if checksum != b"%06o\0 " % total:
            raise self._refused("a header whose checksum is wrong")

    def _name(self, field: bytes, long_name: bytes, prefix: bytes, kind: bytes) -> bytes:
        name = field.rstrip(b"\0")
        if long_name:
            if prefix != _NO_PREFIX or not self._is_long(long_name, name):
                raise self._refused("a long name that differs from the header's own name")
            name = long_name
        elif prefix != _NO_PREFIX:
            name = self._prefixed(name, prefix)
        if b"\0" in name:
            raise self._refused("a name with a NUL byte in it")
        if kind == FOLDER:
            if name[-1:] != b"/":
                raise self._refused("a folder whose name does not end in a slash")
            return name[:-1]
        return name

    def _prefixed(self, name: bytes, field: bytes) -> bytes:
        """Join a ustar prefix and name, provided that the writer would have split them at that slash."""
        prefix = field.rstrip(b"\0")
        last = prefix[prefix.rfind(b"/") + 1 :]
        if self._magic != USTAR or len(prefix) > 155 or len(last) + 1 + len(name) <= 100:
            raise self._refused("a name that is split at another slash than the writer's")
        return prefix + b"/" + name

    def _link(self, field: bytes, long_link: bytes) -> bytes:
        link = field.rstrip(b"\0")
        if long_link:
            if not self._is_long(long_link, link):
                raise self._refused("a long link target that differs from the header's own")
            link = long_link
        if b"\0" in link:
            raise self._refused("a link target with a NUL byte in it")
        return link

    def _is_long(self, text: bytes, field: bytes) -> bool:
        """Say whether `text`, from a header of its own, is one whose start the writer puts into `field`."""
        return self._magic == GNU and len(text) > 100 and field == text[:100]

    def _size(self, numbers: bytes, name: bytes) -> int:
        if match := _NUMBERS(numbers):
            return int(match[1], 8)
        self._number(numbers[12:], name)
        return self._number(numbers[:12], name)

    def _number(self, field: bytes, name: bytes) -> int:
        """Decode a numeric field: octal, or GNU's base 256 for what has no room in octal digits."""
        if re.fullmatch(rb"[0-7]+\0", field):
            return int(field[:-1], 8)
        value = int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0o377 else 0)
        too_big = not 0 <= value < 8 ** (len(field) - 1)
        if self._magic != GNU or field[0] != (0o200 if value >= 0 else 0o377) or not too_big:
            raise self._refused(f"a number that the writer would not have written, in the header of {_shown(name)}")
        return value

    def _new_attributes(self, key: tuple[bytes, ...]) -> Attributes:
        """Decode type, mode and owner together: an archive has few different ones, and decodes each once."""
        kind, field, ids, rest = key
        if kind not in (FILE, HARD_LINK, SYMLINK, FOLDER):
            raise self._refused(f"a member of type {kind!r}, which a package does not hold")
        mode = _MODE(field)
        if not mode:
            raise self._refused("a mode that the writer would not have written")
        if len(self._attributes) >= MOST_ATTRIBUTES:
            raise self._refused(f"more than {MOST_ATTRIBUTES} different modes and owners")
        self._attributes[key] = attributes = Attributes(kind, int(mode[1], 8), self._owner(ids, rest))
        return attributes

    def _owner(self, ids: bytes, rest: bytes) -> Owner:
        if self._magic not in (USTAR, GNU) or rest[72:] != self._devices():
            raise self._refused("a header of another format than the writer's")
        names = [field.rstrip(b"\0") for field in (rest[8:40], rest[40:72])]
        if not all(_ACCOUNT(name) for name in names):
            raise self._refused("an owner or group whose name is not an account's")
        uid, gid = self._number(ids[:8], names[0]), self._number(ids[8:], names[1])
        if min(uid, gid) < 0:
            raise self._refused("a negative owner number")
        return Owner(uid, names[0].decode("ascii"), gid, names[1].decode("ascii"))

    def _devices(self) -> bytes:
        """Return the device fields of members that are no devices."""
        return bytes(16)

    def _extended(self, fields: tuple[bytes, ...]) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        """Read the headers that hold a long link target and a long name; return name, target, and the member's own header."""
        long_name = long_link = b""
        if fields[5] == _LONG_LINK:
            long_link, fields = self._long_text(), self._header()
        if fields[5] == _LONG_NAME:
            long_name, fields = self._long_text(), self._header()
        return long_name, long_link, fields

    def _long_text(self) -> bytes:
        """Read the content of the GNU long name member whose header was read last."""
        header = bytes(self._view[self._header_at : self._header_at + BLOCK])
        match = _NUMBERS(header[124:148])
        size = int(match[1], 8) if match else 0
        if not 101 < size <= MOST_NAME + 1 or header != _long_header(header[156:157], size, *self._long_owner):
            raise self._refused("a long name header that the writer would not have written")
        text = self._text(size)
        if text[-1:] != b"\0" or b"\0" in text[:-1]:
            raise self._refused("a long name that does not end where its header says")
        return text[:-1]

    def _text(self, size: int) -> bytes:
        """Take `size` bytes of text and the zeros that pad them to a whole block."""
        text = b"".join(bytes(self._buffer[(at := self._block()) : at + BLOCK]) for _ in range(0, size, BLOCK))
        if text[size:].strip(b"\0"):
            raise self._refused("bytes in the padding after a long name")
        return text[:size]

    # The stream ------------------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[bytes, ...]:
        """Take the next header and return its fields."""
        self._header_at = self._block()
        return _HEADER.unpack_from(self._buffer, self._header_at)

    def _block(self) -> int:
        """Check the padding after the current member, take the block after it, and return that block's offset in the buffer."""
        padding = self._padding
        if self._filled - self._at < padding + BLOCK:
            self._fill(padding + BLOCK)
        start = self._at + padding
        if not self._buffer.startswith(_PADDING[padding], self._at):
            raise self._refused("bytes in the padding after a file")
        self._padding = 0
        self._at = start + BLOCK
        return start

    def _fill(self, wanted: int) -> None:
        """Move what is left to the buffer's start and read until `wanted` bytes are there."""
        left = self._filled - self._at
        self._buffer[:left] = self._buffer[self._at : self._filled]
        self._at, self._filled = 0, left
        while self._filled < wanted:
            got = self._source.readinto(self._view[self._filled :])
            if not got:
                raise self._refused("the archive ends in the middle")
            self._filled += got
            self._read += got

    def _end(self) -> None:
        """Check the end of the archive: two blocks of zeros, then zeros to the end of a record, then nothing."""
        ended_at = self._read - (self._filled - self._at) - BLOCK
        self._at -= BLOCK
        while True:
            if self._buffer.count(0, self._at, self._filled) != self._filled - self._at:
                raise self._refused("something follows the end of the archive")
            self._at = self._filled = 0
            got = self._source.readinto(self._view)
            if not got:
                break
            self._filled = got
            self._read += got
        if self._read % RECORD or not 2 * BLOCK <= self._read - ended_at < 2 * BLOCK + RECORD:
            raise self._refused("the archive does not end where its writer would have ended it")

    def _refused(self, reason: str) -> RefusedError:
        return RefusedError("P2.2", self._what, reason)


def _long_header(kind: bytes, size: int, mode: bytes, owner: bytes) -> bytes:
    """Return the header that the writer puts before a GNU long name of `size` bytes, its NUL included."""
    start = b"././@LongLink".ljust(100, b"\0") + mode + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    rest = kind + bytes(100) + GNU + owner.ljust(32, b"\0") * 2 + bytes(183)
    return start + b"%06o\0 " % (sum(start) + 8 * 0x20 + sum(rest)) + rest


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
