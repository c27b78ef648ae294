"""A vote comes in: checked, stored, and its level derived, in one transaction (P3, P5).

A contributor chooses every byte of a vote and how many it sends.  It gains nothing here that the level function does not give
it: votes of keys that nobody registered are not kept, the others count or do not count by :mod:`portage_p2pbin.kernel.trust`
alone, and an untrusted contributor learns nothing of what others voted before a level is reached (P5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from p2pbin_server import clashes
from p2pbin_server.channels import strays
from p2pbin_server.clashes import Judgements
from p2pbin_server.settings import Baseline
from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Build, Variant
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Channel, ContentsDigest, Level, PublicKey, Role
from portage_p2pbin.kernel.roster import MachineKey, RulingKind
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote
from portage_p2pbin.kernel.targets import page_file
from portage_p2pbin.kernel.trust import Electorate

DAY = timedelta(days=1)
SKEW = timedelta(minutes=5)
"""How far a contributor's clock may be off."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator of the server set for votes: the channels, and how much one contributor may do."""

    channels: Mapping[Channel, Baseline]
    votes: int
    most_open_clashes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the voter is told: the level that its own result has, and why."""

    level: Level | None
    reason: str
    is_new: bool


def seconds(time: datetime) -> int:
    """A time as the store keeps it."""
    return int(time.timestamp())


def build_of(signed: SignedVote) -> Build:
    """What a vote is about."""
    return signed.vote.channel, signed.vote.build_key


def cast(transaction: Transaction, electorate: Electorate, signed: SignedVote, rules: Rules) -> Answer:
    """Take in a vote whose signature was checked, at `electorate.now`.  The same vote twice is success.

    Raises RefusedError (P7.2, P3.2, P3.3, P4.1), and TooManyError for a contributor who votes too often.
    """
    is_new = transaction.vote(signed.envelope.digest) is None
    if is_new:
        _check_channel(signed, rules)
        _check_key(voter_key(transaction, electorate, signed.signer), signed, electorate.now)
        if transaction.votes_since(signed.signer, seconds(electorate.now - DAY)) >= rules.votes:
            raise TooManyError(f"Key {signed.signer[:16]}…", f"it has voted {rules.votes} times within a day")
        transaction.add_vote(signed, seconds(electorate.now))
        derive(transaction, electorate, build_of(signed), rules.most_open_clashes, cause=signed)
    return _answer(transaction, electorate, signed, rules, is_new=is_new)


def _check_channel(signed: SignedVote, rules: Rules) -> None:
    """P7.2: a channel of this server, a category that can have a page, and a definition that belongs there."""
    page_file(signed.vote.channel, signed.vote.cpv.category)
    baseline = rules.channels.get(signed.vote.channel)
    if baseline is None:
        raise RefusedError("P7.2", f"vote on {signed.vote.cpv}", f"there is no channel {signed.vote.channel} here")
    reason = strays(signed.vote.definition.request, baseline)
    if reason is not None:
        raise RefusedError("P7.2", f"vote on {signed.vote.cpv}", f"it is not for channel {signed.vote.channel}: {reason}")


def voter_key(transaction: Transaction, electorate: Electorate, signer: PublicKey) -> MachineKey:
    """The machine key of somebody on the roster or registered.  Raises RefusedError for a stranger (P3.2) and for one who may
    not vote any more (P4.1).
    """
    if signer in electorate.rulings.subjects(RulingKind.VOID):
        raise RefusedError("P4.1", f"key {signer[:16]}…", "a ruling voids its votes")
    member = electorate.roster.by_key().get(signer)
    if member is not None:
        if member[0].role is Role.SUSPENDED:
            raise RefusedError("P4.1", f"key {signer[:16]}…", "its contributor is suspended")
        return member[1]
    registered = transaction.contributor(signer)
    if registered is None:
        raise RefusedError("P3.2", f"key {signer[:16]}…", "nobody has registered it; run `p2pbin register` first")
    window = (datetime.fromtimestamp(edge, electorate.now.tzinfo) for edge in (registered.not_before, registered.not_after))
    return MachineKey(signer, registered.machine, *window)


def _check_key(key: MachineKey, signed: SignedVote, now: datetime) -> None:
    """P3.3: inside the key's validity window, as the vote tells it and now."""
    what = f"vote on {signed.vote.cpv}"
    if signed.vote.finished > now + SKEW:
        raise RefusedError("P3.3", what, "it was finished in the future; compare the clocks")
    if not key.covers(signed.vote.finished):
        raise RefusedError("P3.3", what, "it was finished outside the validity window of its key")
    if not key.covers(now):
        raise RefusedError("P3.3", what, "its key is not valid now; certify a new one with `p2pbin register`")


def certify(transaction: Transaction, electorate: Electorate, signed: SignedCertificate, rules: Rules) -> bool:
    """Take in an audit certificate whose signature was checked (P4.3).  True if it is new.

    Raises RefusedError (P4.3) unless a build server of the roster signed it, about a registered key and votes that this key
    has cast.
    """
    certificate = signed.certificate
    what = f"certificate for key {certificate.key[:16]}…"
    if transaction.has_certificate(signed.envelope.digest):
        return False
    member = electorate.roster.by_key().get(signed.signer)
    if member is None or member[0].role is not Role.BUILD_SERVER or not member[1].covers(electorate.now):
        raise RefusedError("P4.3", what, "its signer is no build server of the roster")
    registered = transaction.contributor(certificate.key)
    if registered is None or registered.identity != certificate.identity:
        raise RefusedError("P4.3", what, "its identity has not registered this key")
    for one in certificate.audited:
        if not transaction.has_voted(certificate.key, one.build_key, one.contents):
            raise RefusedError("P4.3", what, f"the key has not voted for {one.contents}")
    if transaction.certificates_since(signed.signer, seconds(electorate.now - DAY)) >= rules.votes:
        raise TooManyError(f"Key {signed.signer[:16]}…", f"it has certified {rules.votes} times within a day")
    transaction.add_certificate(signed, seconds(electorate.now))
    for build in transaction.builds_voted_by(certificate.key):
        derive(transaction, electorate, build, rules.most_open_clashes)
    return True


def judge(transaction: Transaction, electorate: Electorate, build: Build, most_open_clashes: int) -> Judgements:
    """What the votes on a build key come to now, for each contents digest (P5), less those not heard (P6.2)."""
    votes: dict[ContentsDigest, list[SignedVote]] = {}
    for signed in transaction.votes_on(build):
        votes.setdefault(signed.vote.contents, []).append(signed)
    signers = {signed.signer for found in votes.values() for signed in found}
    certificates = transaction.certificates_for(signers)
    unheard = transaction.openers(most_open_clashes)
    judged = {contents: electorate.judge(build[1], contents, found, certificates) for contents, found in votes.items()}
    return {contents: clashes.without(one, unheard, electorate.roster.policy) for contents, one in judged.items()}


def derive(transaction: Transaction, electorate: Electorate, build: Build, most_open_clashes: int, cause: SignedVote | None = None) -> None:
    """Store the levels of a build key as they are now, and open the clashes that there are.

    `cause` is the vote that has just come in, if one has.  An operator who thereby opens one clash too many is not heard any
    more, and what it clashed with is derived again.
    """
    judgements = judge(transaction, electorate, build, most_open_clashes)
    before = transaction.openers(most_open_clashes)
    for clash in clashes.find(judgements):
        opener = None if cause is None else clashes.opener(clash, judgements, cause)
        cpv = judgements[clash.sides[0]].voices[0].vote.vote.cpv
        transaction.open_clash(build, clash.definition, cpv, opener, seconds(electorate.now))
    _store(transaction, build, judgements)
    for operator in transaction.openers(most_open_clashes) - before:
        for other in transaction.builds_clashed_by(operator):
            _store(transaction, other, judge(transaction, electorate, other, most_open_clashes))


def _store(transaction: Transaction, build: Build, judgements: Judgements) -> None:
    withdrawn = clashes.withdrawn(judgements)
    cpvs = {contents: (one.voices or one.set_aside)[0].vote.vote.cpv for contents, one in judgements.items()}
    transaction.put_variants(
        build, [Variant(contents, cpvs[contents], one.level, contents in withdrawn) for contents, one in judgements.items()]
    )


def _answer(transaction: Transaction, electorate: Electorate, signed: SignedVote, rules: Rules, *, is_new: bool) -> Answer:
    """What the voter may know (P5): a level that the index shows anyway, and about its own vote only."""
    judgement = judge(transaction, electorate, build_of(signed), rules.most_open_clashes)[signed.vote.contents]
    aside = next((one.reason for one in judgement.set_aside if one.vote.envelope.digest == signed.envelope.digest), None)
    if signed.signer not in electorate.roster.by_key() and judgement.level is None:
        return Answer(None, "kept; untrusted votes are blind until level 6 is reached", is_new)
    if aside is not None:
        return Answer(judgement.level, f"kept, but it does not count: {aside}", is_new)
    return Answer(judgement.level, "it counts", is_new)
