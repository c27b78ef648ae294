"""One package file, from wherever it can be had: peers, then the origin, then plain HTTP (P9.5, P9.6).

The server, the peers and the way to them choose every byte.  Pieces that are not as the torrent says are thrown away here, but
whether the torrent is that of a good package is for the gatekeeper to find out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portage_p2pbin.kernel.errors import P2pbinError, UnavailableError
from portage_p2pbin.kernel.model import Address, InfoHash, Sha256
from portage_p2pbin.kernel.torrent import MOST_TORRENT, Torrent, read_torrent
from portage_p2pbin.kernel.wire import decode
from portage_p2pbin.net.attempt import MOST_PEERS, OnProgress, Peer, Sources
from portage_p2pbin.net.http import Http
from portage_p2pbin.net.seeds import Seeds
from portage_p2pbin.net.swarm import LONELY, Download, Swarm

MOST_PEER_LIST = 16 * 1024
"""Bytes of the server's answer to "who has it": 50 addresses have about 2,000."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file as long as its torrent says, and where its bytes came from, by address; times in seconds."""

    path: Path
    peers: Mapping[str, int]
    origin: int
    http: int
    banned: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, object]:
        """What the gatekeeper shows to the user."""
        return {
            "banned": list(self.banned[:MOST_PEERS]),
            "http": self.http,
            "milliseconds": int(self.seconds * 1000),
            "origin": self.origin,
            "peers": [{"address": address, "bytes": received} for address, received in [*self.peers.items()][:MOST_PEERS]],
        }


class Delivery:
    """Gets files and keeps them for others as long as there is room."""

    def __init__(self, http: Http, swarm: Swarm, seeds: Seeds, trackers: Sequence[str], *, keeps: bool) -> None:
        """`trackers` are told that this machine has a file.  Without `keeps` a file is deleted once it is handed over."""
        self.http = http
        self.swarm = swarm
        self.seeds = seeds
        self.trackers = trackers
        self._keeps = keeps

    def torrent(self, server: str, info_hash: InfoHash) -> Torrent:
        """The torrent of this info-hash (P9.5).  Raises UnavailableError, DecodeError, and RefusedError if it is another."""
        found = self.seeds.find(info_hash)
        if found is None:
            found = read_torrent(self.http.get(f"{server}/torrents/{info_hash}", MOST_TORRENT))
            found.expect(info_hash, found.name, found.size)
        return found

    def fetch(self, server: str, torrent: Torrent, file: Sha256, on_progress: OnProgress) -> Delivered:
        """The file of `torrent`, whose SHA-256 is said to be `file`.  Raises UnavailableError if it cannot be had (P9.6)."""
        if self.swarm.is_whole(torrent.info_hash):
            return Delivered(self.seeds.file(torrent), {}, 0, 0, (), 0.0)
        try:
            return self.from_swarm(server, torrent, on_progress)
        except UnavailableError as nobody:
            try:
                return self._over_http(server, torrent, file, on_progress)
            except UnavailableError as error:
                raise UnavailableError(torrent.name, f"{nobody.reason}; {error.reason}") from error

    def from_swarm(self, server: str, torrent: Torrent, on_progress: OnProgress) -> Delivered:
        """The file of `torrent` from peers and the origin.  Raises UnavailableError."""
        first = self._sources(server, torrent.info_hash)
        answers = [first]
        download = self.swarm.download(
            torrent,
            lambda: answers.pop() if answers else self._sources(server, torrent.info_hash),
            on_progress,
            patience=LONELY if first.peers or first.origin else 0.0,
        )
        return _delivered(download, first.origin)

    def _over_http(self, server: str, torrent: Torrent, file: Sha256, on_progress: OnProgress) -> Delivered:
        started = time.monotonic()
        path = self.seeds.file(torrent)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with path.open("wb") as target:
            self.http.save(f"{server}/files/{file}", target, torrent.size, lambda done: on_progress(done, 0))
        self.swarm.seed(torrent, path, self.trackers)
        return Delivered(path, {}, 0, torrent.size, (), time.monotonic() - started)

    def _sources(self, server: str, info_hash: InfoHash) -> Sources:
        """Where the server says that it may be had.  If the server does not answer, the LAN may still have it."""
        try:
            fields = decode(self.http.get(f"{server}/peers/{info_hash}", MOST_PEER_LIST), "list of peers", MOST_PEER_LIST)
            with fields.reading():
                peers = [_peer(one) for one in fields.addresses("peers", MOST_PEERS)]
                origin = None if fields.null("origin") else _peer(fields.address("origin"))
        except P2pbinError:
            return Sources(trackers=self.trackers)
        return Sources(peers, self.trackers, origin)

    def keep(self, torrent: Torrent) -> None:
        """Count a file as whole, to be offered to others; the oldest make room for it."""
        if self._keeps:
            for info_hash in self.seeds.keep(torrent):
                self.drop(info_hash)
        elif self.seeds.find(torrent.info_hash) is None:
            self.drop(torrent.info_hash)

    def drop(self, info_hash: InfoHash) -> None:
        """Offer a file no longer, and delete it."""
        self.seeds.drop(info_hash)
        self.swarm.forget(info_hash)


def _peer(address: Address) -> Peer:
    return address.host, address.port


def _delivered(download: Download, origin: Peer | None) -> Delivered:
    """Take the origin apart from the peers: it is the one that we connect to at the address that the server names."""
    peers: Counter[str] = Counter()
    for (address, port), received in download.received.items():
        if (address, port) != origin:
            peers[address] += received
    return Delivered(download.file, peers, download.received.get(origin, 0) if origin else 0, 0, download.banned, download.seconds)
