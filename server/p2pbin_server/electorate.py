"""The roster and rulings in force on the server, as the repository has them (P4.2, P6.6).

Whoever controls this process can use any roster here; levels are derived again by every client from what the offline keys signed.
"""

from __future__ import annotations

import threading
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


class Voters:
    """Roster and rulings, kept in memory; any thread may ask."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._in_force = source.roster(), source.rulings()

    def at(self, now: datetime) -> Electorate:
        """Who may vote at `now`."""
        return Electorate(*self._in_force, now)

    def reload(self) -> bool:
        """Read both again; True if they have changed."""
        with self._lock:
            found = self._source.roster(), self._source.rulings()
            changed = found != self._in_force
            self._in_force = found
        return changed
