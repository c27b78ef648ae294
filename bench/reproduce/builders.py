"""Two builders who differ in everything that a build should not depend on, and share ebuilds, settings and installed packages.

The first is an ordinary one.  The second has another date and time of day, time zone, locale, user name, home folder, umask, host name,
number of jobs, order of files in the file system of its build folder, and format and compression of packages.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.reproduce.upstream import CATEGORY, SPLIT_DEBUG, Release
from tests.throwaway import Gentoo

PATIENCE = 1800.0
"""Seconds for all projects in one emerge: three times what two slow cores take."""

LATER = "+397d5h37m"
"""How much later it is for the second builder."""

LOCALE = "de_DE.UTF-8"
"""Its words sort otherwise than in C, its messages are translated, and its decimal point is a comma."""

# $1 is the EPREFIX, then the command.  disorderfs lists each folder in another order each time; it ends when it is unmounted.
_ELSEWHERE = """
set -e
hostname workshop.example.net
build=$1/var/tmp
mkdir -p "$1/var/tmp-in-order"
disorderfs --quiet --shuffle-dirents=yes --sort-dirents=no "$1/var/tmp-in-order" "$build" >/dev/null
trap 'cd /; umount --lazy "$build"' EXIT
shift
umask 077
faketime -m -f "$LATER" "$@"
"""

_DEBUG = 'FEATURES="splitdebug"\nCFLAGS="-O2 -pipe -g"\nCXXFLAGS="-O2 -pipe -g"\n'
_BASHRC = Path(__file__).parents[2] / "etc/bashrc"
_EVERYTHING = ("--quiet", "--keep-going", "--nodeps")


def make_builder(home: Path, name: str, releases: list[Release], settings: dict[str, str], environment: dict[str, str]) -> Gentoo:
    """Make a Gentoo that has the ebuilds of `releases` and records its builds."""
    gentoo = Gentoo.create(home, name, settings=settings, environment=environment)
    repository = gentoo.root / "var/db/repos/p2pbin-test"
    with (repository / "profiles/categories").open("a") as categories:
        categories.write(f"{CATEGORY}\n")
    for release in releases:
        release.put_into(gentoo)
    gentoo.write("etc/portage/bashrc", _BASHRC.read_text())
    gentoo.write("etc/portage/env/debug", _DEBUG)
    gentoo.write("etc/portage/package.env", "".join(f"{CATEGORY}/{name} debug\n" for name in SPLIT_DEBUG))
    return gentoo


def ordinary(home: Path, releases: list[Release]) -> Gentoo:
    """Make the first builder."""
    environment = {"TZ": "UTC", "USER": "root", "LOGNAME": "root"}
    return make_builder(home, "alice", releases, {"MAKEOPTS": "-j1"}, environment)


def far_away(home: Path, releases: list[Release]) -> Gentoo:
    """Make the second builder."""
    locales = home / "locales"
    locales.mkdir()
    subprocess.run(["localedef", "-i", LOCALE.split(".")[0], "-f", LOCALE.split(".")[1], locales / LOCALE], check=True)
    environment = {
        "TZ": "Pacific/Chatham",
        "LOCPATH": str(locales),
        "LANG": LOCALE,
        "LC_ALL": LOCALE,
        "LATER": LATER,
        "USER": "lieselotte",
        "LOGNAME": "lieselotte",
        "HOME": "/nonexistent/lieselotte",
        "EDITOR": "ed",
        "CI_TOKEN": "word",
    }
    settings = {"MAKEOPTS": "-j3", "BINPKG_FORMAT": "xpak", "BINPKG_COMPRESS": "bzip2"}
    return make_builder(home, "bob", releases, settings, environment)


def build(gentoo: Gentoo, atoms: list[str]) -> str:
    """Build and install `atoms` as they stand here, in their order.  Return the output."""
    return gentoo.run(["emerge", *_EVERYTHING, *atoms], expect=None, timeout=PATIENCE).output


def build_elsewhere(gentoo: Gentoo, atoms: list[str]) -> str:
    """The same in the second builder's surroundings."""
    inside = ["bash", "-c", _ELSEWHERE, "bash", str(gentoo.eprefix), "emerge", *_EVERYTHING, *atoms]
    return gentoo.run(["unshare", "--uts", *inside], expect=None, timeout=PATIENCE).output
