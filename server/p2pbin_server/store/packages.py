"""Package files that were taken in, and those that are offered."""

from __future__ import annotations

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, columns_of, of_build, values_of
from p2pbin_server.store.rows import Build, Offer, OfferState, StoredFile
from portage_p2pbin.kernel.model import ContentsDigest, InfoHash, PublicKey, Sha256

_OPEN = (OfferState.WAITING.value, OfferState.CHECKING.value)


class Packages(Queries):
    """What the origin has and what it is to fetch."""

    def file(self, sha256: Sha256) -> StoredFile | None:
        """A package file that was taken in."""
        return self._one(StoredFile, sql.select(t.FILES).where(t.FILES.c.sha256 == sha256))

    def file_by(self, info_hash: InfoHash) -> StoredFile | None:
        """The package file that has this torrent."""
        return self._one(StoredFile, sql.select(t.FILES).where(t.FILES.c.info_hash == info_hash))

    def files_of(self, build: Build, contents: ContentsDigest) -> list[StoredFile]:
        """The files with these contents for a build key, oldest first."""
        query = sql.select(t.FILES).where(*of_build(t.FILES, build), t.FILES.c.contents == contents)
        return self._all(StoredFile, query.order_by(t.FILES.c.stored, t.FILES.c.sha256))

    def add_file(self, one: StoredFile) -> None:
        """Store what is known of a file, and mark its build key as changed for the index."""
        self._insert(t.FILES, values_of(one))
        self._put(t.CHANGED_BUILDS, columns_of((one.channel, one.build_key)), {})

    def torrents(self) -> list[InfoHash]:
        """The torrents of all files that were taken in, and of those that are offered."""
        stored = sql.select(t.FILES.c.info_hash)
        offered = sql.select(t.OFFERS.c.info_hash).where(t.OFFERS.c.state.in_(_OPEN))
        return [InfoHash(found) for found in self._connection.execute(stored.union(offered)).scalars()]

    def stored_bytes(self) -> int:
        """Bytes of all files."""
        return int(self._connection.execute(sql.select(sql.func.coalesce(sql.func.sum(t.FILES.c.size), 0))).scalar_one())

    def unlisted_bytes(self, provider: PublicKey) -> int:
        """Bytes that `provider` has brought, or now offers to bring, and that are not listed."""
        listed = sql.select(t.LISTINGS.c.file)
        files = sql.select(t.FILES.c.size).where(t.FILES.c.provider == provider, t.FILES.c.sha256.not_in(listed))
        offers = sql.select(t.OFFERS.c.size).where(t.OFFERS.c.provider == provider, t.OFFERS.c.state.in_(_OPEN))
        return sum(sum(self._connection.execute(query).scalars()) for query in (files, offers))

    def offer(self, info_hash: InfoHash) -> Offer | None:
        """The offer of a torrent."""
        return self._one(Offer, sql.select(t.OFFERS).where(t.OFFERS.c.info_hash == info_hash))

    def open_offers(self) -> list[Offer]:
        """Offers that wait or are being checked, oldest first."""
        return self._all(Offer, sql.select(t.OFFERS).where(t.OFFERS.c.state.in_(_OPEN)).order_by(t.OFFERS.c.received))

    def open_offers_of(self, provider: PublicKey) -> int:
        """How many offers of `provider` are open."""
        return self._count(t.OFFERS, t.OFFERS.c.provider == provider, t.OFFERS.c.state.in_(_OPEN))

    def put_offer(self, offer: Offer) -> None:
        """Store an offer, in place of an earlier one of the same torrent."""
        values = values_of(offer)
        self._put(t.OFFERS, {"info_hash": values.pop("info_hash")}, values)

    def set_offer(self, info_hash: InfoHash, state: OfferState, reason: str = "") -> None:
        """Say how far an offer has come."""
        self._put(t.OFFERS, {"info_hash": info_hash}, {"state": state.value, "reason": reason})
