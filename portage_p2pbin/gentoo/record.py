"""The record of a source build: the only thing that may become a vote (P10.1).

Written in Portage's preinst phase, from etc/portage/bashrc: there the binary package is final, and what the build saw is still
installed.  It is bound to the SHA-256 of that file, so nothing repackaged, downloaded or changed later has a record.

Records lie where root alone writes.  Whoever writes one can lie in it, as in the vote that follows from it, and gains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portage_p2pbin import durable
from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.gentoo.definition import build_definition
from portage_p2pbin.gentoo.sharing import RULE, reasons_to_withhold
from portage_p2pbin.kernel.definition import MOST_DEPENDENCIES, MOST_PROGRAMS, BuildDefinition, read_environment, read_request
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.statements import moment, spelt
from portage_p2pbin.kernel.wire import canonical, decode

FORMAT = "p2pbin-build-1"
FOLDER = "var/lib/p2pbin/builds"

MOST_RECORD = 4 * 1024 * 1024
"""Bytes: a statement of a vote has at most 1.5 MiB, and a record says little more."""

MOST_REASONS = 20

_ENDINGS = ("gpkg.tar", "xpak", "tbz2")
"""How the name of a binary package ends; xpak has two, with a BUILD_ID and without."""

_MOST_CANDIDATES = 3
"""Files looked at for the package just made: it is the newest, unless two builds of it ended at once."""

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """A source build: `path` is its binary package as Portage made it, `file` that file's SHA-256, `size` its bytes.

    `withheld` says why it may not be shared (P10.2); it may where it is empty.
    """

    definition: BuildDefinition
    path: Path
    file: Sha256
    size: int
    started: datetime
    finished: datetime
    withheld: tuple[str, ...]

    def encode(self) -> bytes:
        """The canonical record."""
        return canonical(
            {
                "_type": FORMAT,
                "environment": self.definition.environment_json(),
                "file": self.file,
                "finished": spelt(self.finished),
                "path": str(self.path),
                "request": self.definition.request.as_json(),
                "size": self.size,
                "started": spelt(self.started),
                "withheld": list(self.withheld),
            }
        )

    def check_may_be_shared(self) -> None:
        """Refuse (P10.2) what Portage knew a reason against when it was built."""
        for reason in self.withheld:
            raise RefusedError(RULE, str(self.definition.request.cpv), reason)


def read_record(data: bytes) -> Record:
    """Read a record.  Raises DecodeError."""
    fields = decode(data, "record of a build", MOST_RECORD)
    with fields.reading():
        fields.exactly("_type", FORMAT)
        request = read_request(fields.fields("request"))
        dependencies, programs = read_environment(fields.many("environment", MOST_DEPENDENCIES + MOST_PROGRAMS))
        return Record(
            definition=BuildDefinition(request, dependencies, programs),
            path=Path(fields.text("path", 4096)),
            file=fields.of("file", Sha256),
            size=fields.number("size", 1),
            started=fields.of("started", moment),
            finished=fields.of("finished", moment),
            withheld=fields.texts("withheld", str, MOST_REASONS),
        )


def find_record(eprefix: Path, file: Sha256) -> Record:
    """The record of the package file with this SHA-256.  Raises RefusedError (P10.1) if there is none, and DecodeError."""
    try:
        data = (eprefix / FOLDER / f"{file}.json").read_bytes()
    except FileNotFoundError as error:
        raise RefusedError("P10.1", f"the package {file}", "it is not the result of a source build recorded on this machine") from error
    record = read_record(data)
    if record.file != file:
        raise DecodeError("P10.1", f"the record {file}.json", f"it speaks of {record.file}")
    return record


def recorded(eprefix: Path) -> list[Sha256]:
    """The SHA-256 of each package file that has a record, oldest record first."""
    found = sorted((eprefix / FOLDER).glob("?" * 64 + ".json"), key=lambda file: (file.stat().st_mtime, file.name))
    return [Sha256(file.stem) for file in found]


def record_build(environment: Mapping[str, str]) -> Record:
    """Record the source build whose preinst phase has this `environment`.

    Raises RefusedError for a build that can never become a vote, DecodeError for one that is beyond all bounds, and UnavailableError or
    OSError where its files are not there.
    """
    build = FinishedBuild.of_this_phase(environment)
    path, file, size = find_package(build)
    record = Record(
        definition=build_definition(build),
        path=path,
        file=file,
        size=size,
        started=datetime.fromtimestamp(int(build.started), UTC),
        finished=datetime.fromtimestamp(int(build.info("BUILD_TIME")), UTC),
        withheld=tuple(reasons_to_withhold(build)),
    )
    data = record.encode()
    read_record(data)  # what could not be read again is not written
    folder = Path(build.environment.get("EPREFIX") or "/") / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(folder / f"{file}.json", data)
    return record


def find_package(build: FinishedBuild) -> tuple[Path, Sha256, int]:
    """The binary package that Portage has just made, its SHA-256 and its size in bytes.  Raises UnavailableError.

    Its name cannot be known: it ends with a BUILD_ID, but an exported variable BUILD_ID, as continuous integration has, changes
    what Portage notes of it.  So it is the one with the MD5 that Portage noted.
    """
    category = Path(build.environment["PKGDIR"]) / build.cpv.category
    found = [file for end in _ENDINGS for file in (*category.glob(f"{build.cpv.pf}.{end}"), *category.glob(f"*/{build.cpv.pf}-*.{end}"))]
    newest_first = sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in newest_first[:_MOST_CANDIDATES]:
        md5, sha256, size = _digests(file)
        if md5 == build.info("BINPKGMD5"):
            return file, sha256, size
    raise UnavailableError(f"the binary package of {build.cpv}", f"no file in {category} is the one that Portage has just made")


def _digests(path: Path) -> tuple[str, Sha256, int]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as package:
        while chunk := package.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
        return md5.hexdigest(), Sha256(sha256.hexdigest()), package.tell()
