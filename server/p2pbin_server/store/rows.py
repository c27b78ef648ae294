"""The rows that the rules see.  Times are whole seconds since 1970, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from portage_p2pbin.kernel.definition import RepositoryName
from portage_p2pbin.kernel.model import (
    BuildKey,
    Channel,
    ContentsDigest,
    Cpv,
    Fingerprint,
    InfoHash,
    Level,
    Operator,
    PublicKey,
    Sha1,
    Sha256,
)  # fmt: skip

Build = tuple[Channel, BuildKey]
"""What a level is about: one build key in one channel."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A machine key and the OpenPGP identity that certified it (P3.2)."""

    key: PublicKey
    identity: Fingerprint
    machine: str
    not_before: int
    not_after: int
    openpgp: str
    certification: str
    registered: int


@dataclass(frozen=True, slots=True)
class Variant:
    """One contents digest for one build key: its level, and whether a clash keeps it from being listed (P6.2)."""

    contents: ContentsDigest
    cpv: Cpv
    level: Level | None
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class ClashRow:
    """A clash as it was opened.  `opener` is the operator whose vote opened it without ranking higher, if any."""

    number: int
    channel: Channel
    build_key: BuildKey
    definition: Sha256
    cpv: Cpv
    opener: Operator | None
    opened: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A package file that was taken in and checked.  `metadata` is the JSON text of an entry's metadata."""

    sha256: Sha256
    sha1: Sha1
    size: int
    info_hash: InfoHash
    channel: Channel
    build_key: BuildKey
    contents: ContentsDigest
    metadata: str
    provider: PublicKey
    address: str
    stored: int


class OfferState(Enum):
    """How far the intake of an offered package has come."""

    WAITING = "waiting"
    CHECKING = "checking"
    STORED = "stored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Offer:
    """A package file that the provider of `vote` offers to hand over, at `address` and `port`."""

    info_hash: InfoHash
    vote: Sha256
    torrent: bytes
    size: int
    provider: PublicKey
    address: str
    port: int
    state: OfferState
    reason: str
    received: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One entry of the index, with the channel and category whose page it stands on."""

    channel: Channel
    build_key: BuildKey
    category: str
    cpv: Cpv
    repository: RepositoryName
    contents: ContentsDigest
    level: Level
    file: Sha256
    sha1: Sha1
    size: int
    info_hash: InfoHash
    bundle: Sha256
    serial: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A build key that is not yet at level 1: the best level it has, and how much it is asked for (P11)."""

    channel: Channel
    build_key: BuildKey
    level: Level | None
    downloads: int
    votes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A build key that one builder works on until `expires`."""

    channel: Channel
    build_key: BuildKey
    id: str
    holder: PublicKey
    expires: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A machine that offers `room` bytes for copies."""

    key: PublicKey
    address: str
    port: int
    room: int
    seen: int
