"""What differs inside files: sections of ELF files, lines of texts, times that are forgiven (P2.8)."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from portage_p2pbin.binpkg import detail, sandbox
from portage_p2pbin.binpkg.detail import explain
from portage_p2pbin.binpkg.diff import Difference, Kind
from portage_p2pbin.binpkg.sandbox import explain_sandboxed
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import PACKAGE, Gpkg, member, with_image

TRUE = Path(shutil.which("true") or "/bin/true").read_bytes()


def lines(a: bytes, b: bytes) -> tuple[str, ...]:
    (difference,) = explain(package(a).file(), package(b).file())
    return difference.lines


def package(content: bytes) -> Gpkg:
    return with_image(member("image/usr/x", content))


def test_equal_packages():
    assert explain(PACKAGE.file(), PACKAGE.file()) == ()


def test_text_as_a_short_unified_diff():
    assert lines(b"one\ntwo\nthree\n", b"one\n2\nthree\n") == ("@@ -1,3 +1,3 @@", " one", "-two", "+2", " three")


def test_long_texts_are_cut():
    many = lines(b"".join(b"%d\n" % n for n in range(1000)), b"x" * 1000)
    assert len(many) == detail.MOST_LINES
    assert max(map(len, lines(b"a\n", b"b" * 1000))) == detail.LONGEST_LINE


@pytest.mark.parametrize("content", [b"\0one", b"\xff\xfe", b"x" * (detail.LARGEST_TEXT + 1)])
def test_other_files_by_their_first_byte_that_differs(content):
    assert lines(content + b"1", content + b"2") == (f"the first byte that differs is number {len(content)}",)
    assert lines(content, content + b"2") == (f"the first byte that differs is number {len(content)}",)


def section(name: bytes) -> tuple[int, int]:
    """Where a section of `true` is, by the same layout that the module reads: tested against what readelf says of it."""
    found = detail._elf_sections(TRUE)[name.decode()]
    return TRUE.index(found), len(found)


def test_elf_sections_that_differ():
    at, size = section(b".rodata")
    changed = TRUE[:at] + b"\xff" + TRUE[at + 1 :]
    assert lines(TRUE, changed) == (f"section .rodata differs: {size} or {size} bytes",)


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
def test_elf_sections_are_those_of_readelf(tmp_path):
    said = subprocess.run(["readelf", "-SW", shutil.which("true")], capture_output=True, check=True, text=True).stdout
    for name, content in detail._elf_sections(TRUE).items():
        assert f" {name} " in said
        if content and name != "":
            assert f" {len(content):06x} " in said


def test_a_section_that_is_in_one_only():
    names = TRUE.index(b"\0.rodata\0")
    assert "section .rodata is only in the first" in lines(TRUE, TRUE[:names] + b"\0.rodatA\0" + TRUE[names + 9 :])


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(TRUE[:60], id="cut off"),
        pytest.param(TRUE[:40] + struct.pack("<Q", 1 << 60) + TRUE[48:], id="sections outside the file"),
        pytest.param(TRUE[:62] + b"\xff\xff" + TRUE[64:], id="names that are no section"),
        pytest.param(TRUE[:4] + b"\x09" + TRUE[5:], id="neither 32 nor 64 bits"),
        pytest.param(TRUE[:5] + b"\x09" + TRUE[6:], id="neither byte order"),
    ],
)
def test_an_odd_elf_file_is_a_binary_file(odd):
    assert lines(TRUE, odd)[0].startswith("the first byte that differs is number")


def test_files_that_differ_only_in_what_is_forgiven():
    a, b = (package(gzip.compress(b"hello", mtime=mtime)).file() for mtime in (1, 2))
    assert explain(a, b) == (Difference("./image/usr/x", Kind.BENIGN, "times that the digest forgives"),)


def test_files_in_which_something_is_forgiven_and_nothing_differs():
    a, b = (package(gzip.compress(b"hello", mtime=1)).file() for _ in range(2))
    assert explain(a, b) == ()


def test_a_file_that_is_too_large_to_look_into(monkeypatch):
    monkeypatch.setattr(detail, "LARGEST_EXPLAINED", 3)
    assert lines(b"one\n", b"two\n") == ()


def test_more_files_than_are_looked_into(monkeypatch):
    monkeypatch.setattr(detail, "MOST_EXPLAINED", 1)
    a, b = (with_image(member("image/a", content), member("image/b", content)).file() for content in (b"1", b"2"))
    assert [bool(difference.lines) for difference in explain(a, b)] == [True, False]


def test_more_bytes_than_are_held_at_once(monkeypatch):
    monkeypatch.setattr(detail, "MOST_HELD", 5)
    a, b = (with_image(*(member(f"image/{name}", content * 3) for name in "abc")).file() for content in (b"1", b"2"))
    assert [bool(difference.lines) for difference in explain(a, b)] == [True, False, False]


def test_a_file_that_is_only_in_one():
    (difference,) = explain(PACKAGE.file(), package(b"x").file())
    assert difference.lines == ()


def test_in_the_sandbox(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(package(b"one\n").bytes())
    b.write_bytes(package(b"two\n").bytes())
    with a.open("rb") as first, b.open("rb") as second:
        differences = explain_sandboxed(first.fileno(), second.fileno())
    assert differences == explain(io.BytesIO(a.read_bytes()), io.BytesIO(b.read_bytes()))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"differences": [["a", 9, "b", []]]},
        {"differences": [["a", 1, "b", [1]]]},
        {"differences": ["a"]},
        {"differences": [[1, 1, "b", []]]},
    ],
)
def test_nonsense_about_differences(monkeypatch, tmp_path, said):
    monkeypatch.setattr(sandbox, "_explain", lambda files, pipe: said)
    (tmp_path / "a").write_bytes(PACKAGE.bytes())
    with (tmp_path / "a").open("rb") as file, pytest.raises(RefusedError, match="nonsense"):
        explain_sandboxed(file.fileno(), os.dup(file.fileno()))
