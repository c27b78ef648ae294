"""Make the package that is shipped: without what came from the builder's shell, and without signatures (P2.5).

The result is deterministic: it depends on the package and the folder's name alone.  The image passes through as it is, byte for
byte and still compressed; metadata and Manifest are written anew.  Cleaning a cleaned package changes nothing.

Runs on the builder's own packages, before they are published.  It proves nothing about the image: read the result with
:mod:`portage_p2pbin.binpkg.contents`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

from portage_p2pbin.binpkg import environment
from portage_p2pbin.binpkg.gpkg import FOLDER_NAME, Gpkg, GpkgPart, PartHashes
from portage_p2pbin.binpkg.metadata import CLEANED_KEYS, ENVIRONMENT, ebuild_name, unpack_environment
from portage_p2pbin.binpkg.tar import BLOCK, RECORD
from portage_p2pbin.binpkg.xpak import has_xpak
from portage_p2pbin.kernel.errors import RefusedError


def clean_package(source: BinaryIO, target: BinaryIO, *, prefix: str) -> None:
    """Write the cleaned form of the gpkg in `source`, which can be sought, to `target`, which stands at its start.

    `prefix` is the name of the folder inside the gpkg: PF, or PF, a hyphen and the build id, which BUILD_ID then becomes.
    Raises :class:`RefusedError` where the package or its environment breaks P2.2 to P2.4; `target` then holds a part of a
    package.
    """
    if has_xpak(source):
        raise RefusedError("P2.5", "the package", 'it is an xpak, which cannot be published; build it with BINPKG_FORMAT="gpkg"')
    source.seek(0)
    package = Gpkg(source)
    stored = package.metadata()
    build_id = _build_id(stored, prefix)
    metadata = gzip.compress(_metadata_archive(_cleaned(stored) | build_id), mtime=0)
    writer = _Writer(target, prefix)
    writer.add("gpkg-1", b"")
    writer.add("metadata.tar.gz", metadata)
    with package.image_part() as image:
        writer.add_part(image)
    package.finish()
    writer.finish()


def _build_id(stored: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    pf = ebuild_name(stored).removesuffix(".ebuild")
    match = re.fullmatch(re.escape(pf) + r"(?:-([1-9][0-9]{0,17}))?", prefix)
    if not match or not FOLDER_NAME(prefix):
        raise RefusedError("P2.5", prefix, f"it is not {pf}, or {pf} with a build id")
    return {"BUILD_ID": f"{match[1]}\n".encode("ascii")} if match[1] else {}


def _cleaned(stored: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the metadata without what P2.5 removes, in the order of the keys."""
    variables = environment.parse(unpack_environment(stored))
    kept = {key: stored[key] for key in sorted(stored) if key not in CLEANED_KEYS}
    kept[ENVIRONMENT] = bz2.compress(variables.cleaned(stored[ebuild_name(stored)]))
    return kept


def _metadata_archive(metadata: Mapping[str, bytes]) -> bytes:
    """Return the metadata as Portage's own writer archives it, but for times, which are 0."""
    archive = io.BytesIO()
    with tarfile.open(mode="w", fileobj=archive, format=tarfile.USTAR_FORMAT) as tar:
        for key, value in metadata.items():
            tar.addfile(_header(f"metadata/{key}", len(value)), io.BytesIO(value))
    return archive.getvalue()


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    return header


class _Writer:
    """Writes a gpkg member by member, as Portage does, and its Manifest at the end."""

    def __init__(self, target: BinaryIO, prefix: str) -> None:
        self._target = target
        self._prefix = prefix
        self._manifest = ""
        self._written = 0

    def add(self, name: str, content: bytes) -> None:
        hashes = PartHashes()
        hashes.update(content)
        self._start(name, len(content))
        self._write(content)
        self._end(name, len(content), hashes)

    def add_part(self, part: GpkgPart) -> None:
        self._start(part.name, part.size)
        for piece in part.pieces():
            self._write(piece)
        self._end(part.name, part.size, part.hashes)

    def finish(self) -> None:
        manifest = self._manifest.encode("ascii")
        self._start("Manifest", len(manifest))
        self._write(manifest)
        self._pad(BLOCK)
        self._write(bytes(2 * BLOCK))
        self._pad(RECORD)

    def _start(self, name: str, size: int) -> None:
        self._write(_header(f"{self._prefix}/{name}", size).tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))

    def _end(self, name: str, size: int, hashes: PartHashes) -> None:
        self._pad(BLOCK)
        self._manifest += hashes.lines(name, size)[0] + "\n"

    def _pad(self, unit: int) -> None:
        self._write(bytes(-self._written % unit))

    def _write(self, content: bytes | memoryview) -> None:
        self._target.write(content)
        self._written += len(content)
