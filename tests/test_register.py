import shutil
import stat
import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from portage_p2pbin.config import Paths
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Fingerprint, Role
from portage_p2pbin.kernel.statements import read_request_fields
from portage_p2pbin.machine_key import load_machine_key
from portage_p2pbin.openpgp import check_certification
from portage_p2pbin.register import read_registration, register
from tests.http_seam import NAME, RecordedHttp
from tests.makers import fingerprint

WINDOW = timedelta(days=365)


@pytest.fixture(scope="module")
def gpg():
    """A gpg home with one identity, under a short path: sockets of gpg's agent have no room for a long one."""
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
    command = ["gpg", "--homedir", str(home), "--batch", "--faked-system-time", "20260101T000000", "--passphrase", ""]
    subprocess.run(
        [*command, "--quick-generate-key", "Alice <alice@example.org>", "ed25519", "sign", "never"], check=True, capture_output=True
    )
    listing = subprocess.run([*command, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    yield home, Fingerprint(next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")))
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    shutil.rmtree(home)


@pytest.fixture
def http(gpg):
    http = RecordedHttp()
    http.answer("/contributors", {"identity": gpg[1], "role": "untrusted"})
    return http


@pytest.fixture
def now():
    """gpg signs with its own clock, so the registration is made at the real time."""
    return datetime.now(UTC)


def do(tmp_path, http, gpg, now, machine=""):
    server = replace(http.server(), clock=lambda: now)
    return register(Paths(tmp_path), server, gpg[1], gpg_home=gpg[0], machine=machine, window=WINDOW)


def test_a_machine_is_registered(tmp_path, http, gpg, now):
    registered = do(tmp_path, http, gpg, now, "attic")
    assert (registered.identity, registered.role) == (gpg[1], Role.UNTRUSTED)
    key = load_machine_key(Paths(tmp_path).machine_key)
    signer, fields = read_request_fields(http.asked[0][1], "register", NAME, lambda time: True)
    assert signer == public_key(key)
    with fields.reading():
        certification = check_certification(fields.text("certification"), fields.text("openpgp"), now)
    assert (certification.identity, certification.key.public, certification.key.machine) == (gpg[1], signer, "attic")
    assert certification.key.not_after - certification.key.not_before == WINDOW
    written = read_registration(Paths(tmp_path).machine_json)
    assert (written.identity, written.key, written.server) == (gpg[1], certification.key, NAME)


def test_a_machine_without_a_name_is_named_after_its_key_and_not_its_host(tmp_path, http, gpg, now):
    do(tmp_path, http, gpg, now)
    key = read_registration(Paths(tmp_path).machine_json).key
    assert key.machine == f"machine-{key.public[:8]}"


def test_registering_again_keeps_the_key(tmp_path, http, gpg, now):
    do(tmp_path, http, gpg, now)
    first = read_registration(Paths(tmp_path).machine_json)
    do(tmp_path, http, gpg, now + timedelta(days=1))
    second = read_registration(Paths(tmp_path).machine_json)
    assert second.key.public == first.key.public
    assert second.key.not_after == first.key.not_after + timedelta(days=1)


def test_a_refused_machine_is_not_taken_for_registered_and_goes_on_with_its_key(tmp_path, http, gpg, now):
    http.answer("/contributors", RefusedError("P3.2", "registration", "no"), {"identity": gpg[1], "role": "untrusted"})
    with pytest.raises(RefusedError):
        do(tmp_path, http, gpg, now)
    assert not (Paths(tmp_path).machine_json).exists()
    key = load_machine_key(Paths(tmp_path).machine_key)
    do(tmp_path, http, gpg, now)
    assert read_registration(Paths(tmp_path).machine_json).key.public == public_key(key)


def test_an_identity_whose_secret_key_is_not_here_registers_nothing(tmp_path, http, gpg, now):
    with pytest.raises(SettingsError, match="did not sign"):
        do(tmp_path, http, (gpg[0], fingerprint(9)), now)
    assert http.asked == []


def test_the_secret_key_is_never_sent_nor_written_elsewhere(tmp_path, http, gpg, now):
    do(tmp_path, http, gpg, now)
    state = Paths(tmp_path).state
    secret = load_machine_key(state / "machine.key").private_bytes_raw()
    sent = http.asked[0][1] + Paths(tmp_path).machine_json.read_bytes()
    assert secret not in sent
    assert secret.hex().encode() not in sent
    assert stat.S_IMODE((state / "machine.key").stat().st_mode) == 0o600
    assert sorted(file.name for file in state.iterdir()) == ["machine.json", "machine.key"]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"_type":"p2pbin-registration-2"}'])
def test_a_damaged_registration_says_what_to_do(tmp_path, data):
    (tmp_path / "machine.json").write_bytes(data)
    with pytest.raises(SettingsError, match="Register again with"):
        read_registration(tmp_path / "machine.json")


def test_no_registration_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match="p2pbin register --identity"):
        read_registration(tmp_path / "machine.json")
