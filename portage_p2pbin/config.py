"""Where things are on this machine, and what its operator set in client.toml.

The file belongs to root, who is trusted; still every key must be known and every value of its type and within its bounds, since a
misspelt setting that is silently not used is worse than an error.  etc/client.toml documents each one.

Settings that Gentoo has a place for (P2PBIN_TRUST, package.p2pbin, binrepos.conf) are read in :mod:`portage_p2pbin.gentoo.settings`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import tomli

from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.index import MOST_FILE

T = TypeVar("T")

MOST_SETTINGS = 1024 * 1024
"""Bytes of a settings file: far more than every setting with its comments."""

MOST_DISK = 1 << 50
MOST_RATE = 1 << 40
MOST_PATTERNS = 1000

_LISTEN = re.compile(r"(?:([0-9.]{7,15})|\[([0-9a-fA-F:]{2,45})\]):([0-9]{1,5})")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Paths:
    """Every name below EPREFIX that the client uses."""

    eprefix: Path

    def may_write(self) -> bool:
        """May this process change what the machine keeps?  The first call makes the folder."""
        if not self.state.exists() and os.access(self.eprefix, os.W_OK):
            self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.access(self.state, os.W_OK)

    @property
    def client_toml(self) -> Path:
        """The settings of this module."""
        return self.eprefix / "etc/p2pbin/client.toml"

    @property
    def server_toml(self) -> Path:
        """The settings of a trust server."""
        return self.eprefix / "etc/p2pbin/server.toml"

    @property
    def builder_toml(self) -> Path:
        """The settings of a build server."""
        return self.eprefix / "etc/p2pbin/builder.toml"

    @property
    def root_json(self) -> Path:
        """The TUF trust anchor (P7.1): whoever writes it decides whom this machine trusts."""
        return self.eprefix / "etc/p2pbin/root.json"

    @property
    def socket(self) -> Path:
        """Where p2pbind listens."""
        return self.eprefix / "run/p2pbin/p2pbind.sock"

    @property
    def state(self) -> Path:
        """What must not be lost; only root writes below it."""
        return self.eprefix / "var/lib/p2pbin"

    @property
    def tuf(self) -> Path:
        """Verified TUF metadata."""
        return self.state / "tuf"

    @property
    def rulings(self) -> Path:
        """The rulings last seen, none of which may vanish (P6.6)."""
        return self.state / "rulings.json"

    @property
    def refused(self) -> Path:
        """Files that are left out of the index for now (P9)."""
        return self.state / "refused.json"

    @property
    def listings(self) -> Path:
        """The answers last given to index calls (P7.5)."""
        return self.state / "listings"

    @property
    def builds(self) -> Path:
        """Source merges that the hook has recorded (P10.1)."""
        return self.state / "builds"

    @property
    def machine_key(self) -> Path:
        """The key that signs this machine's votes (P3.2)."""
        return self.state / "machine.key"

    @property
    def machine_json(self) -> Path:
        """What this machine is registered as."""
        return self.state / "machine.json"

    @property
    def publishing(self) -> Path:
        """Publications that have begun (P10.6)."""
        return self.state / "publishing"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time."""
        return self.eprefix / "var/cache/p2pbin"

    @property
    def swarm(self) -> Path:
        """The network half's own folder; nothing in it is believed."""
        return self.cache / "swarm"

    @property
    def targets(self) -> Path:
        """Downloaded TUF targets, verified again at each reading."""
        return self.cache / "targets"


def eprefix_of(environment: Mapping[str, str]) -> Path:
    """Which Gentoo a call is about: as Portage finds it out, or `/`.  Raises SettingsError for a path that is not absolute."""
    path = Path(environment.get("PORTAGE_OVERRIDE_EPREFIX") or environment.get("EPREFIX") or "/")
    if not path.is_absolute() or ".." in path.parts:
        raise SettingsError(f"EPREFIX is {str(path)!r}", "Set it to an absolute path without ..")
    return path


def _bounded(default: float, least: float, most: float) -> Any:  # noqa: ANN401
    """A number between `least` and `most`, both allowed."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the trust server of the sync-uri is reached."""

    scheme: str = "https"
    proxy: str = ""

    def __post_init__(self) -> None:
        if self.scheme not in ("https", "http"):
            raise ValueError('scheme is neither "https" nor "http"')

    def url(self, host: str) -> str:
        """The server's base address, without a slash at its end."""
        return f"{self.scheme}://{host}"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """BitTorrent; rates in bytes a second and `disk` in bytes, 0 for no limit and for none; `hold_every` in seconds."""

    listen: str = "0.0.0.0:6881"
    user: str = "p2pbin"
    upload: int = _bounded(0, 0, MOST_RATE)
    download: int = _bounded(0, 0, MOST_RATE)
    seed: bool = True
    disk: int = _bounded(1 << 30, 0, MOST_DISK)
    lan_discovery: bool = True
    origin_after: float = _bounded(1.0, 0.0, 60.0)
    hold_every: float = _bounded(600.0, 1.0, 86_400.0)

    def __post_init__(self) -> None:
        found = _LISTEN.fullmatch(self.listen)
        if found is None or int(found[3]) > 65535:
            raise ValueError(f"listen is {self.listen!r}, not like 0.0.0.0:6881 or [::]:6881")
        ipaddress.ip_address(found[1] or found[2])
        if _USER.fullmatch(self.user) is None:
            raise ValueError(f"user is {self.user!r}, which no user is called")

    @property
    def source(self) -> str:
        """The address of this machine that the trust server is asked from: that which peers see, "" if any will do."""
        address = ipaddress.ip_address(self.listen.rpartition(":")[0].strip("[]"))
        return "" if address.is_unspecified else str(address)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for anything without progress, in seconds, and the largest package to fetch, in bytes."""

    stall: float = _bounded(60.0, 1.0, 3600.0)
    package: int = _bounded(MOST_FILE, 1, MOST_FILE)


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """What `p2pbin publish` leaves out (`exclude`: patterns like `games-*/*`), and where the OpenPGP identity lives ("": gpg's own)."""

    exclude: tuple[str, ...] = ()
    gpg_home: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that client.toml says, and the paths."""

    paths: Paths
    server: ServerSettings = ServerSettings()
    swarm: PeerSettings = PeerSettings()
    limits: Limits = Limits()
    publish: PublishSettings = PublishSettings()


def load(paths: Paths) -> Config:
    """Read client.toml; without one, everything has its default.  Raises SettingsError."""
    sections = read_sections(
        paths.client_toml, {"server": ServerSettings, "swarm": PeerSettings, "limits": Limits, "publish": PublishSettings}
    )
    return Config(paths, **sections)


def read_sections(path: Path, sections: Mapping[str, type]) -> dict[str, Any]:
    """Read a TOML file whose tables are the dataclasses `sections`; what is not in the file has its default.

    Raises SettingsError for an unknown table or key, a wrong type, and a value out of its bounds.
    """
    found = _read_toml(path)
    unknown = set(found) - set(sections)
    if unknown:
        raise SettingsError(f"{path}: [{min(unknown)}] is no section", f"There are {', '.join(sections)}")
    return {name: _read_section(f"{path}: [{name}]", kind, found.get(name, {})) for name, kind in sections.items()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_SETTINGS + 1)
        if len(data) > MOST_SETTINGS:
            raise SettingsError(f"{path} is larger than {MOST_SETTINGS} bytes", "Is it the right file?")
        return tomli.loads(data.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}", "Mend the file, or move it away to have every default") from error


def _read_section(where: str, kind: type[T], found: object) -> T:
    if not isinstance(found, dict):
        raise SettingsError(f"{where} is not a section", "Write [NAME] on a line of its own")
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in found.items():
        if name not in known:
            raise SettingsError(f"{where} has no setting {name!r}", f"There are {', '.join(known)}")
        values[name] = _checked(f"{where} {name}", value, known[name].default, known[name].metadata)
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}", "Mend it; etc/client.toml shows every setting") from error


def _checked(where: str, value: object, default: object, bounds: Mapping[str, float]) -> object:
    """`value` as the type of `default`: a whole number will do for a number, and a list of strings becomes a tuple."""
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = tuple(value[: MOST_PATTERNS + 1])
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise SettingsError(f"{where} is {value!r}", f"It must be of the same kind as {default!r}")
    if isinstance(value, (int, float)) and bounds and not bounds["least"] <= value <= bounds["most"]:
        raise SettingsError(f"{where} is {value}", f"It must be between {bounds['least']:.0f} and {bounds['most']:.0f}")
    if isinstance(value, tuple) and len(value) > MOST_PATTERNS:
        raise SettingsError(f"{where} has more than {MOST_PATTERNS} entries", "Use wider patterns")
    return value
