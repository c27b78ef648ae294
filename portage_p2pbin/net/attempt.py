"""One attempt to download one torrent: watch the counters until it is whole, has failed, or nothing has come for too long.

Peers choose when to send and what.  Whatever they do, an attempt ends after a bounded time without progress, and what each of them
has sent is counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from portage_p2pbin.kernel.errors import UnavailableError

Peer = tuple[str, int]
"""IP address and port."""

OnProgress = Callable[[int, int], None]
"""Called several times a second with bytes so far and the number of peers; what it raises ends the download."""

MOST_PEERS = 50
"""Peers that one answer may name, and connections that one download tries at first."""

TICK = 0.1
"""Seconds between two looks at the counters of peers."""

ASK_AGAIN = 5.0
"""Seconds without progress after which the list of peers is asked for again."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a torrent may be had: peers, announce addresses of trackers, and the origin, which is asked last."""

    peers: Sequence[Peer] = ()
    trackers: Sequence[str] = ()
    origin: Peer | None = None

    def first(self) -> Sequence[Peer]:
        """Whom to ask first: the peers, and the origin only where there are none."""
        return self.peers[:MOST_PEERS] if self.peers or self.origin is None else (self.origin,)


class PeerInfo(Protocol):
    """One connection, as libtorrent tells of it."""

    connecting: int
    handshake: int

    @property
    def ip(self) -> Peer:
        """Whom it is with."""

    @property
    def flags(self) -> int:
        """Of these, `connecting` and `handshake` mean that it is not one yet."""

    @property
    def total_download(self) -> int:
        """Bytes of pieces that came over it."""


@dataclass(slots=True)
class Watched:
    """What libtorrent has said so far about one torrent, its `torrent_handle`.  Guarded by `news`."""

    name: str
    file: Path
    handle: Any = None
    checked: bool = False
    finished: bool = False
    flushes: int = 0
    failure: str = ""
    banned: set[str] = field(default_factory=set)
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, seconds: float) -> None:
        """Wait for the next event, at most `seconds`."""
        with self.news:
            if not self.finished and not self.failure:
                self.news.wait(seconds)

    def connected(self) -> list[PeerInfo]:
        """The connections that have shaken hands."""
        return [peer for peer in self.handle.get_peer_info() if not peer.flags & (peer.connecting | peer.handshake)]


class Received:
    """Bytes by peer, from counters that libtorrent keeps by connection."""

    def __init__(self) -> None:
        self._settled: Counter[Peer] = Counter()
        self._connections: Counter[Peer] = Counter()

    def note(self, peers: Sequence[PeerInfo]) -> None:
        """Read the counters; one that has gone down belongs to a new connection with the same address and port."""
        for peer in peers:
            before = self._connections[peer.ip]
            if peer.total_download < before:
                self._settled[peer.ip] += before
            self._connections[peer.ip] = peer.total_download

    def by_peer(self) -> dict[Peer, int]:
        """Bytes received from each peer, those of broken pieces included."""
        return dict(self._settled + self._connections)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: without a single connection, without progress, and before the origin is asked too."""

    lonely: float
    stall: float
    origin_after: float


class Attempt:
    """See the module.  `find` says where the torrent may be had."""

    def __init__(self, watched: Watched, find: Callable[[], Sources], received: Received, patience: Patience) -> None:
        self._watched = watched
        self._find = find
        self._received = received
        self._patience = patience
        self._done = -1
        self._moved = self._asked = time.monotonic()
        self._origin_asked = False
        self.connected = False

    def run(self, on_progress: OnProgress) -> bool:
        """Is it whole now?  False if nothing came for too long.  Raises UnavailableError for an error of the disk."""
        while not self._watched.finished:
            if self._watched.failure:
                raise UnavailableError(self._watched.name, self._watched.failure)
            self._watched.wait(TICK)
            status = self._watched.handle.status()
            self._look(status.total_wanted_done)
            on_progress(status.total_wanted_done, status.num_peers)
            still = time.monotonic() - self._moved
            if still > (self._patience.stall if self.connected else self._patience.lonely):
                return False
            self._ask(still)
        self._look(self._done)
        return True

    def _look(self, done: int) -> None:
        """Read the counters.  While libtorrent checks what is here already, nothing can come."""
        self._received.note(self._watched.handle.get_peer_info())
        self.connected = self.connected or bool(self._watched.connected())
        if done > self._done or not self._watched.checked:
            self._done, self._moved = done, time.monotonic()

    def _ask(self, still: float) -> None:
        """Ask the origin too, once, and after longer silence everybody that is known now."""
        if not self._origin_asked and still > self._patience.origin_after:
            self._origin_asked = True
            self._connect(Sources(origin=self._find().origin).first())
        if still > ASK_AGAIN and time.monotonic() - self._asked > ASK_AGAIN:
            self._asked = time.monotonic()
            sources = self._find()
            self._connect([*sources.first(), *([sources.origin] if sources.origin else [])])

    def _connect(self, peers: Sequence[Peer]) -> None:
        for peer in peers:
            self._watched.handle.connect_peer(peer)
