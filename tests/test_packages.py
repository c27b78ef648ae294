import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from portage_p2pbin.gentoo.packages import packages_text, remove_unlisted
from portage_p2pbin.kernel.model import Cpv, Sha256
from tests.test_index import ENTRY

TEXT = """\
PACKAGES: 1
TIMESTAMP: 1700000000
VERSION: 0

CPV: app-misc/hello-2.10-r1
EAPI: 8
MTIME: 1800000000
PATH: app-misc/hello-2.10-r1-ffffffffffffffffffff.gpkg.tar
REPO: test
SHA1: 5555555555555555555555555555555555555555
SIZE: 1234
SLOT: 0
USE: nls

"""


def test_the_text_has_the_whitelisted_headers_and_keys_and_nothing_else():
    assert packages_text([ENTRY], 1_700_000_000).decode() == TEXT


def test_an_empty_index_is_valid():
    assert packages_text([], 5) == b"PACKAGES: 0\nTIMESTAMP: 5\nVERSION: 0\n\n"


def test_a_key_without_a_value_is_left_out():
    assert packages_text([replace(ENTRY, metadata=dict(ENTRY.metadata, IUSE=""))], 1_700_000_000).decode() == TEXT


def test_metadata_cannot_take_the_place_of_what_we_say():
    assert b"PATH: /etc" not in packages_text([replace(ENTRY, metadata={"PATH": "/etc/passwd"})], 1)


def test_the_same_entries_in_another_order_are_the_same_text():
    other = replace(ENTRY, cpv=Cpv("app-misc/abc-1"))
    assert packages_text([ENTRY, other], 1) == packages_text([other, ENTRY], 1)


def test_a_name_that_crashes_portage_is_left_out():
    assert packages_text([replace(ENTRY, cpv=Cpv("app-misc/hello-1-2"))], 5) == packages_text([], 5)


@pytest.fixture
def location(tmp_path):
    location = tmp_path / "binhost/p2pbin"
    location.mkdir(parents=True)
    return location


def put(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_that_is_not_listed_any_more_is_removed(location):
    listed, recalled = replace(ENTRY), replace(ENTRY, file=Sha256("e" * 64))
    kept, gone = put(location / listed.path), put(location / recalled.path)
    assert remove_unlisted(location, {listed.path}) == [recalled.path]
    assert kept.exists()
    assert not gone.exists()


def test_what_portage_left_of_a_fetch_goes_with_it(location):
    gone = put(location / f"{ENTRY.path}.partial")
    assert remove_unlisted(location, set()) == [ENTRY.path]
    assert not gone.exists()


@pytest.mark.parametrize(
    "path",
    [
        "app-misc/hello-2.10-r1.gpkg.tar",
        "app-misc/hello-2.10-r1-1.gpkg.tar",
        "app-misc/hello-2.10-r1-ffffffffffffffffffff.xpak",
        "app-misc/hello-2.10-r1-FFFFFFFFFFFFFFFFFFFF.gpkg.tar",
        "app-misc/hello/hello-2.10-r1-ffffffffffffffffffff.gpkg.tar",
        ".hidden/hello-2.10-r1-ffffffffffffffffffff.gpkg.tar",
        "hello-2.10-r1-ffffffffffffffffffff.gpkg.tar",
        "Packages",
    ],
)
def test_what_is_not_of_our_form_stays(location, path):
    kept = put(location / path)
    assert remove_unlisted(location, set()) == []
    assert kept.exists()


def test_no_symlink_is_followed(location, tmp_path):
    elsewhere = put(tmp_path / "elsewhere" / ENTRY.path.partition("/")[2])
    (location / "app-misc").symlink_to(elsewhere.parent)
    (location / "app-admin").mkdir()
    link = location / "app-admin" / elsewhere.name
    link.symlink_to(elsewhere)
    assert remove_unlisted(location, set()) == []
    assert elsewhere.exists()
    assert link.is_symlink()


def test_a_folder_with_the_name_of_a_package_stays(location):
    folder = location / ENTRY.path
    folder.mkdir(parents=True)
    assert remove_unlisted(location, set()) == []
    assert folder.is_dir()


def test_there_need_not_be_a_location(location):
    location.rmdir()
    assert remove_unlisted(location, set()) == []


def test_a_user_without_rights_removes_nothing():
    with tempfile.TemporaryDirectory() as folder:
        location = Path(folder)
        kept = put(location / ENTRY.path)
        location.chmod(0o755)
        kept.parent.chmod(0o555)
        child = os.fork()
        if not child:
            if os.getuid() == 0:
                os.setuid(65534)
            os._exit(len(remove_unlisted(location, set())))
        assert os.waitpid(child, 0)[1] == 0
        assert kept.exists()
        kept.parent.chmod(0o755)
