"""A whole little world on one machine: a trust server, and Gentoos that talk to it over loopback.

For the demo and the end-to-end tests: everything in it is real, started by its own command, and each member has an address of its
own (127.0.0.N), so that libtorrent's per-peer counters tell who sent what.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from portage_p2pbin.kernel.index import Entry, read_page
from portage_p2pbin.kernel.model import Channel
from tests.throwaway.gentoo import Finished, Gentoo, Running

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[1]
CHANNEL = "amd64-demo"
PATIENCE = 60.0
"""Seconds to wait for something that a daemon does by itself: many times what it takes."""

# Copies of what a user would write; see README.rst.
_BINREPOS = """\
[p2pbin]
sync-uri = p2pbin://{host}/{channel}
fetchcommand = p2pbin-fetch "${{URI}}" "${{DISTDIR}}/${{FILE}}"
resumecommand = p2pbin-fetch "${{URI}}" "${{DISTDIR}}/${{FILE}}"
verify-signature = false
priority = 10
"""

_CLIENT = """\
[server]
scheme = "http"

[swarm]
listen = "{address}:0"
user = "nobody"
disk = {disk}
lan_discovery = false
hold_every = 1.0
# As over a real line: no peer is so fast that the others have nothing to do.
upload = 1000000

[limits]
stall = 10.0
"""


_ROLES = ("api", "tracker", "origin")
_SERVER = """\
[server]
name = "{host}"
listen = "{host}"
state = "{state}"
roles = {roles}

[channels.{channel}]
chost = "x86_64-pc-linux-gnu"
flags = ["-O2", "-pipe", "-Wl,-O1", "-Wl,--as-needed"]

[origin]
listen = "{origin}"
"""


class NotSeenError(AssertionError):
    """Something that had to happen was not seen."""


def eventually(what: str, look: Callable[[], T | None]) -> T:
    """Return what `look` finds, asked again and again until it finds something or PATIENCE is over."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise NotSeenError(f"not within {PATIENCE:.0f} s: {what}")


def command(name: str) -> str:
    """The path of one of our commands."""
    return str(Path(sys.executable).with_name(name))


@dataclass(slots=True)
class Server:
    """The trust server, its offline keys in a folder that it never sees, and its roster of members."""

    home: Path
    port: int
    keys: Path
    fingerprint: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.home / "etc/p2pbin/server.toml"

    @property
    def state(self) -> Path:
        return self.home / "var/lib/p2pbin-server"

    @property
    def root_json(self) -> Path:
        return self.home / "etc/p2pbin/root.json"

    def initialise(self) -> None:
        """The ceremony: offline keys in a folder of their own, online keys with the server, root.json for the clients."""
        self.config.parent.mkdir(parents=True)
        self.keys.mkdir()
        self.configure(_ROLES)
        self.run("check-config", "--config", str(self.config))
        self.fingerprint = self._fingerprint(self.run("init", "--config", str(self.config), "--keys", str(self.keys)))

    def _fingerprint(self, said: str) -> str:
        found = re.search(r"[0-9a-f]{64}", said)
        if found is None:
            raise NotSeenError(f"init shows no fingerprint: {said}")
        return found[0]

    def configure(self, roles: tuple[str, ...]) -> None:
        """Write server.toml."""
        origin = self.port + 1
        self.config.write_text(
            _SERVER.format(host=self.host, state=self.state, roles=json.dumps(roles), channel=CHANNEL, origin=f"127.0.0.1:{origin}")
        )

    def restart(self, roles: tuple[str, ...] = _ROLES) -> None:
        """Start anew with other roles."""
        self.stop()
        self.configure(roles)
        self.start()

    def sign_roster(self, people: Mapping[str, tuple[str, str]]) -> None:
        """Put registered identities on the roster, each as (operator, role): prepared here, signed offline, brought back."""
        config, offline = ["--config", str(self.config)], self.keys.parent / "roster"
        for identity, (operator, role) in people.items():
            self.run("contributor", "promote", *config, identity, "--role", role, "--operator", operator, "--output", str(offline))
        self.run("roster", "export", *config, "--output", str(offline / "previous"))
        previous, signed = str(offline / "previous"), str(offline / "signed")
        roster = str(offline / "roster.toml")
        self.run("roster", "sign", "--keys", str(self.keys), "--previous", previous, "--output", signed, roster)
        self.run("roster", "import", *config, signed)

    def roster_signatures(self) -> int:
        """How many keys have signed the roster that the server gives out, from its TUF metadata."""
        newest = max((self.state / "tuf/metadata").glob("*.roster.json"), key=lambda path: int(path.name.partition(".")[0]))
        return len(json.loads(newest.read_text())["signatures"])

    def levels(self) -> dict[str, int | None]:
        """The best level of each package version that somebody has voted on."""
        return dict(self.rows("SELECT cpv, MIN(level) FROM variants GROUP BY cpv"))

    def entries(self) -> list[Entry]:
        """What the index lists now, as clients see it: the newest page of each category in the TUF repository."""
        newest: dict[str, Path] = {}
        for page in sorted((self.state / "tuf/targets").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            newest[page.name.partition(".")[2]] = page
        pages = [(page, name.removesuffix(".json")) for name, page in newest.items() if CHANNEL in page.parts]
        return [entry for page, category in pages for entry in read_page(page.read_bytes(), Channel(CHANNEL), category)]

    def listed_levels(self) -> dict[str, int]:
        """The level of each package version on the index."""
        return {str(entry.cpv): int(entry.level) for entry in self.entries()}

    def demand(self) -> list[tuple[str, int]]:
        """How often each package version was asked for, most wanted first."""
        return [(cpv, count) for cpv, count in self.rows("SELECT cpv, SUM(count) FROM downloads GROUP BY cpv ORDER BY 2 DESC")]

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run a p2pbin-server command and return what it said."""
        done = subprocess.run([command("p2pbin-server"), *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
        if done.returncode != expect:
            raise NotSeenError(f"p2pbin-server {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def get(self, path: str) -> Any:
        """GET a path of the api and return its JSON."""
        with urllib.request.urlopen(f"http://{self.host}{path}", timeout=PATIENCE) as answer:  # our own http URL
            return json.load(answer)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the server's database."""
        with sqlite3.connect(f"file:{self.state / 'p2pbin.sqlite'}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [command("p2pbin-server"), "serve", "--config", str(self.config)], stdout=log, stderr=log, start_new_session=True
            )
        eventually("the server answers", self._healthy)

    def _healthy(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise NotSeenError(f"the server ended with {self._process.returncode}:\n{(self.home / 'server.log').read_text()[-3000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it politely; fail if it does not."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None


@dataclass(slots=True, eq=False)
class Member:
    """A Gentoo that takes part: its own address, its p2pbind, and perhaps an identity."""

    name: str
    address: str
    gentoo: Gentoo
    identity: str = ""
    _said: str = ""
    _daemon: Running | None = None

    def start_daemon(self) -> None:
        """Start p2pbind and wait until its socket answers."""
        self._daemon = daemon = self.gentoo.start(["p2pbind"])
        socket_file = self.gentoo.outside("run/p2pbin/p2pbind.sock")

        def is_up() -> bool:
            if daemon.process.poll() is not None:
                raise NotSeenError(f"p2pbind of {self.name} ended with {daemon.process.returncode}:\n{daemon.output()[-3000:]}")
            return socket_file.exists()

        eventually(f"p2pbind of {self.name} is up", is_up)

    def stop_daemon(self) -> None:
        """End p2pbind."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def emerge(self, *arguments: str, environment: Mapping[str, str] | None = None, expect: int | None = 0) -> Finished:
        """Run plain `emerge --getbinpkg`, as a user would."""
        finished = self.gentoo.emerge("--getbinpkg", *arguments, environment=environment, expect=expect)
        self._said += finished.output
        return finished

    def p2pbin(self, *arguments: str, expect: int | None = 0) -> str:
        """Run p2pbin and return what it said."""
        return self.gentoo.run(["p2pbin", *arguments], expect=expect).output

    def received(self) -> tuple[dict[str, int], int]:
        """Bytes by peer address and bytes from the origin: libtorrent's per-peer counters, as p2pbin-fetch told emerge.

        Portage fetches the first package before our eyes and the others into a log.
        """
        log = self.gentoo.outside("var/log/emerge-fetch.log")
        said = self._said + (log.read_text() if log.exists() else "")
        peers: dict[str, int] = {}
        for count, address in re.findall(r"(\d+) bytes from peer (\S+)", said):
            peers[address] = peers.get(address, 0) + int(count)
        return peers, sum(map(int, re.findall(r"; (\d+) bytes from the origin", said)))

    def build_time(self, cpv: str) -> int | None:
        """When the installed `cpv` was built, from the package database; None if it is not installed.

        A binary package keeps the time of the machine that compiled it, so equal times mean that it came from there.
        """
        try:
            return int(self.gentoo.read(f"var/db/pkg/{cpv}/BUILD_TIME"))
        except FileNotFoundError:
            return None


class World:
    """The server and all members; everything stops at the end of the `with` statement."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.server = Server(home / "server", port, home / "offline-keys")
        self.members: list[Member] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for member in reversed(self.members):
            member.gentoo.stop()
        self.server.stop()

    def member(
        self,
        name: str,
        *,
        trust: int = 3,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        disk: int = 0,
        daemon: bool = True,
        user: int | None = None,
    ) -> Member:
        """Add a Gentoo that is set up as README.rst says, with `trust` as its threshold and `disk` bytes on offer for copies.

        `user` is the uid of an ordinary user to run as.
        """
        number = len(self.members) + 2
        make_conf = {"P2PBIN_TRUST": str(trust)} | dict(settings or {})
        gentoo = Gentoo.create(self.home, name, settings=make_conf, environment=environment, user=user)
        member = Member(name, f"127.0.0.{number}", gentoo)
        gentoo.write("etc/portage/binrepos.conf", _BINREPOS.format(host=self.server.host, channel=CHANNEL))
        gentoo.write("etc/portage/bashrc", (PROJECT / "etc/bashrc").read_text())
        gentoo.write("etc/p2pbin/root.json", self.server.root_json.read_text())
        gentoo.write("etc/p2pbin/client.toml", _CLIENT.format(address=member.address, disk=disk))
        self.members.append(member)
        if daemon:
            member.start_daemon()
        return member

    def contributor(self, name: str, **options: Any) -> Member:
        """Add a member with an OpenPGP identity whose machine is registered: untrusted, so far."""
        member = self.member(name, **options)
        home = member.gentoo.outside("home/.gnupg")
        home.mkdir(mode=0o700)
        member.identity = new_identity(home, f"{name} <{name}@example.org>")
        member.p2pbin("register", "--identity", member.identity)
        return member


def new_identity(home: Path, user: str) -> str:
    """Make an OpenPGP key without a passphrase in the gpg home `home` and return its fingerprint."""
    gpg = ["gpg", "--homedir", str(home), "--batch", "--status-fd", "1", "--passphrase", ""]
    made = subprocess.run([*gpg, "--quick-gen-key", user, "ed25519", "sign", "2y"], capture_output=True, text=True, check=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    found = re.search(r"KEY_CREATED P ([0-9A-F]{40})", made.stdout)
    if found is None:
        raise NotSeenError(f"gpg made no key: {made.stdout}{made.stderr}")
    return found[1]
