"""Which offered package files the server wants (P5, P9.7, P10.3).

A contributor offers the file that its vote names.  It can make the server take in rubbish up to the bounds of the settings;
nothing is listed before the origin has read it.  What an untrusted contributor is told must not show what others have voted:
its file is always asked for, until the level of its contents is public.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pbin_server.ledger import Rules, build_of, judge, seconds, voter_key
from p2pbin_server.settings import Limits, OriginSettings
from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Offer, OfferState
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, PublicKey, Sha256
from portage_p2pbin.kernel.statements import SignedVote
from portage_p2pbin.kernel.torrent import Torrent
from portage_p2pbin.kernel.trust import Electorate


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be offered."""

    origin: OriginSettings
    limits: Limits


def offer(
    transaction: Transaction, electorate: Electorate, provider: PublicKey, vote: Sha256, torrent: Torrent, where: Address,
    rules: Rules, bounds: Bounds,
) -> bool:  # fmt: skip
    """Note that `provider` offers the file of its `vote` as `torrent`, at `where`.  Does the server want it?

    Raises RefusedError (P9.5, P10.5) unless the vote is the provider's own and the torrent has the name that belongs to it, and
    TooManyError or UnavailableError beyond the bounds.
    """
    signed = _own_vote(transaction, electorate, provider, vote)
    _check_torrent(signed, torrent, bounds.origin)
    if not is_wanted(transaction, electorate, signed, rules):
        return False
    known = transaction.offer(torrent.info_hash)
    if known is not None and known.state in (OfferState.WAITING, OfferState.CHECKING):
        return True
    if transaction.open_offers_of(provider) >= bounds.limits.open_offers:
        raise TooManyError(f"Key {provider[:16]}…", "too many of its offers are open")
    if transaction.unlisted_bytes(provider) + torrent.size > bounds.origin.unlisted:
        raise TooManyError(f"Key {provider[:16]}…", "too much that it brought is not listed")
    if transaction.stored_bytes() + torrent.size > bounds.origin.disk:
        raise UnavailableError("The origin", "it has no room for further packages")
    now = seconds(electorate.now)
    transaction.put_offer(
        Offer(torrent.info_hash, vote, torrent.data, torrent.size, provider, where.host, where.port, OfferState.WAITING, "", now)
    )
    return True


def _own_vote(transaction: Transaction, electorate: Electorate, provider: PublicKey, vote: Sha256) -> SignedVote:
    voter_key(transaction, electorate, provider)
    signed = transaction.vote(vote)
    if signed is None or signed.signer != provider:
        raise RefusedError("P10.5", "offer", "the vote that it names is not one of its sender's; vote first")
    return signed


def _check_torrent(signed: SignedVote, torrent: Torrent, origin: OriginSettings) -> None:
    """Can this be the torrent of the file that the vote names?"""
    file = signed.vote.file
    if file is None:
        raise RefusedError("P10.5", f"offer of {signed.vote.cpv}", "its vote names no file")
    if torrent.name != file_name(signed.vote.cpv, file):
        raise RefusedError("P9.5", f"offer of {signed.vote.cpv}", f"its torrent is named {torrent.name}")
    if torrent.size > origin.package:
        raise RefusedError("P10.5", f"offer of {signed.vote.cpv}", f"{torrent.size} bytes; this server takes at most {origin.package}")


def is_wanted(transaction: Transaction, electorate: Electorate, signed: SignedVote, rules: Rules) -> bool:
    """Is the file of this vote to be fetched?  Yes, if it is missing, or if its voter must not know whether it is (P5)."""
    judgement = judge(transaction, electorate, build_of(signed), rules.most_open_clashes)[signed.vote.contents]
    is_blind = judgement.level is None and signed.signer not in electorate.roster.by_key()
    return is_blind or is_missing(transaction, electorate, signed, rules)


def is_missing(transaction: Transaction, electorate: Electorate, signed: SignedVote, rules: Rules) -> bool:
    """Would the file of this vote be the first of its kind?

    If the vote counts: the first that a vote that counts names, so that it can be listed (P9.7).  Else: the first of these contents
    at all.  One accepted file is enough (P10.3).
    """
    build = build_of(signed)
    judgement = judge(transaction, electorate, build, rules.most_open_clashes)[signed.vote.contents]
    here = {file.sha256 for file in transaction.files_of(build, signed.vote.contents)}
    if any(voice.vote.envelope.digest == signed.envelope.digest for voice in judgement.voices):
        return not any(voice.vote.vote.file in here for voice in judgement.voices)
    return not here
