"""Say why a package is offered on this machine or not, and what keeps two builds apart (P1.6, P5).

Two kinds of statement are kept apart: what this machine derives itself, from the verified index, roster and votes; and what the
server says, which proves nothing.  Whoever controls the server can hide or invent the second kind only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portage_p2pbin.checks import check_bundle
from portage_p2pbin.fetch import Repository, Thresholds
from portage_p2pbin.kernel.definition import BuildDefinition
from portage_p2pbin.kernel.difference import Difference, environment_differences, request_differences
from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Bundle, Entry, read_bundle, read_page
from portage_p2pbin.kernel.model import Channel, Cpv, Level
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.kernel.trust import Electorate, Judgement
from portage_p2pbin.net.trust_server import SaidBuild, TrustServer
from portage_p2pbin.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Apart:
    """What keeps another build apart from the one that this machine has made: what was asked for, and what was installed."""

    request: tuple[Difference, ...]
    environment: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A build that the verified index lists, judged with this machine's own eyes.

    `judgement` is None where its votes could not be had or read; `trouble` then says why.  `apart` is None where this machine
    has not built the package.
    """

    entry: Entry
    threshold: Level
    refusal: Refusal | None
    judgement: Judgement | None
    trouble: str
    apart: Apart | None

    @property
    def objection(self) -> str:
        """Why it is not offered to Portage, or would not be installed; empty if nothing speaks against it."""
        if not self.entry.level.satisfies(self.threshold):
            return f"it is listed at level {self.entry.level:d}, and your threshold for it is {self.threshold:d}"
        if self.refusal is not None:
            until = "" if self.refusal.until is None else f" (tried again after {spelt(self.refusal.until)})"
            return f"left out by {self.refusal.rule}: {self.refusal.reason}{until}"
        if self.judgement is None:
            return self.trouble
        if self.judgement.level is None or not self.judgement.level.satisfies(self.threshold):
            found = "no level" if self.judgement.level is None else f"level {self.judgement.level:d}"
            return f"its votes give it {found} here, although the index says {self.entry.level:d}"
        return ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of one version: what is `listed`, what the server `said` (or `silence`, why it said nothing)."""

    cpv: Cpv
    built_here: BuildDefinition | None
    listed: tuple[Listed, ...]
    said: tuple[SaidBuild, ...]
    silence: str


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains the packages of one channel by this machine's settings and the verified `repository`."""

    server: TrustServer
    channel: Channel
    repository: Repository
    electorate: Electorate
    thresholds: Thresholds
    refusals: tuple[Refusal, ...]

    def entries(self, category: str) -> tuple[Entry, ...]:
        """What the verified index lists in `category`.  Raises RefusedError."""
        if category not in self.repository.categories(self.channel):
            return ()
        return read_page(self.repository.page(self.channel, category), self.channel, category)

    def explain(self, cpv: Cpv, entries: Iterable[Entry], built_here: BuildDefinition | None) -> Explanation:
        """Explain one version; `built_here` is what this machine's own build of it was made from, if there is one."""
        listed = tuple(self._judged(entry, built_here) for entry in entries if entry.cpv == cpv)
        try:
            return Explanation(cpv, built_here, listed, self.server.package(cpv), "")
        except (UnavailableError, RefusedError) as error:
            return Explanation(cpv, built_here, listed, (), str(error))

    def _judged(self, entry: Entry, built_here: BuildDefinition | None) -> Listed:
        threshold = self.thresholds.for_(entry.cpv, entry.metadata.get("SLOT", ""), entry.repository)
        refusal = next((one for one in self.refusals if one.file == entry.file), None)
        try:
            bundle = self._bundle(entry)
        except P2pbinError as error:
            return Listed(entry, threshold, refusal, None, str(error), None)
        judgement = self.electorate.judge(entry.build_key, entry.contents, bundle.votes, bundle.certificates)
        return Listed(entry, threshold, refusal, judgement, "", _apart(judgement, built_here))

    def _bundle(self, entry: Entry) -> Bundle:
        """The votes behind an entry (P9.2, P9.3)."""
        data = self.server.bundle(entry.bundle)
        check_bundle(data, entry)
        return read_bundle(data)


def _apart(judgement: Judgement, built_here: BuildDefinition | None) -> Apart | None:
    if built_here is None or not judgement.voices:
        return None
    there = judgement.voices[0].vote.vote.definition
    return Apart(request_differences(built_here.request, there.request), environment_differences(built_here, there))
