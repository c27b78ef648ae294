"""How p2pbin is doing on this machine: what runs, what is trusted until when, what is kept and what is left out.

Reads this machine's own files and asks its own daemon; no server is asked.  What cannot be found out is said, and stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from portage_p2pbin.binpkg.confinement import missing_confinement
from portage_p2pbin.config import Config, Paths
from portage_p2pbin.daemon import daemon_status
from portage_p2pbin.gatekeeper import repository_cache
from portage_p2pbin.gentoo.record import recorded
from portage_p2pbin.gentoo.settings import PortageSettings, read_settings
from portage_p2pbin.kernel.errors import P2pbinError
from portage_p2pbin.machine_key import load_machine_key
from portage_p2pbin.net.network import HalfStatus
from portage_p2pbin.net.repository import expiries
from portage_p2pbin.refusals import Refusal, Refusals
from portage_p2pbin.register import Registration, read_registration

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Status:
    """What was found out; None where that failed, and `troubles` then says why, in sentences.

    `daemon` is None too where none runs.  `expiries` are those of the cached metadata by role, soonest first; `bytes` the space
    used by folder; `published` how many of the `recorded` builds are at some server.
    """

    settings: PortageSettings | None
    daemon: HalfStatus | None
    registration: Registration | None
    has_key: bool
    expiries: Mapping[str, datetime]
    missing_confinement: tuple[str, ...]
    bytes: Mapping[str, int]
    recorded: int
    published: int
    refusals: tuple[Refusal, ...]
    troubles: tuple[str, ...]


def look(config: Config, environment: Mapping[str, str], now: datetime) -> Status:
    """Look at the machine of `config`, as of `now`."""
    paths, troubles = config.paths, Troubles([])
    return Status(
        settings=troubles.or_none(lambda: read_settings(paths.eprefix, environment)),
        daemon=troubles.or_none(lambda: daemon_status(paths.socket)),
        registration=troubles.or_none(lambda: read_registration(paths.machine_json)) if paths.machine_json.exists() else None,
        has_key=paths.machine_key.exists() and troubles.or_none(lambda: load_machine_key(paths.machine_key)) is not None,
        expiries=troubles.or_none(lambda: expiries(repository_cache(paths))) or {},
        missing_confinement=missing_confinement(),
        bytes={name: _size(folder) for name, folder in _folders(paths).items()},
        recorded=len(recorded(paths.eprefix)),
        published=len({done.parent.name for done in paths.publishing.glob("*/*/*/done")}),
        refusals=troubles.or_none(lambda: Refusals(paths.refused).read(now)) or (),
        troubles=tuple(troubles.said),
    )


@dataclass(frozen=True, slots=True)
class Troubles:
    """Collects why something could not be found out."""

    said: list[str]

    def or_none(self, find: Callable[[], T]) -> T | None:
        """What `find` finds; None if it raises one of our errors, or may not look."""
        try:
            return find()
        except (P2pbinError, PermissionError) as error:
            self.said.append(str(error))
            return None


def _folders(paths: Paths) -> dict[str, Path]:
    return {"copies for others": paths.swarm, "index": paths.targets, "being published": paths.publishing}


def _size(folder: Path) -> int:
    """Bytes of all files below `folder`, as far as this user may look; a file that vanishes meanwhile has none."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(where, name).lstat().st_size
    return total
