"""The network half: the one process that talks to servers and peers, as a user who may do nothing else.

It answers gatekeepers, over connections that only a gatekeeper can open.  What it hands over may be a lie of a server, of a peer, or of
whoever took this process over; a gatekeeper checks all of it (P9).  What an attacker in here can do is waste bytes, fill the
disk space that the user offers, and lie about peers.

It is forked, and gives up its rights before it hears a word (:func:`portage_p2pbin.net.network.start_half`).  Its user may be
unable to read the interpreter's own files, so everything is imported at the top, that which libraries import late too.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  requests imports it late
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, NoReturn

from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, UnavailableError
from portage_p2pbin.kernel.index import MOST_FILE
from portage_p2pbin.kernel.model import InfoHash, Sha256
from portage_p2pbin.kernel.torrent import MOST_TORRENT, Torrent, read_torrent
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.net.delivery import Delivered, Delivery
from portage_p2pbin.net.holding import Holder
from portage_p2pbin.net.http import Http
from portage_p2pbin.net.network import MOST_POSTED, HalfStatus, memory_file
from portage_p2pbin.net.packets import Packets, from_text
from portage_p2pbin.net.seeds import Seeds
from portage_p2pbin.net.settings import HalfSettings
from portage_p2pbin.net.swarm import Swarm

PROGRESS_EVERY = 0.5
"""Seconds between two messages about progress."""

_PIECE = 1024 * 1024


class Half:
    """The network half of one machine."""

    def __init__(self, settings: HalfSettings) -> None:
        """Raises UnavailableError if the port is taken."""
        self._settings = settings
        self._closing = threading.Event()
        http = Http(settings.http)
        seeds = Seeds(settings.folder, settings.disk)
        seeds.tidy()
        trackers = [f"{url}/announce" for url in settings.servers.values()] if settings.resident else []
        self._delivery = Delivery(http, Swarm(settings.folder, settings.swarm), seeds, trackers, keeps=settings.resident)

    def start(self) -> None:
        """If this process is to stay: seed what is here, and ask the servers what else to hold."""
        if not self._settings.resident or not self._settings.disk:
            return
        for torrent in self._delivery.seeds.whole():
            self._delivery.swarm.seed(torrent, self._delivery.seeds.file(torrent), self._delivery.trackers)
        key = self._settings.folder / "holder.key"
        Holder(self._delivery, self._settings.servers, self._settings.disk, key, self._settings.hold_every, self._closing).start()

    def close(self) -> None:
        """Leave all swarms."""
        self._closing.set()
        self._delivery.swarm.close()

    def serve(self, control: socket.socket) -> None:
        """Take connections from `control` until its other end is closed."""
        while True:
            data, files, _, _ = socket.recv_fds(control, 1, 1)
            if not data:
                return
            for file in files:
                connection = Packets(socket.socket(fileno=file), "The gatekeeper")
                threading.Thread(target=self._converse, args=(connection,), name="conversation", daemon=True).start()

    def _converse(self, connection: Packets) -> None:
        """Answer one gatekeeper until it goes away."""
        with connection:
            try:
                while True:
                    fields, file = connection.receive(None)
                    try:
                        self._answer(fields, file, connection)
                    finally:
                        if file is not None:
                            os.close(file)
            except P2pbinError:
                return

    def _answer(self, fields: Fields, file: int | None, connection: Packets) -> None:
        """Do what one message asks for; a failure becomes the answer."""
        actions: Mapping[str, Callable[[Fields, int | None, Packets], None]] = {
            "get": self._get, "post": self._post, "count": self._count, "download": self._download, "seed": self._seed,
            "forget": self._forget, "status": self._status,
        }  # fmt: skip
        try:
            with fields.reading():
                actions.get(fields.text("do", 20), _unknown)(fields, file, connection)
        except RefusedError as error:
            connection.send({"is": "refused", "rule": error.rule, "what": error.what[:500], "reason": error.reason[:1000]})
        except UnavailableError as error:
            connection.send({"is": "unavailable", "what": error.what[:500], "reason": error.reason[:1000]})
        except OSError as error:
            connection.send({"is": "unavailable", "what": "The network half's disk", "reason": str(error)[:1000]})

    def _get(self, fields: Fields, _file: int | None, connection: Packets) -> None:
        body = self._delivery.http.find(fields.text("url", 2000), fields.number("most", 0, MOST_FILE))
        if body is None:
            connection.send({"is": "missing"})
        else:
            _send_body(body, connection)

    def _post(self, fields: Fields, file: int | None, connection: Packets) -> None:
        """Send the file that came along, for `p2pbin`."""
        url, most = fields.text("url", 2000), fields.number("most", 0, MOST_FILE)
        if file is None:
            raise UnavailableError(url, "what was to be sent there did not come along")
        with os.fdopen(os.dup(file), "rb") as stream:
            _send_body(self._delivery.http.post(url, stream.read(MOST_POSTED), most), connection)

    def _count(self, fields: Fields, _file: int | None, connection: Packets) -> None:
        self._delivery.http.post(f"{fields.text('server', 500)}/downloads/{fields.of('file', Sha256)}", b"", 1024)
        connection.send({"is": "done"})

    def _download(self, fields: Fields, _file: int | None, connection: Packets) -> None:
        server, info_hash, file = fields.text("server", 500), fields.of("infoHash", InfoHash), fields.of("file", Sha256)
        name, size = fields.text("name", 300), fields.number("size", 1, MOST_FILE)
        torrent = self._delivery.torrent(server, info_hash)
        torrent.expect(info_hash, name, size)
        delivered, stream = self._fetch(server, torrent, file, connection)
        with stream:
            self._delivery.keep(torrent)
            connection.send({"is": "finished", **delivered.as_json()}, stream.fileno())

    def _fetch(self, server: str, torrent: Torrent, file: Sha256, connection: Packets) -> tuple[Delivered, BinaryIO]:
        """The file of `torrent`, and the open file.

        Where there is no disk to keep it on, another call for the same file, whose caller was killed say, may end at the same time
        and delete it before this one has opened it.  Then it is fetched once more.
        """
        tell = _Progress(connection).tell
        delivered = self._delivery.fetch(server, torrent, file, tell)
        try:
            return delivered, delivered.path.open("rb")
        except FileNotFoundError:
            delivered = self._delivery.fetch(server, torrent, file, tell)
            return delivered, delivered.path.open("rb")

    def _seed(self, fields: Fields, file: int | None, connection: Packets) -> None:
        """Copy the file that came along, seed it, and connect out to whoever is to have it (P10.5)."""
        torrent = read_torrent(fields.of("torrent", from_text, 2 * MOST_TORRENT))
        peer = None if fields.null("connect") else fields.address("connect")
        if file is None:
            raise UnavailableError(torrent.name, "the file to be seeded did not come along")
        if not self._delivery.swarm.has(torrent.info_hash):
            self._take_in(torrent, file)
        if peer is not None:
            threading.Thread(target=self._delivery.swarm.connect, args=(torrent.info_hash, (peer.host, peer.port)), daemon=True).start()
        connection.send({"is": "seeding"})

    def _take_in(self, torrent: Torrent, file: int) -> None:
        """Copy a file and seed it; where there is no room to keep it, until this process ends."""
        path = self._delivery.seeds.file(torrent)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.dup(file), "rb") as source, path.open("wb") as target:
            _copy(source, target, torrent.size)
        self._delivery.swarm.seed(torrent, path, self._delivery.trackers)
        if self._settings.resident and torrent.size <= self._settings.disk:
            self._delivery.keep(torrent)

    def _forget(self, fields: Fields, _file: int | None, connection: Packets) -> None:
        self._delivery.drop(fields.of("infoHash", InfoHash))
        connection.send({"is": "done"})

    def _status(self, _fields: Fields, _file: int | None, connection: Packets) -> None:
        whole = list(self._delivery.seeds.whole())
        sent = sum(sum(self._delivery.swarm.uploaded(torrent.info_hash).values()) for torrent in whole)
        status = HalfStatus(self._delivery.swarm.port, len(whole), sum(torrent.size for torrent in whole), sent)
        connection.send({"is": "status", **status.as_json()})


class _Progress:
    """Tells the gatekeeper from time to time how far a download is, and that this process is still there."""

    def __init__(self, connection: Packets) -> None:
        self._connection = connection
        self._next = time.monotonic() + PROGRESS_EVERY

    def tell(self, done: int, peers: int) -> None:
        """Raises UnavailableError if the gatekeeper is gone, which ends the download."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_EVERY
            self._connection.send({"is": "progress", "done": done, "peers": peers})


def _send_body(body: bytes, connection: Packets) -> None:
    with memory_file(body) as file:
        connection.send({"is": "body"}, file.fileno())


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy exactly `size` bytes, from the start: whoever sent the descriptor may have read it already."""
    source.seek(0)
    left = size
    while left and (piece := source.read(min(_PIECE, left))):
        target.write(piece)
        left -= len(piece)
    if left or source.read(1):
        raise UnavailableError("The file to be seeded", f"it has not the {size} bytes that its torrent says")


def _unknown(fields: Fields, _file: int | None, _connection: Packets) -> NoReturn:
    fields.refuse("it asks for something unknown")
