"""Share a package that this machine has built: one vote, and the file if nobody has it yet (P10).

What can be published is decided by records that the hook wrote when a source merge ended; whoever can write there is root
already.  A server's answers can keep a package from being shared or waste work, and nothing else: what is voted on is what was
built here, and what is sent is the cleaned package only.

Each publication has a folder of its own, whose files say how far it is: `package` (cleaned), `vote`, `done`.  Each is written
durably when its step is finished, so the next call goes on where the last one was stopped, with the same vote.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin import durable
from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.sandbox import clean_sandboxed, read_sandboxed
from portage_p2pbin.gentoo.record import Record
from portage_p2pbin.gentoo.sharing import check_files, check_identity, check_name
from portage_p2pbin.kernel.consistency import check_definition
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE, public_key
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, Channel, ContentsDigest, Level, Sha256
from portage_p2pbin.kernel.statements import SignedVote, Vote, read_vote, sign_vote
from portage_p2pbin.kernel.torrent import Torrent, make_torrent, piece_size
from portage_p2pbin.net.network import HalfStatus
from portage_p2pbin.net.trust_server import OfferState, TrustServer

DONE = "done"

PATIENCE = 600.0
"""Seconds that the origin may take to begin: it takes in one package after the other."""

POLL = 1.0
"""Seconds between two questions how far the origin is."""


SLOWEST = 16 * 1024
"""Bytes a second with which an origin has to take a file, on top of the patience that it has anyway."""

_PIECE = 1024 * 1024


class Seeder(Protocol):
    """What publishing needs of the network half.  Both raise UnavailableError."""

    def status(self) -> HalfStatus:
        """Among other things, the port on which this machine's peers listen."""

    def seed(self, torrent: Torrent, file: int, connect: Address | None) -> None:
        """Seed a copy of the open `file`, and connect out to the peer at `connect`."""


@dataclass(frozen=True, slots=True)
class SharingRules:
    """What this user keeps back (P10.2): packages that match `exclude`, and what names this `host`."""

    exclude: tuple[str, ...]
    host: str

    def check(self, record: Record) -> None:
        """Refuse (P10.2) what may not be shared, as far as that can be seen without opening the package."""
        record.check_may_be_shared()
        check_name(record.definition, self.exclude)
        check_identity(record.definition, self.host)


class Outcome(Enum):
    """What became of a publication."""

    STORED = "the server has taken the file"
    VOTED = "the server has the vote and needs no other file"
    BEFORE = "it was published before"


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome for one build; `level` and `reason` are what the server said to the vote, if it was asked now."""

    outcome: Outcome
    vote: SignedVote
    level: Level | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes for one machine in one channel.

    `folder` is where publications are kept; `patience` is how many seconds the origin may take to begin; `tell` gets a few words for
    each step that takes time.
    """

    folder: Path
    channel: Channel
    server: TrustServer
    seeder: Seeder
    key: Ed25519PrivateKey
    rules: SharingRules
    patience: float
    tell: Callable[[str], None]

    def publish(self, record: Record) -> Published:
        """Publish one recorded build, or go on with it (P10.6); publishing it again changes nothing.

        Raises RefusedError with the rule that forbids it, here or at the server, and UnavailableError.
        """
        folder = publication(self.folder, self.server.name, self.channel, record)
        package = folder / "package"
        if is_done(folder) and _voted(folder).signer == public_key(self.key):
            package.unlink(missing_ok=True)
            return Published(Outcome.BEFORE, _voted(folder))
        # P10.2 May it be shared?
        self.rules.check(record)
        # P10.1, P10.3 The recorded file and no other, cleaned.
        folder.mkdir(parents=True, exist_ok=True)
        if not package.exists():
            self.tell("cleaning")
            _clean(record, package)
        # P3.1 What it holds, signed.
        vote = self._vote(folder, package, record)
        # P10.5 Vote, then offer.
        taken = self.server.vote(vote)
        outcome = self._offer(package, vote)
        durable.write(folder / DONE, b"")
        package.unlink()
        return Published(outcome, vote, taken.level, taken.reason)

    def _vote(self, folder: Path, package: Path, record: Record) -> SignedVote:
        """The vote on the cleaned package, made once; only a new machine key signs it again."""
        if (folder / "vote").exists():
            vote = _voted(folder)
            if vote.signer == public_key(self.key):
                return vote
            said = vote.vote
        else:
            self.tell("hashing the contents")
            said = self._look(package, record)
        vote = sign_vote(said, self.key)
        durable.write(folder / "vote", vote.envelope.data)
        return vote

    def _look(self, package: Path, record: Record) -> Vote:
        """What can be said of the cleaned package: its contents digest, found by the reading half, and its own SHA-256."""
        with package.open("rb") as file:
            reading = read_sandboxed(file.fileno())
            digest = _sha256(file)
        _check(reading, record)
        contents = ContentsDigest(reading.digest)
        return Vote(self.channel, record.definition, contents, digest, record.started, record.finished)

    def _offer(self, package: Path, vote: SignedVote) -> Outcome:
        """P10.4, P10.5: offer the file, and if it is wanted let the origin have it."""
        with package.open("rb") as file:
            torrent = _torrent(vote.vote, file)
            offer = self.server.offer(vote.envelope.digest, torrent.size, torrent.data, self.seeder.status().port, self.key)
            if not offer.wanted:
                return Outcome.VOTED
            self.tell(f"sending {torrent.size} bytes to the origin")
            self.seeder.seed(torrent, file.fileno(), offer.origin)
        self._wait(torrent)
        return Outcome.STORED

    def _wait(self, torrent: Torrent) -> None:
        """Wait until the origin has taken the file and has found in it what we voted for."""
        patience = self.patience + torrent.size / SLOWEST
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            progress = self.server.offer_progress(torrent.info_hash)
            if progress.state is OfferState.STORED:
                return
            if progress.state is OfferState.REFUSED:
                raise RefusedError("P10.5", torrent.name, f"the server has looked into the file: {progress.reason}")
            time.sleep(POLL)
        raise UnavailableError(torrent.name, f"the origin has not taken it within {patience:.0f} seconds; publish it again to go on")


def publication(root: Path, server: str, channel: Channel, record: Record) -> Path:
    """The folder below `root` of what is known of publishing one recorded build."""
    return root / server / channel / record.file


def is_done(folder: Path) -> bool:
    """Is the publication in `folder` at its end?"""
    return (folder / DONE).exists()


def _voted(folder: Path) -> SignedVote:
    with (folder / "vote").open("rb") as file:
        return read_vote(file.read(MOST_ENVELOPE + 1))


def _clean(record: Record, target: Path) -> None:
    """Put the cleaned form of the recorded file at `target`.  Refuses (P10.1) a file that is not the recorded one any more."""
    partial = target.with_name("partial")
    try:
        source = record.path.open("rb")
    except FileNotFoundError as error:
        raise RefusedError("P10.1", str(record.path), "the package file is gone; build it again") from error
    with source, partial.open("w+b") as cleaned:
        if _sha256(source) != record.file:
            raise RefusedError("P10.1", str(record.path), "it is not the file that was built: its SHA-256 is another one")
        clean_sandboxed(source.fileno(), cleaned, prefix=record.definition.request.cpv.pf)
        cleaned.flush()
        os.fsync(cleaned.fileno())
    durable.place(partial, target)


def _check(reading: Reading, record: Record) -> None:
    """Refuse what the server and every client would refuse (P2.5, P9.8), and files that nobody wants to share (P10.2)."""
    if reading.droppings:
        raise RefusedError("P2.5", record.definition.request.cpv, f"the cleaned package still holds {', '.join(reading.droppings)}")
    check_definition(record.definition, reading.metadata, Sha256(reading.ebuild_sha256))
    check_files(record.definition, _files(reading.manifest))


def _files(manifest: bytes) -> Iterator[str]:
    """The paths of the image in a manifest."""
    for line in manifest.splitlines():
        path = line.partition(b" ")[0]
        if path.startswith(b"./image/"):
            yield path.removeprefix(b"./image").decode("ascii")


def _torrent(vote: Vote, file: BinaryIO) -> Torrent:
    """The one torrent that this file has (P10.4)."""
    size = os.fstat(file.fileno()).st_size
    if vote.file is None:
        raise RefusedError("P10.5", str(vote.cpv), "its vote names no file")
    return make_torrent(file_name(vote.cpv, vote.file), iter(lambda: file.read(piece_size(size)), b""))


def _sha256(file: BinaryIO) -> Sha256:
    """SHA-256 of the whole file."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return Sha256(digest.hexdigest())
