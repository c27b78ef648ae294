"""The roster and rulings in force on the server, as the repository has them (P4.2, P6.6).

Whoever controls this process can use any roster here; levels are derived again by every client from what the offline keys signed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from portage_p2pbin.kernel.roster import Roster, Rulings
from portage_p2pbin.kernel.trust import Electorate


class Source(Protocol):
    """Where roster and rulings come from, verified."""

    def roster(self) -> Roster:
        """The roster in force."""

    def rulings(self) -> Rulings:
        """The rulings in force."""

    def expiries(self) -> dict[str, datetime]:
        """When each role that people sign has to be signed again at the latest."""


class Voters:
    """Roster and rulings, and until when they are in force, kept in memory; any thread may ask."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._in_force = source.roster(), source.rulings()
        self._expiries = source.expiries()

    def at(self, now: datetime) -> Electorate:
        """Who may vote at `now`."""
        return Electorate(*self._in_force, now)

    def reload(self) -> bool:
        """Read everything again; True if roster or rulings have changed."""
        with self._lock:
            found = self._source.roster(), self._source.rulings()
            changed = found != self._in_force
            self._in_force = found
            self._expiries = self._source.expiries()
        return changed

    def expiries(self) -> Mapping[str, datetime]:
        """When each role that people sign has to be signed again at the latest."""
        return self._expiries
