"""What the server lists: index pages, one for each category, and the vote bundle behind each entry (P7.2, P9.2).

The online `index` key signs the pages, so whoever holds the api host writes them as they like.  An entry therefore proves
nothing: it says where to look, and everything in it is checked against the votes and against the package itself before a file
is placed (P9.3 to P9.8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portage_p2pbin.kernel.definition import RepositoryName
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import BuildKey, Channel, ContentsDigest, Cpv, InfoHash, Level, Sha1, Sha256
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote, read_certificate, read_vote
from portage_p2pbin.kernel.wire import Fields, canonical, decode

PAGE = "p2pbin-index-1"
BUNDLE = "p2pbin-bundle-1"

MOST_PAGE = 64 * 1024 * 1024
MOST_ENTRIES = 60_000
"""Entries of one category.  All of ::gentoo has 32,000 versions."""

MOST_FILE = 16 * 1024 * 1024 * 1024
"""Bytes of one package file; the largest binary packages known have about 2 GB."""

MOST_BUNDLE = 32 * 1024 * 1024
MOST_VOTES = 1000
"""Votes in one bundle; the server keeps further ones, but more cannot raise a level."""

MOST_SERIAL = 4_000_000_000
"""Listings are numbered by the second in which they were made, so that the number can also be a file's MTIME."""

METADATA_KEYS = (
    "BDEPEND", "BUILD_ID", "BUILD_TIME", "CHOST", "DEFINED_PHASES", "DEPEND", "EAPI", "IDEPEND", "IUSE", "KEYWORDS", "LICENSE", "PDEPEND",
    "PROPERTIES", "PROVIDES", "RDEPEND", "REQUIRES", "RESTRICT", "SLOT", "USE",
)  # fmt: skip
"""The keys of a package's own metadata that an entry repeats for Portage's dependency resolver.  Each is compared with the
package before it is placed (P9.8)."""


def file_name(cpv: Cpv, file: Sha256) -> str:
    """The name of a package file, for all who publish, list or fetch it: made from CPV and SHA-256 only (P7.3, P10.4)."""
    return f"{cpv.pf}-{file[:20]}.gpkg.tar"


@dataclass(frozen=True, slots=True)
class Entry:
    """One package that the server lists.

    `file` (SHA-256), `sha1` and `size` (bytes) are those of the package file, `info_hash` of its torrent, `bundle` the SHA-256 of its vote
    bundle.  `level` is what the server says; the client derives it again.  `serial` grows with every new listing.  `metadata`
    holds some of :data:`METADATA_KEYS`; a value is one line.
    """

    cpv: Cpv
    repository: RepositoryName
    build_key: BuildKey
    contents: ContentsDigest
    level: Level
    file: Sha256
    sha1: Sha1
    size: int
    info_hash: InfoHash
    bundle: Sha256
    serial: int
    metadata: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where Portage keeps the file below its cache: made from CPV and SHA-256 only (P7.3)."""
        return f"{self.cpv.category}/{self.name}"

    @property
    def name(self) -> str:
        """The file's name: the last component of `path`, and the name in its torrent."""
        return file_name(self.cpv, self.file)

    def as_json(self) -> dict[str, object]:
        """The entry as it stands in a page."""
        return {
            "buildKey": self.build_key,
            "bundle": self.bundle,
            "contents": self.contents,
            "cpv": self.cpv,
            "file": self.file,
            "infoHash": self.info_hash,
            "level": int(self.level),
            "metadata": dict(self.metadata),
            "repository": self.repository,
            "serial": self.serial,
            "sha1": self.sha1,
            "size": self.size,
        }


def encode_page(channel: Channel, entries: tuple[Entry, ...]) -> bytes:
    """The canonical index page of one category."""
    return canonical({"_type": PAGE, "channel": channel, "entries": [entry.as_json() for entry in entries]})


def read_page(data: bytes, channel: Channel, category: str) -> tuple[Entry, ...]:
    """Read the page of `category`.  Raises DecodeError, and RefusedError (P7.2) for an entry of another category."""
    fields = decode(data, f"index of {category}", MOST_PAGE)
    with fields.reading():
        fields.exactly("_type", PAGE)
        fields.exactly("channel", channel)
        entries = tuple(_read_entry(one) for one in fields.many("entries", MOST_ENTRIES))
    for entry in entries:
        if entry.cpv.category != category:
            raise RefusedError("P7.2", f"index of {category}", f"it lists {entry.cpv}")
    if len({entry.path for entry in entries}) != len(entries):
        raise RefusedError("P7.2", f"index of {category}", "it lists one file twice")
    return entries


def _read_entry(fields: Fields) -> Entry:
    with fields.reading():
        metadata = fields.mapping("metadata", _line, len(METADATA_KEYS))
        for name in metadata:
            if name not in METADATA_KEYS:
                fields.refuse(f"unknown metadata key {name!r}")
        return Entry(
            cpv=fields.of("cpv", Cpv),
            repository=fields.of("repository", RepositoryName),
            build_key=fields.of("buildKey", BuildKey),
            contents=fields.of("contents", ContentsDigest),
            level=Level(fields.number("level", 1, 6)),
            file=fields.of("file", Sha256),
            sha1=fields.of("sha1", Sha1),
            size=fields.number("size", 1, MOST_FILE),
            info_hash=fields.of("infoHash", InfoHash),
            bundle=fields.of("bundle", Sha256),
            serial=fields.number("serial", 1, MOST_SERIAL),
            metadata=metadata,
        )


def _line(text: str) -> str:
    """One line of printable characters, so that it cannot become two headers of the `Packages` text.  Raises ValueError."""
    if not text.isprintable():
        raise ValueError("not one printable line")
    return text


@dataclass(frozen=True, slots=True)
class Bundle:
    """The votes on one build key and contents digest, and the certificates that untrusted voters need."""

    votes: tuple[SignedVote, ...]
    certificates: tuple[SignedCertificate, ...]

    def encode(self) -> bytes:
        """The canonical bundle; its SHA-256 is its name."""
        return canonical(
            {
                "_type": BUNDLE,
                "certificates": [one.envelope.data.decode("ascii") for one in self.certificates],
                "votes": [one.envelope.data.decode("ascii") for one in self.votes],
            }
        )


def read_bundle(data: bytes) -> Bundle:
    """Read a vote bundle; every signature in it is checked (P9.3).  Raises DecodeError or RefusedError."""
    fields = decode(data, "vote bundle", MOST_BUNDLE)
    with fields.reading():
        fields.exactly("_type", BUNDLE)
        certificates = fields.texts("certificates", str.encode, MOST_VOTES, MOST_ENVELOPE)
        votes = fields.texts("votes", str.encode, MOST_VOTES, MOST_ENVELOPE)
    return Bundle(tuple(map(read_vote, votes)), tuple(map(read_certificate, certificates)))
