"""Trust levels, and who gives them, in words (P5); etc/eselect/p2pbin.eselect says the same."""

from __future__ import annotations

from collections.abc import Iterable

from portage_p2pbin.kernel.model import Level
from portage_p2pbin.kernel.trust import Voice
from portage_p2pbin.net.trust_server import SaidVoice

MEANINGS = {
    Level.BUILD_SERVER: "a build server has built it",
    Level.TRUSTED_PAIR: "two or more trusted developers have",
    Level.TRUSTED_ONE: "a trusted developer has",
    Level.SEMI_TRUSTED_SOME: "several semi-trusted contributors have",
    Level.SEMI_TRUSTED_ONE: "a semi-trusted contributor has",
    Level.UNTRUSTED_SOME: "several strangers who were audited have",
}
"""Who has built a package of each level; each level also takes what the ones above it take."""


def named(level: Level | None) -> str:
    """`level 3`, or `no level`."""
    return "no level" if level is None else f"level {level:d}"


def voters(voices: Iterable[Voice | SaidVoice]) -> str:
    """`alice (trusted), bob (untrusted)`, each operator once."""
    return ", ".join(dict.fromkeys(f"{one.operator} ({one.role.value})" for one in voices)) or "no vote that counts"


def voters_json(voices: Iterable[Voice | SaidVoice]) -> list[dict[str, str]]:
    """The same for programs, each vote once."""
    return [{"operator": one.operator, "role": one.role.value} for one in voices]
