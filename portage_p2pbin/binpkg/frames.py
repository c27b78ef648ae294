"""Follow the frames of a compressed stream without unpacking it, to prove that it is one stream of the format that its name
says.

The programs ``zstd``, ``lz4`` and ``lzop`` unpack any number of frames behind one another, and other formats than their own;
readers in libraries stop after the first frame.  A stream that is exactly one frame is the same to all of them (P2.2).

Formats: RFC 8878 (zstd); ``lz4_Frame_format.md`` 1.6.4 of the lz4 project; ``src/lzop.c`` of lzop 1.04.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from portage_p2pbin.kernel.errors import RefusedError

LARGEST_WINDOW = 1 << 27
"""Bytes of memory that a zstd frame may ask for: what ``zstd -d`` grants by itself, and all that ``zstd --ultra -22`` asks
for."""

Steps = Generator[int, bytes, None]
"""A format as steps: it yields `n` to be sent the next `n` bytes, or `-n` to skip them, and returns where the stream has to
end."""


class Frame:
    """Checks a stream that is shown to it piece by piece.  Raises :class:`RefusedError` ``P2.2`` about `what`.

    Does not check the compressed blocks themselves; unpacking does.
    """

    def __init__(self, steps: Callable[[], Steps], what: str) -> None:
        self._steps = steps()
        self._what = what
        self._wanted: int | None = next(self._steps)
        self._have = b""

    def show(self, piece: memoryview) -> None:
        """Check the next `piece` of the stream."""
        at = 0
        while at < len(piece):
            if self._wanted is None:
                raise RefusedError("P2.2", self._what, "something follows its stream")
            end = min(len(piece), at + abs(self._wanted) - len(self._have))
            at = self._skip(end - at, end) if self._wanted < 0 else self._keep(piece[at:end], end)

    def finish(self) -> None:
        """Check that the stream may end here."""
        if self._wanted is not None:
            raise RefusedError("P2.2", self._what, "its stream is cut off")

    def _skip(self, size: int, end: int) -> int:
        self._wanted = (self._wanted or 0) + size
        if not self._wanted:
            self._step()
        return end

    def _keep(self, piece: memoryview, end: int) -> int:
        self._have += piece
        if len(self._have) == self._wanted:
            self._step()
        return end

    def _step(self) -> None:
        """Do the steps until one wants more bytes."""
        try:
            self._wanted = self._steps.send(self._have)
            self._have = b""
            while not self._wanted:
                self._wanted = self._steps.send(b"")
        except StopIteration:
            self._wanted = None
        except ValueError as error:
            raise RefusedError("P2.2", self._what, str(error)) from error


def zstd() -> Steps:
    """RFC 8878, 3.1.1: one frame whose window is :data:`LARGEST_WINDOW` at most."""
    if (yield 4) != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is not in the zstd format")
    (descriptor,) = yield 1
    is_single = bool(descriptor & 0x20)
    window_byte = 0 if is_single else (yield 1)[0]
    base = 1 << (10 + (window_byte >> 3))
    window = base + base // 8 * (window_byte & 7)
    yield -(0, 1, 2, 4)[descriptor & 3]
    length = int.from_bytes((yield (int(is_single), 2, 4, 8)[descriptor >> 6]), "little")
    if (length if is_single else window) > LARGEST_WINDOW:
        raise ValueError(f"it asks for more than {LARGEST_WINDOW >> 20} MiB of memory to unpack")
    is_last = False
    while not is_last:
        header = int.from_bytes((yield 3), "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        yield -(1 if kind == 1 else size)
    yield -4 if descriptor & 4 else 0


def lz4() -> Steps:
    """`lz4_Frame_format.md` 1.6.4: one frame of the current format without a dictionary."""
    if (yield 4) != b"\x04\x22\x4d\x18":
        raise ValueError("it is not in the lz4 format")
    flags, _ = yield 2
    if flags >> 6 != 1 or flags & 0b11:
        raise ValueError("its frame is of another version, or needs a dictionary")
    yield -(9 if flags & 0b1000 else 1)
    while size := int.from_bytes((yield 4), "little") & 0x7FFFFFFF:
        yield -(size + (4 if flags & 0b10000 else 0))
    yield -4 if flags & 0b100 else 0


def lzop() -> Steps:
    """`lzop` 1.04, ``src/lzop.c``: one file of version 0x0940 or later, without filter or extra field."""
    if (yield 9) != b"\x89LZO\0\r\n\x1a\n":
        raise ValueError("it is not in the lzop format")
    header = yield 12
    version, flags = int.from_bytes(header[:2], "big"), int.from_bytes(header[8:], "big")
    if version < 0x0940 or flags & (0x0800 | 0x0040 | 0x0400):
        raise ValueError("it is in a form of the lzop format that the program does not write")
    yield -12
    yield -((yield 1)[0] + 4)
    plain_sums = 4 * bool(flags & 0x1) + 4 * bool(flags & 0x100)
    packed_sums = 4 * bool(flags & 0x2) + 4 * bool(flags & 0x200)
    while size := int.from_bytes((yield 4), "big"):
        packed = int.from_bytes((yield 4), "big")
        yield -(packed + plain_sums + (packed_sums if packed < size else 0))
