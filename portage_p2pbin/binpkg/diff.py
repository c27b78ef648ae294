"""What differs between two packages, entry by entry, and of which kind each difference is (P2.8).

The two manifests may come from anybody, a server included: they are decoded as strictly as a package.  Whoever makes a package
chooses names and contents, and so which kind a difference seems to be; the kind helps a reader to look at the worst first, and
decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from portage_p2pbin.binpkg.manifest import HEADING, MOST_ENTRIES
from portage_p2pbin.kernel.errors import RefusedError

LARGEST_MANIFEST = 512 << 20
"""Bytes of one manifest: what :mod:`portage_p2pbin.binpkg.sandbox` lets through."""


class Kind(IntEnum):
    """What a difference touches, the harmless first."""

    BENIGN = 0
    """Times that the digest forgives: there in the files, and not in their manifests."""
    METADATA = 1
    DATA = 2
    CODE = 3
    """Something that can run, when the package is installed or afterwards."""
    PERMISSION = 4
    """Mode, owner, group or extended attributes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: `path` as the manifest writes it, in `detail` what the two manifests say, for a human, and in `lines` what
    differs inside the files, where somebody looked (:mod:`portage_p2pbin.binpkg.detail`).
    """

    path: str
    kind: Kind
    detail: str
    lines: tuple[str, ...] = ()


Entry = Mapping[str, str]
"""The keywords of one entry."""

_LINE = re.compile(r"(\./\S{1,16000})((?: [a-z0-9_.\\-]{1,1000}=[!-~]{0,300000})+)")
_WORD = re.compile(r" ([^=]+)=(\S*)")
_PERMISSIONS = ("mode", "uid", "uname", "gid", "gname")
_CODE_KEYS = re.compile(r"\./metadata/(environment\.bz2|[^/]*\.ebuild)").fullmatch
_CODE_NAMES = re.compile(
    r".*(\.(a|class|el|elc|jar|js|ko|lua|o|php|pl|pm|py|pyc|rb|scm|sh|so|tcl|vim|war|zip)|\.so\.[0-9.]*)(\.(bz2|gz|lzma|xz|zst))?"
).fullmatch
_CODE_FOLDERS = re.compile(r"\./image(/usr|/opt/[^/]*)?(/local)?/(etc|s?bin|lib(32|64|x32)?|libexec)/.*").fullmatch


def compare(a: bytes, b: bytes) -> tuple[Difference, ...]:
    """Return the differences between the manifests `a` and `b`, in the order of their paths.

    Empty means equal, and then the contents digests are equal too.  Raises :class:`RefusedError` ``P2.1`` where one of them is not a
    contents manifest.
    """
    first, second = _decode(a), _decode(b)
    paths = sorted(first.keys() | second.keys())
    return tuple(difference for path in paths for difference in _differences(path, first.get(path), second.get(path)))


def _decode(manifest: bytes) -> dict[str, Entry]:
    """Return the entries of a manifest by their paths."""
    if len(manifest) > LARGEST_MANIFEST or not manifest.startswith(HEADING) or not manifest.endswith(b"\n") or not manifest.isascii():
        raise RefusedError("P2.1", "the manifest", "it does not begin and end as a contents manifest")
    lines = manifest.decode("ascii").split("\n")[1:-1]
    if len(lines) > MOST_ENTRIES:
        raise RefusedError("P2.1", "the manifest", f"it has more than {MOST_ENTRIES} entries")
    entries: dict[str, Entry] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        words = _WORD.findall(match[2]) if match else []
        entry = dict(words)
        if not match or len(entry) != len(words) or match[1] in entries:
            raise RefusedError("P2.1", "the manifest", f"not an entry, or one that is there twice: {line}")
        entries[match[1]] = entry
    return entries


def _differences(path: str, a: Entry | None, b: Entry | None) -> Iterator[Difference]:
    if a is None or b is None:
        there = a or b or {}
        yield Difference(path, _kind(path, there), f"only in the {'second' if a is None else 'first'}: {_shown(there)}")
        return
    changed = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    permissions = [key for key in changed if key in _PERMISSIONS or key.startswith("xattr.")]
    contents = [key for key in changed if key not in permissions]
    if permissions:
        yield Difference(path, Kind.PERMISSION, _both(permissions, a, b))
    if contents:
        yield Difference(path, max(_kind(path, a), _kind(path, b)), _both(contents, a, b))


def _kind(path: str, entry: Entry) -> Kind:
    """Return what is touched where this entry has other contents, or is there or not."""
    if path.startswith("./metadata/"):
        return Kind.CODE if _CODE_KEYS(path) else Kind.METADATA
    kind = entry.get("type")
    may_run = kind == "file" and re.fullmatch(r"[0-7]*[1357][0-7]*", entry.get("mode", "")[-3:]) is not None
    if kind != "dir" and (may_run or kind == "link" or "link" in entry or _CODE_NAMES(path) or _CODE_FOLDERS(path)):
        return Kind.CODE
    return Kind.DATA


def _both(keys: list[str], a: Entry, b: Entry) -> str:
    return ", ".join(f"{key} {_short(a.get(key, 'absent'))} or {_short(b.get(key, 'absent'))}" for key in keys)


def _shown(entry: Entry) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in entry.items())


def _short(value: str) -> str:
    """Cut a SHA-256 to what a human compares."""
    return value if len(value) <= 40 else f"{value[:12]}…"
