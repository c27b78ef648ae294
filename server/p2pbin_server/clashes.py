"""Clashes: two contents digests for one full build definition, and what stays listed meanwhile (P6.1, P6.2).

A contributor can open a clash about anything that it may vote on.  What it gains by that is bounded by the rank of its own
votes: a side that ranks strictly higher stays listed, and who opens many clashes without winning them is not heard any more,
while the packages it attacked are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from portage_p2pbin.kernel.model import ContentsDigest, Operator, Sha256
from portage_p2pbin.kernel.roster import Policy
from portage_p2pbin.kernel.statements import SignedVote
from portage_p2pbin.kernel.trust import Judgement, SetAside, level, winner

Judgements = Mapping[ContentsDigest, Judgement]
"""What the votes on one build key come to, for each contents digest."""


@dataclass(frozen=True, slots=True)
class Clash:
    """The `sides` that each have a vote that counts for one full build `definition` (P6.1)."""

    definition: Sha256
    sides: tuple[ContentsDigest, ...]


def find(judgements: Judgements) -> list[Clash]:
    """The clashes among the results of one build key, by definition."""
    sides: dict[Sha256, set[ContentsDigest]] = {}
    for contents, judgement in judgements.items():
        for voice in judgement.voices:
            sides.setdefault(voice.vote.vote.definition.digest, set()).add(contents)
    return [Clash(definition, tuple(sorted(found))) for definition, found in sorted(sides.items()) if len(found) > 1]


def stays(clash: Clash, judgements: Judgements) -> ContentsDigest | None:
    """The side that stays listed while the clash is open, if any (P6.2)."""
    return winner({side: judgements[side] for side in clash.sides})


def withdrawn(judgements: Judgements) -> frozenset[ContentsDigest]:
    """The digests that a clash keeps from being listed (P6.2)."""
    return frozenset(side for clash in find(judgements) for side in clash.sides if side != stays(clash, judgements))


def opener(clash: Clash, judgements: Judgements, cause: SignedVote) -> Operator | None:
    """The operator to whom the clash is put down: whose vote, the `cause`, has just opened it without winning it (P6.2)."""
    if cause.vote.contents not in clash.sides or cause.vote.contents == stays(clash, judgements):
        return None
    return next((voice.operator for voice in judgements[cause.vote.contents].voices if voice.vote == cause), None)


def without(judgement: Judgement, unheard: Collection[str], policy: Policy) -> Judgement:
    """`judgement` without the votes of operators who opened too many clashes (P6.2)."""
    voices = tuple(voice for voice in judgement.voices if voice.operator not in unheard)
    if len(voices) == len(judgement.voices):
        return judgement
    aside = tuple(SetAside(voice.vote, "its operator has opened too many clashes") for voice in judgement.voices if voice not in voices)
    reached = None if judgement.level is None else level(voices, policy)
    return Judgement(reached, voices, judgement.set_aside + aside)
