"""Votes, roster, certificates and rulings to a trust level: the one decision everything rests on (P5, P6.2).

Server and client run this same code; the client's answer is the one that counts.  An attacker may control any of the votes and
certificates that come in, and their order.  Nothing here raises for a bad vote: it is set aside with the reason, so that adding
votes can never take a level away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from portage_p2pbin.kernel.model import BuildKey, ContentsDigest, Level, Operator, PublicKey, Role
from portage_p2pbin.kernel.roster import Contributor, MachineKey, Policy, Roster, RulingKind, Rulings
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote


@dataclass(frozen=True, slots=True)
class Voice:
    """A vote that counts: for whom, and in which role."""

    vote: SignedVote
    operator: Operator
    role: Role


@dataclass(frozen=True, slots=True)
class SetAside:
    """A vote that does not count, and why."""

    vote: SignedVote
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The level of one contents digest for one build key, and how it came about."""

    level: Level | None
    voices: tuple[Voice, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who may vote at `now`: the roster, less the rulings, plus the untrusted keys that a build server has audited.

    Until votes carry their place in the log (P8), the time that counts for a key's window is `now` as well as the time that the
    vote itself gives: a vote whose key has since expired is set aside (stricter than P3.3).
    """

    roster: Roster
    rulings: Rulings
    now: datetime

    def judge(
        self, build_key: BuildKey, contents: ContentsDigest, votes: Iterable[SignedVote], certificates: Iterable[SignedCertificate]
    ) -> Judgement:
        """The trust level of `contents` as the result of `build_key`.

        Order and repetition of the votes do not matter.  Signatures were checked when the votes were read.
        """
        audited = self._audited(certificates)
        voices: list[Voice] = []
        aside: list[SetAside] = []
        for vote in {vote.envelope.digest: vote for vote in votes}.values():
            heard = self._hear(vote, build_key, contents, audited)
            if isinstance(heard, Voice):
                voices.append(heard)
            else:
                aside.append(SetAside(vote, heard))
        recalled = contents in self.rulings.subjects(RulingKind.RECALL)
        return Judgement(None if recalled else level(voices, self.roster.policy), tuple(voices), tuple(aside))

    def _hear(
        self, vote: SignedVote, build_key: BuildKey, contents: ContentsDigest, audited: Mapping[PublicKey, SignedCertificate]
    ) -> Voice | str:
        """The voice that a vote is, or why it is none."""
        if vote.vote.build_key != build_key:
            return "it is about another build key"
        if vote.vote.contents != contents:
            return "it is about another contents digest"
        member = self.roster.by_key().get(vote.signer)
        if member is not None:
            return self._hear_member(vote, *member)
        certificate = audited.get(vote.signer)
        if certificate is None:
            return "its key is neither on the roster nor audited"
        one = certificate.certificate
        window = MachineKey(one.key, "", one.not_before, one.not_after)
        return self._in_window(vote, window) or self._ruled_out(one.key, one.operator) or Voice(vote, one.operator, Role.UNTRUSTED)

    def _hear_member(self, vote: SignedVote, contributor: Contributor, key: MachineKey) -> Voice | str:
        if contributor.role is Role.SUSPENDED:
            return "its contributor is suspended"
        ruled_out = self._in_window(vote, key) or self._ruled_out(key.public, contributor.operator)
        return ruled_out or Voice(vote, contributor.operator, contributor.role)

    def _in_window(self, vote: SignedVote, key: MachineKey) -> str | None:
        if not key.covers(vote.vote.finished):
            return "it was signed outside its key's validity window"
        if not key.covers(self.now):
            return "its key is not valid now"
        return None

    def _ruled_out(self, key: PublicKey, operator: Operator) -> str | None:
        if key in self.rulings.subjects(RulingKind.VOID):
            return "a ruling voids the votes of its key"
        if operator in self.rulings.subjects(RulingKind.SUSPEND):
            return "a ruling suspends its operator"
        return None

    def _audited(self, certificates: Iterable[SignedCertificate]) -> dict[PublicKey, SignedCertificate]:
        """The untrusted keys that a build server of this roster vouches for now (P4.3).

        A suspended member of the roster cannot come back through a certificate: its keys are looked up in the roster first.
        """
        members = self.roster.by_key()
        found: dict[PublicKey, SignedCertificate] = {}
        for signed in sorted(certificates, key=lambda one: one.envelope.digest):
            member = members.get(signed.signer)
            if member is None or member[0].role is not Role.BUILD_SERVER or not member[1].covers(self.now):
                continue
            if self._ruled_out(signed.signer, member[0].operator) is None:
                found.setdefault(signed.certificate.key, signed)
        return found


def level(voices: Iterable[Voice], policy: Policy) -> Level | None:
    """The table of P5.  An operator has one voice, in its best role; a higher role also counts among the lower ones."""
    best: dict[Operator, Role] = {}
    for voice in voices:
        best[voice.operator] = min(voice.role, best.get(voice.operator, voice.role), key=_RANK.__getitem__)
    build_servers, trusted, semi_trusted, untrusted = (
        sum(_RANK[role] <= _RANK[least] for role in best.values())
        for least in (Role.BUILD_SERVER, Role.TRUSTED, Role.SEMI_TRUSTED, Role.UNTRUSTED)
    )
    if build_servers >= 1:
        return Level.BUILD_SERVER
    if trusted >= 2:
        return Level.TRUSTED_PAIR
    if trusted >= 1:
        return Level.TRUSTED_ONE
    if semi_trusted >= policy.semi_trusted:
        return Level.SEMI_TRUSTED_SOME
    if semi_trusted >= 1:
        return Level.SEMI_TRUSTED_ONE
    if untrusted >= policy.untrusted:
        return Level.UNTRUSTED_SOME
    return None


_RANK = {Role.BUILD_SERVER: 0, Role.TRUSTED: 1, Role.SEMI_TRUSTED: 2, Role.UNTRUSTED: 3}


def winner(sides: Mapping[ContentsDigest, Judgement]) -> ContentsDigest | None:
    """Which side of a clash stays listed (P6.2): the one that ranks strictly higher than every other, else none.

    `sides` are the digests for one full build definition.  A side without a vote that counts is no side (P6.1).
    """
    ranks = sorted((judgement.level or _NO_LEVEL, digest) for digest, judgement in sides.items() if judgement.voices)
    if not ranks or ranks[0][0] == _NO_LEVEL or (len(ranks) > 1 and ranks[0][0] == ranks[1][0]):
        return None
    return ranks[0][1]


_NO_LEVEL = 7
