"""The machine key: the Ed25519 key that signs this machine's votes and requests, as it lies on disk (P3.2).

Whoever reads the file can vote as this machine until its window ends or its key is ruled out; that is why it must belong to the
one who uses it and be readable by nobody else, and why no function here shows it.  It is not encrypted: builders sign unattended.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import SettingsError

MOST_KEY_FILE = 4096
"""Bytes; an Ed25519 key in PEM has 119."""

_REGISTER = "Make one and register it with: p2pbin register --identity FINGERPRINT"


def create_machine_key(path: Path) -> Ed25519PrivateKey:
    """Make a new key at `path`, mode 0600.  Raises FileExistsError if there is a file already."""
    key = Ed25519PrivateKey.generate()
    durable.create(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return key


def load_machine_key(path: Path) -> Ed25519PrivateKey:
    """Read the key at `path`.

    Raises SettingsError if there is none, if it is not an Ed25519 key, or if somebody else than this user or root owns it or
    may read it.
    """
    try:
        key = load_pem_private_key(_read_private(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path} is not an unencrypted key in PEM", f"Move it away. {_REGISTER}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path} is not an Ed25519 key", f"Move it away. {_REGISTER}")
    return key


def _read_private(path: Path) -> bytes:
    """The bytes of a plain file that nobody else can read."""
    with os.fdopen(_open(path), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError(f"{path} is not a plain file", "Put the machine key there, or move what is there away")
        if found.st_uid not in (0, os.geteuid()):
            raise SettingsError(f"{path} belongs to user {found.st_uid}", "The key may have been copied: register a new one")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise SettingsError(f"{path} can be read by others", f"If nobody has: chmod 600 {path}. Else register a new key")
        return file.read(MOST_KEY_FILE)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SettingsError(f"This machine has no key yet ({path})", _REGISTER) from error
    except PermissionError as error:
        raise SettingsError(f"{path} may not be read by this user", "Run the command as the user who registered, usually root") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be opened: {error.strerror}", "It must be a plain file, not a link") from error
