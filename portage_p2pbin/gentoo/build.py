"""A source build that Portage has just finished, as its build folder and the emerge that did it show it.

Portage keeps what it built in PORTAGE_BUILDDIR until the package is merged, and its settings in the emerge process.  Both belong to
root, or whoever runs emerge, who could vote for anything anyway.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import portage
from portage.dbapi.vartree import vardbapi
from portage.dep import Atom

from portage_p2pbin.gentoo.installed import Installed
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.model import Cpv

_METADATA = ("EAPI", "IUSE", "KEYWORDS", "LICENSE", "PROPERTIES", "RESTRICT", "SLOT", "repository")
"""What Portage must know of a package to apply package.use, package.env and the like to it."""

_MOST_ANCESTORS = 50
"""Processes between a phase of an ebuild and emerge; there are about three."""


@dataclass(frozen=True)
class FinishedBuild:
    """The build folder of `cpv`, after its package was made and before it is merged.

    `environment` is that of a phase of its ebuild; `calling` that which emerge itself was started with.
    """

    cpv: Cpv
    folder: Path
    environment: Mapping[str, str]
    calling: Mapping[str, str]

    @classmethod
    def of_this_phase(cls, environment: Mapping[str, str]) -> Self:
        """The build whose phase we are run from.  Raises UnavailableError where we are not."""
        if "PORTAGE_BUILDDIR" not in environment:
            raise UnavailableError("the build", "this command is for etc/portage/bashrc, where Portage runs it")
        cpv = Cpv(f"{environment.get('CATEGORY', '')}/{environment.get('PF', '')}")
        return cls(cpv, Path(environment["PORTAGE_BUILDDIR"]), environment, _environment_of_emerge())

    def info(self, name: str) -> str:
        """One of the values that Portage writes into the package, its white space made single; empty where there is none."""
        try:
            return " ".join((self.folder / "build-info" / name).read_text(encoding="utf-8", errors="replace").split())
        except FileNotFoundError:
            return ""

    @property
    def started(self) -> float:
        """When its first phase was done, in seconds since 1970.  What changed later was not what it was built from."""
        return (self.folder / ".setuped").stat().st_mtime

    @property
    def ebuild(self) -> Path:
        """The copy of the ebuild that is in the package."""
        return self.folder / "build-info" / f"{self.cpv.pf}.ebuild"

    @property
    def repository_folder(self) -> Path:
        """The folder of the ebuild in its repository, with `files/` beside it."""
        return Path(self.environment["EBUILD"]).parent

    @property
    def distfiles(self) -> Iterator[Path]:
        """The distfiles that it unpacked, as links into DISTDIR."""
        return (self.folder / "distdir" / name for name in sorted(set(self.environment.get("A", "").split())))

    @property
    def build_path(self) -> str:
        """The PORTAGE_TMPDIR that it was built in, links resolved."""
        return str(self.folder).removesuffix(f"/portage/{self.cpv}")

    @cached_property
    def portage(self) -> Portage:
        """Portage with the settings of the emerge that did this build."""
        return Portage.for_build(self)


def _environment_of_emerge() -> dict[str, str]:
    """The environment that emerge was started with: it is the nearest ancestor that is no phase of an ebuild.

    Only there stand flags as the user set them: an ebuild's own environment has them as the ebuild changed them.
    """
    process = os.getppid()
    for _ in range(_MOST_ANCESTORS):
        try:
            environment = _split(Path(f"/proc/{process}/environ").read_bytes())
            status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UnavailableError("the environment of emerge", str(error)) from error
        if "PORTAGE_BUILDDIR" not in environment:
            return environment
        parent = re.search(r"^PPid:\t([0-9]+)$", status, re.MULTILINE)
        process = int(parent[1]) if parent else 0
    raise UnavailableError("the environment of emerge", "no process above this one is emerge")


def _split(environ: bytes) -> dict[str, str]:
    pairs = (pair.partition(b"=") for pair in environ.split(b"\0") if b"=" in pair)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Portage:
    """Portage as an emerge saw it: `settings` (`portage.config`) for one package, and what is installed."""

    settings: Any
    installed: Installed

    @classmethod
    def for_build(cls, build: FinishedBuild) -> Self:
        """Open it with the environment of the emerge that did `build`."""
        said = build.environment
        settings = portage.config(
            config_root=said.get("PORTAGE_CONFIGROOT") or "/",
            target_root=said.get("ROOT") or "/",
            eprefix=said.get("EPREFIX", ""),
            env=dict(build.calling),
        )
        settings.setcpv(str(build.cpv), mydb={name: build.info(name) for name in _METADATA})
        return cls(settings, Installed(vardbapi(settings=settings)))

    @property
    def system_set(self) -> list[Any]:
        """The atoms of the packages that every build may take for granted: those that the profile marks with `*`."""
        return [Atom(word[1:]) for word in self.settings.packages if word.startswith("*")]

    def user_set(self, name: str) -> str:
        """What make.conf or the environment of emerge says of a variable; empty where neither does."""
        layers = self.settings.configdict
        return str(layers["env"].get(name) or layers["conf"].get(name) or "")

    def eclass(self, repository: str, name: str) -> Path:
        """The file of an eclass, as ebuilds of `repository` inherit it.  Raises UnavailableError."""
        try:
            return Path(self.settings.repositories[repository].eclass_db.eclasses[name].location)
        except KeyError as error:
            raise UnavailableError(f"{name}.eclass of {repository}", "it was there when the build began") from error
