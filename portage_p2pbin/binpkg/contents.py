"""The contents digest: what a package would install and run, as one hash (P2).

:func:`read_package` reads a package file once, from its start to its end, and refuses what two readers could understand
differently.  It trusts nothing in the file, touches nothing but the file, and is meant to run inside
:mod:`portage_p2pbin.binpkg.sandbox`.

Whoever makes a package chooses everything that is hashed here, and can change without changing the digest only: times, the
order of members, compression, signatures, the metadata keys in :data:`portage_p2pbin.binpkg.metadata.PER_EVENT`, the order of
lines in those of :data:`~portage_p2pbin.binpkg.metadata.UNORDERED`, and what
:mod:`portage_p2pbin.binpkg.normalise` forgives. docs/contents-digest.rst specifies the digest so that it can be written again
from that text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from portage_p2pbin.binpkg import environment
from portage_p2pbin.binpkg.container import open_package
from portage_p2pbin.binpkg.manifest import Manifest
from portage_p2pbin.binpkg.metadata import (
    CLEANED_KEYS,
    ENVIRONMENT,
    PER_EVENT,
    check_event_keys,
    ebuild_name,
    in_order,
    texts,
    unpack_environment,
)
from portage_p2pbin.binpkg.normalise import FIRST_BYTES, PYC, needs_whole, normalise
from portage_p2pbin.binpkg.tar import FILE, Member, TarReader

DIGEST_PREFIX = "p2pbin-contents-1:"
"""Stands before the 64 hexadecimal digits; the number is that of the rules in docs/contents-digest.rst."""

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
    """Read the package in `file`, which can be sought, from its start.

    Raises :class:`RefusedError` with the broken rule's number (P2.2 to P2.4), and :class:`UnavailableError` where this machine
    lacks the program for its compression.  Does not check signatures, nor anything that is not in the file.
    """
    findings = examine(file)
    text = b"".join(findings.manifest.lines())
    digest = DIGEST_PREFIX + sha256(text).hexdigest()
    return Reading(digest, text, findings.metadata, findings.ebuild_sha256, findings.droppings)


def examine(file: BinaryIO) -> Findings:
    """Do what :func:`read_package` does, but leave the manifest unwritten."""
    package = open_package(file)
    stored = package.metadata()
    manifest = Manifest()
    droppings = _add_metadata(manifest, stored)
    with package.image() as tar:
        _add_image(manifest, tar)
    package.finish()
    ebuild = stored[ebuild_name(stored)]
    return Findings(manifest, texts(stored), sha256(ebuild).hexdigest(), (*droppings, *package.droppings))


def _add_metadata(manifest: Manifest, stored: Mapping[str, bytes]) -> list[str]:
    """P2.3 to P2.5: hash the cleaned metadata key by key, and return what cleaning removes from it."""
    check_event_keys(stored)
    ebuild = stored[ebuild_name(stored)]
    text = unpack_environment(stored)
    variables = environment.parse(text)
    hashed = {key: in_order(key, value) for key, value in stored.items() if key not in PER_EVENT | CLEANED_KEYS}
    hashed[ENVIRONMENT] = variables.hashed(ebuild)
    for key, value in hashed.items():
        manifest.add_metadata(key, value)
    droppings = [f"key {key}" for key in sorted(CLEANED_KEYS & stored.keys())]
    droppings += [f"variable {name}" for name in variables.droppings(ebuild)]
    return droppings if droppings or variables.cleaned(ebuild) == text else [_FORM]


def _add_image(manifest: Manifest, tar: TarReader) -> None:
    """Add the members of the image.  The inner loop, and what it calls, are where the time goes in a package of many small files."""
    for member in tar:
        if member.attributes.kind == FILE:
            manifest.add_file(member.name, member.attributes, member.size, _hash(member, tar), member.xattrs)
        else:
            manifest.add_other(member)
        for name, attributes, content in tar.repeats():
            if (content and content[0] in FIRST_BYTES) or name[-4:] == PYC:
                normalise(Member(name, attributes, len(content), b""), content)
            manifest.add_file(name, attributes, len(content), sha256(content).digest())


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
