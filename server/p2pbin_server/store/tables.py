"""The tables.  Times are whole seconds since 1970, sizes bytes.

Votes, certificates and contributors are what people signed; everything else can be derived or asked for again.  Votes and
certificates are never changed; `position` grows with each one and is the place that the log (P8) will give proofs for.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.types import BigInteger

METADATA = MetaData()

CONTRIBUTORS = Table(
    "contributors", METADATA,
    Column("key", String(64), primary_key=True),
    Column("identity", String(64), nullable=False, index=True),
    Column("machine", Text, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("openpgp", Text, nullable=False),
    Column("certification", Text, nullable=False),
    Column("registered", BigInteger, nullable=False, index=True),
)  # fmt: skip

VOTES = Table(
    "votes", METADATA,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("channel", String(63), nullable=False),
    Column("build_key", String(64), nullable=False),
    Column("contents", String(100), nullable=False),
    Column("cpv", String(150), nullable=False),
    Column("signer", String(64), nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Index("votes_on", "channel", "build_key"),
    Index("votes_by", "signer", "received"),
)  # fmt: skip

CERTIFICATES = Table(
    "certificates", METADATA,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("key", String(64), nullable=False, index=True),
    Column("signer", String(64), nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Index("certificates_by", "signer", "received"),
)  # fmt: skip

VARIANTS = Table(
    "variants", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("build_key", String(64), primary_key=True),
    Column("contents", String(100), primary_key=True),
    Column("cpv", String(150), nullable=False, index=True),
    Column("level", Integer),
    Column("withdrawn", Boolean, nullable=False),
)  # fmt: skip

CLASHES = Table(
    "clashes", METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("channel", String(63), nullable=False),
    Column("build_key", String(64), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("cpv", String(150), nullable=False),
    Column("opener", String(100), index=True),
    Column("opened", BigInteger, nullable=False),
    UniqueConstraint("channel", "definition"),
)  # fmt: skip

FILES = Table(
    "files", METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("sha1", String(40), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("info_hash", String(40), nullable=False, unique=True),
    Column("channel", String(63), nullable=False),
    Column("build_key", String(64), nullable=False),
    Column("contents", String(100), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("provider", String(64), nullable=False, index=True),
    Column("address", String(45), nullable=False),
    Column("stored", BigInteger, nullable=False),
    Index("files_of", "channel", "build_key", "contents"),
)  # fmt: skip

OFFERS = Table(
    "offers", METADATA,
    Column("info_hash", String(40), primary_key=True),
    Column("vote", String(64), nullable=False),
    Column("torrent", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("provider", String(64), nullable=False, index=True),
    Column("address", String(45), nullable=False),
    Column("port", Integer, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("received", BigInteger, nullable=False),
)  # fmt: skip

CHANGED_BUILDS = Table(
    "changed_builds", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("build_key", String(64), primary_key=True),
)  # fmt: skip

LISTINGS = Table(
    "listings", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("build_key", String(64), primary_key=True),
    Column("category", String(150), nullable=False),
    Column("cpv", String(150), nullable=False),
    Column("repository", String(100), nullable=False),
    Column("contents", String(100), nullable=False),
    Column("level", Integer, nullable=False),
    Column("file", String(64), nullable=False, index=True),
    Column("sha1", String(40), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("info_hash", String(40), nullable=False, index=True),
    Column("bundle", String(64), nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    Index("listings_of", "channel", "category"),
)  # fmt: skip

CHANGED_PAGES = Table(
    "changed_pages", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("category", String(150), primary_key=True),
)  # fmt: skip

DOWNLOADS = Table(
    "downloads", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("build_key", String(64), primary_key=True),
    Column("cpv", String(150), nullable=False, index=True),
    Column("count", BigInteger, nullable=False),
)  # fmt: skip

LEASES = Table(
    "leases", METADATA,
    Column("channel", String(63), primary_key=True),
    Column("build_key", String(64), primary_key=True),
    Column("id", String(64), unique=True),
    Column("holder", String(64), index=True),
    Column("expires", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
)  # fmt: skip

HOLDERS = Table(
    "holders", METADATA,
    Column("key", String(64), primary_key=True),
    Column("address", String(45), nullable=False, index=True),
    Column("port", Integer, nullable=False),
    Column("room", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False, index=True),
)  # fmt: skip

COPIES = Table(
    "copies", METADATA,
    Column("info_hash", String(40), primary_key=True),
    Column("key", String(64), primary_key=True, index=True),
)  # fmt: skip
