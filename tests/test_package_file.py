import os

import pytest

from portage_p2pbin.cli.package_file import opened
from portage_p2pbin.kernel.errors import SettingsError


def test_the_position_is_that_of_whoever_reads_through_the_same_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    with opened(path) as file:
        assert file.read(1) == b"h"
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 1
    assert file.closed


@pytest.mark.parametrize(
    ("name", "reason"), [("absent", "No such file"), ("", "Is a directory"), ("a/b", "Not a directory"), ("pipe", "no plain file")]
)
def test_what_is_no_plain_file_is_the_users_to_mend(tmp_path, name, reason):
    (tmp_path / "a").touch()
    (tmp_path / "pipe").symlink_to("/dev/null")
    with pytest.raises(SettingsError, match=reason), opened(tmp_path / name):
        pass
