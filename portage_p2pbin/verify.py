"""Say of a package file on this machine whether `p2pbin-fetch` would place it, check by check (P9.2 to P9.8).

The file may come from anywhere: only the reading half parses it.  The index and the votes are the server's, and prove nothing that
does not follow from the user's own trust anchor.  Nothing is changed, and nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

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
from portage_p2pbin.fetch import Repository, Thresholds
from portage_p2pbin.kernel.consistency import check_definition, check_entry
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Bundle, Entry
from portage_p2pbin.kernel.model import Channel, Cpv, Level, Sha256
from portage_p2pbin.kernel.trust import Electorate, Judgement
from portage_p2pbin.listing import all_entries
from portage_p2pbin.net.trust_server import TrustServer

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file is: the digests of its bytes, and what is inside, or why the reading half refuses to say."""

    digests: FileDigests
    reading: Reading | RefusedError


def look(file: BinaryIO, read: Callable[[int], Reading]) -> Seen:
    """Look at a file that was just opened, and that nobody changes meanwhile.  `read` is the reading half.

    Raises UnavailableError, OSError.
    """
    digests = FileDigests.of(iter(lambda: file.read(_PIECE), b""))
    try:
        return Seen(digests, read(file.fileno()))
    except RefusedError as error:
        return Seen(digests, error)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its number in docs/protocol.rst, what it asks, and the objection, which is empty where there is none."""

    rule: str
    claim: str
    objection: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How a file stands to the `entry` of the index that is about it.

    `judgement` is None where the votes could not be read.  Checks that need what an earlier one did not find are left out.
    """

    entry: Entry
    threshold: Level
    judgement: Judgement | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold; empty if `p2pbin-fetch` would place the file."""
        return tuple(check for check in self.checks if check.objection)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies files against one channel; `eprefix` is "" where there is no prefix."""

    server: TrustServer
    channel: Channel
    repository: Repository
    thresholds: Thresholds
    eprefix: str
    now: datetime

    def verify(self, seen: Seen) -> Verification:
        """Make every check of P9 that can be made of a file that is here.

        Raises UnavailableError where nobody lists the package or its votes cannot be had, and RefusedError where the index cannot be
        trusted, or where the file is neither listed nor a package.
        """
        entry = self._find(seen)
        threshold = self.thresholds.for_(entry.cpv, entry.metadata.get("SLOT", ""), entry.repository)
        made = _Checks()
        bundle = self._votes(entry, made)
        judgement = None if bundle is None else self._judge(bundle, seen, entry, threshold, made)
        with made.check("P9.7", "its size and hashes are the listed ones"):
            check_file(seen.digests, entry)
        self._check_inside(seen.reading, entry, bundle, made)
        return Verification(entry, threshold, judgement, tuple(made.made))

    def _find(self, seen: Seen) -> Entry:
        """P9.1: the entry of these very bytes; else, of its version, the one that is most like the package."""
        cpv = "" if isinstance(seen.reading, RefusedError) else _cpv(seen.reading)
        entries = all_entries(self.repository, self.channel)
        candidates = [entry for entry in entries if entry.file == seen.digests.sha256 or entry.cpv == cpv]
        if candidates:
            return max(candidates, key=lambda entry: _likeness(entry, seen))
        if isinstance(seen.reading, RefusedError):
            raise seen.reading
        raise UnavailableError(cpv, f"the index of {self.channel} does not list it, so nobody vouches for it")

    def _votes(self, entry: Entry, made: _Checks) -> Bundle | None:
        data = self.server.bundle(entry.bundle)
        with made.check("P9.2", "the votes are the listed ones"):
            check_bundle(data, entry)
        with made.check("P9.3", "each vote is signed and about this build"):
            return read_votes(data, self.channel, entry)
        return None

    def _judge(self, bundle: Bundle, seen: Seen, entry: Entry, threshold: Level, made: _Checks) -> Judgement:
        electorate = Electorate(self.repository.roster(), self.repository.rulings(), self.now)
        found = electorate.judge(entry.build_key, entry.contents, bundle.votes, bundle.certificates)
        with made.check("P9.4", f"the votes give a level that your threshold of {threshold:d} allows"):
            check_level(found, entry, threshold)
        with made.check("P9.7", "a vote that counts names this very file"):
            check_named(found, entry, seen.digests.sha256)
        return found

    def _check_inside(self, reading: Reading | RefusedError, entry: Entry, bundle: Bundle | None, made: _Checks) -> None:
        """P9.8."""
        if isinstance(reading, RefusedError):
            with made.check("P9.8", "it can be read in one way only"):
                raise reading
            return
        with made.check("P9.8", "its contents digest is the one that was voted for"):
            check_contents(reading, entry)
        with made.check("P9.8", "cleaning would change nothing"):
            check_clean(reading, entry)
        with made.check("P9.8", "it says of itself what the index says"):
            check_entry(entry.cpv, entry.metadata, reading.metadata)
        if bundle is None or not bundle.votes:
            return
        # The requests of all votes are equal, since their build keys are.
        definition = bundle.votes[0].vote.definition
        with made.check("P9.8", "it says of itself what its votes say was built"):
            check_definition(definition, reading.metadata, Sha256(reading.ebuild_sha256))
        with made.check("P9.8", "it was built for this EPREFIX"):
            check_prefix(definition, entry, self.eprefix)


@dataclass(slots=True)
class _Checks:
    """The checks made so far."""

    made: list[Check] = field(default_factory=list)

    @contextmanager
    def check(self, rule: str, claim: str) -> Iterator[None]:
        """Make one check: a refusal inside becomes its objection."""
        try:
            yield
        except RefusedError as error:
            reason = error.reason if error.rule.startswith("P9.") else f"{error.what}: {error.reason} ({error.rule})"
            self.made.append(Check(rule, claim, reason))
        else:
            self.made.append(Check(rule, claim, ""))


def _cpv(reading: Reading) -> Cpv:
    """The package that a file says it is.  Raises RefusedError if that is no name of one."""
    return Cpv(f"{reading.metadata.get('CATEGORY', '')}/{reading.metadata.get('PF', '')}")


def _likeness(entry: Entry, seen: Seen) -> tuple[object, ...]:
    """How much an entry has in common with a file: more is greater."""
    same_file = entry.file == seen.digests.sha256
    if isinstance(seen.reading, RefusedError):
        return (same_file, entry.serial)
    same_use = entry.metadata.get("USE", "") == " ".join(seen.reading.metadata.get("USE", "").split())
    return (same_file, entry.cpv == _cpv(seen.reading), entry.contents == seen.reading.digest, same_use, entry.serial)
