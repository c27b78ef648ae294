"""What Portage's own writers write is read, in both formats and every compression, and gives one digest (P2.7)."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from portage import gpkg as portage_gpkg
from portage import xpak as portage_xpak

from portage_p2pbin.binpkg.contents import Reading, read_package
from portage_p2pbin.binpkg.tar import TarReader
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from tests.handmade import GNU, IMAGE, METADATA, PACKAGE, archive, folder, long_text, manifest_line, member, nameless, with_image, xpak

PROGRAMS = {"zstd": "zstd", "gzip": "gzip", "bzip2": "bzip2", "lz4": "lz4", "lzip": "lzip", "lzop": "lzop", "xz": "xz", "none": "cat"}
COMPRESSIONS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed"))
    for name, program in PROGRAMS.items()
]


class Settings(dict[str, str]):
    """As much of Portage's configuration as its gpkg class asks for."""

    features: frozenset[str] = frozenset()

    def environ(self) -> dict[str, str]:
        return dict(os.environ)


def written_by_portage(root: Path, target: Path, compression: str) -> Path:
    settings = Settings(BINPKG_COMPRESS=compression, PORTAGE_BZIP2_COMMAND="bzip2")
    portage_gpkg.gpkg(settings, "hello-1-1", str(target)).compress(str(root), dict(METADATA))
    return target


def read(path: Path) -> Reading:
    with path.open("rb") as file:
        return read_package(file)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with everything that an image may hold."""
    root = tmp_path_factory.mktemp("image")
    root.chmod(0o755)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/zz").write_bytes(b"\x7fELF" * 5000)
    (root / "usr/bin/zz").chmod(0o4755)
    os.link(root / "usr/bin/zz", root / "usr/bin/aa")
    (root / "usr/é b\n#*[=\\").write_text("odd name")
    (root / "empty").mkdir()
    (root / "empty").chmod(0o1777)
    (root / "absolute").symlink_to("/etc/x y")
    long = root / ("d" * 120) / ("e" * 60)
    long.mkdir(parents=True)
    (long / ("f" * 120)).write_text("long")
    os.link(long / ("f" * 120), long / ("g" * 120))
    (root / ("n" * 130)).symlink_to("t" * 130)
    (root / ("h" * 100)).mkdir()
    os.utime(root / "usr/bin", (-1000, -1000))
    if os.geteuid() == 0:
        os.chown(root / "absolute", 1, 1, follow_symlinks=False)
        os.chown(root / "empty", 54321, 54321)
    return root


@pytest.fixture(scope="module")
def digest(root, tmp_path_factory) -> str:
    return read(written_by_portage(root, tmp_path_factory.mktemp("digest") / "p", "gzip")).digest


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_gpkg(root, digest, tmp_path, compression):
    assert read(written_by_portage(root, tmp_path / "p", compression)).digest == digest


@pytest.mark.parametrize("options", [[], ["--xattrs"], ["--sort=name"]])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_xpak(root, digest, tmp_path, compression, options):
    image = subprocess.run(["tar", *options, "-cf", "-", "-C", root, "."], capture_output=True, check=True).stdout
    packed = subprocess.run([PROGRAMS[compression]], input=image, capture_output=True, check=True).stdout
    segment = portage_xpak.xpak_mem(dict(METADATA))
    (tmp_path / "p").write_bytes(packed + segment + portage_xpak.encodeint(len(segment)) + b"STOP")
    assert read(tmp_path / "p").digest == digest


@pytest.mark.parametrize("length", [99, 100, 101, 130, 149, 150, 154, 155, 156, 200, 255])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_way_to_write_a_long_name(tmp_path, length, depth):
    root = tmp_path / "root"
    deep = root.joinpath(*["d" * length] * depth)
    deep.mkdir(parents=True)
    (deep / ("f" * length)).write_text("x")
    read(written_by_portage(root, tmp_path / "p", "none"))


def test_extended_attributes_are_hashed(root, digest, tmp_path):
    copy = tmp_path / "root"
    subprocess.run(["cp", "-a", root, copy], check=True)
    try:
        os.setxattr(copy / "usr/bin/zz", "user.x", b"1\n=")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    image = subprocess.run(["tar", "--xattrs", "-cf", "-", "-C", copy, "."], capture_output=True, check=True).stdout
    (tmp_path / "p").write_bytes(xpak(image))
    reading = read(tmp_path / "p")
    assert reading.digest != digest
    lines = [line for line in reading.manifest.decode().splitlines() if " xattr.user.x=310a3d" in line]
    assert [line.split()[0] for line in lines] == ["./image/usr/bin/aa", "./image/usr/bin/zz"]


# What Portage unpacks is what the manifest says -----------------------------------------------------------------------------------


def found(root: Path) -> Iterator[tuple[str, ...]]:
    """What is on disk: path, type and mode, owner, and content or target."""
    inodes: dict[int, list[str]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        name = "image" if path == root else f"image/{path.relative_to(root)}"
        content = sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)  # noqa: PTH115 - as it is: a Path would drop slashes
        inodes.setdefault(status.st_ino, []).append(name)
        if path != root:
            yield name, stat.filemode(status.st_mode), str(status.st_uid), str(status.st_gid), content
    yield from (("linked", *sorted(names)) for names in inodes.values() if len(names) > 1)


def stated(manifest: bytes) -> Iterator[tuple[str, ...]]:
    """The same as the manifest states it."""
    entries = {}
    for line in manifest.decode().splitlines()[1:]:
        path, *words = line.split(" ")
        entries[path] = dict(word.split("=", 1) for word in words)
    groups: dict[str, list[str]] = {}
    for path, entry in entries.items():
        if not path.startswith("./image/"):
            continue
        name = unescaped(path[2:])
        first = entry.get("link", "") if entry["type"] == "file" else ""
        if first:
            groups.setdefault(first, [unescaped(first[2:])]).append(name)
        kind = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "link": stat.S_IFLNK}[entry["type"]]
        content = unescaped(entry["link"]) if entry["type"] == "link" else entries[first or path].get("sha256digest", "")
        yield name, stat.filemode(kind | int(entry["mode"], 8)), entry["uid"], entry["gid"], content
    yield from (("linked", *sorted(names)) for names in groups.values())


def unescaped(path: str) -> str:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path.encode()).decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and modes as they are")
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_what_portage_unpacks_is_what_the_manifest_says(root, tmp_path, compression):
    package = written_by_portage(root, tmp_path / "p", compression)
    portage_gpkg.gpkg(Settings(), "hello-1-1", str(package)).decompress(str(tmp_path / "unpacked"))
    assert sorted(found(tmp_path / "unpacked")) == sorted(stated(read(package).manifest))


HANDMADE = {
    "usual": PACKAGE,
    "names": with_image(member("image/usr/é".encode(), b"1"), member(b"image/usr/a b\n", b"2")),
    "long name": with_image(long_text(b"L", b"image/" + b"n" * 110), member((b"image/" + b"n" * 110)[:100], b"3", magic=GNU)),
    "prefix": with_image(folder("image/" + "d" * 60), member(b"n" * 50, b"4", prefix=b"image/" + b"d" * 60)),
    "old time": with_image(member("image/usr/x", mtime=b"\xff" * 12, magic=GNU)),
    "big owner": with_image(member("image/usr/x", uid=b"\x80\0\0\0\x7f\xff\xff\xff", uname=b"", magic=GNU)),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and modes as they are")
@pytest.mark.parametrize("name", HANDMADE)
def test_what_portage_unpacks_of_odd_packages_is_what_the_manifest_says(tmp_path, name):
    package = tmp_path / "p"
    package.write_bytes(HANDMADE[name].bytes())
    portage_gpkg.gpkg(Settings(), "hello-1-1", str(package)).decompress(str(tmp_path / "unpacked"))
    assert sorted(found(tmp_path / "unpacked")) == sorted(stated(read(package).manifest))


# The packages that tests make by hand ---------------------------------------------------------------------------------------------


def test_the_headers_that_tests_make_are_those_of_the_standard_library():
    info = tarfile.TarInfo("image/usr/hello")
    info.size, info.mtime, info.uname, info.gname = 5, int("14524330000", 8), "root", "root"
    assert member("image/usr/hello", b"hello")[:512] == info.tobuf(tarfile.USTAR_FORMAT)
    info.name = "image/" + "n" * 110
    assert long_text(b"L", info.name.encode()) + member(info.name[:100], b"hello", magic=GNU)[:512] == info.tobuf(tarfile.GNU_FORMAT)


def test_archives_that_tests_make_end_as_those_of_the_standard_library():
    target = io.BytesIO()
    tarfile.open(mode="w|", fileobj=target, format=tarfile.USTAR_FORMAT).close()
    assert archive() == target.getvalue()


def test_a_checksum_of_high_bytes_is_exact():
    name, link = "image/" + "\U0010ffff" * 23, "\U0010ffff" * 25
    read_package(with_image(member(name, kind=b"2", link=link.encode(), mode=b"0000777\0")).file())


def test_the_order_of_members_does_not_matter():
    first, second, third = IMAGE
    a = PACKAGE.but(image=archive(first, second, third, folder("image/etc")))
    b = PACKAGE.but(image=archive(first, folder("image/etc"), second, third))
    assert read_package(a.file()).manifest == read_package(b.file()).manifest


def test_a_signed_package_is_read_and_its_signatures_are_droppings():
    text = PACKAGE.manifest_text().splitlines(keepends=True)
    lines = [text[0], text[1], manifest_line("metadata.tar.sig", b"m"), text[2], manifest_line("image.tar.sig", b"i")]
    signature = "-----BEGIN PGP SIGNATURE-----\n\naGVsbG8=\n=aaaa\n-----END PGP SIGNATURE-----\n"
    manifest = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{''.join(lines)}{signature}"
    parts = [nameless(f"hello-1-1/{name}", content) for name, content in PACKAGE.parts()]
    signatures = [nameless("hello-1-1/metadata.tar.sig", b"m"), nameless("hello-1-1/image.tar.sig", b"i")]

    def package(text: str) -> io.BytesIO:
        end = nameless("hello-1-1/Manifest", text.encode())
        return io.BytesIO(archive(parts[0], parts[1], signatures[0], parts[2], signatures[1], end))

    reading = read_package(package(manifest))
    assert reading.droppings == ("signature",)
    assert reading.digest == read_package(PACKAGE.file()).digest
    with pytest.raises(RefusedError, match="not signed, unlike"):
        read_package(package("".join(lines)))


def test_a_program_that_is_not_installed_is_no_refusal(tmp_path, monkeypatch):
    image = subprocess.run(["zstd", "-c"], input=PACKAGE.image, capture_output=True, check=True).stdout
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="zstd is not installed"):
        read_package(PACKAGE.but(image=image, image_name="image.tar.zst").file())


def test_a_member_that_is_not_taken_is_a_bug_of_the_caller():
    tar = iter(TarReader(io.BytesIO(PACKAGE.image), "image"))
    with pytest.raises(RuntimeError, match="not taken"):
        list(tar)


def test_an_xpak_is_never_what_is_shipped():
    """Portage tells formats by the name of a file, so a file with both would be read as the other one."""
    assert read_package(io.BytesIO(xpak(archive(folder(".", magic=GNU))))).droppings == ("the xpak format",)
