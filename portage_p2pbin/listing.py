"""Answer one index call: the `Packages` text of what this user's thresholds allow (P7.3 to P7.5).

A failing index call crashes emerge, so this one always has an answer, which may list nothing; why is said on stderr.  The server
chooses what is listed, within what TUF verifies; every package is judged again when it is fetched.

Portage reads an answer only if its TIMESTAMP is greater than that of the last one it read.  So the last answer is kept, and one
that differs gets a greater number, whatever the clock says.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portage_p2pbin import durable
from portage_p2pbin.config import Paths, eprefix_of
from portage_p2pbin.fetch import Repository, Thresholds
from portage_p2pbin.gentoo.packages import packages_text, remove_unlisted
from portage_p2pbin.gentoo.settings import split_uri
from portage_p2pbin.kernel.errors import P2pbinError, SettingsError
from portage_p2pbin.kernel.index import Entry, read_page
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.roster import RulingKind
from portage_p2pbin.refusals import Refusals, locked

MOST_ANSWER = 512 * 1024 * 1024
"""Bytes of a `Packages` text; one of 60,000 entries has about 60 MB."""

_TIMESTAMP = re.compile(rb"^TIMESTAMP: ([1-9][0-9]{0,11})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What decides whether an entry is listed: the user's thresholds, the `largest` file to be fetched in bytes, and what this
    machine has refused.
    """

    thresholds: Thresholds
    refusals: Refusals
    largest: int
    now: datetime

    def entries(self, repository: Repository, channel: Channel) -> tuple[Entry, ...]:
        """The entries of `channel` that may be listed.  Raises RefusedError, UnavailableError, SettingsError."""
        left_out = {refusal.file for refusal in self.refusals.read(self.now)}
        recalled = repository.rulings().subjects(RulingKind.RECALL)
        return tuple(
            entry
            for entry in all_entries(repository, channel)
            if entry.file not in left_out and entry.contents not in recalled and entry.size <= self.largest and self._good_enough(entry)
        )

    def _good_enough(self, entry: Entry) -> bool:
        """Does the level that the server names satisfy the threshold?  It is derived again when the package is fetched."""
        return entry.level.satisfies(self.thresholds.for_(entry.cpv, entry.metadata.get("SLOT", ""), entry.repository))


def all_entries(repository: Repository, channel: Channel) -> Iterator[Entry]:
    """Everything that the index lists in `channel`.  Raises RefusedError, UnavailableError."""
    for category in repository.categories(channel):
        yield from read_page(repository.page(channel, category), channel, category)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be listed, and where Portage keeps the files of this channel; None where nothing is to be removed there."""

    entries: Sequence[Entry] = ()
    location: Path | None = None


def list_packages(find: Callable[[], Listing], answers: Answers, say: Callable[[str], None]) -> bytes:
    """The `Packages` text of what `find` finds, or of nothing where it fails; why is said.

    Files in the location that are no longer listed are removed.  Raises OSError only.
    """
    try:
        listing = find()
    except P2pbinError as error:
        say(f" * {error}")
        say(" * p2pbin lists no package now; Portage compiles")
        listing = Listing()
    if listing.location is not None:
        for path in remove_unlisted(listing.location, {entry.path for entry in listing.entries}):
            say(f" * {path} is no longer listed and was removed")
    return answers.next(listing.entries)


class Answers:
    """The answer that was last given for one channel, in one file."""

    def __init__(self, path: Path, now: datetime, *, writable: bool) -> None:
        """Where it is not `writable`, an answer is for one who cannot keep it either: Portage then has none to compare."""
        self._path = path
        self._now = now
        self._writable = writable

    def next(self, entries: Sequence[Entry]) -> bytes:
        """The answer that lists `entries`: the last one if it says the same, else one with a greater TIMESTAMP.  Raises OSError."""
        if not self._writable:
            return self._following(self._last(), entries)
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locked(self._path.with_suffix(".lock")):
            last = self._last()
            answer = self._following(last, entries)
            if answer != last:
                durable.write(self._path, answer)
            return answer

    def _following(self, last: bytes | None, entries: Sequence[Entry]) -> bytes:
        """The answer after `last`."""
        now = int(self._now.timestamp())
        if last is None:
            return packages_text(entries, now)
        if packages_text(entries, _timestamp(last)) == last:
            return last
        return packages_text(entries, max(now, _timestamp(last) + 1))

    def _last(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(MOST_ANSWER)
        except (FileNotFoundError, PermissionError):
            return None


def _timestamp(answer: bytes) -> int:
    """That of an answer of ours; 0 where the file holds something else."""
    found = _TIMESTAMP.search(answer)
    return int(found[1]) if found else 0


def write_empty(uri: str, file: int, environment: Mapping[str, str]) -> None:
    """Write an index that lists nothing into the open `file`, whatever it holds: for a call that got no other answer.

    It is noted as given, where this user may and can: else a later answer that says what an earlier one said would be taken for
    old.  Raises OSError if `file` cannot be written.
    """
    now = datetime.now(UTC)
    base, _, name = uri.rpartition("/")
    try:
        host, channel = split_uri(base)
        paths = Paths(eprefix_of(environment))
        text = Answers(paths.listings / f"{host}_{channel}", now, writable=os.access(paths.state, os.W_OK)).next(())
    except (SettingsError, OSError):
        # With a full disk it cannot be noted, but emerge goes on.
        text = packages_text((), int(now.timestamp()))
    os.ftruncate(file, 0)
    os.pwrite(file, gzip.compress(text, mtime=0) if name == "Packages.gz" else text, 0)
    os.fsync(file)
