"""Consistent snapshots on disk: each edition is a snapshot, committed by replacing timestamp.json (P7.1).

All files but timestamp.json carry their version or digest in their name and do not change once somebody may have seen them.
What a crash leaves behind before timestamp.json was replaced is in no edition, and the next one writes over it.  Nothing is
verified here: who may bring in which metadata is decided in :mod:`p2pbin_server.repository`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from p2pbin_server.ceremonies import Lifetimes
from portage_p2pbin import durable

KEPT = timedelta(days=1)
"""For how long a file that was replaced is kept, for clients in the middle of a refresh."""


@dataclass(frozen=True, slots=True)
class Head:
    """What timestamp.json commits to: versions and expiry of timestamp and snapshot, and the other roles' metadata."""

    timestamp: int
    timestamp_expires: datetime
    snapshot: int
    snapshot_expires: datetime
    roles: Mapping[str, MetaFile]
    """By file name, such as `roster.json`."""


class Editions:
    """Editions in `directory`, which has metadata/ and targets/ to be served, and a lock file."""

    def __init__(self, directory: Path, signers: Mapping[str, CryptoSigner], lifetimes: Lifetimes) -> None:
        self._directory = directory
        self._metadata = directory / "metadata"
        self._targets = directory / "targets"
        self._signers = signers
        self._lifetimes = lifetimes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other processes from changing anything meanwhile."""
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def begun(self) -> bool:
        """Is there an edition?"""
        return (self._metadata / "timestamp.json").exists()

    def head(self) -> Head:
        """The edition that is in force.  Raises OSError if there is none."""
        timestamp = Metadata[Timestamp].from_bytes((self._metadata / "timestamp.json").read_bytes()).signed
        version = timestamp.snapshot_meta.version
        snapshot = Metadata[Snapshot].from_bytes((self._metadata / f"{version}.snapshot.json").read_bytes()).signed
        return Head(timestamp.version, timestamp.expires, version, snapshot.expires, snapshot.meta)

    def root(self) -> bytes:
        """The newest root."""
        return self._root_path(max(self._root_versions())).read_bytes()

    def add_root(self, version: int, data: bytes) -> None:
        """Lay the next root beside the earlier ones: clients see it at once."""
        self._metadata.mkdir(parents=True, exist_ok=True)
        durable.write(self._root_path(version), data)

    def metadata(self, role: str) -> bytes:
        """The metadata of a role that signs files."""
        return self._role_path(role, self.head().roles[f"{role}.json"].version).read_bytes()

    def target(self, file: TargetFile) -> bytes:
        """The bytes of a file that some role lists."""
        return self._target_path(file).read_bytes()

    def add_target(self, file: TargetFile, data: bytes) -> None:
        """Lay a file down; nobody sees it before the metadata that lists it is committed."""
        path = self._target_path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, data)

    def retire_target(self, file: TargetFile, now: datetime) -> None:
        """From `now` on the file is no longer listed; it stays for :data:`KEPT`."""
        _retire(self._target_path(file), now)

    def commit(self, roles: Mapping[str, bytes], now: datetime) -> None:
        """The next edition: `roles` have new metadata, all others stay as they are."""
        head = self.head() if self.begun() else None
        listed = dict(head.roles) if head else {}
        for role, data in roles.items():
            version = Metadata[Targets].from_bytes(data).signed.version
            if f"{role}.json" in listed:
                _retire(self._role_path(role, listed[f"{role}.json"].version), now)
            durable.write(self._role_path(role, version), data)
            listed[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
        number = head.snapshot + 1 if head else 1
        snapshot = Metadata(Snapshot(version=number, expires=now + self._lifetimes.snapshot, meta=listed))
        snapshot.sign(self._signers["snapshot"])
        data = snapshot.to_bytes()
        durable.write(self._role_path("snapshot", number), data)
        if head:
            _retire(self._role_path("snapshot", head.snapshot), now)
        self._stamp(head.timestamp + 1 if head else 1, MetaFile.from_data(number, data, ["sha256"]), now)

    def stamp(self, now: datetime) -> None:
        """Sign anew that the edition in force still is."""
        head = self.head()
        data = self._role_path("snapshot", head.snapshot).read_bytes()
        self._stamp(head.timestamp + 1, MetaFile.from_data(head.snapshot, data, ["sha256"]), now)

    def _stamp(self, version: int, snapshot: MetaFile, now: datetime) -> None:
        timestamp = Metadata(Timestamp(version=version, expires=now + self._lifetimes.timestamp, snapshot_meta=snapshot))
        timestamp.sign(self._signers["timestamp"])
        durable.write(self._metadata / "timestamp.json", timestamp.to_bytes())

    def prune(self, now: datetime) -> None:
        """Delete what has been in no edition for :data:`KEPT`.  Roots are kept for ever: clients go through all of them."""
        head = self.head()
        wanted = {self._metadata / "timestamp.json", self._role_path("snapshot", head.snapshot)}
        wanted |= {self._root_path(version) for version in self._root_versions()}
        for name, meta in head.roles.items():
            path = self._role_path(name.removesuffix(".json"), meta.version)
            wanted |= {path} | {self._target_path(file) for file in Metadata[Targets].from_bytes(path.read_bytes()).signed.targets.values()}
        for path in [*self._metadata.iterdir(), *self._targets.rglob("*")]:
            if path.is_file() and path not in wanted and path.stat().st_mtime < (now - KEPT).timestamp():
                path.unlink()

    def _root_versions(self) -> list[int]:
        return [int(path.name.partition(".")[0]) for path in self._metadata.glob("[0-9]*.root.json")]

    def _root_path(self, version: int) -> Path:
        return self._role_path("root", version)

    def _role_path(self, role: str, version: int) -> Path:
        return self._metadata / f"{version}.{role}.json"

    def _target_path(self, file: TargetFile) -> Path:
        folder, _, name = file.path.rpartition("/")
        return self._targets / folder / f"{file.hashes['sha256']}.{name}"


def _retire(path: Path, now: datetime) -> None:
    """Remember when the file was last in an edition, as its mtime."""
    os.utime(path, (now.timestamp(), now.timestamp()))
