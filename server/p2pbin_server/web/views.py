"""What anybody may see: the state of packages and clashes, as JSON and on one page for people.

Nothing is shown of results whose votes are blind (P5): neither digest nor voters, nor how many different results there are.  Every
text that somebody else chose is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from p2pbin_server import clashes, ledger
from p2pbin_server.clashes import Clash, Judgements
from p2pbin_server.differences import differences
from p2pbin_server.store import Build, Transaction
from p2pbin_server.tables import ClashRow, Listing
from p2pbin_server.web.api import Service
from p2pbin_server.web.http import MissingError, Request, Response, json_response
from portage_p2pbin.kernel.model import ContentsDigest, Cpv, Sha256
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.kernel.trust import Judgement, Voice

MOST_BUILDS = 200
MOST_VARIANTS = 200
MOST_CLASHES = 500
MOST_ROWS = 1000
"""Listed packages on the page for people."""


class Views:
    """One method for each route."""

    def __init__(self, service: Service, manifests: Path) -> None:
        """`manifests` is the folder with the manifests of stored packages."""
        self._service = service
        self._manifests = manifests

    def health(self, _request: Request) -> Response:
        """GET /healthz: the process answers and can read its store."""
        with self._service.store.reading() as transaction:
            transaction.stored_bytes()
        return json_response({"status": "ok"})

    def package(self, request: Request) -> Response:
        """GET /packages/<category>/<pf>: its builds, their results and who voted for them."""
        cpv = Cpv(request.names["cpv"])
        with self._service.store.reading() as transaction:
            builds = [self._build(transaction, build) for build in transaction.builds_of(cpv)[:MOST_BUILDS]]
        if not builds:
            raise MissingError(cpv, "nobody has voted on it here")
        return json_response({"builds": builds})

    def _build(self, transaction: Transaction, build: Build) -> dict[str, object]:
        judgements = self._judge(transaction, build)
        withdrawn = clashes.withdrawn(judgements)
        listing = transaction.listing(build)
        levels = [int(one.level) for contents, one in judgements.items() if one.level is not None and contents not in withdrawn]
        return {
            "buildKey": build[1],
            "level": min(levels, default=None),
            "requests": transaction.downloads(build),
            "variants": _variants(judgements, None if listing is None else listing.contents)[:MOST_VARIANTS],
        }

    def clash_list(self, _request: Request) -> Response:
        """GET /clashes: the newest clashes."""
        with self._service.store.reading() as transaction:
            found = [self._clash(transaction, row) for row in transaction.clashes(MOST_CLASHES)]
        return json_response({"clashes": found})

    def clash(self, request: Request) -> Response:
        """GET /clashes/<number>: who stands on which side, and what differs, entry by entry (P6.5)."""
        with self._service.store.reading() as transaction:
            row = transaction.clash(int(request.names["number"]))
            if row is None:
                raise MissingError("This clash", "there is none of this number")
            shown = self._clash(transaction, row)
            judgements = self._judge(transaction, (row.channel, row.build_key))
        public = [side for side in _sides(row, judgements) if judgements[side].level is not None]
        return json_response({**shown, "differences": differences(self._manifests, public)})

    def _clash(self, transaction: Transaction, row: ClashRow) -> dict[str, object]:
        judgements = self._judge(transaction, (row.channel, row.build_key))
        sides = _sides(row, judgements)
        stays = clashes.stays(Clash(row.definition, sides), judgements) if len(sides) > 1 else None
        return {
            "number": row.number,
            "channel": row.channel,
            "cpv": row.cpv,
            "buildKey": row.build_key,
            "definition": row.definition,
            "opened": spelt(datetime.fromtimestamp(row.opened, UTC)),
            "open": len(sides) > 1,
            "sides": [_side(side, judgements[side], is_listed=side == stays) for side in sides],
        }

    def _judge(self, transaction: Transaction, build: Build) -> Judgements:
        electorate = self._service.voters.at(self._service.clock())
        return ledger.judge(transaction, electorate, build, self._service.settings.most_open_clashes)

    def page(self, _request: Request) -> Response:
        """GET /: what is listed, for people."""
        with self._service.store.reading() as transaction:
            listings = transaction.listings(most=MOST_ROWS)
            downloads = [transaction.downloads((one.channel, one.build_key)) for one in listings]
            open_clashes = len(transaction.clashes(MOST_CLASHES))
        text = _page(self._service.settings.name, zip(listings, downloads, strict=True), open_clashes)
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(200, text.encode("utf-8"), headers)


def _variants(judgements: Judgements, listed: ContentsDigest | None) -> list[dict[str, object]]:
    """One row for each public result and definition, and one for each definition with blind votes."""
    rows: list[dict[str, object]] = []
    blind: set[Sha256] = set()
    for contents, judgement in judgements.items():
        if judgement.level is None:
            votes = [one.vote for one in judgement.voices] + [one.vote for one in judgement.set_aside]
            blind |= {signed.vote.definition.digest for signed in votes}
            continue
        for definition, voices in _by_definition(judgement).items():
            rows.append({
                "contents": contents, "level": int(judgement.level), "listed": contents == listed, "definition": definition,
                "voices": _voices(voices),
            })  # fmt: skip
    return rows + [{"level": None, "listed": False, "definition": one, "voices": []} for one in sorted(blind)]


def _by_definition(judgement: Judgement) -> dict[Sha256, list[Voice]]:
    found: dict[Sha256, list[Voice]] = {}
    for voice in judgement.voices:
        found.setdefault(voice.vote.vote.definition.digest, []).append(voice)
    return found


def _voices(voices: Iterable[Voice]) -> list[dict[str, object]]:
    return [{"operator": voice.operator, "role": voice.role.value} for voice in voices]


def _sides(row: ClashRow, judgements: Judgements) -> tuple[ContentsDigest, ...]:
    """The sides that a clash has now: rulings may have taken some away."""
    return next((clash.sides for clash in clashes.find(judgements) if clash.definition == row.definition), ())


def _side(contents: ContentsDigest, judgement: Judgement, *, is_listed: bool) -> dict[str, object]:
    if judgement.level is None:
        return {"contents": None, "level": None, "stays": False, "voices": []}
    return {"contents": contents, "level": int(judgement.level), "stays": is_listed, "voices": _voices(judgement.voices)}


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


def _page(name: str, listed: Iterable[tuple[Listing, int]], open_clashes: int) -> str:
    rows = (
        _ROW.format(cpv=html.escape(one.cpv), channel=html.escape(one.channel), level=int(one.level), requests=requests, size=one.size)
        for one, requests in listed
    )
    return _PAGE.format(name=html.escape(name), clashes=open_clashes, rows="\n".join(rows))
