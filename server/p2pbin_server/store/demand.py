"""How much packages are asked for, and which build server works on which."""

from __future__ import annotations

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, columns_of, of_build
from p2pbin_server.store.rows import Build, Lease, Wanted
from portage_p2pbin.kernel.model import Cpv, Level, PublicKey


class Demand(Queries):
    """Downloads and leases."""

    def count_download(self, build: Build, cpv: Cpv) -> None:
        """One more download of this build key."""
        self._put(t.DOWNLOADS, columns_of(build), {"cpv": cpv, "count": self.downloads(build) + 1})

    def downloads(self, build: Build) -> int:
        """How often a build key was asked for."""
        return sum(self._connection.execute(sql.select(t.DOWNLOADS.c.count).where(*of_build(t.DOWNLOADS, build))).scalars())

    def wanted(self, now: int) -> list[Wanted]:
        """The build keys that are not at level 1 and that nobody works on."""
        build, level = (t.VARIANTS.c.channel, t.VARIANTS.c.build_key), sql.func.min(t.VARIANTS.c.level)
        same = {table: sql.and_(table.c.channel == build[0], table.c.build_key == build[1]) for table in (t.VOTES, t.DOWNLOADS, t.LEASES)}
        votes = sql.select(sql.func.count()).where(same[t.VOTES]).scalar_subquery()
        downloads = sql.select(t.DOWNLOADS.c.count).where(same[t.DOWNLOADS]).scalar_subquery()
        attempts = sql.select(t.LEASES.c.attempts).where(same[t.LEASES]).scalar_subquery()
        query = sql.select(
            *build,
            level.label("level"),
            votes.label("votes"),
            sql.func.coalesce(downloads, 0).label("downloads"),
            sql.func.coalesce(attempts, 0).label("attempts"),
        )
        leased = sql.select(t.LEASES).where(same[t.LEASES], t.LEASES.c.expires > now).exists()
        return self._all(Wanted, query.where(~leased).group_by(*build).having(sql.or_(level.is_(None), level > Level.BUILD_SERVER.value)))

    def put_lease(self, lease: Lease) -> None:
        """Give a build key to a builder; counts one more attempt."""
        build = (lease.channel, lease.build_key)
        before = self._connection.execute(sql.select(t.LEASES.c.attempts).where(*of_build(t.LEASES, build))).scalar() or 0
        values = {"id": lease.id, "holder": lease.holder, "expires": lease.expires, "attempts": before + 1}
        self._put(t.LEASES, columns_of(build), values)

    def lease(self, identifier: str, now: int) -> Lease | None:
        """The lease of this name, if it has not expired."""
        query = sql.select(t.LEASES).where(t.LEASES.c.id == identifier, t.LEASES.c.expires > now)
        return self._one(Lease, query)

    def extend_lease(self, identifier: str, expires: int) -> None:
        """Let a lease end later, or now."""
        self._connection.execute(sql.update(t.LEASES).where(t.LEASES.c.id == identifier).values(expires=expires))

    def return_leases(self, holder: PublicKey, now: int) -> None:
        """End all leases of a builder."""
        self._connection.execute(sql.update(t.LEASES).where(t.LEASES.c.holder == holder, t.LEASES.c.expires > now).values(expires=now))
