"""The origin: takes in offered packages, reads them, and hands out those that are listed (P10.5).

A publisher chooses every byte that it sends.  Nothing is kept before it is shown that these are the bytes that the vote names, that
they contain what the vote says, and that cleaning would change nothing in them; and nothing is handed out before it is listed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from p2pbin_server import offers
from p2pbin_server.app import State
from p2pbin_server.differences import manifest_path
from p2pbin_server.ledger import build_of, seconds
from p2pbin_server.reader import Reader
from p2pbin_server.settings import spelt
from p2pbin_server.store.rows import Offer, OfferState, StoredFile
from p2pbin_server.web.api import Service
from portage_p2pbin import durable
from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.kernel.consistency import check_definition
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import METADATA_KEYS
from portage_p2pbin.kernel.model import InfoHash, PublicKey, Sha1, Sha256
from portage_p2pbin.kernel.statements import SignedVote
from portage_p2pbin.kernel.torrent import Torrent, read_torrent
from portage_p2pbin.kernel.wire import MOST_TEXT
from portage_p2pbin.net.attempt import OnProgress, Sources
from portage_p2pbin.net.swarm import Swarm, SwarmSettings, make_torrent

INTAKES = 4
"""Packages taken in at the same time, each from another provider."""

STRANGERS = 2
"""Of these, those of providers who are not on the roster: anybody can register a key, offer something and send nothing."""

SLOWEST = 16 * 1024
"""Bytes a second that a provider must send on the whole; an upload of 1 Mbit/s is eight times as fast."""

LOOK = 10.0
"""Seconds after which the origin looks for work without being woken."""

_PIECE = 1 << 20


class Origin(threading.Thread):
    """Runs until `stop` is called."""

    def __init__(self, service: Service, state: State, reader: Reader) -> None:
        """Raises UnavailableError if its address cannot be listened on."""
        super().__init__(name="origin")
        self._service = service
        self._state = state
        self._reader = reader
        settings = service.settings.origin
        swarm = SwarmSettings(listen=spelt(settings.listen), upload=settings.upload, stall=float(settings.patience))
        self._swarm = Swarm(state.intake, swarm)
        self._closing = threading.Event()
        self._seeded: set[InfoHash] = set()

    def stop(self) -> None:
        """Give up what is being taken in, and end."""
        self._closing.set()
        self._service.offered.set()
        self.join()

    def run(self) -> None:
        """See the class."""
        running: dict[PublicKey, Future[None]] = {}
        with self._swarm, ThreadPoolExecutor(INTAKES, "intake") as pool:
            while not self._closing.is_set():
                self._service.offered.clear()
                self.seed_listed()
                running = {provider: task for provider, task in running.items() if not _is_done(task)}
                with self._service.store.reading() as transaction:
                    waiting = transaction.open_offers()
                known = self._service.voters.at(self._service.clock()).roster.by_key().keys()
                for offer in next_offers(waiting, running.keys(), known):
                    running[offer.provider] = pool.submit(self._take_in, offer)
                self._service.offered.wait(LOOK)

    def seed_listed(self) -> None:
        """Hand out what is listed now, and nothing else."""
        with self._service.store.reading() as transaction:
            listed = {one.info_hash: one.file for one in transaction.listings()}
        for info_hash in self._seeded - listed.keys():
            self._swarm.forget(info_hash)
        for info_hash in listed.keys() - self._seeded:
            self._swarm.seed(read_torrent((self._state.torrents / info_hash).read_bytes()), self._state.files / listed[info_hash])
        self._seeded = set(listed)

    def _take_in(self, offer: Offer) -> None:
        """Fetch one offered file, check it, and keep it or not."""
        state, reason = OfferState.STORED, ""
        try:
            self._fetch_and_keep(offer)
        except (RefusedError, UnavailableError) as error:
            state, reason = OfferState.REFUSED, str(error)
        except OSError as error:
            state, reason = OfferState.REFUSED, f"the server could not store it: {error.strerror}"
            print(f"p2pbin-server: {offer.info_hash}: {error}", file=sys.stderr, flush=True)
        if self._closing.is_set() and state is OfferState.REFUSED:
            return  # taken up again at the next start
        self._swarm.forget(offer.info_hash)
        with self._service.store.writing() as transaction:
            transaction.set_offer(offer.info_hash, state, reason)
        self._service.changed.set()
        self._service.offered.set()

    def _fetch_and_keep(self, offer: Offer) -> None:
        torrent = read_torrent(offer.torrent)
        with self._service.store.reading() as transaction:
            signed = transaction.vote(offer.vote)
            kept = transaction.file_by(offer.info_hash)
        if kept is not None and kept.provider == offer.provider:
            return  # the server was stopped before it said so
        if signed is None:  # guard: twice, since offers.py has looked for it
            raise RefusedError("P10.5", f"offer of {torrent.name}", "its vote is not here")
        sources = Sources([(offer.address, offer.port)])
        patience = float(self._service.settings.origin.patience)
        download = self._swarm.download(torrent, lambda: sources, self._watch(torrent, patience), patience)
        with self._service.store.writing() as transaction:
            transaction.set_offer(offer.info_hash, OfferState.CHECKING)
        with download.file.open("rb") as file:
            checked = check_package(download.file, file, torrent, signed, self._reader)
            self._keep(download.file, file, offer, signed, checked)

    def _watch(self, torrent: Torrent, patience: float) -> OnProgress:
        """What ends a download: that the server is being stopped, or that it lasts too long, however steadily something comes."""
        deadline = time.monotonic() + patience + torrent.size / SLOWEST

        def watch(_done: int, _peers: int) -> None:
            if self._closing.is_set():
                raise UnavailableError("The origin", "the server is being stopped")
            if time.monotonic() > deadline:
                raise UnavailableError(torrent.name, f"it came with less than {SLOWEST} bytes a second")

        return watch

    def _keep(self, download: Path, file: BinaryIO, offer: Offer, signed: SignedVote, checked: Checked) -> None:
        """Store a package that was checked, if none has come in meanwhile; its manifest in any case, for clashes (P6.5)."""
        build, now = build_of(signed), self._service.clock()
        manifest = manifest_path(self._state.manifests, signed.vote.contents)
        if not manifest.exists():
            durable.write(manifest, checked.reading.manifest)
        with self._service.store.writing() as transaction:
            if transaction.file(checked.sha256) is not None:
                return
            if not offers.is_missing(transaction, self._service.voters.at(now), signed, self._service.rules):
                return
            os.fsync(file.fileno())
            durable.place(download, self._state.files / checked.sha256)
            durable.write(self._state.torrents / offer.info_hash, offer.torrent)
            digests = checked.sha256, checked.sha1, offer.size, offer.info_hash
            stored = StoredFile(*digests, *build, signed.vote.contents, checked.metadata, offer.provider, offer.address, seconds(now))
            transaction.add_file(stored)


def next_offers(waiting: Iterable[Offer], running: Set[PublicKey], known: Set[PublicKey]) -> list[Offer]:
    """Which of the `waiting` offers to take in besides those of `running`: providers who are `known` first, one offer of each."""
    chosen: dict[PublicKey, Offer] = {}
    for offer in sorted(waiting, key=lambda one: one.provider not in known):
        busy = running | chosen.keys()
        has_room = len(busy) < INTAKES and (offer.provider in known or len(busy - known) < STRANGERS)
        if has_room and offer.provider not in busy:
            chosen[offer.provider] = offer
    return list(chosen.values())


def _is_done(task: Future[None]) -> bool:
    """Has it ended?  A bug in it is shown, and the offer is taken up again later."""
    if task.done() and (error := task.exception()) is not None:
        traceback.print_exception(error)
    return task.done()


@dataclass(frozen=True, slots=True)
class Checked:
    """A package that is what its vote says; `metadata` is the JSON text of what its entry repeats."""

    sha256: Sha256
    sha1: Sha1
    reading: Reading
    metadata: str


def check_package(path: Path, file: BinaryIO, torrent: Torrent, signed: SignedVote, reader: Reader) -> Checked:
    """Refuse the package in `file`, open at `path`, unless it is what `signed` says: before anything is listed (P10.5)."""
    vote, what = signed.vote, f"the file of {signed.vote.cpv}"
    # 1. The bytes that the vote names (P9.7), and the torrent that these bytes have (P10.4).
    sha256, sha1 = _hashes(file)
    if sha256 != vote.file:
        raise RefusedError("P9.7", what, f"its SHA-256 is {sha256}, not what was voted")
    if make_torrent(path, torrent.name).info_hash != torrent.info_hash:
        raise RefusedError("P10.4", what, "its torrent is not the one that was offered")
    # 2. Contents as voted, and nothing in it that would not be hashed (P2.5, P9.8).
    reading = reader.read(file.fileno())
    if reading.digest != vote.contents:
        raise RefusedError("P9.8", what, f"its contents digest is {reading.digest}, not {vote.contents}")
    if reading.droppings:
        raise RefusedError("P2.5", what, f"it was not cleaned: {reading.droppings[0]}")
    # 3. The package says of itself what its definition says (P9.8).
    check_definition(vote.definition, reading.metadata, Sha256(reading.ebuild_sha256))
    return Checked(sha256, sha1, reading, _listed_metadata(reading, what))


def _hashes(file: BinaryIO) -> tuple[Sha256, Sha1]:
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    file.seek(0)
    while piece := file.read(_PIECE):
        sha256.update(piece)
        sha1.update(piece)
    return Sha256(sha256.hexdigest()), Sha1(sha1.hexdigest())


def _listed_metadata(reading: Reading, what: str) -> str:
    """What an entry repeats of the package's own metadata, each on one line; as kernel.consistency.check_entry compares it."""
    found = {name: " ".join(reading.metadata[name].split()) for name in METADATA_KEYS if name in reading.metadata}
    for name, value in found.items():
        if not value.isprintable() or len(value) > MOST_TEXT:
            raise RefusedError("P9.8", what, f"{name} is not one printable line")
    return json.dumps(found, sort_keys=True)
