import os
from dataclasses import replace
from datetime import timedelta

import pytest

from portage_p2pbin.config import Config, Paths
from portage_p2pbin.gentoo.record import FOLDER
from portage_p2pbin.kernel.model import Level
from portage_p2pbin.machine_key import create_machine_key
from portage_p2pbin.refusals import Refusal, Refusals
from portage_p2pbin.register import Registration
from portage_p2pbin.status import look
from tests.makers import NOW, REQUEST, fingerprint, machine_key
from tests.test_builder import NEW


@pytest.fixture
def config(tmp_path):
    """A Gentoo with a threshold, and nothing else."""
    (tmp_path / "etc/portage").mkdir(parents=True)
    (tmp_path / "etc/portage/make.conf").write_text('P2PBIN_TRUST="3"\n')
    config = Config(Paths(tmp_path))
    config.paths.state.mkdir(parents=True)
    return config


def test_an_empty_machine(config):
    status = look(config, {}, NOW)
    assert status.settings.thresholds.default is Level.TRUSTED_ONE
    assert (status.daemon, status.registration, status.has_key) == (None, None, False)
    assert (status.expiries, status.refusals, status.recorded, status.published) == ({}, (), 0, 0)
    assert set(status.bytes.values()) == {0}
    assert status.troubles == ()


def test_a_threshold_that_is_none_is_a_trouble_and_stops_nothing(config):
    (config.paths.eprefix / "etc/portage/make.conf").write_text('P2PBIN_TRUST="abc"\n')
    status = look(config, {}, NOW)
    assert status.settings is None
    assert "'abc'" in status.troubles[0]


def test_a_registered_machine(config):
    create_machine_key(config.paths.machine_key)
    registration = Registration(fingerprint(1), machine_key(1), "packages.example.org")
    config.paths.machine_json.write_bytes(registration.encode())
    status = look(config, {}, NOW)
    assert (status.registration, status.has_key, status.troubles) == (registration, True, ())


def test_a_key_that_others_can_read_is_a_trouble(config):
    create_machine_key(config.paths.machine_key)
    config.paths.machine_key.chmod(0o644)
    status = look(config, {}, NOW)
    assert not status.has_key
    assert "can be read by others" in status.troubles[0]


def test_refusals_that_still_hold(config):
    refusals = Refusals(config.paths.refused)
    lasting = Refusal(NEW.file, REQUEST.cpv, "P9.8", "other bytes", None)
    refusals.add(lasting, NOW)
    refusals.add(replace(lasting, file="0" * 64, until=NOW - timedelta(hours=1)), NOW)
    assert look(config, {}, NOW).refusals == (lasting,)


def test_damaged_refusals_are_a_trouble(config):
    config.paths.refused.write_bytes(b"{")
    status = look(config, {}, NOW)
    assert status.refusals == ()
    assert "is damaged" in status.troubles[0]


def test_builds_and_publications_are_counted(config):
    builds = config.paths.eprefix / FOLDER
    builds.mkdir(parents=True)
    for digit in "12":
        (builds / f"{digit * 64}.json").write_bytes(NEW.encode())
    for server in ("one.example.org", "two.example.org"):
        done = config.paths.publishing / server / "amd64-test" / ("1" * 64)
        done.mkdir(parents=True)
        (done / "done").touch()
    status = look(config, {}, NOW)
    assert (status.recorded, status.published) == (2, 1)


def test_space_is_that_of_all_files_below(config):
    (config.paths.swarm / "a/b").mkdir(parents=True)
    (config.paths.swarm / "a/b/c").write_bytes(b"x" * 100)
    (config.paths.swarm / "d").write_bytes(b"x" * 10)
    (config.paths.swarm / "link").symlink_to("d")
    assert look(config, {}, NOW).bytes["copies for others"] == 110 + os.lstat(config.paths.swarm / "link").st_size
