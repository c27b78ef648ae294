"""What most commands begin with: this Gentoo, its settings, and the trust server that they mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from portage_p2pbin.cli.output import standard_error
from portage_p2pbin.config import Config, Paths, eprefix_of, load
from portage_p2pbin.daemon import half_settings, own_half
from portage_p2pbin.gatekeeper import cached_repository, current_repository
from portage_p2pbin.gentoo.settings import BinaryRepository, read_repositories
from portage_p2pbin.kernel.errors import SettingsError, UnavailableError
from portage_p2pbin.net.http import Http
from portage_p2pbin.net.repository import VerifiedRepository
from portage_p2pbin.net.trust_server import TrustServer


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def paths() -> Paths:
    """Where things are in the Gentoo that the environment speaks of.  Raises SettingsError."""
    return Paths(eprefix_of(os.environ))


@dataclass(frozen=True, slots=True)
class Site:
    """One section of binrepos.conf: the settings of this machine, and the server and channel that it names."""

    config: Config
    repository: BinaryRepository

    @classmethod
    def named(cls, name: str | None) -> Self:
        """The section `name`, or the only one of ours.  Raises SettingsError."""
        config = load(paths())
        found = read_repositories(config.paths.eprefix, os.environ)
        wanted = [one for one in found if name in (None, one.name)]
        if len(wanted) == 1:
            return cls(config, wanted[0])
        if not wanted:
            what = "No section of binrepos.conf is ours" if name is None else f"binrepos.conf has no section [{name}] of ours"
            raise SettingsError(what, "Add one with sync-uri = p2pbin://HOST/CHANNEL; README.rst shows it")
        names = ", ".join(one.name for one in wanted)
        raise SettingsError(f"binrepos.conf has several sections of ours: {names}", f"Say which: --repository {wanted[0].name}")

    @contextmanager
    def trust_server(self) -> Iterator[TrustServer]:
        """The server, reached by a network half of our own if we are root, so that no network code runs as root.

        Raises SettingsError, UnavailableError.
        """
        url, host = self.config.server.url(self.repository.host), self.repository.host
        if os.geteuid() != 0:
            yield TrustServer(Http(half_settings(self.config, {}, resident=False).http), url, host, now)
        else:
            with own_half(self.config) as (_, half), half.connect() as network:
                yield TrustServer(network, url, host, now)

    @contextmanager
    def verified(self, server: TrustServer) -> Iterator[VerifiedRepository]:
        """The verified repository: up to date for those who may write our state, if the server answers; else as it was cached.

        Raises SettingsError, UnavailableError and RefusedError.
        """
        current = self._current(server) if os.access(self.config.paths.state, os.W_OK) else None
        if current is not None:
            yield current
        else:
            with cached_repository(self.config) as cached:
                yield cached

    def _current(self, server: TrustServer) -> VerifiedRepository | None:
        try:
            return current_repository(self.config, self.repository.host, server.http.find)
        except UnavailableError as error:
            standard_error().warning(f"{error}. What follows was verified earlier")
            return None
