"""What differs inside two files of the same name: sections of ELF files, lines of texts (P2.8).

Reads both packages and parses their files, so it runs inside :mod:`portage_p2pbin.binpkg.sandbox`.  Whoever made the packages chooses
every line that comes out: a caller makes them safe before it shows them.
"""

from __future__ import annotations

import difflib
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import BinaryIO

from portage_p2pbin.binpkg.container import open_package
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.diff import Difference, Kind, compare
from portage_p2pbin.binpkg.manifest import escape
from portage_p2pbin.binpkg.normalise import needs_whole, normalise
from portage_p2pbin.binpkg.tar import FILE, Member, TarReader

MOST_EXPLAINED = 200
"""Files whose insides are compared; of more, a human reads the list and not the lines."""

LARGEST_EXPLAINED = 4 << 20
"""Bytes of a file that is looked into."""

MOST_HELD = 128 << 20
"""Bytes of all the files of one package that are looked into: with two packages a quarter of what the child may have."""

LARGEST_TEXT = 256 << 10
MOST_LINES = 20
LONGEST_LINE = 200
MOST_SECTIONS = 4096
_WITHOUT_BYTES = 8
"""SHT_NOBITS: a section that has a size in memory and no bytes in the file."""


def explain(a: BinaryIO, b: BinaryIO) -> tuple[Difference, ...]:
    """Return the differences between two packages, with lines about the insides of files.

    To what :func:`portage_p2pbin.binpkg.diff.compare` says come the files that differ only in what the digest forgives, as
    :attr:`Kind.BENIGN`.  Both files can be sought.  Raises what :func:`portage_p2pbin.binpkg.contents.read_package` raises.
    """
    differences = compare(read_package(a).manifest, read_package(b).manifest)
    wanted = [difference.path for difference in differences if difference.path.startswith("./image/")][:MOST_EXPLAINED]
    first, second = _look(a, wanted), _look(b, wanted)
    explained = [
        replace(found, lines=tuple(_lines(first.contents.get(found.path), second.contents.get(found.path)))) for found in differences
    ]
    changed = {difference.path for difference in differences}
    forgiven = [path for path, digest in first.forgiven.items() if path not in changed and second.forgiven.get(path, digest) != digest]
    benign = [Difference(path, Kind.BENIGN, "times that the digest forgives") for path in forgiven]
    return tuple(sorted([*explained, *benign], key=lambda difference: difference.path))


@dataclass(slots=True)
class _Look:
    """What was seen of one package: the contents that were wanted, and the SHA-256 of each file in which something is forgiven."""

    contents: dict[str, bytes] = field(default_factory=dict)
    forgiven: dict[str, bytes] = field(default_factory=dict)
    held: int = 0


def _look(file: BinaryIO, wanted: Collection[str]) -> _Look:
    look, paths = _Look(), frozenset(wanted)
    package = open_package(file)
    package.metadata()
    with package.image() as tar:
        for member in tar:
            if member.attributes.kind == FILE:
                _look_at(look, "./" + escape(member.name).decode("ascii"), paths, member, tar)
    package.finish()
    return look


def _look_at(look: _Look, path: str, wanted: frozenset[str], member: Member, tar: TarReader) -> None:
    start = tar.take()
    if path in wanted and member.size <= min(LARGEST_EXPLAINED, MOST_HELD - look.held):
        look.held += member.size
        look.contents[path] = b"".join([bytes(start), *_rest(tar)])
        return
    whole = bytearray(start)
    if needs_whole(member, start):
        whole += b"".join(_rest(tar))
    raw = sha256(whole)
    before = bytes(whole)
    normalise(member, memoryview(whole))
    for piece in _rest(tar):
        raw.update(piece)
    if whole != before:
        look.forgiven[path] = raw.digest()


def _rest(tar: TarReader) -> Iterator[bytes]:
    return iter(lambda: bytes(tar.take()), b"")


def _lines(a: bytes | None, b: bytes | None) -> Iterator[str]:
    """Say what differs between two contents, in a few lines; nothing where one is absent or they are equal."""
    if a is None or b is None or a == b:
        return iter(())
    sections = _elf_sections(a), _elf_sections(b)
    if sections[0] and sections[1]:
        return _section_lines(sections[0], sections[1])
    texts = _text(a), _text(b)
    if texts[0] is not None and texts[1] is not None:
        lines = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=1)
        return islice((line[:LONGEST_LINE] for line in islice(lines, 2, None)), MOST_LINES)
    at = next((at for at, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
    return iter([f"the first byte that differs is number {at}"])


def _text(content: bytes) -> str | None:
    if len(content) > LARGEST_TEXT or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _section_lines(a: dict[str, bytes], b: dict[str, bytes]) -> Iterator[str]:
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            yield f"section {name[:LONGEST_LINE]} is only in the {'second' if name not in a else 'first'}"
        elif a[name] != b[name]:
            yield f"section {name[:LONGEST_LINE]} differs: {len(a[name])} or {len(b[name])} bytes"


def _elf_sections(content: bytes) -> dict[str, bytes]:
    """Return the sections of an ELF file by their names; empty for what is none, or not a whole one (System V ABI, chapter 4)."""
    if content[:4] != b"\x7fELF" or content[4:5] not in (b"\1", b"\2") or content[5:6] not in (b"\1", b"\2"):
        return {}
    order = "<" if content[5] == 1 else ">"
    header, section = ("40xQ10x3H", "2I8x8x2Q") if content[4] == 2 else ("32xI10x3H", "2I4x4x2I")
    try:
        start, size, count, names = struct.unpack_from(order + header, content)
        layout = struct.Struct(order + section)
        headers = [layout.unpack_from(content, start + size * number) for number in range(min(count, MOST_SECTIONS))]
        return dict(_named_sections(content, headers, names))
    except (struct.error, IndexError, UnicodeDecodeError):
        return {}


def _named_sections(content: bytes, headers: list[tuple[int, ...]], names: int) -> Iterator[tuple[str, bytes]]:
    """Give the name and the bytes of each section; `names` is the number of the one that holds the names."""
    text = content[headers[names][2] :][: headers[names][3]]
    for at, kind, start, size in headers:
        name = text[at : text.find(b"\0", at)].decode("ascii")
        yield name, b"" if kind == _WITHOUT_BYTES else content[start : start + size]
