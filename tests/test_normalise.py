"""Each normaliser forgives what it names, and nothing next to it (P2.6)."""

from __future__ import annotations

import gzip
import importlib.util
import io
import py_compile
import struct
import zipfile
from collections.abc import Callable

import pytest

from portage_p2pbin.binpkg import normalise
from portage_p2pbin.binpkg.contents import read_package
from tests.handmade import member, with_image

EXECUTABLE = b"0000755\0"


def digest(content: bytes, name: str = "image/usr/x", mode: bytes = b"0000644\0") -> str:
    return read_package(with_image(member(name, content, mode=mode)).file()).digest


def forgiven(content: bytes, name: str = "image/usr/x", mode: bytes = b"0000644\0") -> set[int]:
    """The places of the bytes that can be changed without changing the digest."""
    before = digest(content, name, mode)
    return {
        at for at in range(len(content)) if digest(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :], name, mode) == before
    }


# gzip

GZIP = gzip.compress(b"hello", mtime=1_700_000_000)


def test_gzip_forgives_its_time_and_nothing_else():
    assert forgiven(GZIP) == {4, 5, 6, 7}


def test_gzip_of_an_executable_is_not_forgiven():
    assert forgiven(GZIP, mode=EXECUTABLE) == set()


@pytest.mark.parametrize("content", [b"\x1f\x8b\x07" + GZIP[3:], GZIP[:3] + b"\x20" + GZIP[4:], GZIP[:17]])
def test_what_is_not_quite_gzip_is_not_forgiven(content):
    assert forgiven(content) == set()


def test_a_long_gzip_is_forgiven_too():
    contents = [gzip.compress(bytes(5 << 20), compresslevel=0, mtime=mtime) for mtime in (1, 2)]
    assert digest(contents[0]) == digest(contents[1])


# pyc


@pytest.fixture
def pyc(tmp_path) -> bytes:
    source = tmp_path / "x.py"
    source.write_text("x = 1\n")
    target = tmp_path / "x.pyc"
    py_compile.compile(str(source), str(target), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    return target.read_bytes()


def test_pyc_forgives_the_time_of_its_source_and_nothing_else(pyc):
    assert pyc[:4] == importlib.util.MAGIC_NUMBER
    assert forgiven(pyc, "image/usr/x.pyc") == {8, 9, 10, 11}


@pytest.mark.parametrize("flags", [b"\1\0\0\0", b"\3\0\0\0", b"\0\0\0\1"])
def test_pyc_that_is_checked_by_its_source_is_not_forgiven(pyc, flags):
    assert forgiven(pyc[:4] + flags + pyc[8:40], "image/usr/x.pyc") == set()


def test_other_files_that_begin_as_pyc_are_not_forgiven(pyc):
    assert forgiven(pyc[:40], "image/usr/x.py") == set()
    assert forgiven(pyc[:40], "image/usr/x.pyc", mode=EXECUTABLE) == set()
    assert forgiven(pyc[:2] + b"\n\r" + pyc[4:40], "image/usr/x.pyc") == set()
    assert forgiven(pyc[:15], "image/usr/x.pyc") == set()


# zip


class _Pipe(io.RawIOBase):
    """A target that cannot be sought, for which :mod:`zipfile` writes sizes behind the data, as Java does."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data, /) -> int:
        self.content += bytes(data)
        return len(data)


def zipped(year: int = 2001, *, names: tuple[str, ...] = ("a", "b/c"), to_pipe: bool = False, extra: bytes = b"") -> bytes:
    pipe, file = _Pipe(), io.BytesIO()
    with zipfile.ZipFile(pipe if to_pipe else file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in names:
            info = zipfile.ZipInfo(name, (year, 2, 3, 4, 5, 6))
            info.extra = extra
            target.writestr(info, name * 20, zipfile.ZIP_DEFLATED)
    return pipe.content if to_pipe else file.getvalue()


def times(content: bytes) -> set[int]:
    """Where the times are by the signatures of the headers."""
    starts = [(at, 10) for at in range(len(content)) if content[at : at + 4] == b"PK\x03\x04"]
    starts += [(at, 12) for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    return {at + start + byte for at, start in starts for byte in range(4)}


@pytest.mark.parametrize("to_pipe", [False, True])
def test_zip_forgives_the_times_of_its_members_and_nothing_else(to_pipe):
    content = zipped(to_pipe=to_pipe)
    assert len(times(content)) == 16
    assert forgiven(content, "image/usr/x.jar") == times(content)


def test_zip_forgives_the_times_in_extra_fields():
    extra = struct.pack("<HHBI", 0x5455, 5, 1, 1_700_000_000) + struct.pack("<HHI", 0x7075, 4, 7)
    content = zipped(extra=extra, names=("a",))
    places = {at + 5 + byte for at in range(len(content)) if content.startswith(extra, at) for byte in range(4)}
    assert len(places) == 8
    assert forgiven(content) == times(content) | places


def test_two_real_zips_of_other_times_are_equal():
    assert zipped(1999) != zipped(2024)
    assert digest(zipped(1999)) == digest(zipped(2024))
    assert digest(zipped(1999)) != digest(zipped(1999, names=("a", "b/d")))


def changed(change: Callable[[bytes], bytes]) -> bytes:
    content = zipped()
    assert change(content) != content
    return change(content)


END = len(zipped()) - 22
CENTRAL = zipped().index(b"PK\x01\x02")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped() + b"x", id="something behind it"),
        pytest.param(zipped()[:-1] + b"\1x", id="a comment"),
        pytest.param(b"PK\x03\x04" + zipped(), id="something before it"),
        pytest.param(
            changed(lambda it: it[:CENTRAL] + b"x" + it[CENTRAL : END + 16] + struct.pack("<IH", CENTRAL + 1, 0)), id="something between"
        ),
        pytest.param(changed(lambda it: it[:CENTRAL] + it[CENTRAL:].replace(b"a", b"c", 1)), id="another name in the directory"),
        pytest.param(changed(lambda it: it[: END + 4] + b"\1\0" + it[END + 6 :]), id="another disk"),
        pytest.param(changed(lambda it: it[: END + 8] + b"\1\0" + it[END + 10 :]), id="entries on another disk"),
        pytest.param(changed(lambda it: it[: END + 8] + b"\1\0\1\0" + it[END + 12 :]), id="an entry that is not counted"),
        pytest.param(changed(lambda it: it[: END + 8] + b"\0\0\0\0" + it[END + 12 :]), id="no entries"),
        pytest.param(changed(lambda it: it[: CENTRAL + 8] + b"\1\0" + it[CENTRAL + 10 :]), id="encrypted in the directory"),
        pytest.param(
            changed(lambda it: it[:END] + b"junk" + it[END : END + 12] + struct.pack("<I", END - CENTRAL + 4) + it[END + 16 :]),
            id="something in the directory",
        ),
        pytest.param(zipped()[:20], id="cut off"),
        pytest.param(zipped(names=("a", "b.pyc")), id="bytecode that is checked by time"),
        pytest.param(zipped(extra=b"UT\xff\0x"), id="an extra field that is cut off"),
    ],
)
def test_what_is_not_quite_a_zip_is_not_forgiven(content):
    places = [at for at in times(content) if at < len(content)]
    assert places or len(content) < 30
    before = digest(content)
    for at in places:
        assert digest(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]) != before


def test_zip_of_an_executable_is_not_forgiven():
    assert digest(zipped(1999), mode=EXECUTABLE) != digest(zipped(2024), mode=EXECUTABLE)


def test_a_zip_that_is_too_large_is_not_forgiven(monkeypatch):
    monkeypatch.setattr(normalise, "LARGEST_ZIP", len(zipped()) - 1)
    assert digest(zipped(1999)) != digest(zipped(2024))


def test_a_zip_that_comes_in_pieces_is_forgiven():
    noise = b"".join(struct.pack("<Q", n * n) for n in range(400_000))

    def big(year: int) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as target:
            target.writestr(zipfile.ZipInfo("noise", (year, 1, 1, 0, 0, 0)), noise)
        return file.getvalue()

    assert digest(big(1999)) == digest(big(2024))
    assert digest(big(1999)) != digest(big(1999)[:-30] + b"x" + big(1999)[-29:])
