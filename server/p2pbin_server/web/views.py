"""What anybody may see over HTTP: packages and clashes as JSON, and one page for people.

Every text that somebody else chose is escaped; see :mod:`p2pbin_server.reports` for what is shown at all.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from p2pbin_server.expiry import warnings
from p2pbin_server.reports import clash_differences, clash_report, package_report
from p2pbin_server.store.rows import Listing
from p2pbin_server.web.api import Service
from p2pbin_server.web.http import MissingError, Request, Response, json_response
from portage_p2pbin.kernel.model import Cpv
from portage_p2pbin.kernel.trust import Electorate

MOST_CLASHES = 500
MOST_ROWS = 1000
"""Listed packages on the page for people."""


class Views:
    """One method for each route."""

    def __init__(self, service: Service, manifests: Path) -> None:
        """`manifests` is the folder with the manifests of stored packages."""
        self._service = service
        self._manifests = manifests
        self._most_open = service.settings.most_open_clashes

    def health(self, _request: Request) -> Response:
        """GET /healthz: the process answers and can read its store; what people have to sign soon."""
        service = self._service
        with service.store.reading() as transaction:
            transaction.stored_bytes()
        return json_response({"status": "ok", "warnings": warnings(service.voters.expiries(), service.settings.lifetimes, service.clock())})

    def package(self, request: Request) -> Response:
        """GET /packages/<category>/<pf>: its builds, their results and who voted for them."""
        cpv = Cpv(request.names["cpv"])
        with self._service.store.reading() as transaction:
            builds = package_report(transaction, self._electorate(), cpv, self._most_open)
        if not builds:
            raise MissingError(cpv, "nobody has voted on it here")
        return json_response({"builds": builds})

    def clash_list(self, _request: Request) -> Response:
        """GET /clashes: the newest clashes."""
        with self._service.store.reading() as transaction:
            rows = transaction.clashes(MOST_CLASHES)
            found = [clash_report(transaction, self._electorate(), row, self._most_open) for row in rows]
        return json_response({"clashes": found})

    def clash(self, request: Request) -> Response:
        """GET /clashes/<number>: who stands on which side, and what differs, entry by entry (P6.5)."""
        with self._service.store.reading() as transaction:
            row = transaction.clash(int(request.names["number"]))
            if row is None:
                raise MissingError("This clash", "there is none of this number")
            report = clash_report(transaction, self._electorate(), row, self._most_open)
            differ = clash_differences(transaction, self._electorate(), row, self._most_open, self._manifests)
        return json_response({**report, "differences": differ})

    def _electorate(self) -> Electorate:
        return self._service.voters.at(self._service.clock())

    def page(self, _request: Request) -> Response:
        """GET /: what is listed, for people."""
        with self._service.store.reading() as transaction:
            listings = transaction.listings(most=MOST_ROWS)
            downloads = [transaction.downloads((one.channel, one.build_key)) for one in listings]
            open_clashes = len(transaction.clashes(MOST_CLASHES))
        text = page_of(self._service.settings.name, zip(listings, downloads, strict=True), open_clashes)
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(200, text.encode("utf-8"), headers)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font-family: sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3em .6em; border-bottom: 1px solid #ccc }}
td.number, th.number {{ text-align: right }}
</style></head><body>
<h1>{name}</h1>
<p>Binary packages that independent builders have voted for. Clients check every vote themselves.
<a href="/clashes">Clashes</a>: {clashes}.</p>
<table><tr><th>Package</th><th>Channel</th><th class="number">Level</th><th class="number">Requests</th><th class="number">Bytes</th></tr>
{rows}
</table></body></html>
"""

_ROW = (
    '<tr><td><a href="/packages/{cpv}">{cpv}</a></td><td>{channel}</td><td class="number">{level}</td>'
    '<td class="number">{requests}</td><td class="number">{size}</td></tr>'
)


def page_of(name: str, listed: Iterable[tuple[Listing, int]], open_clashes: int) -> str:
    """The page as HTML: each listed package and how often it was asked for."""
    rows = (
        _ROW.format(cpv=html.escape(one.cpv), channel=html.escape(one.channel), level=int(one.level), requests=requests, size=one.size)
        for one, requests in listed
    )
    return _PAGE.format(name=html.escape(name), clashes=open_clashes, rows="\n".join(rows))
