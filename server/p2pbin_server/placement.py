"""Who keeps a further copy of which package (P12): the server picks, holders ask what to hold.

A holder says itself how much room it has, and may lie, vanish or hand out rubbish; that wastes bytes and time, since every piece
is checked by whoever gets it.  Nothing rests on a copy being there: the origin and the provider have the package too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Holder, StoredFile
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.model import InfoHash, PublicKey

MOST_PLACED = 100
"""Files placed in one go, so that the store is not held up."""


def hold(transaction: Transaction, holder: Holder, silence: int, most: int, most_at_address: int) -> list[StoredFile]:
    """Note a holder that calls now, at `holder.seen`, and return what it is to hold.

    Holders that were silent for `silence` seconds are forgotten first, and what they held goes to others.  Raises TooManyError
    when there are `most` of them, or `most_at_address` at its address.
    """
    transaction.remove_holders(holder.seen - silence)
    is_full = transaction.count_holders() >= most or transaction.count_holders(holder.address) >= most_at_address
    if is_full and transaction.holder(holder.key) is None:
        raise TooManyError("A place among the holders", "there are enough already")
    transaction.put_holder(holder)
    place(transaction, holder.seen - silence)
    return transaction.held_by(holder.key)


def place(transaction: Transaction, since: int) -> None:
    """Pick one further host for each listed file that has none, among the holders heard of after `since`."""
    files = transaction.uncopied(MOST_PLACED)
    if not files:
        return
    holders = transaction.holders(since)
    room = {one.key: one.room - sum(file.size for file in transaction.held_by(one.key)) for one in holders}
    for file in files:
        fit = {one.key: one.room for one in holders if room[one.key] >= file.size and not _provides(one, file)}
        picked = pick(file.info_hash, fit)
        if picked is not None:
            transaction.add_copy(file.info_hash, picked)
            room[picked] -= file.size


def _provides(holder: Holder, file: StoredFile) -> bool:
    """Is this the provider's own machine, where a copy would be no further one?"""
    return holder.key == file.provider or holder.address == file.address


def pick(info_hash: InfoHash, weights: Mapping[PublicKey, int]) -> PublicKey | None:
    """One of the keys, by rendezvous hashing: in proportion to the weights, and the same one as long as it is there.

    Each key draws -weight / log(its own even number between 0 and 1), and the highest wins: Schindelhauer and Schomaker, "Weighted
    distributed hash tables", 2005.
    """
    return max((key for key in weights if weights[key] > 0), key=lambda key: (_draw(info_hash, key, weights[key]), key), default=None)


def _draw(info_hash: InfoHash, key: PublicKey, weight: int) -> float:
    number = int.from_bytes(hashlib.sha256(f"{info_hash} {key}".encode("ascii")).digest()[:8], "big")
    return -weight / math.log((number + 1) / (2**64 + 1))
