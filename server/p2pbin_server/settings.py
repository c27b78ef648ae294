"""What the operator of a server sets: server.toml to one frozen :class:`Settings`.

The file belongs to the operator, who is trusted; still every key must be known, every value of its type and within its bounds,
and the error says which one is not.  etc/server.toml documents each setting; a test keeps it and this module the same.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import tomli

from p2pbin_server.ceremonies import MOST_RULINGS_AGE, Lifetimes
from portage_p2pbin.kernel.errors import DecodeError, SettingsError
from portage_p2pbin.kernel.index import MOST_FILE
from portage_p2pbin.kernel.model import Address, Channel

T = TypeVar("T")

ROLES = ("api", "tracker", "origin")
MOST_SETTINGS = 1024 * 1024
"""Bytes of server.toml: far more than every setting with its comments."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}(?::[0-9]{1,5})?|\[[0-9a-f:]{2,45}\](?::[0-9]{1,5})?")
_ADDRESS = re.compile(r"(?:(?P<v4>[0-9.]{7,15})|\[(?P<v6>[0-9a-f:]{2,45})\]):(?P<port>[1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A channel's CHOST and flag baseline (P7.2): `flags` are the words that may stand in a flag variable."""

    chost: str
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """How packages are taken in and handed out; sizes in bytes, times in seconds, `upload` in bytes a second (0: no limit)."""

    listen: Address
    address: Address
    disk: int
    package: int
    unlisted: int
    patience: int
    upload: int


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Times in seconds; bounds on what one swarm and one address may fill."""

    interval: int
    min_interval: int
    peers: int
    peers_per_address: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one sender may ask of the server."""

    requests: int
    registrations: int
    all_registrations: int
    votes: int
    downloads: int
    open_offers: int
    holders: int
    holders_per_address: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that server.toml says."""

    name: str
    listen: Address
    roles: frozenset[str]
    state: Path
    threads: int
    proxy: str
    channels: Mapping[Channel, Baseline]
    origin: OriginSettings
    tracker: TrackerSettings
    limits: Limits
    lease: int
    silence: int
    most_open_clashes: int
    batch: int
    lifetimes: Lifetimes


def load(path: Path, eprefix: Path) -> Settings:
    """Read server.toml at `path`; the state is kept below `eprefix` unless the file says otherwise.

    Raises SettingsError if the file is not there or if anything in it is not as etc/server.toml says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_SETTINGS + 1)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", "Copy etc/server.toml there, or name another file with --config.") from error
    return parse(data, str(path), eprefix)


def parse(data: bytes, source: str, eprefix: Path) -> Settings:
    """Read the bytes of server.toml, which came from `source`.  Raises SettingsError."""
    if len(data) > MOST_SETTINGS:
        raise SettingsError(f"{source} is larger than {MOST_SETTINGS} bytes", "Is this the right file?")
    try:
        top = _Table(tomli.loads(data.decode("utf-8")), source)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}", "Correct the file; it is TOML.") from error
    settings = _read(top, eprefix)
    top.finish()
    return settings


def _read(top: _Table, eprefix: Path) -> Settings:
    server, jobs, placement, clashes, index = (top.table(name) for name in ("server", "jobs", "placement", "clashes", "index"))
    settings = Settings(
        name=server.matching("name", _NAME),
        listen=server.address("listen", "127.0.0.1:8080"),
        roles=frozenset(server.words("roles", ROLES, ROLES)),
        state=Path(server.text("state", str(eprefix / "var/lib/p2pbin-server"))),
        threads=server.number("threads", 8, 2, 100),
        proxy=server.text("proxy", ""),
        channels=_read_channels(top.table("channels")),
        origin=_read_origin(top.table("origin")),
        tracker=_read_tracker(top.table("tracker")),
        limits=_read_limits(top.table("limits")),
        lease=jobs.number("lease", 3600, 60, 604_800),
        silence=placement.number("silence", 1800, 60, 604_800),
        most_open_clashes=clashes.number("most_open", 10, 1, 100_000),
        batch=index.number("batch", 1, 1, 3600),
        lifetimes=_read_lifetimes(top.table("lifetimes")),
    )
    for table in (server, jobs, placement, clashes, index):
        table.finish()
    if "origin" in settings.roles and ipaddress.ip_address(settings.origin.address.host).is_unspecified:
        top.refuse("[origin] address", "must be set, since the origin listens on every address")
    return settings


def _read_channels(table: _Table) -> dict[Channel, Baseline]:
    found: dict[Channel, Baseline] = {}
    for name in table.names():
        one = table.table(name)
        found[table.made(name, name, Channel)] = Baseline(one.text("chost"), frozenset(one.words("flags", ())))
        one.finish()
    if not found:
        table.refuse("", "no channel is set", "Name at least one, as etc/server.toml shows.")
    return found


def _read_origin(table: _Table) -> OriginSettings:
    listen = table.text("listen", "0.0.0.0:6880")
    settings = OriginSettings(
        listen=table.made("listen", listen, read_address),
        address=table.address("address", listen),
        disk=table.number("disk", 1024**4, 1024**2, 1024**5),
        package=table.number("package", MOST_FILE, 1024, MOST_FILE),
        unlisted=table.number("unlisted", 32 * 1024**3, 1024, 1024**5),
        patience=table.number("patience", 600, 10, 604_800),
        upload=table.number("upload", 0, 0, 1024**5),
    )
    table.finish()
    return settings


def _read_tracker(table: _Table) -> TrackerSettings:
    settings = TrackerSettings(
        interval=table.number("interval", 300, 10, 86_400),
        min_interval=table.number("min_interval", 30, 1, 86_400),
        peers=table.number("peers", 1000, 10, 100_000),
        peers_per_address=table.number("peers_per_address", 20, 1, 1000),
    )
    table.finish()
    return settings


def _read_lifetimes(table: _Table) -> Lifetimes:
    most = {"root": 90, "targets": 90, "roster": 30, "rulings": MOST_RULINGS_AGE.days, "index": 7, "snapshot": 7, "timestamp": 7}
    usual = {field.name: getattr(Lifetimes(), field.name).days for field in fields(Lifetimes)}
    settings = Lifetimes(**{name: timedelta(days=table.number(name, usual[name], 1, most[name])) for name in most})
    table.finish()
    return settings


def _read_limits(table: _Table) -> Limits:
    settings = Limits(
        requests=table.number("requests", 1200, 1, 1_000_000),
        registrations=table.number("registrations", 10, 1, 1_000_000),
        all_registrations=table.number("all_registrations", 1000, 1, 1_000_000),
        votes=table.number("votes", 2000, 1, 1_000_000),
        downloads=table.number("downloads", 2000, 1, 1_000_000),
        open_offers=table.number("open_offers", 100, 1, 10_000),
        holders=table.number("holders", 10_000, 1, 1_000_000),
        holders_per_address=table.number("holders_per_address", 10, 1, 10_000),
    )
    table.finish()
    return settings


def read_address(text: str) -> Address:
    """Read `192.0.2.1:80` or `[2001:db8::1]:80`.  Raises ValueError or DecodeError for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError("not an address and port like 192.0.2.1:80 or [2001:db8::1]:80")
    return Address(found["v4"] or found["v6"], int(found["port"]))


def spelt(address: Address) -> str:
    """The spelling that :func:`read_address` reads."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


class _Table:
    """One table of the file: each key is taken once, and what is left over is an error."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._left = dict(values)
        self._where = where

    def refuse(self, name: str, what: str, remedy: str = "Correct it as etc/server.toml shows.") -> NoReturn:
        raise SettingsError(f"{self._where}: {name + ': ' if name else ''}{what}", remedy)

    def finish(self) -> None:
        """Every key must have been taken."""
        if self._left:
            self.refuse(min(self._left), "no such setting", "Remove it, or correct its spelling; etc/server.toml has every setting.")

    def names(self) -> list[str]:
        return sorted(self._left)

    def _take(self, name: str, default: T | None, kind: type[T]) -> T:
        value = self._left.pop(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(name, f"must be set, and be of type {kind.__name__}")
        return value

    def table(self, name: str) -> _Table:
        return _Table(self._take(name, {}, dict), f"{self._where} [{name}]")

    def text(self, name: str, default: str | None = None) -> str:
        return self._take(name, default, str)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._take(name, default, int)
        if not least <= value <= most:
            self.refuse(name, f"is {value}, not between {least} and {most}")
        return value

    def words(self, name: str, default: tuple[str, ...], allowed: tuple[str, ...] | None = None) -> list[str]:
        found: list[str] = []
        for word in self._take(name, list(default), list):
            if not isinstance(word, str) or (allowed is not None and word not in allowed):
                self.refuse(name, f"{word!r} is not {'one of ' + ', '.join(allowed) if allowed else 'text'}")
            found.append(word)
        return found

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self.text(name)
        if pattern.fullmatch(value) is None:
            self.refuse(name, f"is {value!r}, not HOST or HOST:PORT as it stands in the sync-uri of the clients")
        return value

    def address(self, name: str, default: str) -> Address:
        return self.made(name, self.text(name, default), read_address)

    def made(self, name: str, value: str, make: Callable[[str], T]) -> T:
        try:
            return make(value)
        except (DecodeError, ValueError) as error:
            raise SettingsError(f"{self._where}: {name}: {error}", "Correct it as etc/server.toml shows.") from error
