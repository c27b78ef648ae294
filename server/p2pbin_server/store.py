"""The one place with SQL, and the commit point: what a transaction wrote is on disk, wholly or not at all.

Whoever can write to the database can withhold packages and votes, and list again what was once rightly listed.  It holds no secrets but the
addresses of offers and holders, and the blind votes (P5); nothing in it can raise a level on a client, since clients read the
signatures themselves.  Signatures are checked again whenever a vote is read.
"""

from __future__ import annotations

import dataclasses
import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sql
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import OperationalError

from p2pbin_server import tables as t
from p2pbin_server.tables import ClashRow, Holder, Lease, Listing, Offer, OfferState, Registered, StoredFile, Variant, Wanted
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.model import BuildKey, Channel, ContentsDigest, Cpv, InfoHash, Level, Operator, PublicKey, Sha256
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote, read_certificate, read_vote

BUSY = 5000
"""Milliseconds to wait for another process that writes, such as `p2pbin-server contributor`."""

Row = TypeVar("Row")
Build = tuple[Channel, BuildKey]
"""What a level is about: one build key in one channel."""


_OPEN = (OfferState.WAITING.value, OfferState.CHECKING.value)


class Store:
    """The database at `path`; made if it is not there.  Safe to use from many threads.

    Every block raises UnavailableError if the database cannot be read or written now.
    """

    def __init__(self, path: Path) -> None:
        self._engine = sql.create_engine(f"sqlite:///{path}")
        self._writer = threading.Lock()
        sql.event.listen(self._engine, "connect", _set_up)
        sql.event.listen(self._engine, "begin", _begin)
        t.METADATA.create_all(self._engine)

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


class Transaction:
    """Typed questions and changes within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Contributors

    def contributor(self, key: PublicKey) -> Registered | None:
        """Who registered `key`."""
        return self._one(Registered, sql.select(t.CONTRIBUTORS).where(t.CONTRIBUTORS.c.key == key))

    def contributors(self) -> list[Registered]:
        """Everybody who ever registered, in the order of their registration."""
        return self._all(Registered, sql.select(t.CONTRIBUTORS).order_by(t.CONTRIBUTORS.c.registered, t.CONTRIBUTORS.c.key))

    def put_contributor(self, one: Registered) -> None:
        """Store a registration, in place of an earlier one of the same key."""
        values = _values(one)
        self._put(t.CONTRIBUTORS, {"key": values.pop("key")}, values)

    def registrations_since(self, time: int) -> int:
        """How many keys were registered after `time`."""
        return self._count(t.CONTRIBUTORS, t.CONTRIBUTORS.c.registered > time)

    # Votes and certificates

    def vote(self, digest: Sha256) -> SignedVote | None:
        """The vote whose envelope has this digest."""
        found = self._connection.execute(sql.select(t.VOTES.c.envelope).where(t.VOTES.c.digest == digest)).scalar()
        return None if found is None else read_vote(found)

    def add_vote(self, signed: SignedVote, received: int) -> None:
        """Store a vote that is new."""
        vote = signed.vote
        values: dict[str, object] = {"digest": signed.envelope.digest, "channel": vote.channel, "build_key": vote.build_key}
        values |= {"contents": vote.contents, "cpv": vote.cpv, "signer": signed.signer}
        self._insert(t.VOTES, values | {"received": received, "envelope": signed.envelope.data})

    def votes_on(self, build: Build) -> list[SignedVote]:
        """All votes on a build key, oldest first."""
        query = sql.select(t.VOTES.c.envelope).where(*_of(t.VOTES, build)).order_by(t.VOTES.c.position)
        return [read_vote(row["envelope"]) for row in self._rows(query)]

    def votes_since(self, signer: PublicKey, time: int) -> int:
        """How many votes of `signer` came in after `time`."""
        return self._count(t.VOTES, t.VOTES.c.signer == signer, t.VOTES.c.received > time)

    def has_certificate(self, digest: Sha256) -> bool:
        """Is this certificate stored?"""
        return self._count(t.CERTIFICATES, t.CERTIFICATES.c.digest == digest) > 0

    def add_certificate(self, signed: SignedCertificate, received: int) -> None:
        """Store a certificate that is new."""
        values: dict[str, object] = {"digest": signed.envelope.digest, "key": signed.certificate.key, "signer": signed.signer}
        self._insert(t.CERTIFICATES, values | {"received": received, "envelope": signed.envelope.data})

    def certificates_since(self, signer: PublicKey, time: int) -> int:
        """How many certificates of `signer` came in after `time`."""
        return self._count(t.CERTIFICATES, t.CERTIFICATES.c.signer == signer, t.CERTIFICATES.c.received > time)

    def certificates_for(self, keys: Iterable[PublicKey]) -> list[SignedCertificate]:
        """All certificates about any of `keys`."""
        table = t.CERTIFICATES
        query = sql.select(table.c.envelope).where(table.c.key.in_(sorted(keys))).order_by(table.c.position)
        return [read_certificate(row["envelope"]) for row in self._rows(query)]

    def has_voted(self, signer: PublicKey, build_key: BuildKey, contents: ContentsDigest) -> bool:
        """Has `signer` voted for these contents of this build key, in any channel?"""
        return self._count(t.VOTES, t.VOTES.c.signer == signer, t.VOTES.c.build_key == build_key, t.VOTES.c.contents == contents) > 0

    def builds_voted_by(self, signer: PublicKey) -> list[Build]:
        """The build keys that `signer` has voted on."""
        return self._builds(sql.select(t.VOTES.c.channel, t.VOTES.c.build_key).where(t.VOTES.c.signer == signer).distinct())

    def builds(self) -> list[Build]:
        """Every build key with a vote."""
        return self._builds(sql.select(t.VARIANTS.c.channel, t.VARIANTS.c.build_key).distinct())

    # Levels and clashes

    def variants(self, build: Build) -> list[Variant]:
        """The contents digests that were voted for, by digest."""
        query = sql.select(t.VARIANTS).where(*_of(t.VARIANTS, build)).order_by(t.VARIANTS.c.contents)
        return self._all(Variant, query)

    def put_variants(self, build: Build, variants: Iterable[Variant]) -> None:
        """Replace what is known of a build key, and mark it as changed for the index."""
        self._delete(t.VARIANTS, *_of(t.VARIANTS, build))
        for one in variants:
            self._insert(t.VARIANTS, _build(build) | _values(one))
        self._put(t.CHANGED_BUILDS, _build(build), {})

    def builds_of(self, cpv: Cpv) -> list[Build]:
        """The build keys that were voted on for one CPV."""
        table = t.VARIANTS
        return self._builds(sql.select(table.c.channel, table.c.build_key).where(table.c.cpv == cpv).distinct())

    def open_clash(self, build: Build, definition: Sha256, cpv: Cpv, opener: Operator | None, opened: int) -> bool:
        """Open a clash about `definition`, unless there is one; True if it is new."""
        table = t.CLASHES
        if self._count(table, table.c.channel == build[0], table.c.definition == definition):
            return False
        self._insert(table, _build(build) | {"definition": definition, "cpv": cpv, "opener": opener, "opened": opened})
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

    # Files and offers

    def file(self, sha256: Sha256) -> StoredFile | None:
        """A package file that was taken in."""
        return self._one(StoredFile, sql.select(t.FILES).where(t.FILES.c.sha256 == sha256))

    def files_of(self, build: Build, contents: ContentsDigest) -> list[StoredFile]:
        """The files with these contents for a build key, oldest first."""
        query = sql.select(t.FILES).where(*_of(t.FILES, build), t.FILES.c.contents == contents)
        return self._all(StoredFile, query.order_by(t.FILES.c.stored, t.FILES.c.sha256))

    def add_file(self, one: StoredFile) -> None:
        """Store what is known of a file, and mark its build key as changed for the index."""
        self._insert(t.FILES, _values(one))
        self._put(t.CHANGED_BUILDS, _build((one.channel, one.build_key)), {})

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
        values = _values(offer)
        self._put(t.OFFERS, {"info_hash": values.pop("info_hash")}, values)

    def set_offer(self, info_hash: InfoHash, state: OfferState, reason: str = "") -> None:
        """Say how far an offer has come."""
        self._put(t.OFFERS, {"info_hash": info_hash}, {"state": state.value, "reason": reason})

    # The index

    def changed_builds(self, most: int) -> list[Build]:
        """Build keys whose listing has to be made anew."""
        return self._builds(sql.select(t.CHANGED_BUILDS).limit(most))

    def build_listed(self, build: Build) -> None:
        """The listing of a build key is up to date."""
        self._delete(t.CHANGED_BUILDS, *_of(t.CHANGED_BUILDS, build))

    def listing(self, build: Build) -> Listing | None:
        """What is listed for a build key."""
        return self._one(Listing, sql.select(t.LISTINGS).where(*_of(t.LISTINGS, build)))

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
        values = _values(one)
        self._put(t.LISTINGS, {"channel": values.pop("channel"), "build_key": values.pop("build_key")}, values)
        self._put(t.CHANGED_PAGES, {"channel": one.channel, "category": one.category}, {})

    def remove_listing(self, one: Listing) -> None:
        """Take an entry from the index, and mark its page as changed."""
        self._delete(t.LISTINGS, *_of(t.LISTINGS, (one.channel, one.build_key)))
        self._put(t.CHANGED_PAGES, {"channel": one.channel, "category": one.category}, {})

    def changed_pages(self) -> list[tuple[Channel, str]]:
        """Channel and category of the pages that have to be published anew."""
        return [(Channel(row["channel"]), row["category"]) for row in self._rows(sql.select(t.CHANGED_PAGES))]

    def page_published(self, channel: Channel, category: str) -> None:
        """The page of a category is up to date."""
        self._delete(t.CHANGED_PAGES, t.CHANGED_PAGES.c.channel == channel, t.CHANGED_PAGES.c.category == category)

    # Demand and jobs

    def count_download(self, build: Build, cpv: Cpv) -> None:
        """One more download of this build key."""
        self._put(t.DOWNLOADS, _build(build), {"cpv": cpv, "count": self.downloads(build) + 1})

    def downloads(self, build: Build) -> int:
        """How often a build key was asked for."""
        return sum(self._connection.execute(sql.select(t.DOWNLOADS.c.count).where(*_of(t.DOWNLOADS, build))).scalars())

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
        before = self._connection.execute(sql.select(t.LEASES.c.attempts).where(*_of(t.LEASES, build))).scalar() or 0
        values = {"id": lease.id, "holder": lease.holder, "expires": lease.expires, "attempts": before + 1}
        self._put(t.LEASES, _build(build), values)

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

    # Copies

    def put_holder(self, one: Holder) -> None:
        """Note a machine that offers disk space, or that it is still there."""
        values = _values(one)
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

    # How the questions are asked

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


def _build(build: Build) -> dict[str, object]:
    return {"channel": build[0], "build_key": build[1]}


def _of(table: sql.Table, build: Build) -> tuple[sql.ColumnElement[bool], sql.ColumnElement[bool]]:
    return table.c.channel == build[0], table.c.build_key == build[1]


def _values(row: object) -> dict[str, object]:
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
