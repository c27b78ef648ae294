"""The flat loop over files that repeat each other's headers sees what the member by member reader sees, and refuses what it refuses."""

from __future__ import annotations

import gzip
import io
import itertools
import random
from collections.abc import Iterator
from unittest import mock

import pytest

from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.tar import Attributes, TarReader
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import BLOCK, GNU, IMAGE, archive, folder, member, with_image


def slowly(reader: TarReader) -> Iterator[tuple[bytes, Attributes, memoryview]]:
    return iter(())


def outcome(*members: bytes) -> bytes | str:
    """The manifest, or why there is none."""
    try:
        return read_package(with_image(*members).file()).manifest
    except RefusedError as refused:
        return str(refused)


def both(*members: bytes) -> bytes | str:
    """The same, when it is also what comes out without the loop."""
    found = outcome(*members)
    with mock.patch.object(TarReader, "repeats", slowly):
        assert outcome(*members) == found
    return found


ALIKE = [member(f"image/usr/{name}", content) for name, content in [("a", b"a"), ("b", b"b" * 513), ("c", b"c" * 512), ("d", b"")]]


def test_the_loop_is_what_reads_files_that_are_alike():
    tar = TarReader(io.BytesIO(archive(*IMAGE, *ALIKE)), "image")
    names = []
    for found in tar:
        bytes(tar.take())
        names.append((found.name, [(name, bytes(content)) for name, _, content in tar.repeats()]))
    assert names[:2] == [(b"image", []), (b"image/usr", [])]
    alike = [(b"image/usr/a", b"a"), (b"image/usr/b", b"b" * 513), (b"image/usr/c", b"c" * 512), (b"image/usr/d", b"")]
    assert names[2:] == [(b"image/usr/hello", alike)]


@pytest.mark.parametrize(
    "other",
    [
        folder("image/usr/x"),
        member("image/usr/x", b"1", mode=b"0004755\0"),
        member("image/usr/x", b"1", uid=b"0000001\0", uname=b"bin"),
        member("image/usr/x", b"1", magic=GNU),
        member("image/usr/" + "n" * 90, b"1"),
        member(b"x" * 20, b"1", prefix=b"image/usr/" + b"n" * 90),
        member("image/usr/a", b"there twice"),
        member("image/usr/none/x"),
        member("image/usr/x", bytes(3 << 20)),
        member("image/usr/x.pyc", b"\xa7\r\r\n\0\0\0\0timesize"),
        member("image/usr/x", gzip.compress(b"hello", mtime=1_700_000_000)),
        member("image/usr/x\0y"),
        member("image/usr/x", mtime=b"\xff" * 12),
        member("image/usr/x", mtime=b"1452433000_\0"),
        member("image/usr/x", checksum=b"000000\0 "),
        member("image/usr/x", b"1")[:-1] + b"1",
    ],
)
def test_what_is_unlike_is_read_or_refused_as_by_the_other_reader(other):
    assert both(*ALIKE[:2], other, *ALIKE[2:])


def test_files_that_share_a_prefix_are_not_read_without_it():
    inside = "image/" + "d" * 60
    shared = [member(name * 50, name, prefix=inside.encode(), mode=b"0000600\0") for name in (b"m", b"n")]
    found = both(folder(inside), *shared)
    assert isinstance(found, bytes)
    assert b"./" + inside.encode() + b"/" + b"n" * 50 + b" " in found


def test_content_that_was_not_taken_is_not_read_as_headers():
    tar = TarReader(io.BytesIO(archive(*IMAGE[:2], member("image/usr/x", ALIKE[0]))), "image")
    assert [found.name for found in itertools.islice(tar, 3)][-1] == b"image/usr/x"
    assert list(tar.repeats()) == []


def test_many_files_that_end_anywhere_in_the_buffer():
    dice = random.Random(3)  # noqa: S311
    files = [member(f"image/usr/f{number}", dice.randbytes(dice.randrange(9000))) for number in range(900)]
    assert isinstance(both(*files), bytes)


def mended(header: bytes) -> bytes:
    """`header` with the checksum that fits."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


@pytest.mark.parametrize("change", [0x01, 0x10, 0xFF])
def test_every_changed_byte_of_a_header_is_read_or_refused_as_by_the_other_reader(change):
    for at in range(BLOCK):
        changed = bytearray(ALIKE[1])
        changed[at] ^= change
        assert both(ALIKE[0], bytes(changed), *ALIKE[2:]) != outcome(*ALIKE) or 136 <= at < 148
        if not 148 <= at < 156:
            both(ALIKE[0], mended(bytes(changed[:BLOCK])) + bytes(changed[BLOCK:]), *ALIKE[2:])
