"""Build real upstream projects twice by real emerge, in surroundings as different as can be, and compare the contents digests.

    make reproduce [ONLY="hello tree"]        or: python -m bench.reproduce [NAME …]

For each project: whether the digest is equal, how many files differ in what the digest forgives (P2.6), and where it is not equal, what
kind of difference it is and what differs inside (P2.8).  Without names it also says how often builders with other settings and other
installed packages make the same build at all.  Root is needed, for disorderfs and other host names.  Everything is built in a temporary
folder; archives stay in .work/reproduce.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.reproduce import sharing
from bench.reproduce.builders import build, build_elsewhere, far_away, ordinary
from bench.reproduce.machine import check_programs
from bench.reproduce.upstream import CATEGORY, PROJECTS, Release, fetch
from portage_p2pbin.binpkg.diff import Kind
from portage_p2pbin.binpkg.sandbox import explain_sandboxed, read_sandboxed
from portage_p2pbin.kernel.errors import P2pbinError, SettingsError, printable
from tests.throwaway import Gentoo, check_machine

_WORK = Path(__file__).parents[2] / ".work/reproduce"


def main(names: list[str]) -> int:
    try:
        unknown = set(names) - {project.name for project in PROJECTS}
        if unknown:
            raise SettingsError(f"No project is called {', '.join(sorted(unknown))}", f"There are: {_all_names()}")
        if os.getuid() != 0:
            raise SettingsError("You are not root", "disorderfs and another host name need root: run it as root, in a container say")
        check_machine()
        check_programs()
        _WORK.mkdir(parents=True, exist_ok=True)
        releases = fetch(tuple(project for project in PROJECTS if not names or project.name in names), _WORK)
    except P2pbinError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory(prefix="p2pbin-") as folder:
        good = _reproduce(releases, Path(folder, "twice"))
        if not names:
            sharing.report(Path(folder, "sharing"), releases)
    return 0 if good else 1


def _all_names() -> str:
    return " ".join(project.name for project in PROJECTS)


def _reproduce(releases: list[Release], home: Path) -> bool:
    """Build everything twice and print the comparison.  Return whether everything was built and is equal."""
    print(f"Building {len(releases)} projects twice ...", flush=True)
    started = time.monotonic()
    atoms = [release.atom for release in releases]
    with ordinary(home, releases) as alice, far_away(home, releases) as bob, ThreadPoolExecutor() as pool:
        for building in (pool.submit(build, alice, atoms), pool.submit(build_elsewhere, bob, atoms)):
            building.result()
        equal = sum([_compare(release, alice, bob) for release in releases])
    print(f"{equal} of {len(releases)} projects have equal contents digests; {time.monotonic() - started:.0f} s")
    return equal == len(releases)


def _compare(release: Release, alice: Gentoo, bob: Gentoo) -> bool:
    """Print what there is to say of a project.  Return whether its digests are equal."""
    heading = f"{release.project.name} {release.version} ({release.project.kind})"
    mine, theirs = _package(alice, release), _package(bob, release)
    if mine is None or theirs is None:
        print(f"{heading}: NOT BUILT\n{_last_words(alice if mine is None else bob, release)}")
        return False
    with mine.open("rb") as one, theirs.open("rb") as other:
        digests = {read_sandboxed(file.fileno()).digest for file in (one, other)}
        differences = explain_sandboxed(one.fileno(), other.fileno())
    grave = [difference for difference in differences if difference.kind is not Kind.BENIGN]
    print(f"{heading}: {'equal' if len(digests) == 1 else 'DIFFERENT'}, {len(differences) - len(grave)} files with forgiven times")
    for difference in grave:
        print(f"  {difference.kind.name.lower():10} {printable(difference.path)}: {printable(difference.detail)}")
        for line in difference.lines:
            print(f"    {printable(line)}")
    return len(digests) == 1


def _package(gentoo: Gentoo, release: Release) -> Path | None:
    """Return the package file of a release; None where it was not built."""
    folder = gentoo.root / "var/cache/binpkgs" / CATEGORY / release.project.name
    return next((file for ending in ("*.gpkg.tar", "*.xpak") for file in folder.glob(ending)), None)


def _last_words(gentoo: Gentoo, release: Release) -> str:
    """Return the end of the log of a build that failed."""
    logs = gentoo.outside("var/log/portage").glob(f"{CATEGORY}:{release.project.name}-{release.version}:*.log")
    return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-30:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
