"""The log as one machine sees it: its last checkpoint, that every later one goes on from it, and that a vote stands in it (P8.6 to P8.8).

`fetch` may bring anything from anybody; all of it is checked against what the log's key, which the roster names, has signed.  Whoever
answers in the server's place can withhold the newest leaves, and waste a bounded number of bytes.  Whoever holds the log's key can,
besides, show this machine another log than others see; where witnesses cosign, he needs a quorum of them too.  When he does so to a
machine that has seen the true one, that is a fork: both checkpoints are kept as evidence, and nothing is installed until the offline keys
have begun a new epoch.

Runs in the gatekeeper.  Nothing here opens a connection.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from portage_p2pbin import durable
from portage_p2pbin.kernel import merkle, tiles
from portage_p2pbin.kernel.checkpoint import MOST_NOTE, Checkpoint, Head, VerifierKey, Witnesses, open_checkpoint
from portage_p2pbin.kernel.epochs import Epochs
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.fork import MOST_FORK, Fork, read_fork
from portage_p2pbin.kernel.leaf import Kind, Place
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.tiles import MOST_TILE, Tile, Tree

Fetch = Callable[[str, int], bytes | None]
"""`fetch(path, most)` returns the body of `path` on the server (`log/1/checkpoint`), or None where there is no such file.

It stops reading beyond `most` bytes and raises RefusedError, and UnavailableError where nobody answers."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a machine keeps what it knows of the log: `state` must not be lost or be written by others, `cache` may be.

    Whoever can write to `state` can make this machine forget a fork or an earlier checkpoint, and nothing more.
    """

    state: Path
    cache: Path


class VerifiedLog:
    """The log whose keys and witnesses `epochs` names, out of the roster."""

    def __init__(self, epochs: Epochs, kept: Kept, fetch: Fetch) -> None:
        self._epochs = epochs
        self._kept = kept
        self._fetch = fetch
        self._trees: dict[tuple[int, Head], Tree] = {}

    def refresh(self) -> Head:
        """Follow the log to its newest checkpoint; returns what is known then.  To be called where the roster names a log.

        Raises UnavailableError if nobody answers, RefusedError (P8.2, P8.5) for what is no checkpoint of the log, (P8.6) for tiles that do
        not belong to it, and (P8.8) for a fork, now or earlier.  After a failure what was known before is still known.
        """
        number = self._epochs.current
        key = self._epochs.epoch(number).key
        with self._changing(number):
            self._refuse_forked(number)
            # P8.2, P8.5: signed by the key of the open epoch, and by k of n witnesses.
            shown = open_checkpoint(self._fetched(number, "checkpoint", MOST_NOTE), key, self._epochs.witnesses)
            kept = self._checkpoint(number, key)
            if kept is None:
                self._ask(number, shown.head, lambda tree: tree)
            elif shown.head.size >= kept.head.size:
                self._check_goes_on(number, key, kept, shown)
            else:
                # An older one, from a slow mirror or played again, must be how ours began; then it is news to nobody.
                self._check_goes_on(number, key, shown, kept)
                return kept.head
            if kept is None or shown.head != kept.head:
                durable.write(self._checkpoint_file(number), shown.note)
                self._forget_parts(number, shown.head)
        return shown.head

    def check(self, place: Place, kind: Kind, body: Sha256) -> None:
        """P8.7: the body with SHA-256 `body` stands in the log at `place`.

        Follows the log first if the place lies beyond what is known.  Raises as :meth:`refresh`, and RefusedError: P8.7 if something
        else stands there, P8.4 if there is no such epoch.
        """
        what = f"leaf {place.index} of epoch {place.epoch}"
        self._refuse_forked(self._epochs.current)
        head = self._known(place.epoch)
        if place.index >= head.size and place.epoch == self._epochs.current:
            head = self.refresh()
        if place.index >= head.size:
            raise RefusedError("P8.7", what, f"the log has {head.size} leaves")
        proof = self._ask(place.epoch, head, lambda tree: merkle.inclusion_proof(place.index, tree.size, tree.node))
        merkle.check_inclusion(place.leaf_hash(kind, body), place.index, head.size, proof, head.root)

    def forks(self) -> list[Fork]:
        """The forks that this machine has seen, in any epoch that the roster names.  Raises RefusedError if a file is damaged."""
        found = (self._fork(number) for number in range(1, self._epochs.current + 1))
        return [fork for fork in found if fork is not None]

    def _check_goes_on(self, number: int, key: VerifierKey, old: Checkpoint, new: Checkpoint) -> None:
        """P8.6: the tree of `new` began as the tree of `old`.  If the log has signed both and it did not, that is a fork (P8.8)."""
        if old.head == new.head:
            return
        path: list[bytes] = []
        if old.head.size < new.head.size:
            began = self._ask(number, new.head, lambda tree: merkle.root(old.head.size, tree.node))
            if began == old.head.root:
                return
            if old.head.size:
                path = self._ask(number, new.head, lambda tree: merkle.consistency_path(old.head.size, tree.size, tree.node))
        durable.write(self._fork_file(number), Fork(key, old, new, path).encode())
        self._refuse_forked(number)

    def _refuse_forked(self, number: int) -> None:
        """P8.8: while the roster goes on with an epoch that was forked, nothing is installed."""
        fork = self._fork(number)
        if fork is not None:
            raise RefusedError(
                "P8.8",
                f"log {fork.key.name}",
                f"it has shown two histories, of {fork.old.head.size} and {fork.new.head.size} leaves; the evidence is in"
                f" {self._fork_file(number)}. Send it to the people who hold the roster keys",
            )

    def _known(self, number: int) -> Head:
        """An epoch as far as it is known: the roster's word for one that has ended, our last checkpoint for the open one."""
        epoch = self._epochs.epoch(number)
        if epoch.end is not None:
            return epoch.end
        kept = self._checkpoint(number, epoch.key)
        return self.refresh() if kept is None else kept.head

    def _ask(self, number: int, head: Head, question: Callable[[Tree], T]) -> T:
        """The answer of the tree below `head`; asked a second time with tiles fetched anew, since those in the cache may be damaged or of
        another history.
        """
        try:
            return question(self._tree(number, head))
        except RefusedError:
            self._trees.pop((number, head), None)
            shutil.rmtree(self._folder(number), ignore_errors=True)
        return question(self._tree(number, head))

    def _tree(self, number: int, head: Head) -> Tree:
        found = self._trees.get((number, head))
        if found is None:
            found = self._trees[number, head] = Tree(head.size, head.root, partial(self._tile, number))
        return found

    def _tile(self, number: int, tile: Tile) -> bytes:
        """A tile out of the cache, or fetched into it; not checked yet."""
        cached = self._folder(number) / tile.path
        try:
            with cached.open("rb") as file:
                return file.read(MOST_TILE + 1)
        except FileNotFoundError:
            pass
        data = self._fetch(f"log/{number}/{tile.path}", MOST_TILE)
        if data is None:
            # The server may have dropped part of a tile that has become full.
            data = self._fetched(number, tile.full.path, MOST_TILE)[: tile.size]
        durable.make_folder(cached.parent)
        durable.write(cached, data)
        return data

    def _fetched(self, number: int, path: str, most: int) -> bytes:
        data = self._fetch(f"log/{number}/{path}", most)
        if data is None:
            raise UnavailableError("the log", f"the server has no {path} of epoch {number}")
        return data

    def _forget_parts(self, number: int, head: Head) -> None:
        """Delete cached parts of tiles that this head does not need, so that the cache has a bound: 33 bytes a leaf."""
        needed = {self._folder(number) / tile.path for tile in tiles.edge(head.size)}
        for path in self._folder(number).rglob("*.p/*"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def _checkpoint(self, number: int, key: VerifierKey) -> Checkpoint | None:
        """The last checkpoint that was accepted.  Whoever the witnesses were then, they have seen it."""
        try:
            note = self._checkpoint_file(number).read_bytes()
        except FileNotFoundError:
            return None
        return open_checkpoint(note, key, Witnesses())

    def _fork(self, number: int) -> Fork | None:
        try:
            with self._fork_file(number).open("rb") as file:
                return read_fork(file.read(MOST_FORK + 1))
        except FileNotFoundError:
            return None

    def _checkpoint_file(self, number: int) -> Path:
        return self._kept.state / f"{number}.checkpoint"

    def _fork_file(self, number: int) -> Path:
        return self._kept.state / f"{number}.fork.json"

    def _folder(self, number: int) -> Path:
        return self._kept.cache / str(number)

    @contextmanager
    def _changing(self, number: int) -> Iterator[None]:
        """One process at a time, so that of two checkpoints that arrive together the second is compared with the first."""
        durable.make_folder(self._kept.state)
        lock = os.open(self._kept.state / f".{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
