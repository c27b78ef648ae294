"""The build definition of a source build that Portage has just finished (P1.1 to P1.3).

Nothing is guessed from what make.conf says now: values come from the package's own metadata, from the settings of the emerge that
built it, and from files that have not changed since the build began.  A contributor who lies here moves its vote to where nobody
else's votes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.gentoo.installed import atoms_of
from portage_p2pbin.gentoo.local_changes import check_local_changes
from portage_p2pbin.gentoo.programs import sha256, toolchain
from portage_p2pbin.kernel.definition import (
    FLAG_VARIABLES,
    MOST_DEPENDENCIES,
    MOST_SOURCES,
    BuildDefinition,
    BuildRequest,
    Dependency,
    RepositoryName,
    Slot,
)
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Sha256

CHANGING_FEATURES = (
    # Debug information: kept, moved to files of its own, compressed, or with the sources beside it.
    "compressdebug", "dedupdebug", "installsources", "nostrip", "splitdebug",
    # When files are stripped and documents compressed: before the package is made, or when it is installed.
    "binpkg-docompress", "binpkg-dostrip",
    # Whole kinds of files are left out.
    "nodoc", "noinfo", "noman",
    # .la files are rewritten or removed; EPREFIX is put into shebangs; files belong to another user than root.
    "fixlafiles", "force-prefix", "unprivileged",
)  # fmt: skip
"""The FEATURES that change what is installed.  Another list makes the keys of equal builds differ, so it is frozen."""


def build_definition(build: FinishedBuild) -> BuildDefinition:
    """What was built, and with what.

    Raises RefusedError (P1.2 or P1.3) for a build that nobody could repeat from a definition, and UnavailableError or OSError
    where Portage's files are not where they should be.
    """
    check_local_changes(build)
    dependencies, contents = _dependencies(build)
    programs = toolchain(build.environment["PATH"], Path(build.environment["PORTAGE_BIN_PATH"]), contents)
    return BuildDefinition(_request(build), dependencies, programs)


def _request(build: FinishedBuild) -> BuildRequest:
    """P1.1.  Flags are those that the user asked for; an ebuild may have added to them."""
    settings = build.portage.settings
    return BuildRequest(
        cpv=build.cpv,
        repository=RepositoryName(build.info("repository")),
        eapi=build.info("EAPI"),
        slot=Slot(build.info("SLOT")),
        use=tuple(sorted(set(build.info("USE").split()))),
        chost=build.info("CHOST"),
        cbuild=build.info("CBUILD"),
        elibc=settings.get("ELIBC", ""),
        abi=settings.get("ABI", ""),
        eprefix=settings["EPREFIX"],
        flags={name: flags for name in FLAG_VARIABLES if (flags := " ".join(settings.get(name, "").split()))},
        features=tuple(sorted(set(CHANGING_FEATURES) & set(build.info("FEATURES").split()))),
        install_mask=tuple(f"{name}={word}" for name in ("INSTALL_MASK", "PKG_INSTALL_MASK") for word in settings.get(name, "").split()),
        build_path=build.build_path,
        sources=_sources(build),
    )


def _sources(build: FinishedBuild) -> dict[str, Sha256]:
    """The digest of everything that the build was made from.  Refuses (P1.3) what changed after it began."""
    found = {"ebuild": sha256(build.ebuild)}
    for name, file in _source_files(build):
        if file.stat().st_ctime > build.started:
            raise RefusedError("P1.3", str(build.cpv), f"{file} changed while it was built")
        found[name] = sha256(file)
    if len(found) > MOST_SOURCES:
        raise RefusedError("P1.3", str(build.cpv), f"it has more than {MOST_SOURCES} sources")
    return found


def _source_files(build: FinishedBuild) -> Iterator[tuple[str, Path]]:
    for name in build.info("INHERITED").split():
        yield f"eclass/{name}", build.portage.eclass(build.info("repository"), name)
    files = build.repository_folder / "files"
    for file in sorted(files.rglob("*")):
        if file.is_file():
            yield f"files/{file.relative_to(files)}", file
    for file in build.distfiles:
        yield f"distfile/{file.name}", file.resolve()


def _dependencies(build: FinishedBuild) -> tuple[tuple[Dependency, ...], list[bytes]]:
    """P1.2: what was installed of its build dependencies and of the system set, with what these need, and the CONTENTS of each.

    Its own run-time dependencies need not have been there, and are left out.
    """
    use, eapi = build.info("USE"), build.info("EAPI")
    wanted = [atom for name in ("BDEPEND", "DEPEND") for atom in atoms_of(str(build.cpv), build.info(name), use, eapi)]
    installed = build.portage.installed
    seen = installed.seen_by([*wanted, *build.portage.system_set])
    if len(seen) > MOST_DEPENDENCIES:
        raise RefusedError("P1.2", str(build.cpv), f"it could see more than {MOST_DEPENDENCIES} packages")
    for cpv in seen:
        if installed.changed_since(cpv, build.started):
            raise RefusedError("P1.2", str(build.cpv), f"{cpv} was installed while it was built")
    return tuple(sorted(map(installed.dependency, seen))), [installed.contents(cpv) for cpv in seen]
