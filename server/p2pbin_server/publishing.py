"""The one thread that publishes the index, a moment after anything has changed (P7.2).

Whatever stops it in between is continued at the next start: what is still to be done stands in the store.
"""

from __future__ import annotations

import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

from p2pbin_server import expiry, index, ledger, placement
from p2pbin_server.ledger import seconds
from p2pbin_server.repository import Repository
from p2pbin_server.web.api import Service
from portage_p2pbin.kernel.errors import P2pbinError

POLL = 2.0
"""Seconds between two looks at whether another process has imported a roster."""

REFRESH = timedelta(hours=1)
"""How often signatures are looked at; see Repository.refresh."""


class Publisher(threading.Thread):
    """Runs until `stop` is called."""

    def __init__(self, service: Service, repository: Repository, bundles: Path) -> None:
        super().__init__(name="publisher")
        self._service = service
        self._repository = repository
        self._bundles = bundles
        self._closing = threading.Event()
        self._refreshed: datetime | None = None
        self._warned: frozenset[str] = frozenset()

    def run(self) -> None:
        """See the class."""
        while not self._closing.is_set():
            try:
                self.round()
            except (P2pbinError, OSError) as error:
                print(f"p2pbin-server: the index is not up to date: {error}", file=sys.stderr, flush=True)
            if self._service.changed.wait(POLL):
                self._closing.wait(self._service.settings.batch)

    def stop(self) -> None:
        """Finish what is being published, and end."""
        self._closing.set()
        self._service.changed.set()
        self.join()

    def round(self) -> None:
        """Publish everything that has changed until now."""
        service, now = self._service, self._service.clock()
        is_woken = service.changed.is_set()
        service.changed.clear()
        is_due = self._refreshed is None or not timedelta(0) <= now - self._refreshed < REFRESH
        if is_due:
            self._repository.refresh(now)
            self._refreshed = now
        if service.voters.reload() or is_due:
            self._derive_all()
        self._warn(now)
        while index.update(service.store, service.voters.at(now), service.rules, self._bundles):
            is_woken = True
        if is_woken or is_due:
            self.tell()
        self._publish(now)

    def tell(self) -> None:
        """Let the origin serve what is listed now, and the tracker whatever has been offered or taken in.

        The tracker is ahead of the index, since a peer that a tracker has once refused stays away for long: those who provided a
        file shall be there when it is listed.  An info-hash that is not listed is known to its provider only.
        """
        with self._service.store.reading() as transaction:
            torrents = transaction.torrents()
        self._service.swarms.allow(torrents)
        self._service.offered.set()

    def _warn(self, now: datetime) -> None:
        """Say on stderr, once, what people have to sign soon."""
        warnings = expiry.warnings(self._service.voters.expiries(), self._service.settings.lifetimes, now)
        for sentence in warnings:
            if sentence not in self._warned:
                print(f"p2pbin-server: {sentence}", file=sys.stderr, flush=True)
        self._warned = frozenset(warnings)

    def _derive_all(self) -> None:
        """Derive every level again: the roster has changed, or a key's window may have ended."""
        service = self._service
        with service.store.reading() as transaction:
            builds = transaction.builds()
        for build in builds:
            with service.store.writing() as transaction:
                ledger.derive(transaction, service.voters.at(service.clock()), build, service.settings.most_open_clashes)

    def _publish(self, now: datetime) -> None:
        with self._service.store.reading() as transaction:
            pages = index.pages(transaction)
        for channel, changed in pages.items():
            self._repository.publish_pages(channel, changed, now)
            with self._service.store.writing() as transaction:
                for category in changed:
                    transaction.page_published(channel, category)
                placement.place(transaction, seconds(now) - self._service.settings.silence)
