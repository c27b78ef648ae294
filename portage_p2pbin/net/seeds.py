"""The package files that this machine holds for others, on the disk space that its user offers (P9.10, P12).

The folder belongs to the network half, which whoever sits behind a hole in libtorrent can take over; files in it are copies that
nobody installs from.  A file counts as whole once its torrent lies beside its folder; everything else is a download that was cut off.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import InfoHash
from portage_p2pbin.kernel.torrent import MOST_TORRENT, Torrent, read_torrent

KEEP_PARTS = 24 * 3600
"""Seconds for which a download that was cut off is kept, to be continued."""


class Seeds:
    """`folder`/INFOHASH/NAME with `folder`/INFOHASH.torrent beside it; at most `disk` bytes, the oldest go first."""

    def __init__(self, folder: Path, disk: int) -> None:
        self._folder = folder
        self._disk = disk
        self._lock = threading.Lock()

    def file(self, torrent: Torrent) -> Path:
        """Where the file of `torrent` lies or would lie."""
        return self._folder / torrent.info_hash / torrent.name

    def find(self, info_hash: InfoHash) -> Torrent | None:
        """The torrent of a whole file that is here."""
        return self._read(self._folder / f"{info_hash}.torrent")

    def whole(self) -> Iterator[Torrent]:
        """All whole files, the oldest first."""
        for path in sorted(self._folder.glob("*.torrent"), key=lambda one: one.stat().st_mtime):
            torrent = self._read(path)
            if torrent is not None:
                yield torrent

    def bytes(self) -> int:
        """How many bytes are held."""
        return sum(torrent.size for torrent in self.whole())

    def keep(self, torrent: Torrent) -> list[InfoHash]:
        """Count the finished file of `torrent` as whole; return which others are to be forgotten to make room, perhaps itself."""
        with self._lock:
            (self._folder / f"{torrent.info_hash}.torrent").write_bytes(torrent.data)
            whole = list(self.whole())
            excess = sum(one.size for one in whole) - self._disk
            out = []
            for one in whole:
                if excess > 0:
                    out.append(one.info_hash)
                    excess -= one.size
            return out

    def drop(self, info_hash: InfoHash) -> None:
        """Count the file as whole no more.  The file itself is deleted by :meth:`Swarm.forget`."""
        (self._folder / f"{info_hash}.torrent").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete downloads that were cut off long ago."""
        with os.scandir(self._folder) as found:
            folders = [one for one in found if one.is_dir(follow_symlinks=False) and InfoHash.pattern.fullmatch(one.name)]
        for one in folders:
            if self.find(InfoHash(one.name)) is None and time.time() - one.stat().st_mtime > KEEP_PARTS:
                shutil.rmtree(one.path, ignore_errors=True)

    def _read(self, path: Path) -> Torrent | None:
        """The torrent at `path` if it is one and its file has the right size."""
        try:
            with path.open("rb") as file:
                torrent = read_torrent(file.read(MOST_TORRENT + 1))
            whole = self.file(torrent).stat().st_size == torrent.size
        except (OSError, DecodeError):
            return None
        return torrent if whole and path.stem == torrent.info_hash else None
