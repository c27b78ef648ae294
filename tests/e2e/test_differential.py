"""For every accepted package, what real Portage unpacks and what bash sources is what the manifest says (P2.1 to P2.4).

Portage's gpkg class, GNU tar as Portage calls it for an xpak, and bash are asked about the same bytes as our reader: for all packages
of the test repository as real emerge built them, for odd ones that are accepted, and for trees that Hypothesis makes.
"""

from __future__ import annotations

import bz2
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from portage import gpkg as portage_gpkg
from portage import xpak as portage_xpak

from portage_p2pbin.binpkg.environment import parse
from portage_p2pbin.binpkg.environment_names import REFUSED_VARIABLES
from portage_p2pbin.binpkg.metadata import CLEANED_KEYS, ENVIRONMENT, PER_EVENT, in_order
from portage_p2pbin.binpkg.normalise import normalise
from portage_p2pbin.binpkg.tar import FILE, Attributes, Member, Owner
from tests.bash import bash
from tests.handmade import GNU, IMAGE, METADATA, PACKAGE, archive, folder, gzipped, hard_link, long_text, member, symlink, with_image, xpak
from tests.test_container import Settings, found, read, stated, written_by_portage
from tests.throwaway import Gentoo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and modes as they are")

WANTED = ["app-admin/greeter", "app-misc/hello", "app-misc/oddments", "app-misc/starmap", "dev-java/phrasebook", "dev-python/tally"]
PACKAGES = [*WANTED, "app-misc/dice", "dev-libs/libdice", "games-misc/riddles"]
FORMATS = ["zstd", "xz", "xpak"]


def unpacked(package: Path, target: Path) -> Path:
    """What Portage unpacks of a package, in the folder `target`."""
    if package.suffix != ".xpak":
        portage_gpkg.gpkg(Settings(), "hello-1-1", str(package)).decompress(str(target))
        return target
    target.mkdir()
    pieces = portage_xpak.tbz2(str(package))
    pieces.scan()
    image = package.read_bytes()[: pieces.filestat.st_size - pieces.xpaksize]
    image = subprocess.run(["gzip", "-dcf"], input=image, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-xp", "-C", target, "-f", "-"], input=image, check=True)  # _emerge/BinpkgExtractorAsync.py
    return target


def portages_metadata(package: Path) -> dict[str, bytes]:
    if package.suffix != ".xpak":
        return dict(portage_gpkg.gpkg(Settings(), "hello-1-1", str(package)).get_metadata())
    return {key.decode(): value for key, value in portage_xpak.tbz2(str(package)).get_data().items()}


def written_as_xpak(root: Path, target: Path, metadata: Mapping[str, bytes] = METADATA, *options: str) -> Path:
    """An xpak as misc-functions.sh and xpak(5) make it."""
    image = subprocess.run(["tar", *options, "-cf", "-", "-C", root, "."], stdout=subprocess.PIPE, check=True).stdout
    target.write_bytes(xpak(gzipped(image), metadata))
    return target


def assert_unpacked_as_stated(package: Path, target: Path) -> None:
    there = (normalised(target, *entry) for entry in found(unpacked(package, target)))
    assert sorted(there) == sorted(stated(read(package).manifest))


def normalised(root: Path, name: str, mode: str, *rest: str) -> tuple[str, ...]:
    """What was found on disk, with the digest of what is hashed of a file (P2.6)."""
    if not mode.startswith("-"):
        return name, mode, *rest
    path = root / name.removeprefix("image/")
    content = bytearray(path.read_bytes())
    attributes = Attributes(FILE, path.stat().st_mode & 0o7777, Owner(0, "root", 0, "root"))
    normalise(Member(name.encode(), attributes, len(content), b""), memoryview(content))
    return name, mode, *rest[:2], sha256(content).hexdigest()


# The packages of the test repository -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built() -> Iterator[Mapping[str, Path]]:
    """Each package, by its name and its format: built by emerge, and written anew by Portage's other writers."""
    with (
        tempfile.TemporaryDirectory(prefix="p2pbin-") as home,
        tempfile.TemporaryDirectory(prefix="p2pbin-") as other,
        Gentoo.create(Path(home), "b") as gentoo,
    ):
        gentoo.emerge("--quiet", "games-misc/riddles", *WANTED)
        made = {}
        for package in gentoo.binary_packages():
            name = f"{package.parent.parent.name}/{package.parent.name}"
            metadata = portages_metadata(package)
            root = unpacked(package, Path(other, name.replace("/", "-")))
            made[f"{name} zstd"] = package
            made[f"{name} xz"] = Path(other, f"{package.name}.xz")
            portage_gpkg.gpkg(Settings(BINPKG_COMPRESS="xz"), package.name.removesuffix(".gpkg.tar"), str(made[f"{name} xz"])).compress(
                str(root), metadata
            )
            made[f"{name} xpak"] = written_as_xpak(root, Path(other, f"{package.name}.xpak"), metadata)
        yield made


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", PACKAGES)
def test_the_image_that_portage_unpacks(built, tmp_path, name, form):
    assert_unpacked_as_stated(built[f"{name} {form}"], tmp_path / "unpacked")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", PACKAGES)
def test_the_metadata_that_portage_reads(built, name, form):
    package = built[f"{name} {form}"]
    of_portage = {
        f"./metadata/{key} type=file size={len(value)} sha256digest={sha256(in_order(key, value)).hexdigest()}"
        for key, value in portages_metadata(package).items()
        if key not in PER_EVENT | CLEANED_KEYS | {ENVIRONMENT}
    }
    ours = {line for line in read(package).manifest.decode().splitlines() if line.startswith("./metadata/")}
    assert {line for line in ours if not line.startswith(f"./metadata/{ENVIRONMENT} ")} == of_portage


@pytest.mark.parametrize("name", PACKAGES)
def test_every_format_has_one_digest(built, name):
    assert len({read(built[f"{name} {form}"]).digest for form in FORMATS}) == 1


# Environments ------------------------------------------------------------------------------------------------------------------

SOURCED = "shopt -s extglob\nsource /dev/stdin\n"


def variables(text: bytes) -> dict[bytes, bytes]:
    """What bash has for each variable that `text` sets, as it prints it itself; not those that are bash's own."""
    show = 'for name in $(compgen -v); do declare -p "${name}"; echo; done\n'
    shown = [frozenset(bash(f"LC_ALL=C\n{source}{show}", text).split(b"\n\n")) for source in ("shopt -s extglob\n", SOURCED)]
    lines = {line.split(b" ", 2)[2].partition(b"=")[0]: line for line in shown[1] - shown[0]}
    return {name: line for name, line in lines.items() if name not in REFUSED_VARIABLES}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_variables_that_bash_sources(built, name):
    metadata = portages_metadata(built[f"{name} zstd"])
    (ebuild,) = (value for key, value in metadata.items() if key.endswith(".ebuild"))
    text = bz2.decompress(metadata[ENVIRONMENT])
    environment = parse(text)
    sourced = variables(text)
    dropped = {one.encode() for one in environment.droppings(ebuild)}
    assert {one.name for one in environment.variables if b"=" in one.line()} == sourced.keys() | {b"SHELL"}  # bash sets SHELL itself
    assert variables(environment.hashed(ebuild)) == {key: line for key, line in sourced.items() if key not in dropped}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_functions_that_bash_sources(built, name):
    text = bz2.decompress(portages_metadata(built[f"{name} zstd"])[ENVIRONMENT])
    environment = parse(text)
    assert bash(f"{SOURCED}declare -fp", text) == b"".join(one.text for one in environment.functions)


# Odd packages that are accepted ------------------------------------------------------------------------------------------------

LONG = b"image/" + b"n" * 110
ROOT, USR, HELLO = IMAGE
GPKGS = {
    "the root comes late": PACKAGE.but(image=archive(USR, HELLO, ROOT)),
    "no root": PACKAGE.but(image=archive(USR, HELLO)),
    "GNU headers": PACKAGE.but(
        image=archive(*(folder(name, magic=GNU) for name in ("image", "image/usr")), member("image/x", b"1", magic=GNU))
    ),
    "both headers": with_image(member("image/x", b"1", magic=GNU), member("image/y", b"2")),
    "long name": with_image(long_text(b"L", LONG), member(LONG[:100], b"3", magic=GNU)),
    "long link": with_image(long_text(b"K", b"t" * 3000), member("image/l", kind=b"2", mode=b"0000777\0", link=b"t" * 100, magic=GNU)),
    "long name and link": with_image(
        long_text(b"K", b"t" * 101), long_text(b"L", LONG), member(LONG[:100], kind=b"2", mode=b"0000777\0", link=b"t" * 100, magic=GNU)
    ),
    "hard link to a long name": with_image(
        long_text(b"L", LONG),
        member(LONG[:100], b"4", magic=GNU),
        long_text(b"K", LONG),
        member("image/a", kind=b"1", link=LONG[:100], magic=GNU),
    ),
    "name of 100": with_image(member(b"image/" + b"n" * 94, b"5")),
    "prefix": with_image(folder("image/" + "d" * 60), member(b"n" * 50, b"6", prefix=b"image/" + b"d" * 60)),
    "hard links from behind": with_image(member("image/z", b"7"), hard_link("image/a", "image/z"), hard_link("image/m", "image/z")),
    "setuid for both names": with_image(member("image/s", b"8", mode=b"0006755\0"), hard_link("image/t", "image/s", mode=b"0006755\0")),
    "modes": with_image(member("image/x", b"9", mode=b"0000000\0"), folder("image/y", mode=b"0003700\0")),
    "names of the shell": with_image(member("image/$(id) `id` *?[", b"10"), symlink("image/-rf", "$HOME")),
    "numbers that are nobody's": with_image(member("image/x", uid=b"0154321\0", gid=b"0154321\0", uname=b"", gname=b"")),
    "before 1970": with_image(member("image/x", mtime=b"\xff" * 12, magic=GNU)),
}


@pytest.mark.parametrize("name", GPKGS)
def test_an_odd_gpkg(tmp_path, name):
    package = tmp_path / "p"
    package.write_bytes(GPKGS[name].bytes())
    assert_unpacked_as_stated(package, tmp_path / "unpacked")


# Trees that Hypothesis makes ---------------------------------------------------------------------------------------------------

SHORT = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=90, max_size=160)
NAMES = (SHORT | ASCII).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
MODES = st.sampled_from([0o644, 0o755]) | st.integers(0, 0o7777)
# Portage's writer has seven octal digits for an owner.
OWNERS = st.sampled_from([0, 1, 54321, 2_000_000])
FILES = st.tuples(st.just("file"), st.binary(max_size=1200), MODES, OWNERS)
LINKS = st.tuples(st.just("symlink"), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300))
HARD_LINKS = st.tuples(st.just("hard"), st.integers(0, 9))
FOLDERS = st.recursive(st.just({}), lambda inner: st.dictionaries(NAMES, FILES | LINKS | HARD_LINKS | inner, max_size=8), max_leaves=20)


def plant(root: Path, tree: Mapping[str, object], files: list[Path]) -> None:
    """Make `tree` below `root`; a hard link takes one of the files that were made before."""
    for name, node in tree.items():
        path = root / name
        match node:
            case ("file", bytes(content), int(mode), int(owner)):
                path.write_bytes(content)
                os.chown(path, owner, owner)
                path.chmod(mode)
                files.append(path)
            case ("symlink", str(target)) if len(target.encode()) < 1000:
                path.symlink_to(target)
            case ("hard", int(number)) if files:
                os.link(files[number % len(files)], path)
            case dict():
                path.mkdir()
                plant(path, node, files)


@settings(max_examples=20)
@example({"one": ("symlink", "a//b/./"), "two": ("file", b"x", 0o644, 0), "three": ("file", b"y", 0o644, 0)})
@example({"d" * 100: {"é" * 50: ("file", b"", 0o4755, 0), "b": ("hard", 0)}})
@given(FOLDERS)
def test_a_tree_of_any_shape(tree):
    with tempfile.TemporaryDirectory() as home:
        root = Path(home, "root")
        root.mkdir()
        plant(root, tree, [])
        digests = set()
        for name, package in (
            ("gpkg", written_by_portage(root, Path(home, "p"), "gzip")),
            ("gnu", written_as_xpak(root, Path(home, "gnu.xpak"))),
            ("pax", written_as_xpak(root, Path(home, "pax.xpak"), METADATA, "--format=posix", "--sort=name")),
        ):
            assert_unpacked_as_stated(package, Path(home, name))
            assert sorted(found(root)) == sorted(found(Path(home, name)))
            digests.add(read(package).digest)
        assert len(digests) == 1
