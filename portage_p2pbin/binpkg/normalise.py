"""The declared differences between two honest builds that the contents digest forgives (P2.6).

Each normaliser is named and numbered here and in docs/contents-digest.rst.  The list is part of the digest's version: another
one is another ``p2pbin-contents-N``.  All are for times that a build writes into a file and that change neither what runs nor
who may run it:

1. **gzip**: the modification time in the header of a gzip file (bytes 4–7).
2. **pyc**: the time of the source in a Python bytecode file that is checked by time (bytes 8–11 where the flags are 0).

None is applied to a file that anybody may execute.  Whoever makes a package chooses what the forgiven bytes are, and nothing
else.
"""

from __future__ import annotations

from portage_p2pbin.binpkg.tar import Member

_GZIP = b"\x1f\x8b\x08"
_GZIP_FLAGS = 0x1F
_ANYBODY_MAY_EXECUTE = 0o111


def normalise(member: Member, start: memoryview) -> None:
    """Overwrite with zeros what is forgiven in `start`, the first bytes of the file `member`: all of it or at least 64 KiB."""
    if member.attributes.mode & _ANYBODY_MAY_EXECUTE:
        return
    if start[:3] == _GZIP:
        _normalise_gzip(start)
    elif member.name.endswith(b".pyc"):
        _normalise_pyc(start)


def _normalise_gzip(start: memoryview) -> None:
    """RFC 1952, 2.3: magic, method, flags (the upper three are reserved), then the time."""
    if len(start) >= 18 and start[3] <= _GZIP_FLAGS:
        start[4:8] = bytes(4)


def _normalise_pyc(start: memoryview) -> None:
    """PEP 552: magic number with a line end, flags, then the time of the source where the flags are 0."""
    if len(start) >= 16 and bytes(start[2:8]) == b"\r\n\0\0\0\0":
        start[8:12] = bytes(4)
