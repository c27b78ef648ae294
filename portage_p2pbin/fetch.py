"""Fetch one package (P9): the gatekeeper's decision, in the ten steps of the protocol.

Runs as root, or as whoever runs emerge, without network.  Everything that it looks at was written by somebody unknown: the index by
the server, the votes by contributors, the file by peers.  Nothing is believed that does not follow from the signatures of the roster
that this user's own trust anchor vouches for.  What an attacker reaches is that a package is refused, and Portage compiles it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.checks import (
    FileDigests,
    check_bundle,
    check_clean,
    check_contents,
    check_file,
    check_level,
    check_named,
    check_prefix,
    read_votes,
)
from portage_p2pbin.kernel.consistency import check_definition, check_entry
from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, UnavailableError
from portage_p2pbin.kernel.index import MOST_BUNDLE, Bundle, Entry, read_page
from portage_p2pbin.kernel.model import Channel, Cpv, InfoHash, Level, Sha256
from portage_p2pbin.kernel.roster import Roster, Rulings
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.net.network import Finished
from portage_p2pbin.refusals import UNAVAILABLE_FOR, Refusal, Refusals

_PIECE = 1024 * 1024
_SAY_EVERY = 5.0
"""Seconds between two lines about a slow download."""

_LASTING_STEPS = (3, 4, 8)
"""After a refusal here the same bytes will be refused again; after one elsewhere the next peer may send the right ones."""


class Network(Protocol):
    """What is needed of :class:`portage_p2pbin.net.network.Network`."""

    def get(self, url: str, most: int) -> bytes:
        """The body at `url`, at most `most` bytes."""

    def download(self, server: str, entry: Entry, on_progress: Callable[[int, int], None]) -> Finished:
        """The file of `entry`, whatever its bytes are."""

    def count(self, server: str, file: Sha256) -> None:
        """Tell the server that `file` was downloaded."""

    def forget(self, info_hash: InfoHash) -> None:
        """Have a file neither kept nor seeded any longer."""


class Repository(Protocol):
    """What is needed of :class:`portage_p2pbin.net.repository.VerifiedRepository`, refreshed."""

    def roster(self) -> Roster:
        """The verified roster."""

    def rulings(self) -> Rulings:
        """The verified rulings."""

    def categories(self, channel: Channel) -> list[str]:
        """The categories of a channel."""

    def page(self, channel: Channel, category: str) -> bytes:
        """The verified page of a category."""


class Thresholds(Protocol):
    """What is needed of :class:`portage_p2pbin.gentoo.settings.Thresholds`."""

    def for_(self, cpv: Cpv, slot: str, repository: str) -> Level:
        """The threshold for one package."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that Portage asks for: `path` is that of its entry; `server` is the base address of the channel's server."""

    server: str
    channel: Channel
    path: str


@dataclass(frozen=True, slots=True)
class Judge:
    """By what a package is judged on this machine.  `largest` is in bytes; `eprefix` is "" where there is no prefix."""

    thresholds: Thresholds
    refusals: Refusals
    eprefix: str
    largest: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Means:
    """What the work is done with: the network half, the reading half, and where to say how it goes, in lines."""

    network: Network
    read: Callable[[int], Reading]
    say: Callable[[str], None]


def fetch(wanted: Wanted, target: int, repository: Repository, judge: Judge, means: Means) -> Entry:
    """Put the package into the open, empty file `target`, or raise; only a file that passed every step may be placed.

    Raises RefusedError with the number of the step, and UnavailableError.  `target` then holds anything.  Step 9, the rename, is
    left to the caller, who chose the destination.
    """
    # 1. The entry, from the index that TUF has verified.
    entry = _find(wanted, repository)
    _check_not_refused(entry, judge)
    with _remembered(entry, judge, means):
        # 2. The votes.  (The live peers are asked for by the network half, in step 6.)
        with _step(2, entry):
            data = _get_bundle(wanted, entry, means.network)
        # 3. Each vote: schema, signature, and that it speaks of this build.
        with _step(3, entry):
            bundle = read_votes(data, wanted.channel, entry)
        # 4. The level, against the user's threshold.
        with _step(4, entry):
            _judge(entry, bundle, repository, judge, means)
        # 5. and 6. The listed torrent, and its file.  What the network half lets pass here, step 7 finds.
        with _step(6, entry):
            finished = means.network.download(wanted.server, entry, _Progress(entry, means.say).tell)
        _say_sources(finished, means.say)
        # 7. A copy of our own, hashed while it is made.
        with _step(7, entry):
            _copy(finished, target, entry)
        # 8. What is inside.
        with _step(8, entry):
            _check_inside(means.read(target), entry, bundle, judge)
        # 9. On disk, before the caller gives it its name.
        os.fsync(target)
    # 10. Count it; the network half goes on seeding it if the user allows that.
    with suppress(P2pbinError):
        means.network.count(wanted.server, entry.file)
    return entry


@contextmanager
def _step(number: int, entry: Entry) -> Iterator[None]:
    """Give every refusal the number of the step that it happened in, and every failure the package's name."""
    try:
        yield
    except RefusedError as error:
        # 5 is a part of 6.  Any other number is the word of the server or of the network half, whose steps are not ours.
        if error.rule in (f"P9.{number}", "P9.5"):
            raise RefusedError(error.rule, entry.cpv, error.reason) from error
        raise RefusedError(f"P9.{number}", entry.cpv, f"{error.what}: {error.reason} ({error.rule})") from error
    except UnavailableError as error:
        reason = error.reason if error.what == entry.name else f"{error.what}: {error.reason}"
        raise UnavailableError(entry.cpv, f"{reason} (P9.{number})") from error


@contextmanager
def _remembered(entry: Entry, judge: Judge, means: Means) -> Iterator[None]:
    """Leave what fails out of the index: for good if the file is bad, else for an hour."""
    try:
        yield
    except RefusedError as error:
        lasting = error.rule in {f"P9.{step}" for step in _LASTING_STEPS}
        judge.refusals.add(_refusal(entry, error.rule, error.reason, judge.now, lasting=lasting), judge.now)
        with suppress(P2pbinError):
            means.network.forget(entry.info_hash)
        raise
    except UnavailableError as error:
        judge.refusals.add(_refusal(entry, "P9.6", error.reason, judge.now, lasting=False), judge.now)
        raise


def _refusal(entry: Entry, rule: str, reason: str, now: datetime, *, lasting: bool) -> Refusal:
    return Refusal(entry.file, entry.cpv, rule, reason, None if lasting else now + UNAVAILABLE_FOR)


def _find(wanted: Wanted, repository: Repository) -> Entry:
    category = wanted.path.partition("/")[0]
    if category in repository.categories(wanted.channel):
        for entry in read_page(repository.page(wanted.channel, category), wanted.channel, category):
            if entry.path == wanted.path:
                return entry
    raise UnavailableError(wanted.path, "the index does not list it, or no longer: run emerge again")


def _check_not_refused(entry: Entry, judge: Judge) -> None:
    """A file that was found bad is not downloaded again; one that was merely not to be had may be."""
    for one in judge.refusals.read(judge.now):
        if one.file == entry.file and one.until is None:
            raise RefusedError(one.rule, entry.cpv, f"as before: {one.reason}. To try again: p2pbin forget {entry.cpv}")
    if entry.size > judge.largest:
        raise UnavailableError(entry.cpv, f"it has {entry.size} bytes; [limits] package in client.toml allows {judge.largest}")


def _get_bundle(wanted: Wanted, entry: Entry, network: Network) -> bytes:
    data = network.get(f"{wanted.server}/bundles/{entry.bundle}", MOST_BUNDLE)
    check_bundle(data, entry)
    return data


def _judge(entry: Entry, bundle: Bundle, repository: Repository, judge: Judge, means: Means) -> None:
    electorate = Electorate(repository.roster(), repository.rulings(), judge.now)
    found = electorate.judge(entry.build_key, entry.contents, bundle.votes, bundle.certificates)
    threshold = judge.thresholds.for_(entry.cpv, entry.metadata.get("SLOT", ""), entry.repository)
    level = check_level(found, entry, threshold)
    check_named(found, entry, entry.file)
    names = ", ".join(sorted({f"{voice.operator} ({voice.role.value})" for voice in found.voices}))
    means.say(f">>> {entry.cpv}: trust level {level:d}, built by {names}")


def _copy(finished: Finished, target: int, entry: Entry) -> None:
    """P9.7.  The descriptor came from the network half: it may change under our hands, so only what we hashed is used."""
    os.ftruncate(target, 0)
    with os.fdopen(finished.file, "rb", buffering=0) as source:
        source.seek(0)
        check_file(FileDigests.of(_copied(source, target, entry.size + 1)), entry)


def _copied(source: BinaryIO, target: int, most: int) -> Iterator[bytes]:
    """Copy what is in `source`, at most `most` bytes, to the end of `target`; give each piece when it is there."""
    while most and (piece := source.read(min(_PIECE, most))):
        most -= len(piece)
        _write(target, piece)
        yield piece


def _write(file: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(file, piece) :]


def _check_inside(reading: Reading, entry: Entry, bundle: Bundle, judge: Judge) -> None:
    """P9.8."""
    check_contents(reading, entry)
    check_clean(reading, entry)
    check_entry(entry.cpv, entry.metadata, reading.metadata)
    definition = bundle.votes[0].vote.definition
    check_definition(definition, reading.metadata, Sha256(reading.ebuild_sha256))
    check_prefix(definition, entry, judge.eprefix)


class _Progress:
    """Says how far a download is: once in every tenth of it, and at least every few seconds."""

    def __init__(self, entry: Entry, say: Callable[[str], None]) -> None:
        self._entry = entry
        self._say = say
        self._percent = 0
        self._said = time.monotonic()
        say(f">>> {entry.cpv}: {entry.size} bytes over BitTorrent")

    def tell(self, done: int, peers: int) -> None:
        """Called several times a second with bytes so far and the number of peers."""
        percent = 100 * done // self._entry.size
        if percent >= self._percent + 10 or time.monotonic() > self._said + _SAY_EVERY:
            self._percent, self._said = percent, time.monotonic()
            self._say(f" * {percent:3d} %, {done} bytes, {peers} {'peer' if peers == 1 else 'peers'}")


def _say_sources(finished: Finished, say: Callable[[str], None]) -> None:
    """From whom how many bytes came."""
    for address, received in sorted(finished.peers.items()):
        say(f" * {received} bytes from peer {address}")
    for name, received in (("the origin", finished.origin), ("plain HTTP, since no peer had it", finished.http)):
        if received:
            say(f" * {received} bytes from {name}")
    for address in finished.banned:
        say(f" * {address} sent pieces that do not belong to the file, and was not asked again")
    if not (finished.peers or finished.origin or finished.http):
        say(" * it was on this machine already")
    say(f" * finished in {finished.seconds:.2f} seconds; {finished.origin} bytes from the origin")
