"""Two builders who share nothing but the ebuilds get the same packages, file for file and bit for bit.

Everything else rests on this: if honest builders differed, no level could ever be reached (P1.4).  Where the format of a file
holds the time at which it was made, only that may differ, and P2.6 forgives it.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

import pytest

from tests.throwaway import Gentoo

PACKAGES = [
    "app-admin/greeter",
    "app-misc/oddments",
    "app-misc/starmap",  # and by it app-misc/dice and dev-libs/libdice
    "dev-java/phrasebook",
    "dev-python/tally",
    "games-misc/riddles",
]
ORDINARY_USER = 61000
SMALLEST_TORRENT = 64 * 16384
"""Bytes: 64 pieces of 16 kB, so that several peers have something to give."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an image says about one path, but for its date.  A hard link is what it links to."""

    kind: bytes
    mode: int
    owner: tuple[int, str]
    group: tuple[int, str]
    link: str
    content: bytes


def part(package: Path, start: str) -> tarfile.TarFile:
    """Return an inner archive of a gpkg file: the one whose name begins with `start`."""
    with tarfile.open(package) as outer:
        (member,) = [member for member in outer if PurePath(member.name).name.startswith(start)]
        compressed = outer.extractfile(member)
        assert compressed is not None
        unpacked = subprocess.run(["zstd", "-dc"], input=compressed.read(), stdout=subprocess.PIPE, check=True).stdout
    return tarfile.open(fileobj=io.BytesIO(unpacked))


def image(package: Path) -> dict[str, Entry]:
    """Return what a gpkg file installs, by path."""
    entries = {}
    with part(package, "image.tar") as tar:
        for member in tar:
            # extractfile follows a hard link, and there is none for a directory or a symlink
            file = None if member.issym() else tar.extractfile(member)
            entries[member.name] = Entry(
                kind=tarfile.REGTYPE if member.islnk() else member.type,
                mode=member.mode,
                owner=(member.uid, member.uname),
                group=(member.gid, member.gname),
                link=member.linkname if member.issym() else "",
                content=file.read() if file else b"",
            )
    return entries


def without_dates(path: str, content: bytes) -> bytes:
    """Return `content` without the time at which a file of its format was made."""
    match PurePath(path).suffix:
        case ".gz":
            return content[:4] + content[8:]  # RFC 1952, MTIME
        case ".pyc":
            assert content[4:8] == bytes(4), "the header's third word is a date only under flags 0 (PEP 552)"
            return content[:8] + content[12:]
        case ".jar":
            with zipfile.ZipFile(io.BytesIO(content)) as jar:
                return repr([(member.filename, member.external_attr, jar.read(member)) for member in jar.infolist()]).encode()
        case _:
            return content


def assert_same_package(one: Path, other: Path) -> None:
    """Fail unless both gpkg files install the same, naming the path that differs."""
    left, right = image(one), image(other)
    assert left.keys() == right.keys()
    for path, entry in left.items():
        mine, theirs = without_dates(path, entry.content), without_dates(path, right[path].content)
        assert mine == theirs, f"{one.name}: {path} has other bytes"
        facts = [(e.kind, e.mode, e.owner, e.group, e.link) for e in (entry, right[path])]
        assert facts[0] == facts[1], f"{one.name}: {path} has another mode, owner or link"


def built_again(gentoo: Gentoo, package: str, **environment: str) -> Path:
    """Build `package` once more, without installing it, and return the new file."""
    before = set(gentoo.binary_packages())
    gentoo.emerge("--quiet", "--buildpkgonly", package, environment=environment)
    (made,) = set(gentoo.binary_packages()) - before
    return made


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2pbin-") as folder:
        yield Path(folder, "home")


@pytest.fixture(scope="module")
def alice(home: Path) -> Iterator[Gentoo]:
    with Gentoo.create(home, "alice") as gentoo:
        yield gentoo


@pytest.fixture(scope="module")
def bob(home: Path) -> Iterator[Gentoo]:
    """A builder with another shell, on the other side of the earth."""
    environment = {
        "TZ": "Asia/Tokyo",
        "LANG": "C",
        "LC_ALL": "POSIX",
        "HOME": "/nonexistent",
        "USER": "bob",
        "EDITOR": "vi",
        "CI_TOKEN": "word",
        "SOURCE_OF_TRUTH": "bob's shell",
    }
    with Gentoo.create(home, "bob", settings={"MAKEOPTS": "-j7"}, environment=environment) as gentoo:
        yield gentoo


@pytest.fixture(scope="module")
def built(alice: Gentoo, bob: Gentoo) -> tuple[Gentoo, Gentoo]:
    """Both builders, after both have built everything."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda gentoo: gentoo.emerge("--quiet", *PACKAGES), (alice, bob)):
            pass
    return alice, bob


def test_two_builders_get_the_same_packages(built):
    alice, bob = built
    assert alice.installed() == bob.installed() >= {"dev-libs/libdice-1.2", "app-misc/dice-0.9", "app-misc/starmap-1.4"}
    pairs = list(zip(alice.binary_packages(), bob.binary_packages(), strict=True))
    assert len(pairs) == len(alice.installed()) == 9
    for one, other in pairs:
        assert_same_package(one, other)


@pytest.mark.parametrize(
    ("change", "noticed"),
    [("sed -i s/Whom/Who/", r"greeter\.conf has other bytes"), ("chmod 600", r"greeter\.conf has another mode, owner or link")],
)
def test_the_comparison_notices_one_word_and_one_mode(built, change, noticed):
    """The test above would be worth nothing if these could pass it."""
    alice, bob = built
    bashrc = bob.outside("etc/portage/bashrc")
    bob.write("etc/portage/bashrc", f'[[ ${{EBUILD_PHASE}} == package ]] && {change} "${{D}}${{EPREFIX}}/etc/greeter.conf"\n')
    try:
        changed = built_again(bob, "app-admin/greeter")
    finally:
        bashrc.unlink()
    (package,) = [package for package in alice.binary_packages() if package.name == "greeter-3.1-1.gpkg.tar"]
    with pytest.raises(AssertionError, match=noticed):
        assert_same_package(package, changed)


def test_the_programs_run(built):
    alice, _ = built
    assert alice.run(["dice", "5", "20"]).output.count("\n") == 5
    assert alice.run(["starmap", "3"]).output.startswith("star 3 of 250000: ")
    assert alice.run(["sh", "-c", "printf 'b\\na\\nb\\n' | tally"]).output == "2 b\n1 a\n"
    assert alice.run(["greeter"]).output == "***Hello, everybody!***\n"
    assert alice.read("var/lib/greeter/version") == "3.1\n"


def test_the_big_packages_have_pieces_enough_for_several_peers(built):
    alice, _ = built
    sizes = {package.name: package.stat().st_size for package in alice.binary_packages()}
    assert sizes["libdice-1.2-1.gpkg.tar"] > SMALLEST_TORRENT
    assert sizes["starmap-1.4-1.gpkg.tar"] > SMALLEST_TORRENT


def test_the_repository_has_what_it_promises(built):
    alice, _ = built

    def recorded(package: str, key: str) -> str:
        return alice.read(f"var/db/pkg/{package}/{key}").strip()

    assert recorded("app-misc/dice-0.9", "RDEPEND") == "dev-libs/libdice:0/1="
    assert recorded("games-misc/riddles-1.0", "RESTRICT") == "bindist"
    assert recorded("app-misc/hello-1.1", "INHERITED") == "little-make"
    packages = {package.name.rsplit("-", 2)[0]: image(package) for package in alice.binary_packages()}
    odd = {path.removeprefix(f"image{alice.eprefix}/usr/"): entry for path, entry in packages["oddments"].items()}
    assert odd["bin/oddments"].mode == 0o4755
    assert odd["bin/oddments-absolute"].link == f"{alice.eprefix}/usr/bin/oddments"
    assert odd["share/oddments/hard-one"] == odd["share/oddments/hard-two"]
    assert odd["share/oddments/sticky"].mode == 0o1777
    assert "share/oddments/Grüße aus Köln.txt" in odd
    suffixes = {PurePath(path).suffix for entries in packages.values() for path in entries}
    assert suffixes >= {".gz", ".pyc", ".jar"}


def test_use_flags_change_the_result(built):
    alice, _ = built
    other = image(built_again(alice, "app-admin/greeter", USE="-frame report"))
    program = f"image{alice.eprefix}/usr/bin/greeter"
    assert f"{program}-report" in other
    assert b"***" not in other[program].content


def test_debug_information_can_be_split_off(home, built):
    with Gentoo.create(home, "dave", settings={"FEATURES": "splitdebug", "CFLAGS": "-O2 -pipe -g"}) as dave:
        dave.emerge("--quiet", "app-misc/hello")
        (package,) = dave.binary_packages()
    assert f"image{dave.eprefix}/usr/lib/debug{dave.eprefix}/usr/bin/hello.debug" in image(package)


def test_an_ordinary_user_builds_and_installs_the_same(home, built):
    """For an ordinary user every Gentoo here is one; root makes one more that is."""
    alice, _ = built
    with Gentoo.create(home, "carol", user=ORDINARY_USER if os.getuid() == 0 else None) as carol:
        carol.emerge("--quiet", "app-misc/dice", "app-misc/oddments")
        assert carol.installed() == {"app-misc/dice-0.9", "app-misc/oddments-0.3", "dev-libs/libdice-1.2"}
        assert carol.run(["dice"]).output == alice.run(["dice"]).output
        for package in carol.binary_packages():
            assert_same_package(package, alice.outside(package.relative_to(carol.root)))
