import os
import stat
from pathlib import Path

import pytest

from portage_p2pbin import durable


def test_a_file_is_written_with_its_mode(tmp_path):
    durable.write(tmp_path / "a", b"one", 0o600)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    durable.write(tmp_path / "a", b"one")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        durable.write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_nothing_is_left_behind_when_the_name_is_taken_by_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.write(tmp_path / "a", b"one")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_the_bytes_are_on_disk_before_they_have_their_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("replace"), replace(self, to)))
    durable.write(tmp_path / "a", b"one")
    assert events == ["fsync", "replace", "fsync"]


def test_creating_never_replaces(tmp_path):
    durable.create(tmp_path / "a", b"one", 0o600)
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "a", b"two", 0o600)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_on_disk_before_anything_is_put_into_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "_sync", synced.append)
    durable.make_folder(tmp_path / "a" / "b")
    durable.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    assert (tmp_path / "a" / "b").is_dir()
