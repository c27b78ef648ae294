"""Trust levels in words (P5); etc/eselect/p2pbin.eselect says the same."""

from __future__ import annotations

from portage_p2pbin.kernel.model import Level

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
