"""The one place with SQL, and the commit point: what a transaction wrote is on disk, wholly or not at all.

Whoever can write to the database can withhold packages and votes, and list again what was once rightly listed.  It holds no secrets but the
addresses of offers and holders, and the blind votes (P5); nothing in it can raise a level on a client, since clients read the
signatures themselves.  Signatures are checked again whenever a vote is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from p2pbin_server.store import tables
from p2pbin_server.store.contributions import Contributions
from p2pbin_server.store.copies import Copies
from p2pbin_server.store.demand import Demand
from p2pbin_server.store.levels import Levels
from p2pbin_server.store.listings import Listings
from p2pbin_server.store.packages import Packages
from portage_p2pbin.kernel.errors import UnavailableError

BUSY = 5000
"""Milliseconds to wait for another process that writes, such as `p2pbin-server contributor`."""


class Transaction(Contributions, Levels, Packages, Listings, Demand, Copies):
    """Typed questions and changes within one transaction."""


class Store:
    """The database at `path`; made if it is not there.  Safe to use from many threads.

    Every block raises UnavailableError if the database cannot be read or written now.
    """

    def __init__(self, path: Path) -> None:
        self._engine = sql.create_engine(f"sqlite:///{path}")
        self._writer = threading.Lock()
        sql.event.listen(self._engine, "connect", _set_up)
        sql.event.listen(self._engine, "begin", _begin)
        tables.METADATA.create_all(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A view of the store that nobody changes while the block runs."""
        with _as_ours(), self._engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """The only writer while the block runs.  All it wrote is durable at its end; nothing, if the block raises."""
        with self._writer, _as_ours(), self._engine.execution_options(p2pbin_writes=True).begin() as connection:
            yield Transaction(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


@contextmanager
def _as_ours() -> Iterator[None]:
    """A full disk, a locked database: whoever asked may ask again later."""
    try:
        yield
    except OperationalError as error:
        raise UnavailableError("The store", str(error.orig)) from error


def _set_up(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver gives
    connection.isolation_level = None  # the driver's own idea of when a transaction begins would miss reads
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("p2pbin_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
