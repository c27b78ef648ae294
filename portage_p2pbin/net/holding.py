"""Copies that servers ask this machine to hold for others (P12).

A server that lies can make this machine fetch and offer files up to the disk space that the user set, and nothing more: what is
held is never installed from here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin.kernel.errors import P2pbinError
from portage_p2pbin.kernel.index import MOST_FILE
from portage_p2pbin.kernel.model import InfoHash
from portage_p2pbin.kernel.statements import sign_request
from portage_p2pbin.kernel.wire import Fields, decode
from portage_p2pbin.net.delivery import Delivery

MOST_COPIES = 10_000
MOST_LIST = 2 * 1024 * 1024
"""Bytes of one answer: 10,000 copies have about 700 kB."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that a server wants to be held; `size` in bytes."""

    info_hash: InfoHash
    size: int


class Holder(threading.Thread):
    """Asks each server every `seconds` what to hold, and gets it, until `closing` is set."""

    def __init__(
        self, delivery: Delivery, servers: Mapping[str, str], disk: int, key: Path, seconds: float, closing: threading.Event
    ) -> None:
        super().__init__(name="holder", daemon=True)
        self._delivery = delivery
        self._servers = servers
        self._disk = disk
        self._key = holder_key(key)
        self._seconds = seconds
        self._closing = closing

    def run(self) -> None:
        """See the class."""
        while True:
            for name, url in self._servers.items():
                try:
                    self._ask(name, url)
                except (P2pbinError, OSError) as error:
                    print(f"p2pbind: no copies to hold from {name}: {error}", file=sys.stderr, flush=True)
            if self._closing.wait(self._seconds):
                return

    def _ask(self, name: str, url: str) -> None:
        fields: dict[str, object] = {"bytes": self._disk, "port": self._delivery.swarm.port}
        request = sign_request("hold", fields, name, datetime.now(UTC), self._key)
        for copy in read_copies(self._delivery.http.post(f"{url}/holders", request.data, MOST_LIST)):
            if not self._closing.is_set():
                self._get(url, copy)

    def _get(self, url: str, copy: Copy) -> None:
        if self._delivery.swarm.has(copy.info_hash) or copy.size > self._disk:
            return
        torrent = self._delivery.torrent(url, copy.info_hash)
        torrent.expect(copy.info_hash, torrent.name, copy.size)
        self._delivery.from_swarm(url, torrent, lambda _done, _peers: None)
        self._delivery.keep(torrent)


def read_copies(data: bytes) -> tuple[Copy, ...]:
    """Read a server's answer.  Raises DecodeError."""
    fields = decode(data, "copies to hold", MOST_LIST)
    with fields.reading():
        return tuple(_read_copy(one) for one in fields.many("hold", MOST_COPIES))


def _read_copy(fields: Fields) -> Copy:
    with fields.reading():
        return Copy(fields.of("infoHash", InfoHash), fields.number("size", 1, MOST_FILE))


def holder_key(path: Path) -> Ed25519PrivateKey:
    """The key by which servers know this holder again, made at the first call.  It is on no roster and certifies nothing."""
    try:
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except (FileNotFoundError, ValueError):
        key = Ed25519PrivateKey.generate()
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes_raw())
        return key
