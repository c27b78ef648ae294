"""Package files that this machine leaves out of its index for now, so that the next emerge compiles instead (P9).

Only root writes the file.  A server that makes us refuse or miss files can in this way hide them from this machine, which it could
do anyway by not listing them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import DecodeError, SettingsError, printable
from portage_p2pbin.kernel.model import Cpv, Sha256
from portage_p2pbin.kernel.statements import moment, spelt
from portage_p2pbin.kernel.wire import Fields, canonical, decode

FORMAT = "p2pbin-refusals-1"
MOST_REFUSALS = 10_000
MOST_BYTES = 16 * 1024 * 1024

UNAVAILABLE_FOR = timedelta(hours=1)
"""How long a file that could not be had is left out."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is left out, until `until` or, where that is None, until somebody forgets it or other bytes are listed."""

    file: Sha256
    cpv: Cpv
    rule: str
    reason: str
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Is it still left out?  One of a time when the clock was ahead is not: an hour would become years."""
        return self.until is None or now < self.until <= now + UNAVAILABLE_FOR


class Refusals:
    """The refusals of this machine, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, now: datetime) -> tuple[Refusal, ...]:
        """Those that still hold, oldest first.  Raises SettingsError if the file is damaged."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
            fields = decode(data, str(self._path), MOST_BYTES)
            with fields.reading():
                fields.exactly("_type", FORMAT)
                found = tuple(_read_refusal(one) for one in fields.many("refusals", MOST_REFUSALS))
        except FileNotFoundError:
            return ()
        except DecodeError as error:
            raise SettingsError(f"{self._path} is damaged: {error.reason}", "Delete it; refused packages are then tried again") from error
        return tuple(one for one in found if one.holds(now))

    def add(self, refusal: Refusal, now: datetime) -> None:
        """Leave a file out from now on.  Raises OSError, SettingsError."""
        self._change(now, lambda known: [one for one in known if one.file != refusal.file] + [refusal])

    def forget(self, matches: Callable[[Refusal], bool], now: datetime) -> tuple[Refusal, ...]:
        """Forget those that `matches`; return them.  Raises OSError, SettingsError."""
        gone = tuple(one for one in self.read(now) if matches(one))
        self._change(now, lambda known: [one for one in known if one not in gone])
        return gone

    def _change(self, now: datetime, change: Callable[[tuple[Refusal, ...]], list[Refusal]]) -> None:
        with locked(self._path.with_suffix(".lock")):
            kept = change(self.read(now))[-MOST_REFUSALS:]
            durable.write(self._path, canonical({"_type": FORMAT, "refusals": [_as_json(one) for one in kept]}))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have the file `path` for this process alone.  Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _as_json(one: Refusal) -> dict[str, object]:
    until = "" if one.until is None else spelt(one.until)
    return {"cpv": one.cpv, "file": one.file, "reason": printable(one.reason), "rule": one.rule, "until": until}


def _read_refusal(fields: Fields) -> Refusal:
    with fields.reading():
        return Refusal(
            file=fields.of("file", Sha256),
            cpv=fields.of("cpv", Cpv),
            rule=fields.text("rule", 20),
            reason=fields.text("reason", 1000),
            until=fields.of("until", lambda text: moment(text) if text else None),
        )
