"""Real upstream projects: what Debian calls them, and ebuilds for them.

The archives are those of Debian's source packages, as the machine's own apt sources have them.  apt runs with lists and settings of
its own in the work folder, and checks what it gets with the keys of the machine; nothing outside that folder is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from portage_p2pbin.kernel.errors import UnavailableError
from tests.throwaway import Gentoo
from tests.throwaway.repository import NAME, manifest_line

CATEGORY = "upstream"
EBUILDS = Path(__file__).parent / "ebuilds"
_SECONDS = 300
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")

# What the ebuilds share, before the words of their own.
_HEADER = """\
EAPI=8
DESCRIPTION="{name}, as its authors released it"
HOMEPAGE="https://p2pbin.example.org/"
SRC_URI="https://p2pbin.example.org/{archive}"
S="${{WORKDIR}}/{folder}"
SLOT="0"
KEYWORDS="amd64"
"""

_APT = """\
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "";
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project: the name of its ebuild, that of Debian's source package, and what kind it is."""

    name: str
    source: str
    kind: str


PROJECTS = (
    Project("zlib", "zlib", "plain make"),
    Project("xz-utils", "xz-utils", "autotools"),
    Project("hello", "hello", "autotools"),
    Project("gzip", "gzip", "autotools"),
    Project("sed", "sed", "autotools"),
    Project("patch", "patch", "autotools"),
    Project("tree", "tree", "plain make"),
    Project("lz4", "lz4", "plain make"),
    Project("bzip2", "bzip2", "plain make, static library"),
    Project("lua", "lua5.4", "plain make, static library"),
    Project("expat", "expat", "cmake, static library"),
    Project("cjson", "cjson", "cmake"),
    Project("brotli", "brotli", "cmake"),
    Project("yajl", "yajl", "cmake"),
    Project("libyaml", "libyaml", "cmake, debug information split"),
    Project("fribidi", "fribidi", "meson"),
    Project("toml", "python-toml", "Python with .pyc"),
    Project("try-tiny", "libtry-tiny-perl", "Perl"),
    Project("clone", "libclone-perl", "Perl and C"),
    Project("jzlib", "jzlib", "Java, a jar"),
)

SPLIT_DEBUG = ("libyaml",)
"""The projects that are built with FEATURES=splitdebug and -g."""


@dataclass(frozen=True, slots=True)
class Release:
    """What there is of a project: the archive of one version."""

    project: Project
    version: str
    archive: Path

    @property
    def atom(self) -> str:
        return f"={CATEGORY}/{self.project.name}-{self.version}"

    def put_into(self, gentoo: Gentoo) -> None:
        """Write its ebuild, Manifest and distfile."""
        content = self.archive.read_bytes()
        with tarfile.open(self.archive) as tar:
            folder = tar.getnames()[0].split("/")[0]
        header = _HEADER.format(name=self.project.name, archive=self.archive.name, folder=folder)
        package = f"var/db/repos/{NAME}/{CATEGORY}/{self.project.name}"
        body = (EBUILDS / f"{self.project.name}.ebuild").read_text()
        gentoo.write(f"{package}/{self.project.name}-{self.version}.ebuild", header + body)
        gentoo.write(f"{package}/Manifest", manifest_line(self.archive.name, content))
        gentoo.outside(f"var/cache/distfiles/{self.archive.name}").write_bytes(content)


def fetch(projects: tuple[Project, ...], folder: Path) -> list[Release]:
    """Return the releases of `projects`, from `folder` where an earlier run left them.  Raises UnavailableError."""
    missing = [project for project in projects if not _archives(project, folder)]
    if missing:
        environment = _private_apt(folder / "apt")
        for project in missing:
            _apt(["source", "--download-only", "--tar-only", "-qq", project.source], environment, folder)
    return [_release(project, folder) for project in projects]


def _archives(project: Project, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{project.source}_*.orig.tar.*"))


def _release(project: Project, folder: Path) -> Release:
    archive = _archives(project, folder)[-1]
    version = _VERSION.match(archive.name.removeprefix(f"{project.source}_"))
    if version is None:
        raise UnavailableError(project.name, f"{archive.name} says no version that Gentoo could have")
    return Release(project, version[0], archive)


def _private_apt(folder: Path) -> dict[str, str]:
    """Give apt lists of its own in `folder`, with the source packages of the machine's own sources.  Return the environment for it."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    found = _apt(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Label: Debian"], {}, folder)
    (folder / "sources.list").write_text("".join(f"deb-src {line}\n" for line in sorted(set(found.splitlines()))))
    (folder / "apt.conf").write_text(_APT.format(folder=folder))
    environment = {"APT_CONFIG": str(folder / "apt.conf")}
    _apt(["update", "-qq"], environment, folder)
    return environment


def _apt(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["apt-get", *arguments], cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise UnavailableError(f"apt-get {' '.join(arguments)}", done.stderr.strip())
    return done.stdout
