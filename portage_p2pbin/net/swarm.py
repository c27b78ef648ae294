"""One BitTorrent session: seed, download, and say who sent how much.  The only caller of libtorrent.

Peers, trackers and whoever answers on their addresses are unknown people.  They can waste bytes, time and, as libtorrent is a
large C++ program that parses what they send, perhaps take over this process: it therefore runs as a user of its own, and nothing
that comes out of it is believed before the gatekeeper has hashed it (P9.7).

The settings are those with which many small files, and many peers behind one slow origin, were fastest; with libtorrent's own
a file of 150 kB takes five seconds instead of some milliseconds.
"""

from __future__ import annotations

import ipaddress
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import libtorrent as lt

from portage_p2pbin.kernel import torrent as format_
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.model import InfoHash
from portage_p2pbin.kernel.torrent import Torrent
from portage_p2pbin.net.attempt import MOST_PEERS, TICK, Attempt, OnProgress, Patience, Received, Watched
from portage_p2pbin.net.attempt import Peer as Peer
from portage_p2pbin.net.attempt import Sources as Sources
from portage_p2pbin.net.settings import SwarmSettings as SwarmSettings

LONELY = 5.0
"""Seconds after which a download without a single connection is given up: HTTP is there sooner."""

_CONNECT_FOR = 20.0
_CONNECT_EVERY = 0.5
"""Seconds: libtorrent itself waits a minute after a refused first attempt."""

_SETTINGS: dict[str, Any] = {
    "user_agent": "portage-p2pbin",
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.storage_notification
    | lt.alert.category_t.error_notification | lt.alert.category_t.ip_block_notification | lt.alert.category_t.peer_notification,
    "enable_dht": False, "enable_upnp": False, "enable_natpmp": False,
    # New connections over uTP wait for a tick of a second.
    "enable_outgoing_utp": False, "enable_incoming_utp": False,
    # Several machines may share one address, and finished peers are still asked how much they sent.
    "allow_multiple_connections_per_ip": True, "close_redundant_connections": False,
    "announce_to_all_trackers": True, "announce_to_all_tiers": True,
    "min_reconnect_time": 1, "whole_pieces_threshold": 0, "initial_picker_threshold": 0, "auto_sequential": False,
    "send_redundant_have": False, "request_queue_time": 1, "max_out_request_queue": 16, "send_buffer_watermark": 65536,
    "send_buffer_low_watermark": 16384, "send_socket_buffer_size": 65536, "unchoke_slots_limit": -1,
    "active_downloads": -1, "active_seeds": -1, "active_limit": 100_000,
    "connections_limit": 500, "torrent_connect_boost": MOST_PEERS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Download:
    """A finished download: its file, bytes received from each peer, addresses banned for sending other bytes, and how long it took.

    A peer that connected to us is named with the port that it came from, not the one that it listens on.  The file is on disk and
    every piece had its SHA-1; nothing else is known about it.
    """

    file: Path
    received: Mapping[Peer, int]
    banned: tuple[str, ...]
    seconds: float


def make_torrent(file: Path, name: str) -> Torrent:
    """The torrent of `file` under `name`; the same on every machine.  Raises OSError, and DecodeError for an empty file."""
    with file.open("rb") as stream:
        size = format_.piece_size(file.stat().st_size)
        return format_.make_torrent(name, iter(lambda: stream.read(size), b""))


class Swarm:
    """The session.  Its methods may be called from any thread."""

    def __init__(self, folder: Path, settings: SwarmSettings) -> None:
        """Listen, and keep downloads below `folder`.  Raises UnavailableError if the address cannot be listened on."""
        self._folder = folder
        self._settings = settings
        self._known: dict[InfoHash, Watched] = {}
        self._turns: dict[InfoHash, threading.Lock] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._session = lt.session(_parameters(settings))
        self._session.set_peer_class_filter(_limit_everybody())
        self._listener = threading.Thread(target=self._listen, name="swarm", daemon=True)
        self._listener.start()
        if settings.listen.rpartition(":")[2] != "0" and self._session.listen_port() != int(settings.listen.rpartition(":")[2]):
            self.close()
            raise UnavailableError(f"The address {settings.listen}", "another program listens there; see [swarm] listen")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave all swarms.  Files stay."""
        self._closing.set()
        self._session.post_session_stats()  # an alert, so that the listener wakes up
        self._listener.join()
        self._session.pause()
        del self._session

    @property
    def port(self) -> int:
        """The port that it really listens on."""
        return int(self._session.listen_port())

    def has(self, info_hash: InfoHash) -> bool:
        """Is the torrent here, whole or in part?"""
        return info_hash in self._known

    def is_whole(self, info_hash: InfoHash) -> bool:
        """Is all of it here?"""
        watched = self._known.get(info_hash)
        return watched is not None and watched.finished

    def path(self, torrent: Torrent) -> Path:
        """Where a download of `torrent` lies."""
        return self._folder / torrent.info_hash / torrent.name

    def seed(self, torrent: Torrent, file: Path, trackers: Sequence[str] = ()) -> None:
        """Offer the whole `file`, where it lies.  A piece that is not as the torrent says is found out when somebody asks for it."""
        with self._turn(torrent.info_hash, lambda: None):
            if not self.has(torrent.info_hash):
                self._add(torrent, file, (), trackers, lt.torrent_flags.seed_mode)

    def download(
        self,
        torrent: Torrent,
        find: Callable[[], Sources],
        on_progress: OnProgress = lambda _done, _peers: None,
        patience: float = LONELY,
    ) -> Download:
        """Get the whole file; `find` says where, and is asked again while nothing comes.  Afterwards it is seeded.

        `patience` is the number of seconds to wait for a first connection.  Raises UnavailableError if nobody sends the rest of
        it; what has come so far stays for the next attempt.
        """
        started = time.monotonic()
        with self._turn(torrent.info_hash, lambda: on_progress(0, 0)):
            received = Received()
            watched = self._known.get(torrent.info_hash)
            if watched is None or not watched.finished:
                watched = self._fetch(torrent, find, received, on_progress, patience)
            return Download(watched.file, received.by_peer(), tuple(sorted(watched.banned)), time.monotonic() - started)

    def _fetch(
        self, torrent: Torrent, find: Callable[[], Sources], received: Received, on_progress: OnProgress, patience: float
    ) -> Watched:
        """Two attempts: the second forgets who was banned, since one poisoner can get good peers banned with it."""
        done = False
        try:
            for last, stall in ((False, self._settings.stall / 3), (True, self._settings.stall * 2 / 3)):
                self._remove(torrent.info_hash)
                sources = find()
                watched = self._add(torrent, self.path(torrent), sources.first(), sources.trackers)
                attempt = Attempt(watched, find, received, Patience(patience, stall, self._settings.origin_after))
                if attempt.run(on_progress):
                    self._flush(watched)
                    done = True
                    return watched
                if last or not attempt.connected:
                    break
        finally:
            if not done:
                self._remove(torrent.info_hash)
        raise UnavailableError(torrent.name, "no peer has sent the rest of it")

    def connect(self, info_hash: InfoHash, peer: Peer) -> bool:
        """Connect out to `peer`, again and again for 20 seconds.  Was it connected?"""
        deadline = time.monotonic() + _CONNECT_FOR
        while (watched := self._known.get(info_hash)) is not None and time.monotonic() < deadline:
            if any(one.ip == peer for one in watched.connected()):
                return True
            watched.handle.connect_peer(peer)
            self._closing.wait(_CONNECT_EVERY)
        return False

    def uploaded(self, info_hash: InfoHash) -> dict[str, int]:
        """Bytes sent to each address that is connected now."""
        sent: Counter[str] = Counter()
        watched = self._known.get(info_hash)
        for peer in [] if watched is None else watched.handle.get_peer_info():
            sent[peer.ip[0]] += peer.total_upload
        return dict(+sent)

    def forget(self, info_hash: InfoHash) -> None:
        """Leave this swarm and delete what was downloaded of it.  A file that was only seeded stays."""
        self._remove(info_hash)
        shutil.rmtree(self._folder / info_hash, ignore_errors=True)

    def _add(self, torrent: Torrent, file: Path, peers: Sequence[Peer], trackers: Sequence[str], flags: int = 0) -> Watched:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(torrent.data)
        parameters.save_path = str(file.parent)
        parameters.renamed_files = {0: file.name}
        parameters.flags = (flags | lt.torrent_flags.default_flags | lt.torrent_flags.disable_pex) & ~lt.torrent_flags.auto_managed
        parameters.flags &= ~lt.torrent_flags.paused
        parameters.peers = list(peers)
        parameters.trackers = list(trackers)
        with self._lock:
            watched = Watched(torrent.name, file, finished=bool(flags & lt.torrent_flags.seed_mode))
            self._known[torrent.info_hash] = watched
            watched.handle = self._session.add_torrent(parameters)
        return watched

    def _remove(self, info_hash: InfoHash) -> None:
        with self._lock:
            watched = self._known.pop(info_hash, None)
        if watched is not None:
            self._session.remove_torrent(watched.handle)

    def _flush(self, watched: Watched) -> None:
        """`torrent_finished` does not mean on disk: flush, and wait until libtorrent says so or reports an error."""
        before = watched.flushes
        watched.handle.flush_cache()
        deadline = time.monotonic() + self._settings.stall
        with watched.news:
            while watched.flushes == before and not watched.failure and time.monotonic() < deadline:
                watched.news.wait(TICK)
            if watched.flushes == before:
                raise UnavailableError(watched.name, watched.failure or "it could not be written to disk in time")

    @contextmanager
    def _turn(self, info_hash: InfoHash, waiting: Callable[[], None]) -> Iterator[None]:
        """One caller at a time for each torrent; the others call `waiting` until it is their turn."""
        with self._lock:
            turn = self._turns.setdefault(info_hash, threading.Lock())
        while not turn.acquire(timeout=TICK):
            waiting()
        try:
            yield
        finally:
            turn.release()

    def _listen(self) -> None:
        """Hand each alert to the torrent it is about."""
        while not self._closing.is_set():
            if self._session.wait_for_alert(200):
                for alert in self._session.pop_alerts():
                    if isinstance(alert, lt.torrent_alert) and alert.handle.is_valid():
                        with self._lock:
                            watched = self._known.get(InfoHash(str(alert.handle.info_hashes().v1)))
                        if watched is not None:
                            _tell(watched, alert)


def _tell(watched: Watched, alert: lt.torrent_alert) -> None:
    """Note what happened to one torrent."""
    if isinstance(alert, lt.torrent_checked_alert):
        # Else the first connection waits for the next tick, up to a second.
        alert.handle.pause()
        alert.handle.resume()
        watched.checked = True
    with watched.news:
        if isinstance(alert, lt.torrent_finished_alert):
            watched.finished = True
        elif isinstance(alert, lt.cache_flushed_alert):
            watched.flushes += 1
        elif isinstance(alert, (lt.file_error_alert, lt.torrent_error_alert)):
            watched.failure = alert.message()
        elif isinstance(alert, lt.peer_ban_alert):
            watched.banned.add(str(alert.ip[0]))
        else:
            return
        watched.news.notify_all()


def _parameters(settings: SwarmSettings) -> lt.session_params:
    """Parameters of the session.  The POSIX back end writes at once: it loses least when the process is killed."""
    address, _, _ = settings.listen.rpartition(":")
    parameters = lt.session_params()
    pack: Any = _SETTINGS | {
        "listen_interfaces": settings.listen,
        # What goes out comes from the address that others know us by.
        "outgoing_interfaces": "" if ipaddress.ip_address(address).is_unspecified else address,
        "enable_lsd": settings.lan_discovery,
        "upload_rate_limit": settings.upload,
        "download_rate_limit": settings.download,
    }
    parameters.settings = pack
    parameters.disk_io_constructor = "posix_disk_io_constructor"
    return parameters


def _limit_everybody() -> lt.ip_filter:
    """A filter that puts every address into the class the rate limits are for; libtorrent leaves out loopback and the LAN."""
    everybody = lt.ip_filter()
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1)  # noqa: S104
    everybody.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1)
    return everybody
