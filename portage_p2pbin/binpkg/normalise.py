"""The declared differences between two honest builds that the contents digest forgives (P2.6).

Each normaliser is named and numbered here and in docs/contents-digest.rst.  The list is part of the digest's version: another one
is another ``p2pbin-contents-N``.  All are for times that a build writes into a file and that change neither what runs nor who may
run it:

1. **gzip**: the modification time in the header of a gzip file (bytes 4 to 7).
2. **pyc**: the time of the source in a Python bytecode file that is checked by time (bytes 8 to 11 where the flags are 0).
3. **zip**: the modification time of each member of a zip or jar file, in its local header and in the central directory.

None is applied to a file that anybody may execute.  Whoever makes a package chooses what the forgiven bytes are, and nothing else:
where a file is not exactly of its format, nothing in it is forgiven.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from portage_p2pbin.binpkg.tar import Member

LARGEST_ZIP = 8 << 20
"""A zip file has to be in memory as a whole, since its directory is at its end.  In bigger ones nothing is forgiven."""

PYC = b".pyc"
"""How the names of Python bytecode files end."""

_ANYBODY_MAY_EXECUTE = 0o111
_GZIP = b"\x1f\x8b\x08"
_GZIP_FLAGS = 0x1F
_ZIP = b"PK\x03\x04"
_MAGICS = (_GZIP, _ZIP)

FIRST_BYTES = frozenset((_GZIP[0], _ZIP[0]))
"""A file with another first byte, and no name in :data:`PYC`, is as it was after :func:`normalise`."""


def needs_whole(member: Member, start: memoryview) -> bool:
    """Say whether :func:`normalise` has to be given the whole file of which `start` is the beginning."""
    return len(start) < member.size <= LARGEST_ZIP and start[:4] == _ZIP


def normalise(member: Member, start: memoryview) -> None:
    """Overwrite with zeros what is forgiven in `start`: the whole file `member`, or at least its first 64 KiB."""
    is_pyc, magic = member.name.endswith(PYC), bytes(start[:4])
    if not (is_pyc or magic.startswith(_MAGICS)) or member.attributes.mode & _ANYBODY_MAY_EXECUTE:
        return
    if magic.startswith(_GZIP):
        _normalise_gzip(start)
    elif magic == _ZIP and len(start) == member.size <= LARGEST_ZIP:
        _normalise_zip(start)
    elif is_pyc:
        _normalise_pyc(start)


def _normalise_gzip(start: memoryview) -> None:
    """RFC 1952, 2.3: magic, method, flags (the upper three are reserved), then the time."""
    if len(start) >= 18 and start[3] <= _GZIP_FLAGS:
        start[4:8] = bytes(4)


def _normalise_pyc(start: memoryview) -> None:
    """PEP 552: magic number with a line end, flags, then the time of the source where the flags are 0."""
    if len(start) >= 16 and bytes(start[2:8]) == b"\r\n\0\0\0\0":
        start[8:12] = bytes(4)


# zip: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16 -------------------------------------------------------------

_END = struct.Struct("<4s 4H 2I H")
_CENTRAL = struct.Struct("<4s 2H H 2x 4x 4x I 4x 3H 2x 2x 4x I")
_LOCAL = struct.Struct("<4s 2x H 2x 4x 4x 4x 4x 2H")
_CENTRAL_TIME, _LOCAL_TIME = 12, 10
_ENCRYPTED, _HAS_DESCRIPTOR = 1, 8
_DESCRIPTOR_SIZES = (12, 16)
_UNIX_TIMES = 0x5455
"""The extra field in which Info-ZIP and Java keep times: a byte of flags, then four bytes for each time."""


class _Entry(NamedTuple):
    """A member as the central directory states it, with the stretches of bytes that hold its times."""

    name: bytes
    start: int
    end: int
    has_descriptor: bool
    times: list[slice]


class _OddZip(Exception):  # noqa: N818 - it never leaves this module
    """The file is not exactly a zip file as common tools write it."""


def _normalise_zip(content: memoryview) -> None:
    try:
        entries = sorted(_entries(content), key=lambda entry: entry.start)
        _check_tiling(entries, _directory(content)[0])
    except (_OddZip, struct.error):
        return
    for entry in entries:
        for stretch in entry.times:
            content[stretch] = bytes(len(content[stretch]))


def _directory(content: memoryview) -> tuple[int, int]:
    """Return where the central directory starts and its number of entries: one disk, no comment, and nothing but the end after it."""
    magic, disk, first_disk, here, count, size, start, comment = _END.unpack_from(content, len(content) - _END.size)
    if magic != b"PK\x05\x06" or disk or first_disk or here != count or comment or start + size + _END.size != len(content):
        raise _OddZip
    return start, count


def _entries(content: memoryview) -> Iterator[_Entry]:
    at, count = _directory(content)
    for _ in range(count):
        magic, _, _, flags, packed, name, extra, comment, local = _CENTRAL.unpack_from(content, at)
        local_magic, local_flags, local_name, local_extra = _LOCAL.unpack_from(content, local)
        if (magic, local_magic) != (b"PK\x01\x02", _ZIP) or flags & _ENCRYPTED or local_flags != flags or local_name != name:
            raise _OddZip
        names = at + _CENTRAL.size, local + _LOCAL.size
        stated = bytes(content[names[0] : names[0] + name])
        if bytes(content[names[1] : names[1] + name]) != stated:
            raise _OddZip
        times = [slice(at + _CENTRAL_TIME, at + _CENTRAL_TIME + 4), slice(local + _LOCAL_TIME, local + _LOCAL_TIME + 4)]
        times += _extra_times(content, names[0] + name, extra)
        times += _extra_times(content, names[1] + name, local_extra)
        yield _Entry(stated, local, names[1] + name + local_extra + packed, bool(flags & _HAS_DESCRIPTOR), times)
        at = names[0] + name + extra + comment
    if at + _END.size != len(content):
        raise _OddZip


def _extra_times(content: memoryview, at: int, size: int) -> Iterator[slice]:
    end = at + size
    while at < end:
        kind, length = struct.unpack_from("<2H", content, at)
        if at + 4 + length > end:
            raise _OddZip
        if kind == _UNIX_TIMES:
            yield slice(at + 5, at + 4 + length)
        at += 4 + length


def _check_tiling(entries: list[_Entry], directory: int) -> None:
    """Check that the members fill the file up to the directory, so that no forgiven byte belongs to another one's content.

    Python compares a module's bytecode in a zip file with the time of its source, so there times can change what runs.
    """
    ends = [*(entry.start for entry in entries[1:]), directory]
    if not entries or entries[0].start or any(entry.name.endswith(PYC) for entry in entries):
        raise _OddZip
    for entry, end in zip(entries, ends, strict=True):
        if end - entry.end not in (_DESCRIPTOR_SIZES if entry.has_descriptor else (0,)):
            raise _OddZip
