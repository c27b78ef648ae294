"""How often one sender may ask: counted in memory, for each address and kind of request, within a window of time.

Whoever has many addresses gets as many shares; what must hold against that is bounded in the store instead.
"""

from __future__ import annotations

import ipaddress
import threading

from portage_p2pbin.kernel.errors import UnavailableError

MOST_SENDERS = 100_000
"""Senders remembered at once, about 20 MB.  When they are more, everybody starts anew."""


class TooManyError(UnavailableError):
    """Somebody asked too often, and may ask again later."""


def sender(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the /64 network that an IPv6 user is given as a whole."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


class Throttle:
    """At most `most` requests of each sender within `window` seconds."""

    def __init__(self, most: int, window: int) -> None:
        self._most = most
        self._window = window
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._until = 0.0

    def count(self, address: str, now: float) -> None:
        """Count a request of `address` at `now`, in seconds.  Raises TooManyError if it was one too many."""
        key = sender(address)
        with self._lock:
            if now >= self._until or len(self._counts) >= MOST_SENDERS:
                self._counts, self._until = {}, now + self._window
            self._counts[key] = count = self._counts.get(key, 0) + 1
        if count > self._most:
            raise TooManyError(f"The server for {key}", f"more than {self._most} such requests within {self._window} seconds")
