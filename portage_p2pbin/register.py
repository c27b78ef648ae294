"""Register this machine at a trust server: a key of its own, for which an OpenPGP identity answers (P3.2, P4.3).

The secret half of the machine key stays in its file.  The server learns its public half, the identity's public key, the name
that the machine was given and the window; all of that becomes public once the contributor is on the roster.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin import durable
from portage_p2pbin.config import Paths
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import DecodeError, SettingsError
from portage_p2pbin.kernel.model import Fingerprint
from portage_p2pbin.kernel.roster import MachineKey, read_machine_key
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.kernel.wire import canonical, decode
from portage_p2pbin.machine_key import create_machine_key, load_machine_key
from portage_p2pbin.net.trust_server import Registered, TrustServer
from portage_p2pbin.openpgp import certify

REGISTRATION = "p2pbin-registration-1"
MOST_REGISTRATION = 16 * 1024


@dataclass(frozen=True, slots=True)
class Registration:
    """What this machine registered as: the identity that answers for its key, the key's window, and at which server."""

    identity: Fingerprint
    key: MachineKey
    server: str

    def encode(self) -> bytes:
        """The canonical machine.json."""
        key = {
            "machine": self.key.machine,
            "notAfter": spelt(self.key.not_after),
            "notBefore": spelt(self.key.not_before),
            "public": self.key.public,
        }
        return canonical({"_type": REGISTRATION, "identity": self.identity, "key": key, "server": self.server})


def register(
    paths: Paths, server: TrustServer, identity: Fingerprint, *, gpg_home: Path | None, machine: str, window: timedelta
) -> Registered:
    """Register the machine whose files are at `paths`; return what the server takes it for.

    `machine` is a name for it, empty for one made from its key; `window` is how long the key shall be valid, from now on.
    Doing it again registers the same key with a new window.  Raises SettingsError, RefusedError and UnavailableError; what was
    done before is then used by the next call.
    """
    # 1. A key that never leaves this machine.
    key = _machine_key(paths.machine_key)
    # 2. The identity answers for it: gpg may ask for a passphrase.
    now = server.clock().replace(microsecond=0)
    public = public_key(key)
    window_key = MachineKey(public, machine or f"machine-{public[:8]}", now, now + window)
    certified = certify(gpg_home, identity, window_key, now)
    # 3. The server checks both, and that we hold the key.
    registered = server.register(certified.public_key, certified.text, key)
    # 4. Remembered, for `p2pbin status` and for votes.
    durable.write(paths.machine_json, Registration(identity, window_key, server.name).encode())
    return registered


def _machine_key(path: Path) -> Ed25519PrivateKey:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return create_machine_key(path)
    except FileExistsError:
        return load_machine_key(path)


def read_registration(path: Path) -> Registration:
    """What this machine registered as, from the file at `path`.  Raises SettingsError if it has not."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_REGISTRATION + 1)
        return _decode(data)
    except FileNotFoundError as error:
        raise SettingsError("This machine is not registered", "Register it with: p2pbin register --identity FINGERPRINT") from error
    except DecodeError as error:
        raise SettingsError(f"{path}: {error.reason}", "Register again with: p2pbin register --identity FINGERPRINT") from error


def _decode(data: bytes) -> Registration:
    fields = decode(data, "registration", MOST_REGISTRATION)
    with fields.reading():
        fields.exactly("_type", REGISTRATION)
        return Registration(fields.of("identity", Fingerprint), read_machine_key(fields.fields("key")), fields.text("server", 300))
