"""The gatekeeper: answers one call of p2pbin-fetch or p2pbin, as a process without network that reads no package.

The caller is a local user and may be anybody.  It makes the destination file itself and hands over the open descriptor, so no path
of its choosing is ever written to.  Only root, and the user that the daemon runs as, can fetch packages or change what this
machine keeps; all others get what is verified already, by the settings of root and not by their own.
"""

from __future__ import annotations

import ctypes
import gzip
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.config import Config, Paths
from portage_p2pbin.fetch import Judge, Means, Wanted, fetch
from portage_p2pbin.gentoo.settings import read_settings, split_uri
from portage_p2pbin.kernel.errors import ExitCode, P2pbinError, RefusedError, SettingsError, UnavailableError, printable
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.torrent import MOST_TORRENT, read_torrent
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.listing import Allowed, Answers, Listing, list_packages
from portage_p2pbin.net.network import Network
from portage_p2pbin.net.packets import Packets, from_text
from portage_p2pbin.net.repository import Cache, Fetch, VerifiedRepository, verified_cache
from portage_p2pbin.refusals import Refusals

ENVIRONMENT = ("FEATURES", "P2PBIN_TRUST", "PKGDIR", "PORTAGE_BINHOST", "PORTAGE_CONFIGROOT")
"""What a call's environment may say; Portage puts make.conf's values there when it fetches a package."""

MOST_ROOT = 256 * 1024
SECONDS_TO_ASK = 10.0
_CLONE_NEWNET = 0x40000000


class CallerGoneError(Exception):
    """Whoever called has ended; nobody wants the answer any more."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the caller may do.  `trusted`: change what this machine keeps.  `publisher`: have files seeded."""

    trusted: bool
    publisher: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call: by whom, the open file that came with it, and where to say how it goes."""

    connection: Packets
    file: int | None
    caller: Caller

    def say(self, line: str) -> None:
        """Show a line to the caller's user."""
        try:
            self.connection.send({"say": printable(line)})
        except UnavailableError as error:
            raise CallerGoneError from error

    def plain_file(self) -> int:
        """The file that came with the call.  Raises RefusedError unless it is a plain one: reading others might never end."""
        if self.file is None or not stat.S_ISREG(os.fstat(self.file).st_mode):
            raise RefusedError("P9.9", "The call", "no plain file came with it")
        return self.file


def answer(connection: Packets, caller: Caller, beginning: AbstractContextManager[Gatekeeper]) -> None:
    """Answer the one call that comes over `connection`: lines to show, and at last an exit code.

    `beginning` makes the gatekeeper, which may fail as anything else may.  Afterwards this process has no network.
    """
    with suppress(CallerGoneError, UnavailableError):
        fields, file = connection.receive(SECONDS_TO_ASK)
        call = Call(connection, file, caller)
        connection.send({"exit": int(_sorted(fields, call, beginning))})


def _sorted(fields: Fields, call: Call, beginning: AbstractContextManager[Gatekeeper]) -> ExitCode:
    """Do what is asked; a failure becomes a line and an exit code."""
    try:
        with beginning as gatekeeper, fields.reading():
            leave_network()
            gatekeeper.do(fields, call)
    except P2pbinError as error:
        for line in (str(error), *getattr(error, "__notes__", ())):
            call.say(f" * {line}")
        return error.exit_code
    except OSError as error:
        call.say(f" * {error.filename or 'The disk'}: {error.strerror or error}")
        return ExitCode.UNAVAILABLE
    return ExitCode.DONE


class Gatekeeper:
    """What answers calls for the Gentoo of `config`, through conversations with its network half that `connect` begins."""

    def __init__(self, config: Config, connect: Callable[[], Network]) -> None:
        self._config = config
        self._connect = connect

    def do(self, fields: Fields, call: Call) -> None:
        """Do what the message `fields` asks for.  Raises P2pbinError, OSError, and CallerGoneError."""
        match fields.text("do", 20):
            case "fetch":
                uri, environment = fields.text("uri", 2000), fields.mapping("environment", str, len(ENVIRONMENT))
                self._fetch(uri, environment if call.caller.trusted else {}, call)
            case "seed":
                self._seed(fields, call)
            case "status":
                self._status(call)
            case _:
                fields.refuse("it asks for something unknown")

    def _fetch(self, uri: str, environment: Mapping[str, str], call: Call) -> None:
        base, _, name = uri.rpartition("/")
        if name in ("Packages", "Packages.gz"):
            host, channel = split_uri(base)
            text = self._index(host, channel, environment, call)
            with os.fdopen(os.dup(call.plain_file()), "wb") as file:
                file.write(gzip.compress(text, mtime=0) if name == "Packages.gz" else text)
                file.flush()
                os.fsync(file.fileno())
        else:
            host, channel = split_uri(base.rpartition("/")[0])
            self._package(host, channel, f"{base.rpartition('/')[2]}/{name}", environment, call)

    def _index(self, host: str, channel: Channel, environment: Mapping[str, str], call: Call) -> bytes:
        """An index call (P7.5): always a text."""
        now = datetime.now(UTC)
        paths = self._config.paths
        answers = Answers(paths.listings / f"{host}_{channel}", now, writable=call.caller.trusted)

        def find() -> Listing:
            settings = read_settings(paths.eprefix, environment)
            section = settings.repository(host, channel)
            # A stranger's call neither knows root's environment nor may it remove what that allows.
            location = section.location if call.caller.trusted else None
            allowed = Allowed(settings.thresholds, Refusals(paths.refused), self._config.limits.package, now)
            with self._readable(host, call) as repository:
                return Listing(allowed.entries(repository, channel), location)

        return list_packages(find, answers, call.say)

    @contextmanager
    def _readable(self, host: str, call: Call) -> Iterator[VerifiedRepository]:
        """The repository: up to date for those who may write our state, as it was cached for the others."""
        if not call.caller.trusted:
            with cached_repository(self._config) as repository:
                yield repository
        else:
            with self._connect() as network:
                yield current_repository(self._config, host, network.find)

    def _package(self, host: str, channel: Channel, path: str, environment: Mapping[str, str], call: Call) -> None:
        """A call for one package (P9)."""
        if not call.caller.trusted:
            raise SettingsError("This user may not fetch packages for this Gentoo", "Run emerge as root")
        paths = self._config.paths
        settings = read_settings(paths.eprefix, environment)
        settings.repository(host, channel)
        eprefix = "" if paths.eprefix == Path("/") else str(paths.eprefix)
        judge = Judge(settings.thresholds, Refusals(paths.refused), eprefix, self._config.limits.package, datetime.now(UTC))
        wanted = Wanted(self._config.server.url(host), channel, path)
        try:
            with self._connect() as network:
                repository = current_repository(self._config, host, network.find)
                fetch(wanted, call.plain_file(), repository, judge, Means(network, _read, call.say))
        except (RefusedError, UnavailableError) as error:
            error.add_note("Run emerge again: the index then leaves this package out, and Portage compiles it")
            raise

    def _seed(self, fields: Fields, call: Call) -> None:
        """Seed a file for `p2pbin publish`."""
        torrent = read_torrent(fields.of("torrent", from_text, 2 * MOST_TORRENT))
        peer = None if fields.null("connect") else fields.address("connect")
        if not call.caller.publisher:
            raise SettingsError("This user may not publish through p2pbind", "Run it as root, or join the group of p2pbind's user")
        with self._connect() as network:
            network.seed(torrent, call.plain_file(), peer)

    def _status(self, call: Call) -> None:
        with self._connect() as network:
            status = network.status()
        call.connection.send({"status": status.as_json()})


def current_repository(config: Config, host: str, fetch: Fetch) -> VerifiedRepository:
    """The repository of the server `host`, up to date; `fetch` is the way to it.

    Raises SettingsError, UnavailableError and RefusedError.
    """
    config.paths.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    repository = VerifiedRepository(_root_json(config.paths), f"{config.server.url(host)}/tuf", repository_cache(config.paths), fetch)
    repository.refresh()
    return repository


def cached_repository(config: Config) -> AbstractContextManager[VerifiedRepository]:
    """The repository as it was verified last, for users who may not write our state.  Raises as :func:`current_repository`."""
    return verified_cache(_root_json(config.paths), repository_cache(config.paths))


def _root_json(paths: Paths) -> bytes:
    try:
        with paths.root_json.open("rb") as file:
            return file.read(MOST_ROOT)
    except FileNotFoundError as error:
        remedy = "Get root.json from the server's operator and compare its fingerprint with the one that the operator shows you"
        raise SettingsError(f"{paths.root_json} is missing, so no server is trusted", remedy) from error


def repository_cache(paths: Paths) -> Cache:
    """Where the verified repository is kept."""
    return Cache(paths.tuf, paths.targets, paths.rulings)


def _read(file: int) -> Reading:
    return read_sandboxed(file)


def leave_network() -> None:
    """Give up the network for good.  Only root can; where a container forbids it, the rest of the design still holds."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).unshare(_CLONE_NEWNET)
