"""The contents digest: what it says and what changes it (P2.1, P2.3 to P2.6)."""

from __future__ import annotations

import bz2
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portage_p2pbin.binpkg.contents import DIGEST_PREFIX, read_package
from portage_p2pbin.binpkg.metadata import PER_EVENT
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import (
    EBUILD,
    ENVIRONMENT,
    GNU,
    IMAGE,
    METADATA,
    PACKAGE,
    Gpkg,
    archive,
    folder,
    hard_link,
    long_text,
    member,
    metadata_archive,
    symlink,
    with_image,
    with_metadata,
)

ROOT = "uid=0 uname=root gid=0 gname=root"


def digest(package: Gpkg) -> str:
    return read_package(package.file()).digest


def file_line(path: str, content: bytes, mode: str = "0644") -> str:
    return f"./image/{path} type=file mode={mode} {ROOT} size={len(content)} sha256digest={sha256(content).hexdigest()}"


def metadata_line(key: str, value: bytes) -> str:
    return f"./metadata/{key} type=file size={len(value)} sha256digest={sha256(value).hexdigest()}"


def test_the_manifest_line_by_line():
    package = with_image(
        folder("image/empty", mode=b"0001777\0"),
        symlink("image/link", "a b=c"),
        member("image/usr/é".encode(), b"1", mode=b"0004755\0", uid=b"0000001\0", uname=b"daemon", gid=b"0000002\0", gname=b""),
        hard_link("image/a", "image/usr/hello"),
    )
    reading = read_package(package.file())
    assert reading.manifest.decode().splitlines() == [
        "#mtree",
        f"./image type=dir mode=0755 {ROOT}",
        file_line("a", b"hello"),
        f"./image/empty type=dir mode=1777 {ROOT}",
        f"./image/link type=link mode=0777 {ROOT} link=a\\040b\\075c",
        f"./image/usr type=dir mode=0755 {ROOT}",
        f"./image/usr/hello type=file mode=0644 {ROOT} link=./image/a",
        (
            "./image/usr/\\303\\251 type=file mode=4755 uid=1 uname=daemon gid=2"
            " size=1 sha256digest=6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        ),
        metadata_line("CATEGORY", b"app-misc\n"),
        metadata_line("PF", b"hello-1\n"),
        metadata_line("SLOT", b"0\n"),
        metadata_line("environment.bz2", ENVIRONMENT),
        metadata_line("hello-1.ebuild", EBUILD),
    ]
    assert reading.manifest.endswith(b"\n")
    assert reading.digest == DIGEST_PREFIX + sha256(reading.manifest).hexdigest()


def test_the_metadata_that_comes_out():
    reading = read_package(PACKAGE.file())
    assert reading.metadata == {
        "BUILD_ID": "1",
        "BUILD_TIME": "1700000000",
        "CATEGORY": "app-misc",
        "PF": "hello-1",
        "SIZE": "5",
        "SLOT": "0",
    }
    assert reading.ebuild_sha256 == sha256(EBUILD).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        with_metadata(BUILD_ID=b"2\n"),
        with_metadata(BUILD_TIME=b"1\n"),
        with_metadata(SIZE=b"6"),
        with_metadata(FEATURES=b"sandbox\n"),
        with_metadata(PKGUSE=b"nls\n"),
        with_metadata(REPO_REVISIONS=b"{}"),
        PACKAGE.but(folder="hello-1"),
    ],
)
def test_what_does_not_change_the_digest(other):
    assert digest(other) == digest(PACKAGE)


@pytest.mark.parametrize("key", ["NEEDED", "NEEDED.ELF.2"])
def test_the_order_in_which_elf_files_were_found_does_not_change_the_digest(key):
    def needed(value: bytes) -> str:
        return digest(with_metadata(**{key: value}))

    assert needed(b"/a libc.so.6\n/b libc.so.6\n") == needed(b"/b libc.so.6\n/a libc.so.6\n")
    assert needed(b"/a libc.so.6\n/b libc.so.6\n") != needed(b"/a libc.so.6\n/b libc.so.7\n")
    assert needed(b"/a libc.so.6\n") != needed(b"/a libc.so.6\n/a libc.so.6\n")
    assert digest(with_metadata(IUSE=b"b\na\n")) != digest(with_metadata(IUSE=b"a\nb\n"))


def test_times_do_not_change_the_digest():
    later = [folder("image", mtime=b"00000000001\0"), *IMAGE[1:]]
    assert digest(PACKAGE.but(image=archive(*later))) == digest(PACKAGE)


@pytest.mark.parametrize(
    "other",
    [
        with_metadata(SLOT=b"1\n"),
        with_metadata(SLOT=b"0"),
        with_metadata(EPREFIX=b"/home/evil\n"),
        with_metadata(NEVER_HEARD_OF=b""),
        with_metadata(environment=b"x"),
        with_metadata(**{"hello-1.ebuild": EBUILD + b"\n"}),
        with_metadata(**{"environment.bz2": bz2.compress(ENVIRONMENT.replace(b"default", b"defaulT"))}),
        with_metadata(**{"environment.bz2": bz2.compress(ENVIRONMENT.replace(b'"hello"', b'"hellO"'))}),
        with_image(folder("image/x")),
        with_image(member("image/x")),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hellO"))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hello", mode=b"0000600\0"))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hello", mode=b"0002644\0"))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hello", uid=b"0000001\0", uname=b""))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hello", uid=b"0000001\0", uname=b"bin"))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/hello", b"hello", gid=b"0000001\0", gname=b"bin"))),
        PACKAGE.but(image=archive(*IMAGE[:2], member("image/usr/Hello", b"hello"))),
        PACKAGE.but(image=archive(*IMAGE[:2], symlink("image/usr/hello", "hello"))),
        PACKAGE.but(image=archive(*IMAGE[1:])),
    ],
)
def test_what_changes_the_digest(other):
    assert digest(other) != digest(PACKAGE)


def test_names_that_look_alike_when_they_are_escaped():
    assert digest(with_image(member(b"image/a\\040"))) != digest(with_image(member(b"image/a ")))
    assert digest(with_image(symlink("image/a", "b size=1"))) != digest(with_image(symlink("image/a", "b")))


def test_a_link_to_a_file_is_not_a_copy_of_it():
    copy = with_image(member("image/usr/world", b"hello"))
    assert digest(with_image(hard_link("image/usr/world", "image/usr/hello"))) != digest(copy)


def test_which_name_of_a_hard_link_comes_first_does_not_matter():
    start = IMAGE[:2]
    a = archive(
        *start,
        member("image/usr/hello", b"hello"),
        hard_link("image/usr/a", "image/usr/hello"),
        hard_link("image/usr/z", "image/usr/hello"),
    )
    b = archive(
        *start, member("image/usr/z", b"hello"), hard_link("image/usr/hello", "image/usr/z"), hard_link("image/usr/a", "image/usr/z")
    )
    assert digest(PACKAGE.but(image=a)) == digest(PACKAGE.but(image=b))


@pytest.mark.parametrize(
    ("package", "droppings"),
    [
        (PACKAGE, ()),
        (with_metadata(FEATURES=b"x\n", REPO_REVISIONS=b"{}"), ("key FEATURES", "key REPO_REVISIONS")),
        (
            with_metadata(**{"environment.bz2": bz2.compress(b'declare -x HOME_OF_BUILDER="/home/x"\n' + ENVIRONMENT)}),
            ("variable HOME_OF_BUILDER",),
        ),
        (
            with_metadata(**{"environment.bz2": bz2.compress(ENVIRONMENT.replace(b'"hello"', b"$'hello'"))}),
            ("the form of the environment",),
        ),
    ],
)
def test_droppings(package, droppings):
    assert read_package(package.file()).droppings == droppings


def test_content_that_is_read_in_pieces():
    content = bytes(range(256)) * 20_000
    line = file_line("usr/big", content)
    assert line in read_package(with_image(member("image/usr/big", content)).file()).manifest.decode()


VECTORS = Path(__file__).parent / "vectors/contents"
DIGESTS = dict(reversed(line.split("  ")) for line in (VECTORS / "digests").read_text().splitlines())


@pytest.mark.parametrize("name", DIGESTS)
def test_vectors(name):
    with (VECTORS / name).open("rb") as file:
        reading = read_package(file)
    assert reading.manifest == (VECTORS / f"{name}.mtree").read_bytes()
    assert reading.digest == DIGESTS[name]


def test_the_vectors_of_one_package_in_three_forms_are_equal():
    assert len({DIGESTS[name] for name in ("usual.gpkg.tar", "usual-xz.gpkg.tar", "usual.xpak")}) == 1


# Mutations: of everything that is hashed, no change is missed ---------------------------------------------------------------------

EVERYTHING = with_image(
    folder("image/empty", mode=b"0001777\0"),
    symlink("image/absolute", "/etc/x"),
    member("image/usr/é".encode(), b"1" * 600, mode=b"0004755\0", uid=b"0000001\0", uname=b"daemon"),
    hard_link("image/another", "image/usr/hello"),
    long_text(b"L", b"image/" + b"n" * 110),
    member((b"image/" + b"n" * 110)[:100], b"long", magic=GNU),
)
METADATA_ARCHIVE = metadata_archive(METADATA)

PATTERN = st.binary(min_size=1, max_size=40)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 80
)
MODES = st.integers(0, 0o7777)
OWNERS = st.tuples(st.integers(1, 0o7777777), st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name != "root"))
MEMBERS = st.fixed_dictionaries({"name": NAMES, "content": PATTERN, "mode": MODES, "owner": OWNERS, "group": OWNERS})


def package_of(entry: dict[str, Any]) -> Gpkg:
    (uid, uname), (gid, gname) = entry["owner"], entry["group"]
    numbers = {"mode": b"%07o\0" % entry["mode"], "uid": b"%07o\0" % uid, "gid": b"%07o\0" % gid}
    names = {"uname": uname.encode(), "gname": gname.encode()}
    return with_image(member(f"image/{entry['name']}".encode(), entry["content"], **numbers, **names))


@given(MEMBERS, MEMBERS, st.sampled_from(["name", "content", "mode", "owner", "group"]))
def test_every_change_of_a_file_changes_the_digest(one, other, field):
    changed = one | {field: other[field]}
    assume(changed != one and not (one["name"] == "usr" or changed["name"] == "usr"))
    assert digest(package_of(one)) != digest(package_of(changed))


@given(st.integers(0, len(EVERYTHING.image) - 1), st.integers(1, 255))
def test_every_byte_of_an_image_is_refused_or_hashed(at, change):
    image = bytearray(EVERYTHING.image)
    image[at] ^= change
    try:
        assert digest(EVERYTHING.but(image=bytes(image))) != digest(EVERYTHING)
    except RefusedError as error:
        assert error.rule == "P2.2"


@given(st.integers(0, len(METADATA_ARCHIVE) - 1), st.integers(1, 255))
def test_every_byte_of_the_metadata_is_refused_or_hashed(at, change):
    changed = bytearray(METADATA_ARCHIVE)
    changed[at] ^= change
    try:
        after = read_package(PACKAGE.but(metadata=bytes(changed)).file())
    except RefusedError as error:
        assert error.rule in ("P2.2", "P2.3", "P2.4")
    else:
        before = read_package(PACKAGE.file())
        assert after.digest != before.digest or differing(before.metadata, after.metadata) <= PER_EVENT


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> set[str]:
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
