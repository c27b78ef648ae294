"""The TUF repository as a client sees it: roster, rulings and index pages, verified (P6.6, P7.1, P7.2, P7.5).

python-tuf's client verifies; this module gives it our way to the network, which is a function that the caller passes in, and
keeps the cache.  Whoever answers in the server's place can withhold news until it expires, and waste a bounded number of bytes.
Whoever holds the server's online keys can, besides, choose the index pages, but not the roster, the rulings, or who signs them.

Runs in the gatekeeper.  Nothing here opens a connection.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import quote

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, UnavailableError
from portage_p2pbin.kernel.index import MOST_PAGE
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.roster import MOST_ROSTER, Roster, Rulings, read_roster, read_rulings
from portage_p2pbin.kernel.targets import MOST_CATEGORIES, ROSTER_FILE, RULINGS_FILE, page_category, page_file

Fetch = Callable[[str, int], bytes | None]
"""`fetch(url, most)` returns the body behind `url`, or None where the server says that there is no such file.

It stops reading beyond `most` bytes and raises RefusedError, and UnavailableError where nobody answers."""

MOST_INDEX = 512 * 1024 * 1024
"""Bytes of all pages of one channel.  60,000 entries have 40 MB."""

_BOUNDS = UpdaterConfig(
    max_root_rotations=64,  # sixteen years of quarterly renewals between two updates of a client
    max_delegations=1,  # from targets to one role; nobody hands rights on
    root_max_length=256 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=64 * 1024,
    targets_max_length=4 * 1024 * 1024,  # an index of 1,000 categories has 250 kB
)


_ANY_PAGE = "index/any/any.json"

_WHAT = "the server's index"


@dataclass(frozen=True, slots=True)
class Cache:
    """Where a machine keeps what it has verified: a folder for metadata, one for files, and the rulings seen last.

    Whoever can write there can bring a client back to an older state that has not expired yet, and nothing more.
    """

    metadata: Path
    targets: Path
    rulings: Path


@dataclass(frozen=True, slots=True)
class _Edition:
    """One consistent state of the repository: everything in it was verified together."""

    updater: Updater
    roster: Roster
    rulings: Rulings
    index: Targets


class VerifiedRepository:
    """The repository below `base_url` (`https://HOST/tuf`), trusted for the sake of `root_json` alone.

    `root_json` came with the package or from the operator's hand, never from the server (P7.1).  After :meth:`refresh` the
    other methods answer from one consistent edition; before it they raise UnavailableError.
    """

    def __init__(self, root_json: bytes, base_url: str, cache: Cache, fetch: Fetch) -> None:
        self._root_json = root_json
        self._base_url = base_url
        self._cache = cache
        self._fetcher = _Fetcher(fetch)
        self._edition: _Edition | None = None

    def refresh(self) -> None:
        """Bring roster, rulings and the list of index pages up to date.

        Two short requests where nothing has changed.  Raises UnavailableError if nobody answers or the cache cannot be
        written, and RefusedError: P7.5 if what there is has expired, P6.6 if rulings were lost, P7.1 for every other rule of
        TUF.  After a failure the cache is as good as before.
        """
        with _sorted_errors(), self._changing():
            updater = Updater(
                str(self._cache.metadata),
                f"{self._base_url}/metadata/",
                target_base_url=f"{self._base_url}/targets/",
                fetcher=self._fetcher,
                config=_BOUNDS,
                bootstrap=self._root_json,
            )
            # P7.1: root, then timestamp, snapshot, targets; each signed, newer or equal, consistent, not expired.
            updater.refresh()
            # P4.2, P6.6: only the role of that name may sign the file, since targets delegates it and ends the search there.
            roster = read_roster(self._file(updater, ROSTER_FILE, MOST_ROSTER))
            rulings = read_rulings(self._file(updater, RULINGS_FILE, MOST_ROSTER))
            self._follow(rulings)
            self._edition = _Edition(updater, roster, rulings, self._load_index(updater))
            self._forget_unlisted(self._edition.index)

    def roster(self) -> Roster:
        """The roster, signed by the offline keys."""
        return self._current().roster

    def rulings(self) -> Rulings:
        """The rulings, with all that this machine has seen before."""
        return self._current().rulings

    def categories(self, channel: Channel) -> list[str]:
        """The categories that have a page in `channel`, in order.  RefusedError (P7.2) if there are absurdly many or large ones."""
        sizes = {
            category: file.length
            for path, file in self._current().index.targets.items()
            if (category := page_category(channel, path)) is not None
        }
        if len(sizes) > MOST_CATEGORIES or sum(sizes.values()) > MOST_INDEX:
            raise RefusedError("P7.2", "index", f"{len(sizes)} pages of {sum(sizes.values())} bytes together")
        return sorted(sizes)

    def page(self, channel: Channel, category: str) -> bytes:
        """The page of `category`, fetched only if it has changed.  What it says is for others to check.

        Raises as :meth:`refresh`, and UnavailableError if there is no such page.
        """
        updater = self._current().updater
        with _sorted_errors():
            return self._file(updater, page_file(channel, category), MOST_PAGE)

    def _current(self) -> _Edition:
        if self._edition is None:
            raise UnavailableError(_WHAT, "it has not been read yet")
        return self._edition

    def _file(self, updater: Updater, path: str, most: int) -> bytes:
        """A file that its role vouches for: from the cache, or else fetched into it."""
        listed = updater.get_targetinfo(path)
        if listed is None:
            raise UnavailableError(path, "the server does not list it")
        if listed.length > most:
            raise RefusedError("P7.1", path, f"{listed.length} bytes, more than the {most} allowed")
        cached = self._cache.targets / quote(path, safe="")
        data = _verified(cached, listed)
        return _download(updater, listed, cached) if data is None else data

    def _load_index(self, updater: Updater) -> Targets:
        """What role `index` lists.  python-tuf verifies and stores it when a file of that role is looked up, but does not show it."""
        updater.get_targetinfo(_ANY_PAGE)
        return Metadata[Targets].from_bytes((self._cache.metadata / "index.json").read_bytes()).signed

    def _follow(self, rulings: Rulings) -> None:
        """P6.6: no ruling that this machine has seen may be missing."""
        seen = read_rulings(self._cache.rulings.read_bytes()) if self._cache.rulings.exists() else Rulings()
        rulings.follows(seen)
        if rulings != seen:
            durable.write(self._cache.rulings, rulings.encode())

    def _forget_unlisted(self, index: Targets) -> None:
        """Delete cached files that nothing lists any more, so that the cache has a bound."""
        listed = {quote(path, safe="") for path in (ROSTER_FILE, RULINGS_FILE, *index.targets)}
        for path in self._cache.targets.iterdir():
            if path.name not in listed:
                path.unlink()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One process at a time changes the metadata (python-tuf asks for that); afterwards every user may read it.

        Only our own user can open the lock, so that nobody else can hold it for ever.
        """
        for folder in (self._cache.metadata, self._cache.targets):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(self._cache.metadata / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            for path in self._cache.metadata.rglob("*.json"):
                path.chmod(0o644)
            os.close(lock)


@contextmanager
def verified_cache(root_json: bytes, cache: Cache) -> Iterator[VerifiedRepository]:
    """The repository as it was cached by somebody else, for a user who may not write there and without any network (P7.5).

    The cache is taken for a server that nobody trusts: all of it is verified again, from `root_json` on.  The rulings seen
    last are only read.  Raises as :meth:`VerifiedRepository.refresh`.
    """
    with TemporaryDirectory(prefix="p2pbin-") as name:
        own = Cache(Path(name, "metadata"), Path(name, "targets"), cache.rulings)
        repository = VerifiedRepository(root_json, "cache:", own, partial(_read_cache, cache))
        repository.refresh()
        yield repository


def expiries(cache: Cache) -> dict[str, datetime]:
    """Until when the cached metadata of each role is good, soonest first; for `p2pbin status`.

    Not verified again: whoever can write the cache is root.  Raises UnavailableError if it cannot be read.
    """
    found = {}
    with _sorted_errors():
        for path in cache.metadata.glob("*.json"):
            found[path.stem] = Metadata.from_bytes(path.read_bytes()).signed.expires
    return dict(sorted(found.items(), key=lambda role: role[1]))


def _read_cache(cache: Cache, url: str, most: int) -> bytes | None:
    """What `url` would be, out of the cache: a :data:`Fetch`."""
    kind, _, path = url.removeprefix("cache:/").partition("/")
    folder, _, name = path.rpartition("/")
    version_or_digest, _, plain = name.partition(".")
    if kind == "targets":
        cached = cache.targets / quote(f"{folder}/{plain}".removeprefix("/"), safe="")
    elif plain == "root.json":
        cached = cache.metadata / "root_history" / name
    else:
        cached = cache.metadata / (plain if version_or_digest.isdecimal() else name)
    try:
        with cached.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        return None


class _Fetcher(FetcherInterface):
    """python-tuf's way to the network, over a :data:`Fetch`."""

    def __init__(self, fetch: Fetch) -> None:
        self._get = fetch
        self._most = 0

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As in python-tuf, with the bound passed on, so that no more than that is read."""
        self._most = max_length
        with super().download_file(url, max_length) as file:
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        body = self._get(url, self._most)
        if body is None:
            raise DownloadHTTPError(f"there is no {url}", 404)
        return iter([body])


@contextmanager
def _sorted_errors() -> Iterator[None]:
    """Turn python-tuf's errors into ours: what is to be distrusted, and what may come right by itself."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise RefusedError("P7.5", _WHAT, f"{error}; its operator has to sign it again") from error
    except (RepositoryError, DownloadLengthMismatchError) as error:
        raise RefusedError("P7.1", _WHAT, f"{error}; if it stays so, ask its operator") from error
    except DownloadError as error:
        if isinstance(error.__cause__, P2pbinError):
            raise error.__cause__ from None
        raise UnavailableError(_WHAT, str(error)) from error
    except OSError as error:
        raise UnavailableError(_WHAT, f"its cache cannot be used: {error}") from error


def _verified(path: Path, listed: TargetFile) -> bytes | None:
    """The bytes of a cached file if they are those that are listed."""
    try:
        with path.open("rb") as file:
            data = file.read(listed.length + 1)
        listed.verify_length_and_hashes(data)
    except (FileNotFoundError, RepositoryError):
        return None
    return data


def _download(updater: Updater, listed: TargetFile, cached: Path) -> bytes:
    """Fetch a file into the cache; its bytes as they were found there."""
    beside = cached.with_name(f".{secrets.token_hex(8)}")
    try:
        updater.download_target(listed, str(beside))
        data = beside.read_bytes()
        listed.verify_length_and_hashes(data)
        beside.replace(cached)
    finally:
        beside.unlink(missing_ok=True)
    return data
