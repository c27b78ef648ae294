import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.machine_key import create_machine_key, load_machine_key


def refusal(path):
    with pytest.raises(SettingsError) as caught:
        load_machine_key(path)
    return str(caught.value)


def test_a_key_is_made_once_and_read_back(tmp_path):
    path = tmp_path / "machine.key"
    made = create_machine_key(path)
    assert public_key(load_machine_key(path)) == public_key(made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["machine.key"]


def test_a_key_that_is_there_is_never_replaced(tmp_path):
    path = tmp_path / "machine.key"
    made = create_machine_key(path)
    with pytest.raises(FileExistsError):
        create_machine_key(path)
    assert public_key(load_machine_key(path)) == public_key(made)
    assert [file.name for file in tmp_path.iterdir()] == ["machine.key"]


def test_no_key_says_how_to_register(tmp_path):
    assert "p2pbin register --identity" in refusal(tmp_path / "machine.key")


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "machine.key"
    create_machine_key(path)
    path.chmod(0o640)
    assert "can be read by others" in refusal(path)


def test_a_link_is_refused(tmp_path):
    create_machine_key(tmp_path / "elsewhere")
    (tmp_path / "machine.key").symlink_to("elsewhere")
    assert "not a link" in refusal(tmp_path / "machine.key")


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "machine.key", 0o600)
    assert "not a plain file" in refusal(tmp_path / "machine.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path):
    path = tmp_path / "machine.key"
    create_machine_key(path)
    os.chown(path, 65534, -1)
    assert "belongs to user 65534" in refusal(path)


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an unencrypted key in PEM"),
        (pem(Ed25519PrivateKey.generate())[:-40], "not an unencrypted key in PEM"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "not an unencrypted key in PEM"),
        (pem(ed448.Ed448PrivateKey.generate()), "not an Ed25519 key"),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path, data, reason):
    path = tmp_path / "machine.key"
    path.write_bytes(data)
    path.chmod(0o600)
    said = refusal(path)
    assert reason in said
    assert "BEGIN" not in said
