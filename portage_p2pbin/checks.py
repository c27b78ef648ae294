"""The checks of P9 that only decide: values in, and nothing or a refusal out.

Everything that is compared here was chosen by somebody unknown, but for the verified index and the threshold.  `p2pbin-fetch` makes
these checks before it places a file, `p2pbin verify` to show them.  Each raises :class:`RefusedError` with its rule's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.kernel.definition import BuildDefinition
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.index import Bundle, Entry, read_bundle
from portage_p2pbin.kernel.model import Channel, Level
from portage_p2pbin.kernel.trust import Judgement


@dataclass(frozen=True, slots=True)
class FileDigests:
    """What identifies the bytes of a file: their number, and two hashes in hexadecimal."""

    size: int
    sha256: str
    sha1: str

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> Self:
        """Those of a file that comes in `pieces`."""
        size, sha256, sha1 = 0, hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        for piece in pieces:
            size += len(piece)
            sha256.update(piece)
            sha1.update(piece)
        return cls(size, sha256.hexdigest(), sha1.hexdigest())


def check_bundle(data: bytes, entry: Entry) -> None:
    """P9.2: `data` are the votes that the index lists."""
    if hashlib.sha256(data).hexdigest() != entry.bundle:
        raise RefusedError("P9.2", entry.cpv, "its vote bundle is not the listed one")


def read_votes(data: bytes, channel: Channel, entry: Entry) -> Bundle:
    """P9.3: the votes, each signed and about this build.  Whether a vote's key counts is decided with the level; the log (P8) is still
    to come.
    """
    bundle = read_bundle(data)
    for vote in (signed.vote for signed in bundle.votes):
        said = {
            "build key": (vote.build_key, entry.build_key),
            "contents digest": (vote.contents, entry.contents),
            "package": (vote.cpv, entry.cpv),
            "repository": (vote.definition.request.repository, entry.repository),
            "channel": (vote.channel, channel),
        }
        for name, (found, listed) in said.items():
            if found != listed:
                raise RefusedError("P9.3", entry.cpv, f"a vote is about {name} {found}, and {listed} is listed")
    return bundle


def check_level(found: Judgement, entry: Entry, threshold: Level) -> Level:
    """P9.4: the level that the votes give is good enough; it is returned."""
    if found.level is None or not found.level.satisfies(threshold):
        level = "no level" if found.level is None else f"level {found.level:d}"
        raise RefusedError("P9.4", entry.cpv, f"its votes give {level}, your threshold is {threshold:d}{_why(found)}")
    return found.level


def _why(found: Judgement) -> str:
    """Why the first vote that does not count does not, if there is one."""
    return f"; a vote is set aside since {found.set_aside[0].reason}" if found.set_aside else ""


def check_named(found: Judgement, entry: Entry, file: str) -> None:
    """P9.4, P9.7: the SHA-256 `file` stands in a vote that counts."""
    if file not in {voice.vote.vote.file for voice in found.voices}:
        raise RefusedError("P9.4", entry.cpv, "no vote that counts names this file")


def check_file(found: FileDigests, entry: Entry) -> None:
    """P9.7: the file is the listed one."""
    if found.size != entry.size:
        raise RefusedError("P9.7", entry.cpv, f"the file has not the listed size of {entry.size} bytes")
    if found.sha256 != entry.file:
        raise RefusedError("P9.7", entry.cpv, f"the file has SHA-256 {found.sha256}, and {entry.file} was voted for")
    if found.sha1 != entry.sha1:
        raise RefusedError("P9.7", entry.cpv, f"it has SHA-1 {found.sha1}; Portage would miss the listed {entry.sha1}")


def check_contents(reading: Reading, entry: Entry) -> None:
    """P9.8: what is inside is what was voted for."""
    if reading.digest != entry.contents:
        raise RefusedError("P9.8", entry.cpv, f"its contents digest is {reading.digest}, and {entry.contents} was voted for")


def check_clean(reading: Reading, entry: Entry) -> None:
    """P9.8: cleaning would change nothing, so there is nothing in it that is not hashed."""
    if reading.droppings:
        raise RefusedError("P9.8", entry.cpv, f"it is not cleaned: {', '.join(reading.droppings)}")


def check_prefix(definition: BuildDefinition, entry: Entry, eprefix: str) -> None:
    """P9.8: it was built for this Gentoo's `eprefix`, which is "" where there is none."""
    if definition.request.eprefix != eprefix:
        raise RefusedError("P9.8", entry.cpv, f"it was built for EPREFIX {definition.request.eprefix!r}; Portage would rewrite its files")
