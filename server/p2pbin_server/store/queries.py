"""How questions are asked of the database, and rows made of the answers."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

import sqlalchemy as sql
from sqlalchemy.engine import Connection, RowMapping

from p2pbin_server.store.rows import Build
from portage_p2pbin.kernel.model import BuildKey, Channel

Row = TypeVar("Row")


class Queries:
    """What every part of a transaction uses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, query: sql.Select[Any]) -> Iterable[RowMapping]:
        return self._connection.execute(query).mappings()

    def _all(self, kind: type[Row], query: sql.Select[Any]) -> list[Row]:
        return [_read(kind, row) for row in self._rows(query)]

    def _one(self, kind: type[Row], query: sql.Select[Any]) -> Row | None:
        return next(iter(self._all(kind, query.limit(1))), None)

    def _builds(self, query: sql.Select[Any]) -> list[Build]:
        return [(Channel(row["channel"]), BuildKey(row["build_key"])) for row in self._rows(query)]

    def _count(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> int:
        return self._connection.execute(sql.select(sql.func.count()).select_from(table).where(*conditions)).scalar_one()

    def _insert(self, table: sql.Table, values: Mapping[str, object]) -> None:
        self._connection.execute(sql.insert(table).values(**values))

    def _delete(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> None:
        self._connection.execute(sql.delete(table).where(*conditions))

    def _put(self, table: sql.Table, key: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Change the row with this key, or add it."""
        same = [table.c[name] == value for name, value in key.items()]
        if not self._count(table, *same):
            self._insert(table, {**key, **values})
        elif values:
            self._connection.execute(sql.update(table).where(*same).values(**values))


def columns_of(build: Build) -> dict[str, object]:
    """The two columns that say which build key a row is about."""
    return {"channel": build[0], "build_key": build[1]}


def of_build(table: sql.Table, build: Build) -> tuple[sql.ColumnElement[bool], sql.ColumnElement[bool]]:
    """The condition that a row of `table` is about this build key."""
    return table.c.channel == build[0], table.c.build_key == build[1]


def values_of(row: object) -> dict[str, object]:
    """The columns of one row: every field of its dataclass, enumerations by value."""
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(cast(Any, row))}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


def _read(kind: type[Row], row: RowMapping) -> Row:
    """One row as `kind`, each column through the type of its field, so that a damaged database is noticed."""
    return kind(**{name: None if row[name] is None else make(row[name]) for name, make in _makers(cast(Any, kind))})


@cache
def _makers(kind: type) -> list[tuple[str, Callable[[Any], object]]]:
    hints = typing.get_type_hints(kind)
    return [(name, next((part for part in typing.get_args(hint) if part is not type(None)), hint)) for name, hint in hints.items()]
