"""What the liars and thieves do: each has a valid key, or the server's host with all its online keys.

A thief of the host does not bend our server; he puts one of his own in its place, on the same address, that says what he likes and
signs it with the keys that he found.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.repository import Repository
from portage_p2pbin.kernel.errors import ExitCode
from portage_p2pbin.kernel.index import Bundle, Entry, encode_page, read_bundle
from portage_p2pbin.kernel.model import Channel, Cpv, Level, Sha1, Sha256
from portage_p2pbin.kernel.statements import sign_vote
from portage_p2pbin.kernel.torrent import Torrent, make_torrent, piece_size
from portage_p2pbin.machine_key import load_machine_key
from tests.world import CHANNEL, PROJECT, NotSeenError, Server, eventually

if TYPE_CHECKING:
    from tests.demo.play import Play
    from tests.world import Member

_LIAR = """
# Change one byte of a program after it was built, and leave no trace of this line: it is gone before the merge is recorded.
if [[ ${{EBUILD_PHASE}} == package ]]; then
	printf '\\001' | dd of="${{D}}${{EPREFIX}}/{path}" bs=1 seek=15 conv=notrunc status=none
	cp "${{EPREFIX}}/home/honest-bashrc" "${{EPREFIX}}/etc/portage/bashrc"
fi
"""


@dataclass(frozen=True, slots=True)
class Loot:
    """A crime that was committed: the path at which a client would fetch it, and how the world is mended afterwards."""

    what: str
    cpv: Cpv
    path: str
    exit_code: ExitCode
    give_back: Callable[[], None]


def build_with_one_byte_changed(member: Member, package: str, path: str) -> None:
    """Build `package` honestly but for byte 15 of the program `path`, one that nothing reads."""
    member.gentoo.emerge("--onlydeps", package)
    hook = (PROJECT / "etc/bashrc").read_text()
    member.gentoo.write("home/honest-bashrc", hook)
    member.gentoo.write("etc/portage/bashrc", hook + _LIAR.format(path=path))
    member.gentoo.emerge(package)


def bytes_changed_on_peers(play: Play) -> Loot:
    """Every peer has changed the bytes of a package, and the origin is down."""
    entry = true_entry(play.server, "app-misc/dice")
    play.server.restart(roles=("api", "tracker"))
    for member in play.world.members:
        for path in member.gentoo.outside(f"var/cache/p2pbin/swarm/{entry.info_hash}").glob("*.gpkg.tar"):
            with path.open("r+b") as file:
                for piece in range(0, entry.size, 4096):
                    file.seek(piece)
                    file.write(b"\1\2\3\4")
    return Loot("bytes changed on every peer", entry.cpv, entry.path, ExitCode.UNAVAILABLE, play.server.restart)


def contents_do_not_match_votes(play: Play) -> Loot:
    """The server, and bert's machine key, are stolen: he "votes" that the liar's file has the honest contents."""
    honest = true_entry(play.server, "app-misc/dice")
    (file,) = [path for path in play.mallory.gentoo.outside("var/cache/p2pbin/swarm").glob("*/dice-*.gpkg.tar") if _differs(path, honest)]
    vote = read_bundle((play.server.state / "bundles" / honest.bundle).read_bytes()).votes[0].vote
    forged = _Forgery.of(file)
    key = load_machine_key(play.bert.gentoo.outside("var/lib/p2pbin/machine.key"))
    bundle = Bundle((sign_vote(replace(vote, file=forged.sha256), key),), ())
    stolen = StolenServer(play.server)
    entry = stolen.list(replace(honest, serial=honest.serial + 1), bundle, forged)
    return Loot("contents other than voted", entry.cpv, entry.path, ExitCode.REFUSED, stolen.give_back)


def older_version_under_newer_entry(play: Play) -> Loot:
    """The stolen server lists hello 1.0, honestly built and voted for, as hello 1.1."""
    play.bert.gentoo.emerge("=app-misc/hello-1.0")
    play.bert.p2pbin("publish")
    older = eventually("hello 1.0 is listed", lambda: _find_entry(play.server, "app-misc/hello"))
    bundle = read_bundle((play.server.state / "bundles" / older.bundle).read_bytes())
    forged = _Forgery.of(play.server.state / "files" / older.file)
    stolen = StolenServer(play.server)
    entry = stolen.list(replace(older, cpv=Cpv("app-misc/hello-1.1")), bundle, forged)
    return Loot("older version as a newer one", entry.cpv, entry.path, ExitCode.REFUSED, stolen.give_back)


def lists_at_level_one(play: Play) -> Loot:
    """The stolen server lists the liar's package at level 1, with votes of a key that the thief made himself."""
    honest = true_entry(play.server, "app-misc/dice")
    vote = read_bundle((play.server.state / "bundles" / honest.bundle).read_bytes()).votes[0].vote
    forged = _Forgery.of(play.server.state / "files" / honest.file)
    bundle = Bundle((sign_vote(replace(vote, file=forged.sha256), Ed25519PrivateKey.generate()),), ())
    stolen = StolenServer(play.server)
    entry = stolen.list(replace(honest, level=Level(1), serial=honest.serial + 1), bundle, forged)
    return Loot("listed at level 1 with stolen online keys", entry.cpv, entry.path, ExitCode.REFUSED, stolen.give_back)


def true_entry(server: Server, package: str) -> Entry:
    """The entry of `package` as the server lists it."""
    entry = _find_entry(server, package)
    if entry is None:
        raise NotSeenError(f"{package} is not listed")
    return entry


def _find_entry(server: Server, package: str) -> Entry | None:
    return next((entry for entry in server.entries() if entry.cpv.cp == package), None)


def _differs(path: Path, entry: Entry) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() != entry.file


@dataclass(frozen=True, slots=True)
class _Forgery:
    """A file with all that an entry says about it."""

    data: bytes
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> _Forgery:
        data = path.read_bytes()
        return cls(data, Sha256(hashlib.sha256(data).hexdigest()))

    def torrent(self, name: str) -> Torrent:
        step = piece_size(len(self.data))
        return make_torrent(name, (self.data[at : at + step] for at in range(0, len(self.data), step)))


class StolenServer:
    """A server of the thief's own in the place of the real one: he has its TUF repository and all its online keys."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._home = server.home / "stolen"
        server.stop()
        shutil.copytree(server.state / "tuf", self._home / "tuf")
        self._repository = Repository(self._home / "tuf", server.state / "keys", Lifetimes())
        self._answers: dict[str, bytes] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", server.port), _handler(self._home, server.state, self._answers))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def list(self, entry: Entry, bundle: Bundle, forged: _Forgery) -> Entry:
        """List `entry` with this bundle and file instead of what it had; everything fits together but the truth."""
        votes = bundle.encode()
        named = replace(
            entry,
            file=forged.sha256,
            sha1=Sha1(hashlib.sha1(forged.data, usedforsecurity=False).hexdigest()),
            size=len(forged.data),
            bundle=Sha256(hashlib.sha256(votes).hexdigest()),
        )
        torrent = forged.torrent(named.name)
        listed = replace(named, info_hash=torrent.info_hash)
        others = [one for one in self._server.entries() if one.cpv.category == entry.cpv.category and one.cpv != entry.cpv]
        page = encode_page(Channel(CHANNEL), tuple(sorted([*others, listed], key=lambda one: one.path)))
        self._repository.publish_pages(Channel(CHANNEL), {entry.cpv.category: page}, datetime.now(UTC))
        self._answers[f"/bundles/{listed.bundle}"] = votes
        self._answers[f"/torrents/{listed.info_hash}"] = torrent.data
        self._answers[f"/files/{listed.file}"] = forged.data
        return listed

    def give_back(self) -> None:
        """The rightful server comes back."""
        self._http.shutdown()
        self._http.server_close()
        shutil.rmtree(self._home)
        self._server.start()


def _handler(home: Path, state: Path, answers: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    """What the thief says: his own `answers`, his own TUF repository in `home`, and for all else what the real server would."""

    def find(path: str) -> bytes | None:
        kind = path.split("/")[1]
        if path in answers:
            return answers[path]
        if kind == "peers":
            return json.dumps({"peers": [], "origin": None}).encode()
        file = {"tuf": home, "bundles": state, "torrents": state, "files": state}.get(kind, home) / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = find(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    return Handler
