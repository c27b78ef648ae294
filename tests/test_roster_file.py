"""roster.toml to a roster, with certifications by real gpg keys."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pbin_server.roster_file import read_roster_file
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Operator, Role
from portage_p2pbin.kernel.roster import Contributor, Policy, Roster
from portage_p2pbin.openpgp import certify
from tests.makers import machine_key
from tests.test_openpgp import Home

BEGINNING = datetime.now(UTC).replace(microsecond=0)
"""When the tests were collected, which may be long before they run."""


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


KEYS = tuple(replace(machine_key(seed), not_before=BEGINNING, not_after=BEGINNING + timedelta(days=365)) for seed in (1, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with Larry's public key and two certifications, and his fingerprint."""
    home = Home(tmp_path_factory.mktemp("gpg") / "home")
    folder = tmp_path_factory.mktemp("roster")
    identity = home.make("larry")
    for key in KEYS:
        certified = certify(home.path, identity, key, now())
        (folder / f"{key.machine}.asc").write_text(certified.text)
        (folder / "larry.asc").write_text(certified.public_key)
    subprocess.run(["gpgconf", "--homedir", str(home.path), "--kill", "all"], check=True)
    return folder, identity


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "roster.toml").write_text(
        f"""
        [policy]
        semi_trusted = 2
        untrusted = 3

        [[contributor]]
        operator = "larry"
        role = "trusted"
        identity = "{made[1]}"
        openpgp = "larry.asc"
        certifications = ["machine-1.asc", "machine-2.asc"]
        """
    )
    return tmp_path


def change(folder, old, new):
    path = folder / "roster.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return path


def test_a_roster_is_read(folder, made):
    larry = Contributor(Operator("larry"), Role.TRUSTED, made[1], KEYS)
    assert read_roster_file(folder / "roster.toml", now()) == Roster((larry,), Policy(2, 3))


def test_the_example_is_a_roster_of_nobody_and_shows_every_field(folder, made):
    example = Path(__file__).parents[1] / "etc" / "roster.toml"
    assert read_roster_file(example, now()) == Roster((), Policy(2, 3))
    shown = re.sub(r"^#(?=[a-z\[])", "", example.read_text(), flags=re.MULTILINE).replace(
        "0123456789ABCDEF0123456789ABCDEF01234567", made[1]
    )
    (folder / "roster.toml").write_text(shown)
    assert read_roster_file(folder / "roster.toml", now()).contributors[0].keys == KEYS


def test_a_roster_of_nobody(tmp_path):
    (tmp_path / "roster.toml").write_text("[policy]\nsemi_trusted = 2\nuntrusted = 2\n")
    assert read_roster_file(tmp_path / "roster.toml", now()) == Roster((), Policy(2, 2))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("untrusted = 3", "untrusted = 1", "not between 2 and 1000"),
        ("untrusted = 3", "untrusted = 3\nquorum = 4", "unknown field 'quorum'"),
        ("untrusted = 3", "untrusted = 3.5", "not of type int"),
        ('"trusted"', '"wizard"', "'wizard' is not a valid Role"),
        ("identity = ", "identity = 'short' #", "'identity'"),
        ("operator", "operatr", "'operator' is missing"),
        ("larry.asc", "nobody.asc", "No such file"),
        ("[policy]", "[policy", "at line"),
    ],
)
def test_a_file_that_was_written_wrongly(folder, old, new, reason):
    with pytest.raises(SettingsError, match=r"roster\.toml cannot be used") as caught:
        read_roster_file(change(folder, old, new), now())
    assert reason in caught.value.what


def test_a_certification_that_was_changed(folder):
    text = (folder / "machine-1.asc").read_text()
    (folder / "machine-1.asc").write_text(text.replace("machine-1", "machine-9"))
    with pytest.raises(RefusedError, match="does not fit the text"):
        read_roster_file(folder / "roster.toml", now())


def test_a_certification_of_another_identity(folder, made):
    with pytest.raises(RefusedError, match=f"machine-1.asc refused by P3.2: it is of {made[1]}, and stands at {'A' * 40}"):
        read_roster_file(change(folder, made[1], "A" * 40), now())


def test_one_machine_key_twice(folder):
    shutil.copy(folder / "machine-1.asc", folder / "copy.asc")
    with pytest.raises(RefusedError, match="one machine key stands at two"):
        read_roster_file(change(folder, "machine-2.asc", "copy.asc"), now())
