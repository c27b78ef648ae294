"""What is installed, as a build saw it (P1.2): packages, and a digest of the files of each.

Read from Portage's database of installed packages, which root alone writes.  What stands there is believed: whether the files
on disk are still those is not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portage.dep import Atom, use_reduce
from portage.exception import InvalidDependString

from portage_p2pbin.kernel.definition import Dependency, Slot
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Cpv, Sha256

_TIMED = (b".gz", b".jar", b".pyc", b".zip")
"""The formats whose times P2.6 forgives: two machines that installed the same have other MD5s of them."""

_MD5 = 32
"""Hexadecimal digits of one."""


def installed_digest(contents: bytes) -> Sha256:
    """The digest `p2pbin-installed-1` of the CONTENTS file of an installed package (docs/decisions/installed-digest.rst).

    SHA-256 of its lines in byte order, each ended by a newline, without the mtime that `obj` and `sym` lines end with, and
    without the MD5 of files whose format holds the time of their making.
    """
    lines = sorted(_timeless(line) for line in contents.split(b"\n") if line)
    return Sha256(hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest())


def _timeless(line: bytes) -> bytes:
    if not line.startswith((b"obj ", b"sym ")):
        return line
    timeless = line[: line.rfind(b" ")]
    if line.startswith(b"obj ") and timeless[: -_MD5 - 1].endswith(_TIMED):
        return timeless[:-_MD5] + b"-"
    return timeless


@dataclass(frozen=True, slots=True)
class Installed:
    """The database of installed packages; `database` is Portage's `vardbapi`."""

    database: Any

    def seen_by(self, atoms: Iterable[Any]) -> list[str]:
        """The CPVs that match `atoms` (`portage.dep.Atom`), and all that these need at run time, sorted.

        Of `|| ( a b )` every installed choice counts: which one a build took cannot be known.  USE requirements are left out.
        """
        found: set[str] = set()
        left = list(atoms)
        asked = set(left)
        while left:
            for cpv in self.database.match(left.pop()):
                if cpv not in found:
                    found.add(str(cpv))
                    new = set(self._needs(cpv)) - asked
                    asked |= new
                    left += new
        return sorted(found)

    def _needs(self, cpv: str) -> Iterator[Any]:
        needed, use, eapi = self.database.aux_get(cpv, ["RDEPEND", "USE", "EAPI"])
        return atoms_of(cpv, needed, use, eapi)

    def dependency(self, cpv: str) -> Dependency:
        """What a build definition says of one installed package."""
        slot, use = self.database.aux_get(cpv, ["SLOT", "USE"])
        return Dependency(Cpv(cpv), Slot(slot), tuple(sorted(set(use.split()))), installed_digest(self.contents(cpv)))

    def contents(self, cpv: str) -> bytes:
        """The CONTENTS of one installed package; a virtual one has none."""
        try:
            return Path(self.database.getpath(cpv, filename="CONTENTS")).read_bytes()
        except FileNotFoundError:
            return b""

    def changed_since(self, cpv: str, time: float) -> bool:
        """Was this package merged after `time` (seconds since 1970)?"""
        return bool(Path(self.database.getpath(cpv)).stat().st_mtime > time)


def atoms_of(cpv: str, text: str, use: str, eapi: str) -> Iterator[Any]:
    """The atoms of a dependency string, blockers and USE requirements left out.  Raises RefusedError (P1.2) if it is none."""
    try:
        words = use_reduce(text, uselist=use.split(), eapi=eapi, flat=True, token_class=Atom)
    except InvalidDependString as error:
        raise RefusedError("P1.2", cpv, f"its dependencies cannot be read: {error}") from error
    for word in words:
        if isinstance(word, Atom) and not word.blocker:
            yield word.without_use
