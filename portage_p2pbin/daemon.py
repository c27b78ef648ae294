"""p2pbind: the network half that stays, and a gatekeeper for each call; and the same for one call where no daemon runs.

Local users reach the gatekeeper through a socket, and only it.  The kernel says who they are (SO_PEERCRED); they can ask, and keep
a few processes busy for a bounded time.  Each call has a process of its own, so nothing that one call did is left for the next.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from portage_p2pbin.config import Config, Paths, eprefix_of, load
from portage_p2pbin.gatekeeper import Caller, Gatekeeper, answer
from portage_p2pbin.gentoo.settings import read_settings
from portage_p2pbin.kernel.errors import ExitCode, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Address
from portage_p2pbin.kernel.torrent import Torrent
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.net.network import HalfStatus, read_status
from portage_p2pbin.net.packets import Packets, pair, to_text
from portage_p2pbin.net.process import HalfProcess, start_half
from portage_p2pbin.net.settings import HalfSettings, HttpSettings, SwarmSettings

MOST_CALLS = 64
"""Calls answered at once; further ones wait in the socket's queue."""

MOST_STRANGERS = 8
"""Of these, those of users who are neither root nor our own."""

_SECONDS_TO_ANSWER = 300.0
"""Copying the largest package into the swarm's folder takes less."""


def half_settings(config: Config, servers: Mapping[str, str], *, resident: bool) -> HalfSettings:
    """The network half's part of the settings; `servers` are base addresses by name."""
    swarm = config.swarm
    return HalfSettings(
        folder=config.paths.swarm,
        # One that is here for a single call leaves the port to the daemon or the next call.
        swarm=SwarmSettings(
            listen=swarm.listen if resident else f"{swarm.listen.rpartition(':')[0]}:0",
            upload=swarm.upload,
            download=swarm.download,
            lan_discovery=swarm.lan_discovery,
            stall=config.limits.stall,
            origin_after=swarm.origin_after,
        ),
        http=HttpSettings(config.limits.stall, config.server.proxy, swarm.source, https=config.server.scheme == "https"),
        disk=swarm.disk if swarm.seed else 0,
        servers=servers,
        resident=resident,
        hold_every=swarm.hold_every,
    )


class Daemon:
    """p2pbind for one Gentoo: listens, and forks a gatekeeper for each call."""

    def __init__(self, config: Config) -> None:
        """Start the network half and listen.  Raises SettingsError and UnavailableError, OSError."""
        servers = {one.host: config.server.url(one.host) for one in read_settings(config.paths.eprefix, {}).repositories}
        self._config = config
        self._children: dict[int, bool] = {}
        if connect(config.paths.socket) is not None:
            raise UnavailableError(str(config.paths.socket), "another p2pbind answers there")
        self._half = start_half(half_settings(config, servers, resident=True), config.swarm.user)
        self._socket = _listen(config.paths.socket)

    def serve(self) -> None:
        """Answer calls until SIGTERM or SIGINT; then end cleanly.  Raises UnavailableError if the network half ends."""
        stop, stopping = os.pipe()
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda _signal, _frame: os.write(stopping, b"."))
        poll = select.poll()
        for waited in (stop, self._half.control.fileno(), self._socket.fileno()):
            poll.register(waited, select.POLLIN)
        while True:
            ready = dict(poll.poll(1000))
            self._reap()
            if stop in ready:
                return self._end()
            if self._half.control.fileno() in ready:
                self._end()
                raise UnavailableError("The network half", "it has ended; see what it wrote before")
            if self._socket.fileno() in ready and len(self._children) < MOST_CALLS:
                self._accept()

    def _accept(self) -> None:
        """Fork a gatekeeper for the next caller; strangers beyond their share are turned away."""
        connection, _ = self._socket.accept()
        with connection:
            caller = _caller(connection, self._config.swarm.user)
            if not caller.trusted and list(self._children.values()).count(False) >= MOST_STRANGERS:
                return
            try:
                pid = os.fork()
            except OSError as error:
                print(f"p2pbind: a call was turned away: {error.strerror}", file=sys.stderr, flush=True)
                return
            if pid == 0:
                self._socket.close()
                _be_the_gatekeeper(nullcontext(Gatekeeper(self._config, self._half.connect)), connection, caller)
            self._children[pid] = caller.trusted

    def _reap(self) -> None:
        """Collect the gatekeepers that have ended."""
        for pid in [*self._children]:
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._children[pid]

    def _end(self) -> None:
        """Take the socket away, end the calls that still run, and the network half."""
        self._config.paths.socket.unlink(missing_ok=True)
        self._socket.close()
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)
        for pid in self._children:
            os.waitpid(pid, 0)
        self._half.stop()


def _caller(connection: socket.socket, user: str) -> Caller:
    """Who it is, as the kernel says."""
    _pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    trusted = uid in (0, os.geteuid())
    try:
        group = pwd.getpwnam(user).pw_gid
        return Caller(trusted, trusted or group in os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return Caller(trusted, trusted)


def _listen(path: Path) -> socket.socket:
    """Listen at `path` for every user of this machine."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(path))
    path.chmod(0o666)
    listening.listen(MOST_CALLS)
    return listening


def connect(path: Path) -> socket.socket | None:
    """A connection to the daemon at `path`; None if none answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def call_without_daemon(eprefix: str) -> socket.socket:
    """A connection to a gatekeeper and a network half that are there for this one call."""
    ours, theirs = pair()
    if os.fork() == 0:
        ours.close()
        paths = Paths(eprefix_of({"EPREFIX": eprefix}))
        _be_the_gatekeeper(_for_one_call(paths), theirs, Caller(trusted=paths.may_write(), publisher=False))
    theirs.close()
    return ours


@contextmanager
def _for_one_call(paths: Paths) -> Iterator[Gatekeeper]:
    """A gatekeeper with a network half of its own; without one where it could not keep what it learns."""
    config = load(paths)
    if paths.may_write():
        with own_half(config) as (_, half):
            yield Gatekeeper(config, half.connect)
    else:
        yield Gatekeeper(config, _no_half)


def _no_half() -> NoReturn:
    raise SettingsError("This user may not use the network for this Gentoo", "Run it as root, or start p2pbind")


@contextmanager
def own_half(config: Config) -> Iterator[tuple[Config, HalfProcess]]:
    """A network half that lives as long as the block."""
    half = start_half(half_settings(config, {}, resident=False), config.swarm.user)
    try:
        yield config, half
    finally:
        half.stop()


def _be_the_gatekeeper(beginning: AbstractContextManager[Gatekeeper], connection: socket.socket, caller: Caller) -> NoReturn:
    """Answer one call in this process, which ends here."""
    code = ExitCode.BUG
    packets = Packets(connection, "The caller")
    try:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        answer(packets, caller, beginning)
        code = ExitCode.DONE
    finally:
        if code is ExitCode.BUG:
            traceback.print_exc()
            with suppress(UnavailableError):
                packets.send({"say": " * This is a bug of portage-p2pbin: please report what p2pbind, or this command, has written"})
                packets.send({"exit": int(code)})
        os._exit(code)


class Seeder(Protocol):
    """What publishing needs of a network half.  Both raise UnavailableError."""

    def status(self) -> HalfStatus:
        """Among other things, the port on which this machine's peers listen."""

    def seed(self, torrent: Torrent, file: int, connect: Address | None) -> None:
        """Seed a copy of the open `file`, and connect out to the peer at `connect`."""


@contextmanager
def sharing(config: Config) -> Iterator[Seeder]:
    """The network half of p2pbind if it runs, which goes on seeding; else one of our own that lives as long as the block."""
    if (found := connect(config.paths.socket)) is not None:
        found.close()
        yield _ThroughDaemon(config.paths.socket)
    else:
        with own_half(config) as (_, half), half.connect() as network:
            yield network


@dataclass(frozen=True, slots=True)
class _ThroughDaemon:
    """A seeder that asks p2pbind, with a connection for each question."""

    path: Path

    def status(self) -> HalfStatus:
        """See Seeder."""
        found = self._ask({"do": "status"}, None)
        if found is None:
            raise UnavailableError("p2pbind", "it has not said how it is")
        with found.reading():
            return read_status(found)

    def seed(self, torrent: Torrent, file: int, connect: Address | None) -> None:
        """See Seeder."""
        peer = None if connect is None else [connect.host, connect.port]
        self._ask({"connect": peer, "do": "seed", "torrent": to_text(torrent.data)}, file)

    def _ask(self, message: Mapping[str, object], file: int | None) -> Fields | None:
        """The status, if it is told, once the daemon has done what `message` asks.  Raises UnavailableError with its last line."""
        connection = connect(self.path)
        if connection is None:
            raise UnavailableError("p2pbind", f"nobody answers at {self.path}")
        said, status = "", None
        with Packets(connection, "p2pbind") as packets:
            packets.send(message, file)
            while True:
                answer, _ = packets.receive(_SECONDS_TO_ANSWER)
                with answer.reading():
                    if answer.has("say"):
                        said = answer.text("say")
                    elif answer.has("status"):
                        status = answer.fields("status")
                    elif answer.number("exit"):
                        raise UnavailableError("p2pbind", said.removeprefix(" * "))
                    else:
                        return status


def daemon_status(path: Path) -> HalfStatus | None:
    """What the daemon at `path` is doing; None if none answers there.  Raises UnavailableError if it cannot say."""
    found = connect(path)
    if found is None:
        return None
    found.close()
    return _ThroughDaemon(path).status()
