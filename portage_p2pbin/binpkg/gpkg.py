"""Find the parts of a gpkg and stream them.

A gpkg (GLEP 78) is a tar of ``gpkg-1``, ``metadata.tar.C``, ``image.tar.C`` and ``Manifest`` in one folder, with a signature
after each of the two archives where it was signed.  Portage finds a part by the start of its name and takes the first; so a
second one, or any other member, would be there for some readers and not for others.  Here the parts are exactly these, in this
order (P2.2).

Whoever made the file chooses everything in it.  What this module gives away is metadata of bounded size and streams of members
that Portage's writer could have written; their names and meaning are checked by its callers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from portage_p2pbin.binpkg.compression import SUFFIXES, unpacked
from portage_p2pbin.binpkg.metadata import MetadataBounds
from portage_p2pbin.binpkg.tar import FILE, Member, Owner, Source, TarReader
from portage_p2pbin.kernel.errors import RefusedError

LARGEST_MANIFEST = 16 << 10
LARGEST_SIGNATURE = 16 << 10

FOLDER_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,149}").fullmatch
_PART = re.compile(r"(metadata|image)\.tar(\.[a-z0-9]+|)").fullmatch
_SIGNED = re.compile(
    r"-----BEGIN PGP SIGNED MESSAGE-----\nHash: [A-Z0-9]+\n\n((?:DATA [^\n]*\n)*)"
    r"-----BEGIN PGP SIGNATURE-----\n[A-Za-z0-9+/=\n:. ()-]*-----END PGP SIGNATURE-----\n"
).fullmatch
_NAMELESS_ROOT = Owner(0, "", 0, "")


class PartHashes:
    """The hashes of one part that a Manifest states."""

    def __init__(self) -> None:
        self._blake2b, self._sha512 = hashlib.blake2b(), hashlib.sha512()

    def update(self, piece: bytes | memoryview) -> None:
        """Count the next bytes of the part in."""
        self._blake2b.update(piece)
        self._sha512.update(piece)

    def lines(self, name: str, size: int) -> tuple[str, str]:
        """Return the two ways in which Portage writes the Manifest's line for this part: its order of the hashes is random."""
        start = f"DATA {name} {size}"
        blake2b, sha512 = f"BLAKE2B {self._blake2b.hexdigest()}", f"SHA512 {self._sha512.hexdigest()}"
        return f"{start} {blake2b} {sha512}", f"{start} {sha512} {blake2b}"


class GpkgPart:
    """One member of a gpkg, read from its start to its end in one of three ways."""

    def __init__(self, tar: TarReader, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.hashes = PartHashes()
        self._tar = tar

    def pieces(self) -> Iterator[memoryview]:
        """Give the bytes piece by piece, each valid until the next."""
        while piece := self._tar.take():
            self.hashes.update(piece)
            yield piece

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of `buffer` with the next bytes and return their number; 0 at the end of the part."""
        piece = self._tar.take(len(buffer))
        buffer[: len(piece)] = piece
        self.hashes.update(piece)
        return len(piece)

    def read(self, most: int) -> bytes:
        """Return all bytes; refuse a part of more than `most`."""
        if self.size > most:
            raise _refused(self.name, f"it has more than {most} bytes")
        return b"".join(bytes(piece) for piece in self.pieces())


class Gpkg:
    """A gpkg that is read from its start to its end, in four steps.

    Make it, call :meth:`metadata`, then :meth:`image` or :meth:`image_part`, then :meth:`finish`.  Only after that has anything
    been proven about the file.  Each step raises :class:`RefusedError` ``P2.2`` for what Portage's writer would not have
    written.

    `folder` is the name of the folder inside the file, usually PF-BUILDID; `is_signed` is known at the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._tar = TarReader(cast(Source, file), "the package")
        self._members = iter(self._tar)
        self._parts: list[GpkgPart] = []
        self.folder = ""
        self.is_signed = False
        self._member = self._advance()
        version = self._part("gpkg-1")
        if version.size:
            raise _refused(version.name, "it is not empty")
        self._member = self._advance()

    @property
    def droppings(self) -> tuple[str, ...]:
        """Return the signatures, where there are some; known at the end."""
        return ("signature",) if self.is_signed else ()

    def metadata(self) -> dict[str, bytes]:
        """Return the metadata: the value of each key, as it is stored."""
        with self._archive("metadata") as tar:
            return _read_metadata(tar)

    @contextmanager
    def image(self) -> Iterator[TarReader]:
        """Give the reader of the image, whose members all have to be read."""
        with self._archive("image") as tar:
            yield tar

    @contextmanager
    def image_part(self) -> Iterator[GpkgPart]:
        """Give the image as it is stored; it has to be read to its end."""
        part = self._part("image")
        yield part
        self._after(part)

    def finish(self) -> None:
        """Check the Manifest and that nothing follows it."""
        part = self._part("Manifest")
        text = part.read(LARGEST_MANIFEST)
        _check_manifest(text, self._parts[:-1], self.is_signed)
        if self._advance() is not None:
            raise _refused("the package", "something follows its Manifest")

    @contextmanager
    def _archive(self, name: str) -> Iterator[TarReader]:
        part = self._part(name)
        match = _PART(part.name)
        if not match or match[2] not in SUFFIXES:
            raise _refused(part.name, "its compression is not one that can be unpacked")
        with unpacked(part, match[2]) as source:
            yield TarReader(source, part.name)
        self._after(part)

    def _after(self, part: GpkgPart) -> None:
        """Go on to the member after `part` and its signature.  Either both archives have one or none."""
        self._member = self._advance()
        has_signature = self._member is not None and self._member.name.endswith(b".sig")
        if has_signature:
            self._part(f"{part.name}.sig").read(LARGEST_SIGNATURE)
            self._member = self._advance()
        if part.name.startswith("image") and self.is_signed != has_signature:
            raise _refused(part.name, "only one of the two archives is signed")
        self.is_signed = has_signature

    def _advance(self) -> Member | None:
        return next(self._members, None)

    def _part(self, wanted: str) -> GpkgPart:
        """Return the current member as a part, provided that its name is `wanted`, or begins so and ends as an archive's."""
        member = self._member
        if member is None:
            raise _refused("the package", f"it has no {wanted}")
        folder, _, name = member.name.decode("utf-8", "backslashreplace").partition("/")
        match = _PART(name)
        if name != wanted and not (match and match[1] == wanted):
            raise _refused("the package", f"it has {name} where {wanted} should be")
        self.folder = self.folder or folder
        if folder != self.folder or not FOLDER_NAME(folder):
            raise _refused("the package", "its parts are not in one folder with a normal name")
        if not _is_plain(member):
            raise _refused(name, "its header is not as Portage writes it")
        part = GpkgPart(self._tar, name, member.size)
        self._parts.append(part)
        return part


def _read_metadata(tar: TarReader) -> dict[str, bytes]:
    """P2.3: files directly in ``metadata/``; a folder or anything else is refused."""
    metadata: dict[str, bytes] = {}
    bounds = MetadataBounds()
    for member in tar:
        name = member.name.decode("utf-8", "backslashreplace")
        folder, _, key = name.partition("/")
        if folder != "metadata" or not _is_plain(member):
            raise _refused(name, "it is not a metadata key as Portage writes it")
        bounds.check(key, member.size)
        metadata[key] = b"".join(bytes(piece) for piece in iter(tar.take, b""))
    return metadata


def _check_manifest(text: bytes, parts: list[GpkgPart], is_signed: bool) -> None:
    """P2.2: the Manifest states the size and hashes of each part, in their order, and nothing else."""
    try:
        lines = text.decode("ascii")
    except UnicodeDecodeError as error:
        raise _refused("Manifest", "it is not ASCII") from error
    if is_signed:
        match = _SIGNED(lines)
        if not match:
            raise _refused("Manifest", "it is not signed, unlike the archives")
        lines = match[1]
    stated = lines.split("\n")
    if stated.pop() or len(stated) != len(parts):
        raise _refused("Manifest", "it does not list the parts of the package, each in its line")
    for line, part in zip(stated, parts, strict=True):
        if line not in part.hashes.lines(part.name, part.size):
            raise _refused("Manifest", f"it disagrees about {part.name}")


def _is_plain(member: Member) -> bool:
    """Say whether the header is that of a file as Portage makes it out of nothing: readable by all, without owner."""
    attributes = member.attributes
    return (attributes.kind, attributes.mode, attributes.owner) == (FILE, 0o644, _NAMELESS_ROOT)


def _refused(what: str, reason: str) -> RefusedError:
    return RefusedError("P2.2", what, reason)
