"""The test ebuild repository: plain files in the project, made into what Portage expects.

The sources of each package stand in tests/repository/sources as plain files.  Here they become distfiles, and the Manifest
files that name those.  The distfiles are the same bytes on every machine, since a build key holds their digests (P1.1):
members in byte order, one date, one owner, two modes, and no compression, whose bytes depend on the version of zlib.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent / "repository"
NAME = "p2pbin-test"
SOURCES = "sources"

_DATE_OF_SOURCES = 1_760_000_000
"""The mtime of each file in a distfile: some second in 2025, in seconds since 1970."""


def distfile(source: Path) -> bytes:
    """Return the tar archive of the folder `source` (one upstream release), the same bytes for the same files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [source, *sorted(source.rglob("*"))]:
            member = tar.gettarinfo(path, arcname=str(path.relative_to(source.parent)))
            member.mtime = _DATE_OF_SOURCES
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mode = 0o755 if path.is_dir() or member.mode & 0o100 else 0o644
            if member.isfile():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)
    return archive.getvalue()


def manifest_line(name: str, content: bytes) -> str:
    """Return the line of a thin Manifest for a distfile (GLEP 74)."""
    blake2b, sha512 = hashlib.blake2b(content).hexdigest(), hashlib.sha512(content).hexdigest()
    return f"DIST {name} {len(content)} BLAKE2B {blake2b} SHA512 {sha512}\n"


def lay_out(repository: Path, distdir: Path, template: Path = REPOSITORY) -> None:
    """Make the ebuild repository `repository` and its distfiles in `distdir` from the plain files in `template`.

    Neither folder's files may exist yet.  A source folder NAME-VERSION belongs to the package folder that has
    NAME-VERSION.ebuild.
    """
    shutil.copytree(template, repository, ignore=lambda folder, _: [SOURCES] if Path(folder) == template else [])
    distdir.mkdir(parents=True, exist_ok=True)
    for ebuild in sorted(repository.glob("*/*/*.ebuild")):
        source = template / SOURCES / ebuild.stem
        if not source.is_dir():
            continue
        content = distfile(source)
        (distdir / f"{source.name}.tar").write_bytes(content)
        with (ebuild.parent / "Manifest").open("a") as manifest:
            manifest.write(manifest_line(f"{source.name}.tar", content))
