"""Packages that are right but for one thing: each is refused with its rule and its reason (P2.2 to P2.4).

They test the guards of portage_p2pbin.binpkg.tar, portage_p2pbin.binpkg.gpkg, portage_p2pbin.binpkg.xpak, portage_p2pbin.binpkg.frames,
portage_p2pbin.binpkg.compression, portage_p2pbin.binpkg.manifest and portage_p2pbin.binpkg.metadata.
"""

from __future__ import annotations

import bz2
import io
import shutil
import subprocess

import pytest

from portage_p2pbin.binpkg import compression, manifest, metadata, tar
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import (
    GNU,
    IMAGE,
    METADATA,
    PACKAGE,
    Gpkg,
    archive,
    folder,
    gzipped,
    hard_link,
    long_text,
    member,
    nameless,
    symlink,
    with_image,
    with_metadata,
    xpak,
)


def refusal(package: Gpkg | bytes) -> RefusedError:
    file = package.file() if isinstance(package, Gpkg) else io.BytesIO(package)
    with pytest.raises(RefusedError) as refused:
        read_package(file)
    return refused.value


def test_the_package_that_the_faults_are_made_from_is_right():
    assert read_package(PACKAGE.file()).droppings == ()


LONG = b"image/" + b"n" * 110
TAR_FAULTS = [
    # names
    ("dot dot", with_image(member("image/usr/../evil")), "not below a folder"),
    ("dot dot at the end", with_image(folder("image/usr/..")), "not a normal one"),
    ("dot", with_image(member("image/usr/.")), "not a normal one"),
    ("absolute", with_image(member("/etc/passwd")), "not below a folder"),
    ("outside image", with_image(member("etc")), "not below a folder"),
    ("beside image", with_image(folder("other")), "not below a folder"),
    ("image is a link", PACKAGE.but(image=archive(symlink("image", "/etc"))), "not below a folder"),
    ("empty component", with_image(member("image/usr//x")), "not below a folder"),
    ("file name ends in a slash", with_image(member("image/usr/x/")), "not below a folder"),
    ("dot slash", with_image(member("./image/usr/x")), "not below a folder"),
    ("twice", with_image(member("image/usr/hello", b"evil")), "there twice"),
    ("folder twice", with_image(folder("image/usr")), "there twice"),
    ("below a link", with_image(symlink("image/lib", "usr"), member("image/lib/x")), "not below a folder"),
    ("below a file", with_image(member("image/usr/hello/x")), "not below a folder"),
    (
        "folder after its file",
        PACKAGE.but(image=archive(folder("image"), member("image/usr/x"), folder("image/usr"))),
        "not below a folder",
    ),
    ("not UTF-8", with_image(member(b"image/usr/\xe9")), "not UTF-8"),
    ("link not UTF-8", with_image(member("image/usr/l", kind=b"2", link=b"\xe9")), "not UTF-8"),
    ("NUL in a name", with_image(member(b"image/usr/a\0b")), "NUL byte"),
    ("NUL in a link", with_image(member("image/usr/l", kind=b"2", link=b"a\0b")), "NUL byte"),
    (
        "component too long",
        with_image(long_text(b"L", b"image/" + b"n" * 256), member(b"image/" + b"n" * 94, magic=GNU)),
        "not a normal one",
    ),
    ("100 kB name", with_image(long_text(b"L", b"image/" + b"n" * 100_000), member(b"image/" + b"n" * 94, magic=GNU)), "long name header"),
    # hard links
    ("hard link to nowhere", with_image(hard_link("image/usr/l", "image/usr/nothing")), "hard link to something"),
    ("hard link outside", with_image(hard_link("image/usr/l", "/etc/shadow")), "hard link to something"),
    ("hard link to a folder", with_image(hard_link("image/usr/l", "image/usr")), "hard link to something"),
    ("hard link to a later file", with_image(hard_link("image/usr/l", "image/usr/m"), member("image/usr/m")), "hard link to something"),
    ("hard link with setuid", with_image(hard_link("image/usr/l", "image/usr/hello", mode=b"0004755\0")), "another mode or owner"),
    ("hard link without target", with_image(member("image/usr/l", kind=b"1")), "do not fit its type"),
    # types
    ("character device", with_image(member("image/usr/d", kind=b"3", devices=b"0000001\0" * 2)), "type b'3'"),
    ("block device", with_image(member("image/usr/d", kind=b"4", devices=b"0000001\0" * 2)), "type b'4'"),
    ("fifo", with_image(member("image/usr/d", kind=b"6")), "type b'6'"),
    ("contiguous file", with_image(member("image/usr/d", kind=b"7")), "type b'7'"),
    ("unknown type", with_image(member("image/usr/d", kind=b"Z")), "type b'Z'"),
    ("sparse", with_image(member("image/usr/d", kind=b"S", magic=GNU)), "type b'S'"),
    ("old file type", with_image(member("image/usr/d", kind=b"\0")), "something follows the end"),
    ("pax header", with_image(member("PaxHeader/x", b"17 path=image/usr\n", kind=b"x"), member("image/usr/x")), "type b'x'"),
    ("global pax header", with_image(member("PaxHeader/x", b"17 path=image/usr\n", kind=b"g"), member("image/usr/x")), "type b'g'"),
    ("folder with a size", with_image(folder("image/d", size=b"00000001000\0")), "do not fit its type"),
    ("link with a size", with_image(symlink("image/d", "x", size=b"00000001000\0")), "do not fit its type"),
    ("file with a link", with_image(member("image/d", link=b"x")), "do not fit its type"),
    ("folder without a slash", with_image(member("image/d", kind=b"5")), "does not end in a slash"),
    # header fields
    ("wrong checksum", with_image(member("image/usr/x", checksum=b"000001\0 ")), "checksum is wrong"),
    ("checksum with a leading space", with_image(member("image/usr/x", checksum=b" 11042\0 ")), "checksum is wrong"),
    ("underscore in a number", with_image(member("image/usr/x", size=b"0000000_000\0")), "number that the writer"),
    ("space in a number", with_image(member("image/usr/x", size=b"         00\0")), "number that the writer"),
    ("number without end", with_image(member("image/usr/x", size=b"000000000000")), "number that the writer"),
    ("odd mtime", with_image(member("image/usr/x", mtime=b"1452433000 \0")), "number that the writer"),
    ("small number in base 256", with_image(member("image/usr/x", size=b"\x80" + bytes(11), magic=GNU)), "number that the writer"),
    ("base 256 in ustar", with_image(member("image/usr/x", mtime=b"\x80" + b"\x01" * 11)), "number that the writer"),
    ("negative size", with_image(member("image/usr/x", size=b"\xff" * 12, magic=GNU)), "do not fit its type"),
    ("negative owner", with_image(member("image/usr/x", uid=b"\xff" * 8, uname=b"", magic=GNU)), "negative owner"),
    ("mode with a file type", with_image(member("image/usr/x", mode=b"0100644\0")), "mode that the writer"),
    ("mode with a space", with_image(member("image/usr/x", mode=b"000644 \0")), "mode that the writer"),
    ("v7 header", with_image(member("image/usr/x", magic=bytes(8))), "another format"),
    ("device numbers of a file", with_image(member("image/usr/x", devices=b"0000000\0" * 2)), "another format"),
    ("owner name that is none", with_image(member("image/usr/x", uid=b"0000001\0", uname=b"../x")), "not an account's"),
    ("owner name with a NUL", with_image(member("image/usr/x", uname=b"root\0x")), "not an account's"),
    ("uid 0 is not root", with_image(member("image/usr/x", uname=b"daemon")), "disagree about root"),
    ("root is not uid 0", with_image(member("image/usr/x", uid=b"0001750\0")), "disagree about root"),
    ("gid 0 is not root", with_image(member("image/usr/x", gname=b"wheel")), "disagree about root"),
    ("group root is not gid 0", with_image(member("image/usr/x", gid=b"0001750\0")), "disagree about root"),
    ("bytes after the prefix", with_image(member("image/usr/x", rest=b"hidden bytes")), "split at another slash"),
    ("short name with a prefix", with_image(member("usr/x", prefix=b"image")), "split at another slash"),
    ("prefix under GNU magic", with_image(member(b"n" * 98, prefix=b"image", magic=GNU)), "split at another slash"),
    ("split too late", with_image(member(b"n" * 50, prefix=b"image/" + b"d" * 40 + b"/" + b"e" * 40)), "split at another slash"),
    # long names
    ("long name for a short one", with_image(long_text(b"L", b"image/usr/x"), member("image/usr/x", magic=GNU)), "long name header"),
    ("long name of another file", with_image(long_text(b"L", LONG), member("image/usr/x", magic=GNU)), "long name that differs"),
    ("long name before ustar", with_image(long_text(b"L", LONG), member(LONG[:100])), "long name that differs"),
    ("long name and prefix", with_image(long_text(b"L", LONG), member(LONG[:100], prefix=b"x", magic=GNU)), "long name that differs"),
    (
        "long link of another link",
        with_image(long_text(b"K", LONG), member("image/l", kind=b"2", link=b"x", magic=GNU)),
        "long link target",
    ),
    ("long name twice", with_image(long_text(b"L", LONG), long_text(b"L", LONG), member(LONG[:100], magic=GNU)), "type b'L'"),
    ("long name with a NUL", with_image(long_text(b"L", LONG + b"\0x"), member(LONG[:100], magic=GNU)), "does not end where"),
    (
        "long name that hides bytes",
        with_image(long_text(b"L", LONG).rstrip(b"\0").ljust(1023, b"\0") + b"x", member(LONG[:100], magic=GNU)),
        "after a long name",
    ),
    # the stream
    ("padding", PACKAGE.but(image=PACKAGE.image.replace(b"hello" + bytes(507), b"hello" + bytes(506) + b"x")), "padding after a file"),
    ("cut off", PACKAGE.but(image=PACKAGE.image[:1800]), "ends in the middle"),
    ("cut off before the end blocks", PACKAGE.but(image=b"".join(IMAGE)), "ends in the middle"),
    ("one end block", PACKAGE.but(image=b"".join(IMAGE) + bytes(512)), "does not end where"),
    ("no whole record", PACKAGE.but(image=PACKAGE.image[:-512]), "does not end where"),
    ("another record of zeros", PACKAGE.but(image=PACKAGE.image + bytes(10240)), "does not end where"),
    ("a member after the end", PACKAGE.but(image=b"".join(IMAGE) + bytes(1024) + archive(member("image/usr/evil"))), "follows the end"),
    ("a member after a far end", PACKAGE.but(image=PACKAGE.image + bytes(2 << 20) + archive(member("image/usr/evil"))), "follows the end"),
]


@pytest.mark.parametrize(("package", "reason"), [fault[1:] for fault in TAR_FAULTS], ids=[fault[0] for fault in TAR_FAULTS])
def test_an_image_that_the_writer_would_not_have_written(package, reason):
    error = refusal(package)
    assert error.rule == "P2.2"
    assert reason in error.reason


def test_a_name_that_comes_twice_by_two_spellings_of_its_header():
    long = "image/" + "d" * 90 + "/" + "n" * 50
    by_prefix = member(b"n" * 50, prefix=b"image/" + b"d" * 90)
    by_long_name = long_text(b"L", long.encode()) + member(long.encode()[:100], magic=GNU)
    error = refusal(with_image(folder("image/" + "d" * 90), by_prefix, by_long_name))
    assert (error.rule, error.reason) == ("P2.2", "it is there twice")


PARTS = [
    ("absent gpkg-1", PACKAGE.bytes()[512:] + bytes(512), "it has metadata.tar where gpkg-1 should be"),
    ("gpkg-1 with content", PACKAGE.but(version=b"x"), "not empty"),
    ("another version", PACKAGE.but(before=nameless("hello-1-1/gpkg-2")), "it has gpkg-2 where gpkg-1 should be"),
    ("a member before", PACKAGE.but(before=nameless("hello-1-1/README")), "it has README where gpkg-1"),
    ("a second image", PACKAGE.but(between=nameless("hello-1-1/image.tar", archive())), "it has image.tar where Manifest"),
    (
        "an image of two formats",
        PACKAGE.but(between=nameless("hello-1-1/image.tar.gz", gzipped(PACKAGE.image))),
        "it has image.tar where Manifest",
    ),
    ("a second metadata part", PACKAGE.but(between=nameless("hello-1-1/metadata.tar.gz")), "it has metadata.tar.gz where image"),
    ("a member after", PACKAGE.but(after=nameless("hello-1-1/README")), "something follows its Manifest"),
    ("two folders", PACKAGE.but(between=nameless("other-1-1/image.tar", archive())), "not in one folder"),
    ("no folder", PACKAGE.but(folder="."), "not in one folder with a normal name"),
    ("folder dot dot", PACKAGE.but(folder=".."), "not in one folder with a normal name"),
    ("image in a folder below", PACKAGE.but(image_name="x/image.tar"), "where image should be"),
    ("unknown compression", PACKAGE.but(image_name="image.tar.br"), "not one that can be unpacked"),
    ("suffix of two", PACKAGE.but(image_name="image.tar.gz.gz"), "where image should be"),
    ("owner in the container", PACKAGE.but(before=member("hello-1-1/gpkg-1")), "header is not as Portage writes it"),
    ("trailing data", PACKAGE.bytes() + b"x" * 10240, "something follows the end"),
    ("trailing zeros", PACKAGE.bytes() + bytes(10240), "does not end where"),
    ("cut off", PACKAGE.bytes()[:-10240], "ends in the middle"),
    ("nothing but gpkg-1", archive(nameless("hello-1-1/gpkg-1")), "it has no metadata"),
    ("one signature", PACKAGE.but(between=nameless("hello-1-1/metadata.tar.sig", b"x")), "only one of the two"),
    ("empty file", b"", "ends in the middle"),
    ("not a package", b"x" * 10240, "checksum is wrong"),
]


@pytest.mark.parametrize(("package", "reason"), [fault[1:] for fault in PARTS], ids=[fault[0] for fault in PARTS])
def test_other_parts_than_a_package_has(package, reason):
    error = refusal(package)
    assert error.rule == "P2.2"
    assert reason in error.reason


RIGHT = PACKAGE.manifest_text()
LINES = RIGHT.splitlines(keepends=True)
SIGNATURE = "-----BEGIN PGP SIGNATURE-----\n\naGVsbG8=\n-----END PGP SIGNATURE-----\n"
MANIFESTS = [
    ("empty", "", "does not list"),
    ("a line too few", "".join(LINES[:-1]), "does not list"),
    ("a line too many", RIGHT + LINES[0], "does not list"),
    ("another order", "".join(reversed(LINES)), "disagrees about gpkg-1"),
    ("no end of line", RIGHT[:-1], "does not list"),
    ("another size", RIGHT.replace("image.tar 10240", "image.tar 10241"), "disagrees about image.tar"),
    ("another hash", RIGHT[:-2] + ("0" if RIGHT[-2] != "0" else "1") + "\n", "disagrees about image.tar"),
    ("one hash only", "".join(line.partition(" BLAKE2B")[0] + "\n" for line in LINES), "disagrees about gpkg-1"),
    ("spaces", RIGHT.replace("DATA ", "DATA  "), "disagrees about gpkg-1"),
    ("not ASCII", RIGHT + "é", "not ASCII"),
    ("signed, unlike the archives", f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{RIGHT}{SIGNATURE}", "does not list"),
    ("too long", "DATA x\n" * 4000, "more than"),
]


@pytest.mark.parametrize(("text", "reason"), [fault[1:] for fault in MANIFESTS], ids=[fault[0] for fault in MANIFESTS])
def test_a_manifest_that_disagrees(text, reason):
    error = refusal(PACKAGE.but(manifest=text))
    assert (error.rule, error.what) == ("P2.2", "Manifest")
    assert reason in error.reason


METADATA_FAULTS = [
    ("PF is absent", with_metadata(PF=b"other-1\n"), "P2.3", "each once"),
    ("second ebuild", with_metadata(**{"other-1.ebuild": b""}), "P2.3", "each once"),
    ("no environment", PACKAGE.but(metadata={k: v for k, v in METADATA.items() if k != "environment.bz2"}), "P2.3", "each once"),
    ("BUILD_ID is no number", with_metadata(BUILD_ID=b"1 2\n"), "P2.3", "digits only"),
    ("BUILD_TIME is no number", with_metadata(BUILD_TIME="٣\n".encode()), "P2.3", "digits only"),
    ("SIZE is no number", with_metadata(SIZE=b"1_0\n"), "P2.3", "digits only"),
    ("SIZE is two lines", with_metadata(SIZE=b"1\n\n"), "P2.3", "digits only"),
    ("not UTF-8", with_metadata(DESCRIPTION=b"\xe9"), "P2.3", "not UTF-8"),
    ("a folder", PACKAGE.but(metadata=archive(folder("metadata/x", uname=b"", gname=b""))), "P2.2", "not a metadata key"),
    ("a link", PACKAGE.but(metadata=archive(symlink("metadata/x", "y", uname=b"", gname=b""))), "P2.2", "not a metadata key"),
    ("in a folder", PACKAGE.but(metadata=archive(nameless("metadata/a/b"))), "P2.3", "not a metadata key"),
    ("elsewhere", PACKAGE.but(metadata=archive(nameless("image/a"))), "P2.2", "not a metadata key"),
    ("dot", PACKAGE.but(metadata=archive(nameless("metadata/."))), "P2.3", "not a metadata key"),
    ("hidden", PACKAGE.but(metadata=archive(nameless("metadata/.PF"))), "P2.3", "not a metadata key"),
    ("executable", PACKAGE.but(metadata=archive(nameless("metadata/x", mode=b"0000755\0"))), "P2.2", "not a metadata key"),
    ("twice", PACKAGE.but(metadata=archive(nameless("metadata/PF"), nameless("metadata/PF"))), "P2.3", "there twice"),
    ("environment is not bzip2", with_metadata(**{"environment.bz2": b"declare -x A=1\n"}), "P2.4", "cannot be unpacked"),
    ("environment is cut off", with_metadata(**{"environment.bz2": METADATA["environment.bz2"][:-1]}), "P2.4", "not one bzip2 stream"),
    ("two environments", with_metadata(**{"environment.bz2": METADATA["environment.bz2"] * 2}), "P2.4", "not one bzip2 stream"),
    ("environment that is a bomb", with_metadata(**{"environment.bz2": bz2.compress(bytes(5 << 20))}), "P2.4", "not one bzip2 stream"),
    ("command in the environment", with_metadata(**{"environment.bz2": bz2.compress(b'declare -x A="$(id)"\n')}), "P2.4", ""),
]


@pytest.mark.parametrize(
    ("package", "rule", "reason"), [fault[1:] for fault in METADATA_FAULTS], ids=[fault[0] for fault in METADATA_FAULTS]
)
def test_metadata_that_portage_does_not_write(package, rule, reason):
    error = refusal(package)
    assert error.rule == rule
    assert reason in error.reason


def test_too_much_metadata(monkeypatch):
    monkeypatch.setattr(metadata, "MOST_METADATA", 1000)
    assert "more than 1000 bytes" in refusal(with_metadata(DESCRIPTION=b"x" * 1000)).reason


def test_too_many_keys(monkeypatch):
    monkeypatch.setattr(metadata, "MOST_KEYS", len(METADATA) - 1)
    assert "keys" in refusal(PACKAGE).reason


def test_too_many_entries(monkeypatch):
    monkeypatch.setattr(manifest, "MOST_ENTRIES", 7)
    assert "more than 7 entries" in refusal(with_image()).reason


def test_too_many_owners(monkeypatch):
    monkeypatch.setattr(tar, "MOST_ATTRIBUTES", 2)
    assert "more than 2 different" in refusal(with_image(member("image/x", mode=b"0000600\0"))).reason


# Compression -------------------------------------------------------------------------------------------------------------------

PROGRAMS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4", ".lz": "lzip", ".lzo": "lzop"}
SUFFIXES = [
    pytest.param(suffix, marks=pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed"))
    for suffix, program in PROGRAMS.items()
]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def packed(content: bytes, suffix: str) -> bytes:
    return subprocess.run([PROGRAMS[suffix], "-c"], input=content, capture_output=True, check=True).stdout


def compressed(image: bytes, suffix: str) -> Gpkg:
    return PACKAGE.but(image=image, image_name=f"image.tar{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_streams(suffix):
    half = len(PACKAGE.image) // 2
    two = packed(PACKAGE.image[:half], suffix) + packed(PACKAGE.image[half:], suffix)
    assert "something follows its stream" in refusal(compressed(two, suffix)).reason


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage_after_the_stream(suffix):
    assert "something follows its stream" in refusal(compressed(packed(PACKAGE.image, suffix) + b"x", suffix)).reason


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_that_is_cut_off(suffix):
    assert "cut off" in refusal(compressed(packed(PACKAGE.image, suffix)[:-1], suffix)).reason


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_stream(suffix):
    whole = bytearray(packed(PACKAGE.image, suffix))
    whole[len(whole) // 2] ^= 0xFF
    assert refusal(compressed(bytes(whole), suffix)).rule == "P2.2"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_format_than_the_name_says(suffix):
    other = packed(PACKAGE.image, ".xz" if suffix == ".gz" else ".gz")
    error = refusal(compressed(other, suffix))
    assert error.rule == "P2.2"
    assert "format" in error.reason or "cannot be unpacked" in error.reason


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bomb(suffix, monkeypatch):
    monkeypatch.setattr(compression, "FREE_GROWTH", 1 << 16)
    monkeypatch.setattr(compression, "MOST_GROWTH", 10)
    big = archive(*IMAGE, member("image/zeros", bytes(4 << 20)))
    assert "unpacks to more than" in refusal(compressed(packed(big, suffix), suffix)).reason


def changed(suffix: str, at: int, value: bytes) -> str:
    """Why a stream in which the bytes at `at` have another value is refused."""
    whole = bytearray(packed(PACKAGE.image, suffix))
    at %= len(whole)
    assert whole[at : at + len(value)] != value
    whole[at : at + len(value)] = value
    return refusal(compressed(bytes(whole), suffix)).reason


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix.values[0] in (".zst", ".lz4")])
def test_a_stream_that_the_program_refuses_at_its_end(suffix):
    whole = packed(PACKAGE.image, suffix)
    assert changed(suffix, -1, bytes([whole[-1] ^ 1])) == "it cannot be unpacked"


@needs("lz4")
@pytest.mark.parametrize("flags", [b"\x24", b"\x66", b"\x65"])
def test_an_lz4_frame_of_another_version_or_with_a_dictionary(flags):
    assert "another version" in changed(".lz4", 4, flags)


@needs("lzop")
@pytest.mark.parametrize(("at", "value"), [(9, b"\x09\x3f"), (17, b"\3\0\x08\x01"), (17, b"\3\0\0\x41"), (17, b"\3\0\4\1")])
def test_an_lzop_file_in_another_form(at, value):
    assert "form of the lzop format" in changed(".lzo", at, value)


@needs("lzip")
@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (4, b"\2", "not an lzip file"),
        (5, b"\x1d", "too much memory"),
        (5, b"\x0b", "too much memory"),
        (-20, b"crc!", "checksum or sizes"),
        (-16, bytes(8), "checksum or sizes"),
        (-8, bytes(8), "checksum or sizes"),
    ],
)
def test_an_lzip_file_whose_header_or_trailer_is_wrong(at, value, reason):
    assert reason in changed(".lz", at, value)


def test_a_zstd_window_that_needs_too_much_memory():
    huge = subprocess.run(["zstd", "-c", "--long=28", "--no-check"], input=PACKAGE.image, capture_output=True, check=True).stdout
    descriptor = huge[4]
    assert not descriptor & 0x20, "the frame of a pipe has a window"
    assert "memory" in refusal(compressed(huge[:5] + bytes([18 << 3]) + huge[6:], ".zst")).reason


# xpak --------------------------------------------------------------------------------------------------------------------------


def gnu(name: str, content: bytes = b"", **fields: bytes) -> bytes:
    return member(name, content, **({"magic": GNU} | fields))


XPAK_IMAGE = archive(folder(".", magic=GNU), gnu("./hello", b"hello"))
XPAK = xpak(gzipped(XPAK_IMAGE))


def pax(records: bytes, **fields: bytes) -> bytes:
    return member("./PaxHeaders/x", records, **({"kind": b"x", "uname": b"", "gname": b""} | fields))


def pax_file(name: str = "./x", content: bytes = b"") -> bytes:
    return member(name, content, devices=b"0000000\0" * 2)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body) + 1
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


def with_pax(*members: bytes) -> bytes:
    return xpak(archive(folder(".", devices=b"0000000\0" * 2), *members))


def test_the_xpaks_that_the_faults_are_made_from_are_right():
    read_package(io.BytesIO(XPAK))
    read_package(io.BytesIO(with_pax(pax(record("mtime", "1.5") + record("SCHILY.xattr.user.a", "1")), pax_file())))


START = XPAK.index(b"XPAKPACK")
XPAKS = [
    ("offset before the file", XPAK[:-8] + b"\x7f\0\0\0STOP", "outside the file"),
    ("offset of nothing", XPAK[:-8] + b"\0\0\0\1STOP", "outside the file"),
    ("another start", XPAK[:START] + b"XPAKPUCK" + XPAK[START + 8 :], "do not fill"),
    ("index longer than it is", XPAK[: START + 8] + b"\0\1\0\0" + XPAK[START + 12 :], "do not fill"),
    ("name outside image", xpak(archive(folder(".", magic=GNU), gnu("/etc/x"))), "does not begin with ./"),
    ("name as in a gpkg", xpak(archive(folder("image", magic=GNU))), "does not begin with ./"),
    ("dot dot", xpak(archive(folder(".", magic=GNU), gnu("./../x"))), "not below a folder"),
    ("hard link outside", xpak(archive(folder(".", magic=GNU), gnu("./x", kind=b"1", link=b"/etc/shadow"))), "does not begin with ./"),
    ("two paths", with_pax(pax(record("path", "./é") + record("path", "./ê")), pax_file()), "pax record"),
    ("path of another file", with_pax(pax(record("path", "./é")), pax_file()), "long name that differs"),
    ("plain path again", with_pax(pax(record("path", "./x")), pax_file()), "long name that differs"),
    ("size", with_pax(pax(record("size", "1024")), pax_file()), "'size'"),
    ("sparse", with_pax(pax(record("GNU.sparse.major", "1")), pax_file()), "'GNU.sparse.major'"),
    ("uname", with_pax(pax(record("uname", "root")), pax_file()), "'uname'"),
    ("mtime that is none", with_pax(pax(record("mtime", "1e9")), pax_file()), "'mtime'"),
    ("record with another length", with_pax(pax(record("mtime", "1.5").replace(b"13", b"14")), pax_file()), "pax record"),
    ("global header", with_pax(pax(record("mtime", "1"), kind=b"g"), pax_file()), "type b'g'"),
    ("empty pax header", with_pax(pax(b""), pax_file()), "empty or too large"),
    ("pax header of an owner", with_pax(pax(record("mtime", "1"), uid=b"0000001\0"), pax_file()), "pax header that"),
    ("pax header twice", with_pax(pax(record("mtime", "1")), pax(record("mtime", "1")), pax_file()), "type b'x'"),
    ("wrong checksum of a pax header", with_pax(pax(record("mtime", "1"), checksum=b"000001\0 "), pax_file()), "checksum"),
    (
        "capability on a hard link",
        with_pax(pax_file(), pax(record("SCHILY.xattr.user.a", "1")), member("./y", kind=b"1", link=b"./x", devices=b"0000000\0" * 2)),
        "extended attributes of its own",
    ),
]


@pytest.mark.parametrize(("package", "reason"), [fault[1:] for fault in XPAKS], ids=[fault[0] for fault in XPAKS])
def test_an_xpak_that_the_writer_would_not_have_written(package, reason):
    error = refusal(package)
    assert error.rule == "P2.2"
    assert reason in error.reason


def test_data_that_the_index_of_an_xpak_does_not_list():
    index, data = b"\0\0\0\1A" + bytes(8), b"hidden"
    segment = b"XPAKPACK" + len(index).to_bytes(4, "big") + len(data).to_bytes(4, "big") + index + data + b"XPAKSTOP"
    error = refusal(XPAK_IMAGE + segment + len(segment).to_bytes(4, "big") + b"STOP")
    assert "does not list" in error.reason


def test_an_xpak_index_that_points_twice_to_the_same_data():
    index, data = (b"\0\0\0\1A" + bytes(4) + b"\0\0\0\1") + (b"\0\0\0\1B" + bytes(4) + b"\0\0\0\1"), b"xx"
    segment = b"XPAKPACK" + len(index).to_bytes(4, "big") + len(data).to_bytes(4, "big") + index + data + b"XPAKSTOP"
    error = refusal(XPAK_IMAGE + segment + len(segment).to_bytes(4, "big") + b"STOP")
    assert "other data" in error.reason
