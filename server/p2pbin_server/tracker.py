"""The tracker: announce and scrape, in memory, for torrents that the server lists or is being offered (BEP 3, 7, 23, 48).

Anybody may announce anything.  What comes of it is a list of addresses that said so themselves: the address is that of the
connection, never one from the request.  A lying peer wastes the time of who connects to it; bounds keep one address, and one
swarm, from filling the memory.  State is lost at a restart, and is complete again within one interval.
"""

from __future__ import annotations

import ipaddress
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from p2pbin_server.settings import TrackerSettings
from portage_p2pbin.kernel.model import Address, InfoHash

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MOST_ANSWERED = 50
"""Peers in one answer (BEP 3 clients ask for 30 to 50)."""

MOST_QUERY = 2000
"""Characters of a query; a usual announce has 350."""

MOST_SCRAPED = 20
"""Torrents in one scrape."""


class Key(NamedTuple):
    """A peer: its address in network order, and its port."""

    packed: bytes
    port: int

    @property
    def sender(self) -> bytes:
        """What counts as one sender: an IPv4 address, or the /64 network that an IPv6 user is given as a whole."""
        return self.packed if len(self.packed) == 4 else self.packed[:8]


@dataclass(slots=True)
class Peer:
    """What a peer said last; `expires` in seconds of the monotonic clock, `compact` as BEP 23 and BEP 7 have it."""

    expires: float
    is_seed: bool
    compact: bytes


class Swarms:
    """Who takes part in which torrent.  Any thread may ask."""

    def __init__(self, settings: TrackerSettings, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._swarms: dict[bytes, dict[Key, Peer]] = {}
        self._addresses: Counter[tuple[bytes, bytes]] = Counter()
        self._completed: Counter[bytes] = Counter()

    def allow(self, torrents: Iterable[InfoHash]) -> None:
        """These torrents from now on, and no others; those that stay keep their peers.  Also forgets peers that are gone."""
        allowed = {bytes.fromhex(one) for one in torrents}
        with self._lock:
            for gone in self._swarms.keys() - allowed:
                for key in list(self._swarms[gone]):
                    self._remove(gone, key)
                del self._swarms[gone], self._completed[gone]
            for torrent in allowed:
                self._swarms.setdefault(torrent, {})
                self._expire(torrent)

    def admit(self, torrent: InfoHash) -> None:
        """From now on this torrent too: whoever offers it announces it as soon as the offer is answered."""
        with self._lock:
            self._swarms.setdefault(bytes.fromhex(torrent), {})

    def peers(self, torrent: InfoHash) -> list[Address]:
        """Some of the peers of a torrent."""
        with self._lock:
            found = list(self._swarms.get(bytes.fromhex(torrent), {}))
        chosen = random.sample(found, min(len(found), MOST_ANSWERED))
        return [Address(str(ipaddress.ip_address(key.packed)), key.port) for key in chosen]

    def announce(self, torrent: bytes, key: Key, *, is_seed: bool, event: bytes, most: int) -> bytes:
        """Note what a peer says, and return the bencoded answer; a torrent that is not allowed is refused."""
        with self._lock:
            swarm = self._swarms.get(torrent)
            if swarm is None:
                return failure("this tracker does not list the torrent")
            if event == b"stopped":
                self._remove(torrent, key)
                return self._answer(torrent, key, 0)
            if key not in swarm and not self._room(torrent, key):
                return failure("too many peers already")
            if key not in swarm:
                self._addresses[torrent, key.sender] += 1
            self._completed[torrent] += event == b"completed"
            expires = self._clock() + 2 * self._settings.interval
            swarm[key] = Peer(expires, is_seed, key.packed + key.port.to_bytes(2, "big"))
            return self._answer(torrent, key, most)

    def scrape(self, torrents: list[bytes]) -> bytes:
        """The bencoded counts of these torrents (BEP 48)."""
        files = b""
        with self._lock:
            for torrent in sorted(set(torrents) & self._swarms.keys()):
                seeds = sum(peer.is_seed for peer in self._swarms[torrent].values())
                counts = seeds, self._completed[torrent], len(self._swarms[torrent]) - seeds
                files += b"20:%bd8:completei%de10:downloadedi%de10:incompletei%dee" % (torrent, *counts)
        return b"d5:filesd%bee" % files

    def _room(self, torrent: bytes, key: Key) -> bool:
        self._expire(torrent)
        few = self._addresses[torrent, key.sender] < self._settings.peers_per_address
        return few and len(self._swarms[torrent]) < self._settings.peers

    def _remove(self, torrent: bytes, key: Key) -> None:
        if self._swarms[torrent].pop(key, None) is not None:
            self._addresses[torrent, key.sender] -= 1
            if not self._addresses[torrent, key.sender]:
                del self._addresses[torrent, key.sender]

    def _expire(self, torrent: bytes) -> None:
        now = self._clock()
        for key in [key for key, peer in self._swarms[torrent].items() if peer.expires < now]:
            self._remove(torrent, key)

    def _answer(self, torrent: bytes, asker: Key, most: int) -> bytes:
        """Some of the others, for a seed only those that still need something."""
        swarm = self._swarms[torrent]
        seeks = asker in swarm and swarm[asker].is_seed
        others = [peer.compact for key, peer in swarm.items() if key != asker and not (seeks and peer.is_seed)]
        chosen = random.sample(others, min(len(others), most))
        v4 = b"".join(one for one in chosen if len(one) == 6)
        v6 = b"".join(one for one in chosen if len(one) == 18)
        seeds = sum(peer.is_seed for peer in swarm.values())
        times = self._settings.interval, self._settings.min_interval
        head = b"d8:completei%de10:incompletei%de8:intervali%de12:min intervali%de" % (seeds, len(swarm) - seeds, *times)
        tail = b"6:peers6%d:%b" % (len(v6), v6) if v6 else b""
        return head + b"5:peers%d:%b" % (len(v4), v4) + tail + b"e"


def failure(reason: str) -> bytes:
    """A tracker's way to say no; with status 200, since clients show the reason only then."""
    text = reason.encode("ascii")
    return b"d14:failure reason%d:%be" % (len(text), text)


class Tracker:
    """The WSGI application for /announce and /scrape."""

    def __init__(self, swarms: Swarms) -> None:
        self._swarms = swarms

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one announce or scrape."""
        query = environ.get("QUERY_STRING", "")
        if len(query) > MOST_QUERY:
            body = failure("the query is too long")
        elif environ["PATH_INFO"] == "/announce":
            body = self._announce(query, environ["REMOTE_ADDR"])
        else:
            hashes = [value for name, value in _pairs(query) if name == "info_hash" and len(value) == 20]
            body = self._swarms.scrape(hashes[:MOST_SCRAPED])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def _announce(self, query: str, address: str) -> bytes:
        asked = dict(_pairs(query))
        torrent, port, left = asked.get("info_hash", b""), _number(asked.get("port", b"")), asked.get("left", b"")
        if len(torrent) != 20 or not 0 < port < 65536 or not _is_number(left):
            return failure("info_hash, port or left is missing or wrong")
        wanted = _number(asked.get("numwant", b"50"))
        key = Key(_packed(address), port)
        most = min(MOST_ANSWERED, wanted if wanted >= 0 else MOST_ANSWERED)
        return self._swarms.announce(torrent, key, is_seed=left == b"0", event=asked.get("event", b""), most=most)


def _packed(address: str) -> bytes:
    """An address in network order; one that IPv4 has within IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).packed


def _pairs(query: str) -> list[tuple[str, bytes]]:
    """The names of a query with their values, unquoted to bytes."""
    split = (part.partition("=") for part in query.split("&"))
    return [(name, unquote_to_bytes(value)) for name, _, value in split]


def _is_number(text: bytes) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _number(text: bytes) -> int:
    """A small whole number; -1 for anything else."""
    return int(text) if _is_number(text) else -1
