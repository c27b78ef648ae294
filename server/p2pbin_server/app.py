"""The server's routes: every path that it answers, in one table.

The tracker's two paths are answered before all others, so that an announce costs as little as possible.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from p2pbin_server.throttle import Throttle
from p2pbin_server.tracker import Tracker
from p2pbin_server.web.api import Api, Service
from p2pbin_server.web.http import FOREVER, MissingError, Request, Response, Route, Site, file_response
from p2pbin_server.web.views import Views
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE
from portage_p2pbin.kernel.model import InfoHash, Sha256

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SHA256 = r"[0-9a-f]{64}"
_INFO_HASH = r"[0-9a-f]{40}"
_METADATA = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.json"
_TARGET = r"(?:[A-Za-z0-9_][A-Za-z0-9+_.-]*/){0,3}[A-Za-z0-9_][A-Za-z0-9+_.-]*\.json"


_TRACKER = ("/announce", "/scrape")

MOST_SMALL = 16 * 1024
"""Bytes of a signed request with a few small fields."""


class State:
    """The folder of the server's state, and where everything lies in it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "p2pbin.sqlite"
        self.tuf = folder / "tuf"
        self.keys = folder / "keys"
        self.files = folder / "files"
        self.torrents = folder / "torrents"
        self.bundles = folder / "bundles"
        self.manifests = folder / "manifests"
        self.intake = folder / "intake"

    def make(self) -> None:
        """Make the folders that are missing; the state itself is for its owner only."""
        self.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.files, self.torrents, self.bundles, self.manifests, self.intake):
            folder.mkdir(mode=0o700, exist_ok=True)


class Static:
    """Files that are named by what is in them, and the TUF repository (P7.1, P9.2)."""

    def __init__(self, service: Service, state: State) -> None:
        self._service = service
        self._state = state

    def metadata(self, request: Request) -> Response:
        """GET /tuf/metadata/<file>: those with a version in their name never change."""
        name = request.names["name"]
        cache = FOREVER if name[0].isdigit() else "no-cache"
        return file_response(self._state.tuf / "metadata" / name, "application/json", request, cache)

    def target(self, request: Request) -> Response:
        """GET /tuf/targets/<path>: each has its digest in its name."""
        return file_response(self._state.tuf / "targets" / request.names["name"], "application/json", request, FOREVER)

    def bundle(self, request: Request) -> Response:
        """GET /bundles/<sha256>."""
        return file_response(self._state.bundles / request.names["name"], "application/json", request, FOREVER)

    def torrent(self, request: Request) -> Response:
        """GET /torrents/<info-hash>, of listed packages only."""
        with self._service.store.reading() as transaction:
            listing = transaction.listing_by(info_hash=InfoHash(request.names["name"]))
        if listing is None:
            raise MissingError("This torrent", "it is not listed")
        return file_response(self._state.torrents / listing.info_hash, "application/x-bittorrent", request, FOREVER)

    def file(self, request: Request) -> Response:
        """GET /files/<sha256>, of listed packages only; the origin's."""
        with self._service.store.reading() as transaction:
            listing = transaction.listing_by(file=Sha256(request.names["name"]))
        if listing is None or "origin" not in self._service.settings.roles:
            raise MissingError("This file", "it is not listed, or another server has it")
        return file_response(self._state.files / listing.file, "application/x-tar", request, FOREVER)


def routes(service: Service, state: State) -> list[Route]:
    """Every route of the api."""
    api, views, static = Api(service), Views(service, state.manifests), Static(service, state)
    table: list[tuple[str, str, Callable[[Request], Response], int]] = [
        ("GET", rf"/tuf/metadata/(?P<name>{_METADATA})", static.metadata, 0),
        ("GET", rf"/tuf/targets/(?P<name>{_TARGET})", static.target, 0),
        ("GET", rf"/bundles/(?P<name>{_SHA256})", static.bundle, 0),
        ("GET", rf"/torrents/(?P<name>{_INFO_HASH})", static.torrent, 0),
        ("GET", rf"/files/(?P<name>{_SHA256})", static.file, 0),
        ("GET", rf"/peers/(?P<infohash>{_INFO_HASH})", api.peers, 0),
        ("POST", rf"/downloads/(?P<file>{_SHA256})", api.download, 0),
        ("POST", r"/contributors", api.register, MOST_ENVELOPE),
        ("POST", r"/votes", api.vote, MOST_ENVELOPE),
        ("POST", r"/certificates", api.certificate, MOST_ENVELOPE),
        ("POST", r"/offers", api.offer, MOST_ENVELOPE),
        ("GET", rf"/offers/(?P<infohash>{_INFO_HASH})", api.offer_state, 0),
        ("POST", r"/jobs", api.lease, MOST_SMALL),
        ("POST", r"/jobs/(?P<job>[0-9a-f]{32})/renew", api.renew, MOST_SMALL),
        ("POST", r"/jobs/(?P<job>[0-9a-f]{32})/return", api.give_back, MOST_SMALL),
        ("POST", r"/jobs/(?P<job>[0-9a-f]{32})/done", api.done, MOST_SMALL),
        ("POST", r"/holders", api.hold, MOST_SMALL),
        ("GET", r"/packages/(?P<cpv>[^/]{1,100}/[^/]{1,150})", views.package, 0),
        ("GET", r"/clashes", views.clash_list, 0),
        ("GET", r"/clashes/(?P<number>[0-9]{1,9})", views.clash, 0),
        ("GET", r"/healthz", views.health, 0),
        ("GET", r"/", views.page, 0),
    ]
    return [Route(method, re.compile(pattern), answer, most) for method, pattern, answer, most in table]


def application(service: Service, state: State) -> WSGIApplication:
    """The WSGI application of one process, with the roles that its settings give it."""
    settings = service.settings
    throttle = Throttle(settings.limits.requests, 60)
    site = Site(routes(service, state) if "api" in settings.roles else [], lambda address: throttle.count(address, time.monotonic()))
    tracker: WSGIApplication = Tracker(service.swarms) if "tracker" in settings.roles else site

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (tracker if environ["PATH_INFO"] in _TRACKER else site)(environ, start_response)

    return answer
