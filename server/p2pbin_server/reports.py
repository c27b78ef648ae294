"""What anybody may know of packages and clashes, as values for JSON and for people.

Nothing is told of results whose votes are blind (P5): neither digest nor voters, nor how many different results there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from p2pbin_server import clashes
from p2pbin_server.clashes import Clash, Judgements
from p2pbin_server.differences import differences
from p2pbin_server.ledger import judge
from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Build, ClashRow
from portage_p2pbin.kernel.model import ContentsDigest, Cpv, Sha256
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.kernel.trust import Electorate, Judgement, Voice

MOST_BUILDS = 200
MOST_VARIANTS = 200

Report = dict[str, object]


def package_report(transaction: Transaction, electorate: Electorate, cpv: Cpv, most_open_clashes: int) -> list[Report]:
    """The builds of a package, their results and who voted for them."""
    return [_build(transaction, electorate, build, most_open_clashes) for build in transaction.builds_of(cpv)[:MOST_BUILDS]]


def _build(transaction: Transaction, electorate: Electorate, build: Build, most_open_clashes: int) -> Report:
    judgements = judge(transaction, electorate, build, most_open_clashes)
    withdrawn = clashes.withdrawn(judgements)
    listing = transaction.listing(build)
    levels = [int(one.level) for contents, one in judgements.items() if one.level is not None and contents not in withdrawn]
    return {
        "buildKey": build[1],
        "level": min(levels, default=None),
        "requests": transaction.downloads(build),
        "variants": _variants(judgements, None if listing is None else listing.contents)[:MOST_VARIANTS],
    }


def _variants(judgements: Judgements, listed: ContentsDigest | None) -> list[Report]:
    """One row for each public result and definition, and one for each definition with blind votes."""
    rows: list[Report] = []
    blind: set[Sha256] = set()
    for contents, judgement in judgements.items():
        if judgement.level is None:
            votes = [one.vote for one in judgement.voices] + [one.vote for one in judgement.set_aside]
            blind |= {signed.vote.definition.digest for signed in votes}
            continue
        level, is_listed = int(judgement.level), contents == listed
        for definition, voices in _by_definition(judgement).items():
            row = {"contents": contents, "level": level, "listed": is_listed, "definition": definition, "voices": _voices(voices)}
            rows.append(row)
    return rows + [{"level": None, "listed": False, "definition": one, "voices": []} for one in sorted(blind)]


def _by_definition(judgement: Judgement) -> dict[Sha256, list[Voice]]:
    found: dict[Sha256, list[Voice]] = {}
    for voice in judgement.voices:
        found.setdefault(voice.vote.vote.definition.digest, []).append(voice)
    return found


def _voices(voices: Iterable[Voice]) -> list[Report]:
    return [{"operator": voice.operator, "role": voice.role.value} for voice in voices]


def clash_report(transaction: Transaction, electorate: Electorate, row: ClashRow, most_open_clashes: int) -> Report:
    """Who stands on which side of a clash, with which rank, and which side stays listed meanwhile (P6.2)."""
    judgements = judge(transaction, electorate, (row.channel, row.build_key), most_open_clashes)
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
        "sides": [_side(side, judgements[side], stays=side == stays) for side in sides],
    }


def clash_differences(
    transaction: Transaction, electorate: Electorate, row: ClashRow, most_open_clashes: int, manifests: Path
) -> list[Report] | None:
    """What differs between the first two sides of a clash, entry by entry (P6.5); None unless the packages of both are here."""
    judgements = judge(transaction, electorate, (row.channel, row.build_key), most_open_clashes)
    public = [side for side in _sides(row, judgements) if judgements[side].level is not None]
    return differences(manifests, public)


def _sides(row: ClashRow, judgements: Judgements) -> tuple[ContentsDigest, ...]:
    """The sides that a clash has now: rulings may have taken some away."""
    return next((clash.sides for clash in clashes.find(judgements) if clash.definition == row.definition), ())


def _side(contents: ContentsDigest, judgement: Judgement, *, stays: bool) -> Report:
    if judgement.level is None:
        return {"contents": None, "level": None, "stays": False, "voices": []}
    return {"contents": contents, "level": int(judgement.level), "stays": stays, "voices": _voices(judgement.voices)}
