"""Who holds copies of which packages."""

from __future__ import annotations

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, values_of
from p2pbin_server.store.rows import Holder, StoredFile
from portage_p2pbin.kernel.model import InfoHash, PublicKey


class Copies(Queries):
    """Holders and what was picked for them."""

    def put_holder(self, one: Holder) -> None:
        """Note a machine that offers disk space, or that it is still there."""
        values = values_of(one)
        self._put(t.HOLDERS, {"key": values.pop("key")}, values)

    def holder(self, key: PublicKey) -> Holder | None:
        """The machine with this key."""
        return self._one(Holder, sql.select(t.HOLDERS).where(t.HOLDERS.c.key == key))

    def holders(self, since: int) -> list[Holder]:
        """The machines that were heard of after `since`."""
        return self._all(Holder, sql.select(t.HOLDERS).where(t.HOLDERS.c.seen > since).order_by(t.HOLDERS.c.key))

    def count_holders(self, address: str | None = None) -> int:
        """How many holders there are, at one address or everywhere."""
        return self._count(t.HOLDERS, *([] if address is None else [t.HOLDERS.c.address == address]))

    def remove_holders(self, until: int) -> None:
        """Forget the machines not heard of after `until`, and what they held."""
        gone = sql.select(t.HOLDERS.c.key).where(t.HOLDERS.c.seen <= until)
        self._delete(t.COPIES, t.COPIES.c.key.in_(gone))
        self._delete(t.HOLDERS, t.HOLDERS.c.seen <= until)

    def uncopied(self, most: int) -> list[StoredFile]:
        """Listed files that no holder was picked for."""
        listed = t.FILES.join(t.LISTINGS, t.LISTINGS.c.file == t.FILES.c.sha256)
        copies = sql.select(t.COPIES).where(t.COPIES.c.info_hash == t.FILES.c.info_hash)
        query = sql.select(t.FILES).select_from(listed).where(~copies.exists()).distinct().order_by(t.FILES.c.sha256).limit(most)
        return self._all(StoredFile, query)

    def add_copy(self, info_hash: InfoHash, key: PublicKey) -> None:
        """A holder was picked for a file."""
        self._put(t.COPIES, {"info_hash": info_hash, "key": key}, {})

    def copies_of(self, info_hash: InfoHash) -> list[Holder]:
        """The holders that were picked for a file."""
        query = sql.select(t.HOLDERS).join(t.COPIES, t.COPIES.c.key == t.HOLDERS.c.key).where(t.COPIES.c.info_hash == info_hash)
        return self._all(Holder, query)

    def held_by(self, key: PublicKey) -> list[StoredFile]:
        """The listed files that a holder was picked for."""
        listed = sql.select(t.LISTINGS.c.file)
        query = sql.select(t.FILES).join(t.COPIES, t.COPIES.c.info_hash == t.FILES.c.info_hash)
        return self._all(StoredFile, query.where(t.COPIES.c.key == key, t.FILES.c.sha256.in_(listed)).order_by(t.FILES.c.sha256))
