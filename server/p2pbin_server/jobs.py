"""What a build server builds next: one lease for each job, the most wanted first (P11).

Only a build server of the roster gets a lease.  What it does with it gives it no more than its votes give it anyway; a stolen
key of one can keep jobs from the others for as long as its leases last.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from p2pbin_server.ledger import seconds, voter_key
from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Lease, Registered, Wanted
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Level, PublicKey, Role, Sha256
from portage_p2pbin.kernel.statements import SignedVote
from portage_p2pbin.kernel.trust import Electorate

MOST_AUDITS = 100
"""Untrusted votes given to an auditor at once; each may have 2 MiB."""

_NO_LEVEL = Level.UNTRUSTED_SOME + 1


def lease(transaction: Transaction, electorate: Electorate, builder: PublicKey, length: timedelta) -> Lease | None:
    """Give `builder` the most wanted build key, for `length`; None if nothing is wanted.

    A builder works on one job at a time: what it still held goes back.  Raises RefusedError (P11) for anybody who is no build
    server.
    """
    _check_builder(transaction, electorate, builder)
    now = seconds(electorate.now)
    transaction.return_leases(builder, now)
    wanted = max(transaction.wanted(now), key=priority, default=None)
    if wanted is None:
        return None
    given = Lease(wanted.channel, wanted.build_key, secrets.token_hex(16), builder, seconds(electorate.now + length))
    transaction.put_lease(given)
    return given


def priority(wanted: Wanted) -> tuple[float, str]:
    """Demand × levels to gain, less with each attempt that came to nothing; the build key settles ties."""
    to_gain = (wanted.level or _NO_LEVEL) - Level.BUILD_SERVER
    return (wanted.downloads + wanted.votes) * to_gain / (1 + wanted.attempts), wanted.build_key


def renew(transaction: Transaction, identifier: str, builder: PublicKey, now: datetime, length: timedelta) -> int:
    """Let a lease that `builder` holds end `length` from `now`; returns that time in seconds.  Raises RefusedError (P11)."""
    held = _held(transaction, identifier, builder, now)
    expires = seconds(now + length)
    transaction.extend_lease(held.id, expires)
    return expires


def give_back(transaction: Transaction, identifier: str, builder: PublicKey, now: datetime) -> None:
    """The holder of a lease cannot do its job: it is free for others, and counts as tried.  Raises RefusedError (P11)."""
    transaction.extend_lease(_held(transaction, identifier, builder, now).id, seconds(now))


def done(
    transaction: Transaction, electorate: Electorate, identifier: str, builder: PublicKey, vote: Sha256
) -> list[tuple[Registered, SignedVote]]:
    """The holder of a lease has cast `vote` on its job: returns the untrusted votes that it can now audit (P4.3).

    Raises RefusedError (P11) unless `builder` holds the lease and has cast that vote about that build key.  Doing it twice gives
    the same answer while the lease lasts.
    """
    held = _held(transaction, identifier, builder, electorate.now)
    build = held.channel, held.build_key
    cast = transaction.vote(vote)
    if cast is None or cast.signer != builder or (cast.vote.channel, cast.vote.build_key) != build:
        raise RefusedError("P11", f"job {identifier}", "the vote is not the builder's own vote on this job")
    members = electorate.roster.by_key()
    found: dict[PublicKey, tuple[Registered, SignedVote]] = {}
    for signed in transaction.votes_on(build):
        registered = transaction.contributor(signed.signer)
        if registered is not None and signed.signer not in members:
            found[signed.signer] = registered, signed
    return list(found.values())[:MOST_AUDITS]


def _check_builder(transaction: Transaction, electorate: Electorate, builder: PublicKey) -> None:
    key = voter_key(transaction, electorate, builder)
    member = electorate.roster.by_key().get(builder)
    if member is None or member[0].role is not Role.BUILD_SERVER or not key.covers(electorate.now):
        raise RefusedError("P11", f"key {builder[:16]}…", "it is not that of a build server on the roster")


def _held(transaction: Transaction, identifier: str, builder: PublicKey, now: datetime) -> Lease:
    held = transaction.lease(identifier, seconds(now))
    if held is None or held.holder != builder:
        raise RefusedError("P11", f"job {identifier}", "its lease is not held by this key any more")
    return held
