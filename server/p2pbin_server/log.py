"""The log: a leaf for whatever is signed, and the files that show it to everybody (P8).

A leaf becomes part of the log in the same transaction that stores its body (:func:`append`); that is the commit point.  Everything
below `directory` follows from those rows, and is made by the one function :meth:`PublishedLog.publish`, after a crash as on every other
day: first tiles, then, when they are on disk, the checkpoint.

Whoever controls this process and the log's key can leave things out, date a leaf wrongly, though never before an earlier one without that
being seen, and show two people two logs, which is proof against it.  It cannot exchange a body for another.  Rows that changed under a
checkpoint are refused here, so that a damaged database does not become a fork.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin import durable
from portage_p2pbin.kernel import merkle, tiles
from portage_p2pbin.kernel.checkpoint import MOST_NOTE, Head, KeyKind, VerifierKey, Witnesses, open_checkpoint, sign_checkpoint
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.leaf import Kind, Leaf, Place, Salt, commit
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.tiles import HEIGHT, MOST_TILE, WIDTH, Tile, Tree

STEP = WIDTH * WIDTH
"""Leaves between two checkpoints at most, so that a first start with millions of rows needs little memory."""

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class LeafRow:
    """A leaf as the store keeps it.  `body` and `salt` are None once the body was erased; the leaf stays what it was."""

    epoch: int
    index: int
    kind: Kind
    time: datetime
    commitment: Sha256
    body: Sha256 | None
    salt: Salt | None

    @property
    def entry(self) -> bytes:
        """The entry of the log."""
        return Leaf(self.kind, self.time, self.commitment).encode()

    @property
    def place(self) -> Place | None:
        """Where the body stands; None once it was erased."""
        return None if self.salt is None else Place(self.epoch, self.index, self.time, self.salt)


class Rows(Protocol):
    """The leaves within one transaction of the store."""

    def leaf_of(self, kind: Kind, body: Sha256) -> LeafRow | None:
        """The leaf of a body that was not erased, in any epoch."""

    def last_leaf(self, epoch: int) -> LeafRow | None:
        """The leaf with the highest index."""

    def leaves(self, epoch: int, start: int, stop: int) -> Sequence[LeafRow]:
        """The leaves from index `start` to before `stop`, in order."""

    def add_leaf(self, row: LeafRow) -> None:
        """Store a leaf.  Two with one epoch and index, or with one kind and body, are an error of the database."""


def append(rows: Rows, epoch: int, kind: Kind, body: Sha256, now: datetime) -> Place:
    """Log the body with the SHA-256 `body`, in the transaction that stores it; the same body twice has one place.

    Must be called by the store's only writer.  The time of a leaf is never before that of an earlier one, whatever the clock says.
    """
    known = rows.leaf_of(kind, body)
    if known is not None and known.place is not None:
        return known.place
    last = rows.last_leaf(epoch)
    index, time = (0, now) if last is None else (last.index + 1, max(now, last.time))
    salt = Salt(secrets.token_hex(32))
    leaf = commit(kind, body, salt, time.replace(microsecond=0))
    rows.add_leaf(LeafRow(epoch, index, kind, leaf.time, leaf.commitment, body, salt))
    return Place(epoch, index, leaf.time, salt)


Cosign = Callable[[bytes, Tree], bytes]
"""`cosign(checkpoint, tree)` returns the checkpoint with the cosignatures that witnesses gave for it."""


class PublishedLog:
    """The files of one epoch in `directory`: what is to be served at /log/EPOCH/, and nothing else.  Several processes may publish."""

    def __init__(self, directory: Path, epoch: int, origin: str, key: Ed25519PrivateKey, witnesses: Witnesses) -> None:
        self._directory = directory
        self._epoch = epoch
        self._key = key
        self._verifier = VerifierKey.of(origin, KeyKind.LOG, key)
        self._witnesses = witnesses

    @property
    def verifier(self) -> VerifierKey:
        """The key that the roster has to name for this epoch."""
        return self._verifier

    def head(self) -> Head:
        """What the published checkpoint says; the empty tree before the first.

        Raises SettingsError if the checkpoint was not signed with our key.
        """
        note = self._note()
        if note is None:
            return Head(0, merkle.EMPTY)
        try:
            return open_checkpoint(note, self._verifier, Witnesses()).head
        except RefusedError as error:
            remedy = "Put the key of this epoch back. If it is lost, a new epoch of the log has to begin."
            raise SettingsError(f"The log in {self._directory} was published with another key: {error}", remedy) from error

    def tree(self) -> Tree:
        """The published tree, for proofs."""
        head = self.head()
        return Tree(head.size, head.root, self._read_tile)

    def file(self, path: str) -> Path | None:
        """The file to serve for `path` below /log/EPOCH/, if there is one.  `path` may be anything that somebody asked for."""
        if path != CHECKPOINT and not tiles.is_path(path):
            return None
        found = self._directory / path
        return found if found.is_file() else None

    def publish(self, rows: Rows, backed_up: int, cosign: Cosign) -> Head:
        """Publish the leaves that `rows` has, but no more than the first `backed_up`; returns what is published then.

        To be called with a view of the store in which the leaves are committed.  Raises SettingsError if the store has fewer leaves than
        were published or other ones, UnavailableError or RefusedError (P8.5) if too few witnesses cosign, and OSError if the disk fails;
        what was published before then stays as it was, and the next call does the rest.
        """
        durable.make_folder(self._directory)
        with self._changing():
            head = self.head()
            last = rows.last_leaf(self._epoch)
            size = 0 if last is None else last.index + 1
            if size < head.size:
                raise _lost(f"The store has {size} leaves of the log, but {head.size} were published")
            while head.size < min(size, backed_up):
                head = self._grow(rows, head, min(size, backed_up, head.size + STEP), cosign)
            if not self._is_witnessed():
                self._sign(head.size, cosign)
        return head

    def _grow(self, rows: Rows, old: Head, size: int, cosign: Cosign) -> Head:
        # 1. The leaves of the last tile that was not full, and all after it; those published before must be what they were.
        start = old.size - old.size % WIDTH
        entries = [row.entry for row in rows.leaves(self._epoch, start, size)]
        if len(entries) != size - start:
            raise _lost(f"The store lacks some of the leaves {start} to {size} of the log")
        before = Tree(old.size, old.root, self._read_tile)
        hashes = list(map(merkle.leaf_hash, entries))
        if hashes[: old.size - start] != [before.node(0, index) for index in range(start, old.size)]:
            raise _lost(f"Leaves of the log between {start} and {old.size} are not those that were published")
        # 2. Tiles and entries, on disk before anything names them.
        for tile, found in _grown(before, hashes, size):
            self._write(tile.path, b"".join(found))
            if tile.level == 0:
                at = tile.index * WIDTH - start
                self._write(tile.entries_path, tiles.pack(entries[at : at + tile.width]))
        # 3. The checkpoint.
        head = self._sign(size, cosign)
        # 4. Parts of tiles that are now full are not needed any more.
        for tile in tiles.grown(old.size, size):
            if tile.width == WIDTH:
                self._remove_parts(tile)
        return head

    def _sign(self, size: int, cosign: Cosign) -> Head:
        """Publish the checkpoint of the tiles on disk, once enough witnesses have seen it; the same check as a client's."""
        root = tiles.root_of(size, self._read_tile)
        note = sign_checkpoint(self._verifier.name, Head(size, root), self._key)
        note = cosign(note, Tree(size, root, self._read_tile))
        head = open_checkpoint(note, self._verifier, self._witnesses).head
        durable.write(self._directory / CHECKPOINT, note)
        return head

    def _is_witnessed(self) -> bool:
        """Is there a checkpoint, with the cosignatures that the roster now demands?"""
        note = self._note()
        try:
            return note is not None and bool(open_checkpoint(note, self._verifier, self._witnesses))
        except RefusedError:
            return False

    def _note(self) -> bytes | None:
        try:
            with (self._directory / CHECKPOINT).open("rb") as file:
                return file.read(MOST_NOTE + 1)
        except FileNotFoundError:
            return None

    def _read_tile(self, tile: Tile) -> bytes:
        try:
            with (self._directory / tile.path).open("rb") as file:
                return file.read(MOST_TILE + 1)
        except FileNotFoundError as error:
            raise _lost(f"The file {tile.path} of the log is missing") from error

    def _write(self, path: str, data: bytes) -> None:
        """Make a file that never changes again.  One that is there already, from a call that was cut short, has to be the same."""
        target = self._directory / path
        if target.exists():
            if target.read_bytes() != data:
                raise _lost(f"The file {path} of the log is not what the store says")
            return
        durable.make_folder(target.parent)
        durable.write(target, data)

    def _remove_parts(self, tile: Tile) -> None:
        for path in (tile.path, tile.entries_path) if tile.level == 0 else (tile.path,):
            parts = self._directory / f"{path}.p"
            if parts.exists():
                shutil.rmtree(parts)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One process at a time."""
        lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _grown(before: Tree, hashes: list[bytes], size: int) -> Iterator[tuple[Tile, list[bytes]]]:
    """The tiles that come with growing from `before` to `size` leaves.

    `hashes` are those of the leaves from the start of the last tile of level 0 that is not full in `before`.
    """
    found = {0: hashes}
    for tile in tiles.grown(before.size, size):
        at = tile.index * WIDTH - _last_tile(before, tile.level)
        part = found[tile.level][at : at + tile.width]
        if tile.width == WIDTH:
            above = found.setdefault(tile.level + 1, _partial(before, tile.level + 1))
            above.append(merkle.levels_above(part)[-1][0])
        yield tile, part


def _last_tile(tree: Tree, level: int) -> int:
    """The number of the first hash in the last tile of `level`, which is not full."""
    count = tree.size >> level * HEIGHT
    return count - count % WIDTH


def _partial(tree: Tree, level: int) -> list[bytes]:
    return [tree.node(level * HEIGHT, index) for index in range(_last_tile(tree, level), tree.size >> level * HEIGHT)]


def _lost(what: str) -> SettingsError:
    return SettingsError(
        what,
        "Stop the server. If its database is whole, move the folder of the log away: it is made again from the database. If the database"
        " was restored from a copy that is too old, have the people with the roster keys begin a new epoch of the log.",
    )
