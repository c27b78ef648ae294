import os
import stat

import pytest

from portage_p2pbin.gentoo.settings import read_make_conf
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Level
from portage_p2pbin.trust_setting import MOST_MAKE_CONF, set_threshold


@pytest.fixture
def make_conf(tmp_path):
    return tmp_path / "make.conf"


def set_in(make_conf, text, level=3):
    make_conf.write_bytes(text)
    set_threshold(make_conf, Level(level), read_make_conf)
    return make_conf.read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b'P2PBIN_TRUST="3"\n'),
        (b'CFLAGS="-O2"\n', b'CFLAGS="-O2"\nP2PBIN_TRUST="3"\n'),
        (b'CFLAGS="-O2"', b'CFLAGS="-O2"\nP2PBIN_TRUST="3"\n'),
        (b'A="1"\nP2PBIN_TRUST="6"\nB="2"\n', b'A="1"\nP2PBIN_TRUST="3"\nB="2"\n'),
        (b"P2PBIN_TRUST='6' # not too strict\nB=2", b'P2PBIN_TRUST="3" # not too strict\nB=2'),
        (b"P2PBIN_TRUST=6\n", b'P2PBIN_TRUST="3"\n'),
        (b'P2PBIN_TRUST="seven"\n', b'P2PBIN_TRUST="3"\n'),
        (b'#P2PBIN_TRUST="6"\n', b'#P2PBIN_TRUST="6"\nP2PBIN_TRUST="3"\n'),
        (b'A="x \n y"\nB="\xc3\xa9\t"\n\n', b'A="x \n y"\nB="\xc3\xa9\t"\n\nP2PBIN_TRUST="3"\n'),
    ],
)
def test_one_assignment_is_changed_and_all_else_stays(make_conf, before, after):
    assert set_in(make_conf, before) == after


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (b'P2PBIN_TRUST="6"\nP2PBIN_TRUST="5"\n', "2 times"),
        (b'  P2PBIN_TRUST="6"\n', "unusual way"),
        (b'P2PBIN_TRUST="${OTHER}"\n', "unusual way"),
        (b'P2PBIN_TRUST="6" OTHER="1"\n', "unusual way"),
        (b'OTHER="${P2PBIN_TRUST}"\n', "unusual way"),
        (b'P2PBIN_TRUST="6\n7"\n', "unusual way"),
        (b'OTHER="open\n', "would not be read as meant"),
        (b'OTHER="one\nP2PBIN_TRUST=5\n"\n', "would not be read as meant"),
        (b'OTHER="1"\0\n', "no text"),
        (b"#" * (MOST_MAKE_CONF + 1), "no text"),
    ],
)
def test_an_odd_file_is_left_as_it_is(make_conf, before, reason):
    make_conf.write_bytes(before)

    def lenient(path):
        try:
            return read_make_conf(path)
        except SettingsError:
            return {}

    with pytest.raises(SettingsError, match=reason):
        set_threshold(make_conf, Level(3), lenient)
    assert make_conf.read_bytes() == before
    assert [file.name for file in make_conf.parent.iterdir()] == ["make.conf"]


def test_a_threshold_that_a_sourced_file_overrides_is_refused(make_conf):
    make_conf.write_text('A="1"\n')

    def overriding(path):
        return read_make_conf(path) | {"P2PBIN_TRUST": "6"}

    with pytest.raises(SettingsError, match="would not be read as meant"):
        set_threshold(make_conf, Level(3), overriding)
    assert make_conf.read_text() == 'A="1"\n'


def test_mode_and_owner_stay(make_conf):
    make_conf.write_text('A="1"\n')
    make_conf.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(make_conf, 0, 250)
    before = make_conf.stat()
    set_threshold(make_conf, Level(2), read_make_conf)
    after = make_conf.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o640)


def test_a_link_stays_a_link(make_conf, tmp_path):
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "make.conf"
    real.write_text('A="1"\n')
    make_conf.symlink_to("dotfiles/make.conf")
    assert set_threshold(make_conf, Level(3), read_make_conf) == real
    assert make_conf.is_symlink()
    assert real.read_text() == 'A="1"\nP2PBIN_TRUST="3"\n'


def test_a_file_that_says_so_already_is_not_touched(make_conf):
    make_conf.write_text('P2PBIN_TRUST="3"\n')
    inode = make_conf.stat().st_ino
    set_threshold(make_conf, Level(3), read_make_conf)
    assert make_conf.stat().st_ino == inode


def test_no_make_conf_is_said(make_conf):
    with pytest.raises(SettingsError, match="is not there"):
        set_threshold(make_conf, Level(3), read_make_conf)


def test_in_a_folder_the_file_that_has_it_is_changed(make_conf):
    make_conf.mkdir()
    (make_conf / "10-flags").write_text('CFLAGS="-O2"\n')
    (make_conf / "20-trust").write_text('P2PBIN_TRUST="6"\n')
    set_threshold(make_conf, Level(3), read_make_conf)
    assert (make_conf / "20-trust").read_text() == 'P2PBIN_TRUST="3"\n'
    assert {file.name for file in make_conf.iterdir()} == {"10-flags", "20-trust"}


def test_in_a_folder_without_it_there_is_a_new_file(make_conf):
    make_conf.mkdir()
    (make_conf / "10-flags").write_text('CFLAGS="-O2"\n')
    set_threshold(make_conf, Level(3), read_make_conf)
    assert (make_conf / "p2pbin").read_text() == 'P2PBIN_TRUST="3"\n'
    assert stat.S_IMODE((make_conf / "p2pbin").stat().st_mode) == 0o644


def test_in_a_folder_two_files_with_it_are_refused(make_conf):
    make_conf.mkdir()
    (make_conf / "a").write_text('P2PBIN_TRUST="6"\n')
    (make_conf / "b").write_text('P2PBIN_TRUST="5"\n')
    with pytest.raises(SettingsError, match="both set P2PBIN_TRUST"):
        set_threshold(make_conf, Level(3), read_make_conf)
