"""The contents digest: what a package would install and run, as one hash (P2).

:func:`read_package` reads a package file once, from its start to its end, and refuses what two readers could understand
differently.  It trusts nothing in the file, touches nothing but the file, and is meant to run inside
:mod:`portage_p2pbin.binpkg.sandbox`.

Whoever makes a package chooses everything that is hashed here, and can change without changing the digest only: times, the
order of members, compression, signatures, the metadata keys in :data:`PER_EVENT`, and what
:mod:`portage_p2pbin.binpkg.normalise` forgives. docs/contents-digest.rst specifies the digest so that it can be written again
from that text.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from portage_p2pbin.binpkg import environment
from portage_p2pbin.binpkg.container import Gpkg
from portage_p2pbin.binpkg.manifest import Manifest
from portage_p2pbin.binpkg.normalise import needs_whole, normalise
from portage_p2pbin.binpkg.tar import FILE, Member, TarReader
from portage_p2pbin.kernel.errors import RefusedError

DIGEST_PREFIX = "p2pbin-contents-1:"
"""Stands before the 64 hexadecimal digits; the number is that of the rules in docs/contents-digest.rst."""

PER_EVENT = frozenset(("BUILD_ID", "BUILD_TIME", "SIZE"))
"""Metadata keys that describe the build and not what was built; they hold digits only, and are not hashed (P2.3)."""

CLEANED_KEYS = frozenset(("FEATURES", "REPO_REVISIONS"))
"""Metadata keys that cleaning removes (P2.3)."""

ENVIRONMENT = "environment.bz2"

_DIGITS = re.compile(rb"[0-9]{1,18}\n?").fullmatch
_FORM = "the form of the environment"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one package file says, read once.

    `digest` is :data:`DIGEST_PREFIX` and 64 hexadecimal digits, the SHA-256 of `manifest`, which is the canonical mtree(5)
    text.  `metadata` has the values of the package's own keys as text without white space at the ends, but for the environment
    and the ebuild, whose SHA-256 `ebuild_sha256` is.  `droppings` names what cleaning would remove; where it is empty, cleaning
    would change nothing.
    """

    digest: str
    manifest: bytes
    metadata: Mapping[str, str]
    ebuild_sha256: str
    droppings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """A reading whose manifest has not been written yet, so that a big one can be streamed: see :meth:`Manifest.lines`."""

    manifest: Manifest
    metadata: Mapping[str, str]
    ebuild_sha256: str
    droppings: tuple[str, ...]


def read_package(file: BinaryIO) -> Reading:
    """Read the package in `file`, which stands at its start.

    Raises :class:`RefusedError` with the broken rule's number (P2.2 to P2.4), and :class:`UnavailableError` where this machine
    lacks the program for its compression.  Does not check signatures, nor anything that is not in the file.
    """
    findings = examine(file)
    text = b"".join(findings.manifest.lines())
    digest = DIGEST_PREFIX + sha256(text).hexdigest()
    return Reading(digest, text, findings.metadata, findings.ebuild_sha256, findings.droppings)


def examine(file: BinaryIO) -> Findings:
    """Do what :func:`read_package` does, but leave the manifest unwritten."""
    package = Gpkg(file)
    stored = package.metadata()
    manifest = Manifest()
    droppings = _add_metadata(manifest, stored)
    with package.image() as tar:
        _add_image(manifest, tar)
    package.finish()
    ebuild = stored[ebuild_name(stored)]
    signature = ("signature",) if package.is_signed else ()
    return Findings(manifest, _texts(stored), sha256(ebuild).hexdigest(), (*droppings, *signature))


def ebuild_name(metadata: Mapping[str, bytes]) -> str:
    """Return the key of the package's ebuild: the value of PF and ``.ebuild``.  Refuse metadata without it, PF or the
    environment (P2.3).
    """
    ebuilds = [key for key in metadata if key.endswith(".ebuild")]
    pf = metadata.get("PF", b"").strip().decode("utf-8", "backslashreplace")
    if ebuilds != [f"{pf}.ebuild"] or ENVIRONMENT not in metadata:
        raise RefusedError("P2.3", "the metadata", f"it does not hold PF, its ebuild and {ENVIRONMENT}, each once")
    return ebuilds[0]


def read_environment(metadata: Mapping[str, bytes]) -> bytes:
    """Return the text of the saved environment: one bzip2 stream of bounded size (P2.4)."""
    decompressor = bz2.BZ2Decompressor()
    try:
        text = decompressor.decompress(metadata[ENVIRONMENT], environment.LARGEST_ENVIRONMENT + 1)
    except OSError as error:
        raise RefusedError("P2.4", ENVIRONMENT, f"it cannot be unpacked: {error}") from error
    if len(text) > environment.LARGEST_ENVIRONMENT or not decompressor.eof or decompressor.unused_data:
        raise RefusedError("P2.4", ENVIRONMENT, f"it is not one bzip2 stream of at most {environment.LARGEST_ENVIRONMENT} bytes")
    return text


def _add_metadata(manifest: Manifest, stored: Mapping[str, bytes]) -> list[str]:
    """P2.3 to P2.5: hash the cleaned metadata key by key, and return what cleaning removes from it."""
    ebuild = stored[ebuild_name(stored)]
    text = read_environment(stored)
    variables = environment.parse(text)
    for key in PER_EVENT & stored.keys():
        if not _DIGITS(stored[key]):
            raise RefusedError("P2.3", key, "it does not hold digits only")
    hashed = {key: value for key, value in stored.items() if key not in PER_EVENT | CLEANED_KEYS}
    hashed[ENVIRONMENT] = variables.hashed(ebuild)
    for key, value in hashed.items():
        manifest.add_metadata(key, value)
    droppings = [f"key {key}" for key in sorted(CLEANED_KEYS & stored.keys())]
    droppings += [f"variable {name}" for name in variables.droppings(ebuild)]
    return droppings if droppings or variables.cleaned(ebuild) == text else [_FORM]


def _add_image(manifest: Manifest, tar: TarReader) -> None:
    for member in tar:
        if member.attributes.kind == FILE:
            manifest.add_file(member, _hash(member, tar))
        else:
            manifest.add_other(member)


def _hash(member: Member, tar: TarReader) -> bytes:
    """Return the SHA-256 of the member's normalised content (P2.6)."""
    piece = tar.take()
    left = member.size - len(piece)
    if left and needs_whole(member, piece):
        piece = memoryview(bytearray().join([bytes(piece), *iter(lambda: bytes(tar.take()), b"")]))
        left = 0
    normalise(member, piece)
    digest = sha256(piece)
    while left:
        piece = tar.take()
        digest.update(piece)
        left -= len(piece)
    return digest.digest()


def _texts(stored: Mapping[str, bytes]) -> dict[str, str]:
    """Return the keys that are short texts.  All of them have to be UTF-8, as PMS wants it."""
    return dict(_decoded(key, value) for key, value in stored.items() if key != ENVIRONMENT and not key.endswith(".ebuild"))


def _decoded(key: str, value: bytes) -> tuple[str, str]:
    try:
        return key, value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RefusedError("P2.3", key, "it is not UTF-8") from error
