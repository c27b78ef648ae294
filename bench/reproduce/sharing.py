"""How often two real builders make the same thing: the same build key (P1.1), and the same full definition (P1.3).

Three builders of one profile, who build the same packages and differ as Gentoo users do.  What they built is taken from the records
that Portage's own hook wrote (P10.1).
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.reproduce.builders import build, make_builder
from bench.reproduce.upstream import CATEGORY, Release
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.gentoo.record import FOLDER, Record, read_record
from portage_p2pbin.kernel.difference import environment_differences, request_differences
from tests.throwaway import Gentoo

QUICK = ("zlib", "bzip2", "toml")
"""The upstream projects that are built here, beside the test repository: four builders build everything."""

SYSTEM_SET = ("zlib", "bzip2")
"""What stands for Gentoo's system set, which every build is recorded to have seen."""

_FIRST = ("dev-libs/libdice", "app-misc/dice", "app-misc/starmap")
_REST = ("app-admin/greeter", "app-misc/hello", "app-misc/oddments", "dev-java/phrasebook", "dev-python/tally", "games-misc/riddles")
_REPOSITORY = "var/db/repos/p2pbin-test"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of builder: in how it differs from the first, its make.conf, and the packages of which it has the next revision."""

    name: str
    words: str
    settings: dict[str, str]
    ahead: tuple[str, ...] = ()


KINDS = (
    Kind("carol", "the profile's settings", {}),
    Kind("dave", "the profile's settings, one library updated earlier", {"MAKEOPTS": "-j3"}, ("dev-libs/libdice",)),
    Kind("erin", "the profile's settings, one package of the system set updated earlier", {}, (f"{CATEGORY}/bzip2",)),
    Kind("frank", "other USE flags", {"USE": "static-libs -nls -frame report"}),
)

Made = dict[str, tuple[Record, Path]]
"""What a builder made: record and package file by category/name-version."""


def made_by(kind: Kind, home: Path, releases: list[Release]) -> Made:
    """Let a builder of this kind build everything, and return the records with their package files."""
    names = {release.project.name: release for release in releases}
    system = [f"{CATEGORY}/{name}" for name in SYSTEM_SET]
    with make_builder(home, kind.name, releases, kind.settings, {}) as gentoo:
        gentoo.write(f"{_REPOSITORY}/profiles/base/packages", "".join(f"*{name}\n" for name in system))
        for name in kind.ahead:
            _add_revision(gentoo, name)
        build(gentoo, [*system, *_FIRST, *(f"{CATEGORY}/{name}" for name in names if name not in SYSTEM_SET), *_REST])
        records = [read_record(file.read_bytes()) for file in gentoo.outside(FOLDER).glob("*.json")]
        return {str(record.definition.request.cpv): (record, gentoo.outside(record.path)) for record in records}


def _add_revision(gentoo: Gentoo, package: str) -> None:
    """Give the ebuild repository -r1 of a package, with the ebuild of the last version."""
    (ebuild,) = gentoo.outside(f"{_REPOSITORY}/{package}").glob("*.ebuild")
    gentoo.write(f"{_REPOSITORY}/{package}/{ebuild.stem}-r1.ebuild", ebuild.read_text())


def compare(one: Made, other: Made) -> list[str]:
    """Say in lines how much of what both built is comparable, and what keeps the rest apart."""
    both = sorted(one.keys() & other.keys())
    pairs = [(one[cpv], other[cpv]) for cpv in both]
    same_key = [pair for pair in pairs if pair[0][0].definition.request.key == pair[1][0].definition.request.key]
    same_whole = [pair for pair in same_key if pair[0][0].definition.digest == pair[1][0].definition.digest]
    equal = sum(_digest(mine[1]) == _digest(theirs[1]) for mine, theirs in same_key)
    lines = [
        f"both built {len(both)} packages: {len(same_key)} with the same build key, {len(same_whole)} with the same full definition;",
        f"of the {len(same_key)} with the same build key, {equal} have the same contents digest",
    ]
    for words, fields in (("build keys", _request_fields(pairs)), ("full definitions", _environment_fields(same_key))):
        if fields:
            lines.append(f"{words} kept apart by: " + ", ".join(f"{field} ({count})" for field, count in fields.most_common(5)))
    return lines


Pair = tuple[tuple[Record, Path], tuple[Record, Path]]


def _request_fields(pairs: list[Pair]) -> Counter[str]:
    found = (request_differences(mine.definition.request, theirs.definition.request) for (mine, _), (theirs, _) in pairs)
    return Counter(difference.field for differences in found for difference in differences)


def _environment_fields(pairs: list[Pair]) -> Counter[str]:
    found = (environment_differences(mine.definition, theirs.definition) for (mine, _), (theirs, _) in pairs)
    return Counter(difference.field for differences in found for difference in differences)


def _digest(package: Path) -> str:
    with package.open("rb") as file:
        return read_sandboxed(file.fileno()).digest


def report(home: Path, releases: list[Release]) -> None:
    """Build with each kind of builder, two at a time, and print how the first compares with each of the others."""
    quick = [release for release in releases if release.project.name in QUICK]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda kind: made_by(kind, home, quick), KINDS))
    print(f"\nTwo builders of one profile, {len(quick)} upstream projects and the test repository:")
    for kind, theirs in zip(KINDS[1:], made[1:], strict=True):
        print(f"  {kind.words}")
        for line in compare(made[0], theirs):
            print(f"    {line}")
