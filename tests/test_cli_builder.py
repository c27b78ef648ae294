import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import tomli

from portage_p2pbin.cli import builder as module
from portage_p2pbin.cli.builder import BuilderSettings, main
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.machine_key import create_machine_key
from tests.makers import CHANNEL

BUILDER_TOML = Path(__file__).parents[1] / "etc/builder.toml"


@pytest.fixture
def gentoo(tmp_path, monkeypatch):
    """A build server in a folder: registered, with one section of binrepos.conf."""
    monkeypatch.setenv("PORTAGE_OVERRIDE_EPREFIX", str(tmp_path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    (tmp_path / "etc/portage").mkdir(parents=True)
    (tmp_path / "etc/portage/binrepos.conf").write_text(f"[p2pbin]\nsync-uri = p2pbin://packages.example.org/{CHANNEL}\n")
    (tmp_path / "etc/p2pbin").mkdir()
    (tmp_path / "var/lib/p2pbin").mkdir(parents=True)
    create_machine_key(tmp_path / "var/lib/p2pbin/machine.key")
    return tmp_path


@pytest.fixture
def work(monkeypatch):
    """What comes of asking for work, in order; what was asked and slept is noted."""
    answers, done = [], []

    def answer(_site, settings):
        done.append(settings)
        found = answers.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(module, "_work", answer)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: done.append(seconds))
    return answers, done


def test_the_example_has_every_setting_with_its_default():
    shown = tomli.loads(BUILDER_TOML.read_text())["builder"]
    assert shown == {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(BuilderSettings()).items()}


def test_the_example_can_be_used(gentoo, capsys):
    (gentoo / "etc/p2pbin/builder.toml").write_text(BUILDER_TOML.read_text())
    assert main(["--check-config"]) == 0
    assert "can be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[builder]\ncommand = []\n", "command is empty"),
        ("[builder]\ntimeout = 1\n", "between 60"),
        ("[builder]\npause = 0\n", "between 1"),
        ("[builder]\ncertificate_days = 1000\n", "between 1"),
        ("[builder]\nrepository = 'other'\n", "no section [other]"),
        ("[builder]\ncolour = 'red'\n", "colour"),
        ("[other]\n", "other"),
    ],
)
def test_settings_that_cannot_be_used(gentoo, capsys, text, reason):
    (gentoo / "etc/p2pbin/builder.toml").write_text(text)
    assert main(["--check-config"]) == 2
    assert reason in capsys.readouterr().err


def test_a_machine_that_is_not_registered(gentoo, capsys):
    (gentoo / "var/lib/p2pbin/machine.key").unlink()
    assert main(["--once"]) == 2
    assert "p2pbin register" in capsys.readouterr().err


def test_once_does_one_job(gentoo, work):
    answers, done = work
    answers += [True]
    assert main(["--once"]) == 0
    assert done == [BuilderSettings()]


def test_once_without_a_job(gentoo, work, capsys):
    work[0].append(False)
    assert main(["--once"]) == 0
    assert "Nothing is wanted" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "code"), [(RefusedError("P11", "job", "no"), 4), (UnavailableError("server", "nobody answers"), 3)])
def test_once_ends_with_the_code_of_its_failure(gentoo, work, error, code):
    work[0].append(error)
    assert main(["--once"]) == code


def test_it_goes_on_after_a_failure_and_pauses_when_there_is_nothing_to_do(gentoo, work, capsys):
    answers, done = work
    answers += [True, UnavailableError("server", "nobody answers"), False, KeyboardInterrupt()]
    assert main([]) == 130
    settings = BuilderSettings()
    assert done == [settings, settings, settings.pause, settings, settings.pause, settings]
    assert "nobody answers" in capsys.readouterr().err


def test_help_has_an_example():
    program = Path(sys.executable).with_name("p2pbin-builder")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "Example: p2pbin-builder --once" in done.stdout
