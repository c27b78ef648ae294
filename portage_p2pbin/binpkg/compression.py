"""Unpack one compressed stream, of the format that its name says, and of that format alone.

zstd, lz4 and lzop are unpacked by the programs that Portage itself calls, so that both see the same bytes, on a second
processor.  The other formats are unpacked by Python's standard library, which tells where a stream ends.

Decompressors read hostile bytes: call this inside :mod:`portage_p2pbin.binpkg.sandbox`.  An attacker chooses what comes out,
not how much of it (:func:`most_unpacked`), and cannot hide a second stream behind the first: readers differ in whether they go
on (P2.2).
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from threading import Thread
from typing import Protocol, cast

from portage_p2pbin.binpkg.frames import LARGEST_WINDOW, Frame, lz4, lzop, zstd
from portage_p2pbin.binpkg.tar import Source
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError

FREE_GROWTH = 64 << 20
MOST_GROWTH = 250
"""A part unpacks to at most 64 MiB and 250 times its size: source code shrinks to a tenth, and even logs seldom to a
hundredth."""

_PIPE = 1 << 20
_PROGRAMS = {".zst": (("zstd", "-dcqq"), zstd), ".lz4": (("lz4", "-dcqq"), lz4), ".lzo": (("lzop", "-dcq"), lzop)}


def most_unpacked(packed: int) -> int:
    """Return how many bytes a part of `packed` bytes may unpack to."""
    return FREE_GROWTH + MOST_GROWTH * packed


class Part(Protocol):
    """A stretch of a package file that is read from its start to its end, in one of two ways."""

    @property
    def name(self) -> str:
        """Return the name of the member, for messages."""

    @property
    def size(self) -> int:
        """Return the number of bytes."""

    def pieces(self) -> Iterator[memoryview]:
        """Give the bytes piece by piece, each valid until the next."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of `buffer` with the next bytes and return their number; 0 at the end of the part."""


class Decompressor(Protocol):
    """What the decompressors of :mod:`bz2` and :mod:`lzma` have in common; the standard library documents it."""

    @property
    def eof(self) -> bool: ...  # noqa: D102
    @property
    def needs_input(self) -> bool: ...  # noqa: D102
    @property
    def unused_data(self) -> bytes: ...  # noqa: D102
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...  # noqa: D102


class _Gzip:
    """:func:`zlib.decompressobj` for one gzip member, in the form of the other decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Lzip:
    """One lzip member (manual of lzip 1.23, "File format"): a header, LZMA data with an end mark, and a trailer that is
    checked.
    """

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = b""
        self._inner: lzma.LZMADecompressor | None = None
        self._start = self._trailer = b""
        self._crc = self._size = self._packed = 0

    @property
    def needs_input(self) -> bool:
        return self._inner is None or self._inner.eof or self._inner.needs_input

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        self._packed += len(data)
        if self._inner is None:
            self._start += data
            if len(self._start) < 6:
                return b""
            self._inner, data = self._begin(), self._start[6:]
        if self._inner.eof:
            self._trailer += data
            plain = b""
        else:
            plain = self._inner.decompress(data, max_length)
            self._trailer = self._inner.unused_data
        self._crc = zlib.crc32(plain, self._crc)
        self._size += len(plain)
        if self._inner.eof and len(self._trailer) >= 20:
            self._finish()
        return plain

    def _begin(self) -> lzma.LZMADecompressor:
        coded = self._start[5]
        base = 1 << (coded & 0x1F)
        window = base - (base >> 4) * (coded >> 5)
        if self._start[:5] != b"LZIP\1" or not 4096 <= window <= LARGEST_WINDOW:
            raise lzma.LZMAError("not an lzip file, or it needs too much memory")
        lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": 3, "lp": 0, "pb": 2}
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1])

    def _finish(self) -> None:
        self.unused_data = self._trailer[20:]
        stated = struct.unpack("<IQQ", self._trailer[:20])
        if stated != (self._crc, self._size, self._packed - len(self.unused_data)):
            raise lzma.LZMAError("its checksum or sizes are wrong")
        self.eof = True


_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".lz": _Lzip,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20),
}

SUFFIXES = ("", *_DECOMPRESSORS, *_PROGRAMS)
"""The endings of a part's name for the formats that can be unpacked."""


@contextmanager
def unpacked(part: Part, suffix: str) -> Iterator[Source]:
    """Give what `part`, compressed in the format of `suffix`, unpacks to.

    Reading to the end proves that the part is one whole stream.  Raises :class:`RefusedError` ``P2.2`` where it is not, or
    unpacks to too much, and :class:`UnavailableError` where this machine has no program for it.
    """
    if not suffix:
        yield part
    elif suffix in _DECOMPRESSORS:
        yield _Bounded(_InProcess(part, _DECOMPRESSORS[suffix]()), part)
    else:
        with _program(part, suffix) as source:
            yield _Bounded(source, part)


class _Bounded:
    """Refuses a bomb: a part that unpacks to more than :func:`most_unpacked`."""

    def __init__(self, source: Source, part: Part) -> None:
        self._source = source
        self._left = most_unpacked(part.size)
        self._name = part.name

    def readinto(self, buffer: memoryview, /) -> int:
        got = self._source.readinto(buffer) or 0
        self._left -= got
        if self._left < 0:
            raise RefusedError("P2.2", self._name, f"it unpacks to more than {MOST_GROWTH} times its size")
        return got


class _InProcess:
    """What one of Python's own decompressors makes of a part."""

    def __init__(self, part: Part, decompressor: Decompressor) -> None:
        self._name = part.name
        self._pieces = part.pieces()
        self._decompressor = decompressor

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._decompressor.eof:
            piece = bytes(next(self._pieces, b"")) if self._decompressor.needs_input else b""
            if not piece and self._decompressor.needs_input:
                raise RefusedError("P2.2", self._name, "its stream is cut off")
            try:
                data = self._decompressor.decompress(piece, len(buffer))
            except (zlib.error, lzma.LZMAError, OSError) as error:
                raise RefusedError("P2.2", self._name, f"it cannot be unpacked: {error}") from error
            if data:
                buffer[: len(data)] = data
                return len(data)
        if self._decompressor.unused_data or next(self._pieces, b""):
            raise RefusedError("P2.2", self._name, "something follows its stream")
        return 0


@contextmanager
def _program(part: Part, suffix: str) -> Iterator[Source]:
    """Run the program for `suffix` on `part`."""
    (name, *arguments), steps = _PROGRAMS[suffix]
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(part.name, f"the program {name} is not installed")
    with subprocess.Popen([path, *arguments], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE) as process:
        source = _Program(part, process, Frame(steps, part.name))
        try:
            yield source
        finally:
            process.kill()
            source.feeder.join()


class _Program:
    """What a program makes of a part; a thread writes to it while the caller reads."""

    def __init__(self, part: Part, process: subprocess.Popen[bytes], frame: Frame) -> None:
        self._part, self._process, self._frame = part, process, frame
        self._input, self._output = cast(RawIOBase, process.stdin), cast(RawIOBase, process.stdout)
        self._refusal: RefusedError | None = None
        self.feeder = Thread(target=self._feed, daemon=True)
        self.feeder.start()

    def readinto(self, buffer: memoryview, /) -> int:
        got = self._output.readinto(buffer) or 0
        if not got:
            self.feeder.join()
            failed = self._process.wait() != 0
            if self._refusal:
                raise self._refusal
            if failed:
                raise RefusedError("P2.2", self._part.name, "it cannot be unpacked")
        return got

    def _feed(self) -> None:
        """Write the part to the program.  What is wrong with it waits for the reader, who comes to the end then."""
        try:
            with self._input:
                for piece in self._part.pieces():
                    self._frame.show(piece)
                    while piece:
                        piece = piece[self._input.write(piece) :]
                self._frame.finish()
        except RefusedError as refusal:
            self._refusal = refusal
        except BrokenPipeError:
            pass
