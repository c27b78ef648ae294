"""What the votes come to: variants with their levels, and clashes."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, columns_of, of_build, values_of
from p2pbin_server.store.rows import Build, ClashRow, Variant
from portage_p2pbin.kernel.model import Cpv, Operator, Sha256


class Levels(Queries):
    """Derived from the votes, the roster and the rulings, and derived again when one of them changes."""

    def variants(self, build: Build) -> list[Variant]:
        """The contents digests that were voted for, by digest."""
        query = sql.select(t.VARIANTS).where(*of_build(t.VARIANTS, build)).order_by(t.VARIANTS.c.contents)
        return self._all(Variant, query)

    def put_variants(self, build: Build, variants: Iterable[Variant]) -> None:
        """Replace what is known of a build key, and mark it as changed for the index."""
        self._delete(t.VARIANTS, *of_build(t.VARIANTS, build))
        for one in variants:
            self._insert(t.VARIANTS, columns_of(build) | values_of(one))
        self._put(t.CHANGED_BUILDS, columns_of(build), {})

    def builds_of(self, cpv: Cpv) -> list[Build]:
        """The build keys that were voted on for one CPV."""
        table = t.VARIANTS
        return self._builds(sql.select(table.c.channel, table.c.build_key).where(table.c.cpv == cpv).distinct())

    def open_clash(self, build: Build, definition: Sha256, cpv: Cpv, opener: Operator | None, opened: int) -> bool:
        """Open a clash about `definition`, unless there is one; True if it is new."""
        table = t.CLASHES
        if self._count(table, table.c.channel == build[0], table.c.definition == definition):
            return False
        self._insert(table, columns_of(build) | {"definition": definition, "cpv": cpv, "opener": opener, "opened": opened})
        return True

    def clashes(self, most: int) -> list[ClashRow]:
        """The newest clashes, newest first."""
        return self._all(ClashRow, sql.select(t.CLASHES).order_by(t.CLASHES.c.number.desc()).limit(most))

    def clash(self, number: int) -> ClashRow | None:
        """One clash by its number."""
        return self._one(ClashRow, sql.select(t.CLASHES).where(t.CLASHES.c.number == number))

    def openers(self, least: int) -> frozenset[Operator]:
        """The operators who opened at least `least` clashes without ranking higher in them (P6.2)."""
        opener = t.CLASHES.c.opener
        query = sql.select(opener).where(opener.is_not(None)).group_by(opener).having(sql.func.count() >= least)
        return frozenset(map(Operator, self._connection.execute(query).scalars()))

    def builds_clashed_by(self, opener: Operator) -> list[Build]:
        """The build keys of the clashes that an operator opened."""
        table = t.CLASHES
        return self._builds(sql.select(table.c.channel, table.c.build_key).where(table.c.opener == opener).distinct())
