"""What is listed, and what of it has still to be published."""

from __future__ import annotations

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, of_build, values_of
from p2pbin_server.store.rows import Build, Listing
from portage_p2pbin.kernel.model import Channel, InfoHash, Sha256


class Listings(Queries):
    """One entry for each build key."""

    def changed_builds(self, most: int) -> list[Build]:
        """Build keys whose listing has to be made anew."""
        return self._builds(sql.select(t.CHANGED_BUILDS).limit(most))

    def build_listed(self, build: Build) -> None:
        """The listing of a build key is up to date."""
        self._delete(t.CHANGED_BUILDS, *of_build(t.CHANGED_BUILDS, build))

    def listing(self, build: Build) -> Listing | None:
        """What is listed for a build key."""
        return self._one(Listing, sql.select(t.LISTINGS).where(*of_build(t.LISTINGS, build)))

    def listing_by(self, *, file: Sha256 | None = None, info_hash: InfoHash | None = None) -> Listing | None:
        """What is listed with this file, or this torrent."""
        condition = t.LISTINGS.c.file == file if file is not None else t.LISTINGS.c.info_hash == info_hash
        return self._one(Listing, sql.select(t.LISTINGS).where(condition).limit(1))

    def listings(self, channel: Channel | None = None, category: str | None = None, most: int | None = None) -> list[Listing]:
        """What is listed, in one category of a channel or everywhere, by CPV."""
        query = sql.select(t.LISTINGS).order_by(t.LISTINGS.c.cpv, t.LISTINGS.c.build_key)
        if channel is not None:
            query = query.where(t.LISTINGS.c.channel == channel, t.LISTINGS.c.category == category)
        return self._all(Listing, query if most is None else query.limit(most))

    def put_listing(self, one: Listing) -> None:
        """List an entry in place of what was listed for its build key, and mark its page as changed."""
        values = values_of(one)
        self._put(t.LISTINGS, {"channel": values.pop("channel"), "build_key": values.pop("build_key")}, values)
        self._put(t.CHANGED_PAGES, {"channel": one.channel, "category": one.category}, {})

    def remove_listing(self, one: Listing) -> None:
        """Take an entry from the index, and mark its page as changed."""
        self._delete(t.LISTINGS, *of_build(t.LISTINGS, (one.channel, one.build_key)))
        self._put(t.CHANGED_PAGES, {"channel": one.channel, "category": one.category}, {})

    def changed_pages(self) -> list[tuple[Channel, str]]:
        """Channel and category of the pages that have to be published anew."""
        return [(Channel(row["channel"]), row["category"]) for row in self._rows(sql.select(t.CHANGED_PAGES))]

    def page_published(self, channel: Channel, category: str) -> None:
        """The page of a category is up to date."""
        self._delete(t.CHANGED_PAGES, t.CHANGED_PAGES.c.channel == channel, t.CHANGED_PAGES.c.category == category)
