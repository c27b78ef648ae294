"""A trust server in this process, with a real store, a real TUF repository and a real socket, for the tests of its modules."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from p2pbin_server import ceremonies, serve
from p2pbin_server.app import State
from p2pbin_server.electorate import Voters
from p2pbin_server.ledger import Answer, cast, certify
from p2pbin_server.offers import Bounds
from p2pbin_server.publishing import Publisher
from p2pbin_server.settings import parse
from p2pbin_server.store import Store
from p2pbin_server.store.rows import Registered, StoredFile
from p2pbin_server.tracker import Swarms
from p2pbin_server.web.api import Service
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import ContentsDigest, Role, Sha1, Sha256
from portage_p2pbin.kernel.roster import Roster, Ruling, RulingKind, Rulings, read_rulings
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote, sign_request
from portage_p2pbin.kernel.torrent import make_torrent
from portage_p2pbin.kernel.trust import Electorate
from tests.makers import NOW, YEAR, contributor, fingerprint, new_key, roster
from tests.site import Site

BUILD_SERVER, OTHER_BUILD_SERVER, TRUSTED, OTHER_TRUSTED, SEMI, OTHER_SEMI, SUSPENDED = range(1, 8)
UNTRUSTED, OTHER_UNTRUSTED, STRANGER = 11, 12, 99

ROSTER = roster(
    contributor(BUILD_SERVER, Role.BUILD_SERVER),
    contributor(OTHER_BUILD_SERVER, Role.BUILD_SERVER),
    contributor(TRUSTED, Role.TRUSTED),
    contributor(OTHER_TRUSTED, Role.TRUSTED),
    contributor(SEMI, Role.SEMI_TRUSTED),
    contributor(OTHER_SEMI, Role.SEMI_TRUSTED),
    contributor(SUSPENDED, Role.SUSPENDED),
)

_SETTINGS = """
[server]
name = "server.example"
listen = "127.0.0.1:{port}"
state = "{state}"
roles = ["api", "tracker"]
[channels.amd64-test]
chost = "x86_64-pc-linux-gnu"
flags = ["-O2", "-pipe"]
[origin]
listen = "127.0.0.1:6880"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Rig:
    """The server's parts.  Time stands at `now` until a test moves it."""

    def __init__(self, base: Path, more: str = "") -> None:
        self.now = NOW
        self.site = Site(base / "site", made=NOW)
        self.import_roster(ROSTER)
        self.settings = parse(_SETTINGS.format(state=base / "state", port=free_port()).encode() + more.encode(), "server.toml", base)
        self.state = State(self.settings.state)
        self.state.tuf = self.site.tuf
        self.state.make()
        self.store = Store(self.state.database)
        self.service = Service(
            self.settings,
            self.store,
            Voters(self.site.repository),
            Swarms(self.settings.tracker, lambda: self.now.timestamp()),
            lambda: self.now,
            threading.Event(),
            threading.Event(),
        )
        self.publisher = Publisher(self.service, self.site.repository, self.state.bundles)
        for seed in (UNTRUSTED, OTHER_UNTRUSTED):
            self.register(seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.store.close()

    @property
    def electorate(self) -> Electorate:
        return self.service.voters.at(self.now)

    def give_roles(self, *roles: str) -> None:
        """What `serving` does from now on."""
        self.service = replace(self.service, settings=replace(self.service.settings, roles=frozenset(roles)))

    def bounds(self) -> Bounds:
        return Bounds(self.service.settings.origin, self.service.settings.limits)

    def import_roster(self, new: Roster) -> None:
        repository = self.site.repository
        previous = repository.current("roster").metadata
        signed = ceremonies.sign_roster(new, self.site.offline, previous, self.site.lifetimes, NOW)
        repository.import_signed("roster", signed, NOW)

    def import_ruling(self, kind: RulingKind, subject: str) -> None:
        repository = self.site.repository
        previous = repository.current("rulings")
        rulings = Rulings((*read_rulings(previous.target).entries, Ruling(kind, subject, "a test", NOW)))
        repository.import_signed("rulings", ceremonies.sign_rulings(rulings, self.site.offline, previous, self.site.lifetimes, NOW), NOW)

    def register(self, seed: int) -> None:
        key = public_key(new_key(seed))
        edges = int((NOW - YEAR).timestamp()), int((NOW + YEAR).timestamp())
        with self.store.writing() as transaction:
            transaction.put_contributor(Registered(key, fingerprint(seed), "machine", *edges, "openpgp", "text", int(NOW.timestamp())))

    def cast(self, signed: SignedVote) -> Answer:
        with self.store.writing() as transaction:
            return cast(transaction, self.electorate, signed, self.service.rules)

    def certify(self, signed: SignedCertificate) -> bool:
        with self.store.writing() as transaction:
            return certify(transaction, self.electorate, signed, self.service.rules)

    def keep(self, signed: SignedVote, data: bytes = b"a package") -> StoredFile:
        """What the origin does after it has checked the file of a vote; `data` stands for its bytes."""
        vote = signed.vote
        torrent = make_torrent(file_name(vote.cpv, vote.file), [data])
        stored = StoredFile(
            vote.file, Sha1("1" * 40), len(data), torrent.info_hash, vote.channel, vote.build_key, vote.contents,
            json.dumps({"SLOT": "0"}), signed.signer, "127.0.0.9", int(NOW.timestamp()),
        )  # fmt: skip
        (self.state.files / vote.file).write_bytes(data)
        (self.state.torrents / torrent.info_hash).write_bytes(torrent.data)
        with self.store.writing() as transaction:
            transaction.add_file(stored)
        return stored

    def entries(self) -> list[dict[str, Any]]:
        """What is listed now, once the index is up to date."""
        self.publisher.round()
        with self.store.reading() as transaction:
            return [{"contents": one.contents, "level": int(one.level), "file": one.file} for one in transaction.listings()]

    def request(
        self, action: str, fields: dict[str, object], seed: int, *, server: str = "server.example", at: datetime | None = None
    ) -> bytes:
        return sign_request(action, fields, server, at or self.now, new_key(seed)).data

    @contextmanager
    def serving(self) -> Iterator[Http]:
        """Answer on a socket while the block runs."""
        server = serve.listen(self.service, self.state)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Http(server.effective_port)
        finally:
            server.trigger.pull_trigger(lambda: server.close())
            thread.join()


class Http:
    """A client of the server on `port`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)

    def get(self, path: str) -> tuple[int, Any]:
        status, body, _ = self.raw("GET", path)
        return status, json.loads(body)

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        status, answer, _ = self.raw("POST", path, body)
        return status, json.loads(answer) if answer else None

    def send(self, text: bytes) -> bytes:
        """Send these bytes as they are, and return all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def other(contents: int) -> ContentsDigest:
    """One of many contents digests."""
    return ContentsDigest(f"p2pbin-contents-1:{contents:064x}")


def file_of(number: int) -> Sha256:
    """One of many file digests."""
    return Sha256(f"{number:064x}")
