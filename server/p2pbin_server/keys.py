"""Ed25519 keys of the TUF roles, as PEM files named ROLE-NUMBER.pem offline and ROLE.pem online (P7.1).

Whoever reads such a file signs in the name of its role.  The files are made with mode 0600 and never overwritten.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key

from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import SettingsError

ONLINE = ("index", "snapshot", "timestamp")
"""Roles whose keys lie on the server."""

OFFLINE = ("root", "roster", "rulings")
"""Roles whose keys do not.  The root keys also sign the top-level targets."""


def make_online_keys(folder: Path) -> dict[str, Key]:
    """Make a key for each online role in `folder`; returns their public halves.  SettingsError if there is one already."""
    return {role: _make(folder / f"{role}.pem") for role in ONLINE}


def make_offline_keys(folder: Path, keys: int = 3) -> None:
    """Make `keys` root keys, as many roster keys, and one rulings key in `folder`.  SettingsError if there is one already."""
    for number in range(1, keys + 1):
        _make(folder / f"root-{number}.pem")
        _make(folder / f"roster-{number}.pem")
    _make(folder / "rulings-1.pem")


def online_signers(folder: Path) -> dict[str, CryptoSigner]:
    """The key of each online role.  Raises SettingsError if one is missing or is no key."""
    return {role: _load(folder / f"{role}.pem") for role in ONLINE}


def offline_signers(folder: Path, role: str) -> list[CryptoSigner]:
    """All keys of an offline role in `folder`, in order of name.  Raises SettingsError if there is none."""
    paths = sorted(folder.glob(f"{role}-*.pem"))
    if not paths:
        raise SettingsError(f"No key {role}-*.pem in {folder}", "Name the folder with the offline keys with --keys.")
    return [_load(path) for path in paths]


def _make(path: Path) -> Key:
    if path.exists():
        raise SettingsError(f"{path} exists already", "Keys are never overwritten; choose another folder.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = CryptoSigner.generate_ed25519()
    durable.write(path, signer.private_bytes, mode=0o600)
    return signer.public_key


def _load(path: Path) -> CryptoSigner:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path} is no readable key: {error}", "It must be an unencrypted Ed25519 key in PEM.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path} is no Ed25519 key", "Make keys with `p2pbin-server init`.")
    return CryptoSigner(key)
