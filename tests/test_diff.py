"""The kinds of difference between two packages (P2.8)."""

from __future__ import annotations

import pytest

from portage_p2pbin.binpkg import diff
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.diff import Difference, Kind, compare
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import PACKAGE, Gpkg, folder, hard_link, member, symlink, with_image, with_metadata


def manifest(package: Gpkg) -> bytes:
    return read_package(package.file()).manifest


def kinds(a: Gpkg, b: Gpkg) -> list[tuple[str, Kind]]:
    return [(difference.path, difference.kind) for difference in compare(manifest(a), manifest(b))]


def test_equal_packages_do_not_differ():
    assert compare(manifest(PACKAGE), manifest(PACKAGE)) == ()


EXECUTABLE = b"0000755\0"


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (member("image/x", b"1"), member("image/x", b"2"), Kind.DATA),
        (member("image/x", b"1", mode=EXECUTABLE), member("image/x", b"2", mode=EXECUTABLE), Kind.CODE),
        (member("image/x", b"1", mode=b"0000654\0"), member("image/x", b"2", mode=b"0000654\0"), Kind.CODE),
        (member("image/x.py", b"1"), member("image/x.py", b"2"), Kind.CODE),
        (member("image/libx.so.1.2", b"1"), member("image/libx.so.1.2", b"2"), Kind.CODE),
        (member("image/x"), member("image/x", mode=b"0004755\0"), Kind.PERMISSION),
        (member("image/x"), member("image/x", uid=b"0000001\0", uname=b"daemon"), Kind.PERMISSION),
        (folder("image/x"), folder("image/x", mode=b"0001777\0"), Kind.PERMISSION),
        (symlink("image/x", "a"), symlink("image/x", "b"), Kind.CODE),
        (member("image/x", b"hello"), hard_link("image/x", "image/usr/hello"), Kind.CODE),
        (folder("image/x"), b"", Kind.DATA),
        (b"", member("image/x", mode=EXECUTABLE), Kind.CODE),
        (b"", member("image/x.txt"), Kind.DATA),
    ],
)
def test_the_kinds_of_differences_in_the_image(a, b, kind):
    path = (a or b)[: (a or b).index(b"\0")].decode().rstrip("/")
    assert kinds(with_image(a), with_image(b)) == [(f"./{path}", kind)]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"SLOT": b"1\n"}, Kind.METADATA),
        ({"hello-1.ebuild": b"EAPI=8\n"}, Kind.CODE),
        ({"EPREFIX": b"/home\n"}, Kind.METADATA),
    ],
)
def test_the_kinds_of_differences_in_the_metadata(change, kind):
    (key,) = change
    assert kinds(PACKAGE, with_metadata(**change)) == [(f"./metadata/{key}", kind)]


def test_a_file_below_a_folder_that_programs_read_is_code():
    a, b = (with_image(folder("image/etc"), member("image/etc/profile", content)) for content in (b"1", b"2"))
    assert kinds(a, b) == [("./image/etc/profile", Kind.CODE)]


def test_one_entry_may_differ_twice():
    a, b = with_image(member("image/x", b"1")), with_image(member("image/x", b"22", mode=b"0000600\0"))
    permission, data = compare(manifest(a), manifest(b))
    assert permission == Difference("./image/x", Kind.PERMISSION, "mode 0644 or 0600")
    assert data.kind == Kind.DATA
    assert data.detail.startswith("sha256digest 6b86b273ff34… or ")
    assert data.detail.endswith("size 1 or 2")


def test_it_says_in_which_package_an_entry_is():
    (there,) = compare(manifest(with_image(folder("image/x"))), manifest(PACKAGE))
    assert there.detail == "only in the first: type=dir mode=0755 uid=0 uname=root gid=0 gname=root"
    (there,) = compare(manifest(PACKAGE), manifest(with_image(folder("image/x"))))
    assert there.detail.startswith("only in the second: type=dir")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"#mtree",
        b"#mtree\n./a type=file",
        b"./a type=file\n",
        b"#mtree\n./a\n",
        b"#mtree\n\n",
        b"#mtree\n/a type=file\n",
        b"#mtree\n./a type=file type=dir\n",
        b"#mtree\n./a type=file\n./a type=dir\n",
        b"#mtree\n./a  type=file\n",
        b"#mtree\n./a type=file \n",
        b"#mtree\n./a type\n",
        b"#mtree\n./a type=\x1b[31m\n",
        b"#mtree\n./\xc3\xa9 type=file\n",
    ],
)
def test_what_is_not_a_manifest(text):
    with pytest.raises(RefusedError) as refused:
        compare(manifest(PACKAGE), text)
    assert refused.value.rule == "P2.1"


def test_a_manifest_with_too_many_entries(monkeypatch):
    monkeypatch.setattr(diff, "MOST_ENTRIES", 3)
    with pytest.raises(RefusedError, match="more than 3 entries"):
        compare(manifest(PACKAGE), manifest(PACKAGE))


def test_a_manifest_that_is_too_long(monkeypatch):
    monkeypatch.setattr(diff, "LARGEST_MANIFEST", 10)
    with pytest.raises(RefusedError, match="begin and end"):
        compare(manifest(PACKAGE), manifest(PACKAGE))
