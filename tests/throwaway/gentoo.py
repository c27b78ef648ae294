"""One throwaway Gentoo: its files, its settings, and the commands that run in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.throwaway import repository
from tests.throwaway.namespace import Namespace

PATIENCE = 300.0
"""Seconds that a command may take: many times what the slowest build of the test repository takes."""

LONGEST_EPREFIX = 75
"""Characters.  A unix socket's path has at most 107 bytes (unix(7)), and ours lie up to 32 below EPREFIX."""

_SECONDS_TO_STOP = 10.0
_SECONDS_BETWEEN_LOOKS = 0.02
_PROFILE = "default/linux/amd64"
_REPOSITORY = f"var/db/repos/{repository.NAME}"
_DISTDIR = "var/cache/distfiles"

# Set for every Gentoo, before what its maker sets.
_MAKE_CONF = {
    # Off: what needs a second user, and the sandboxes, which Debian does not have and a user namespace does not allow.
    # The C library is none of its packages, so no library name can be resolved.
    "FEATURES": (
        "buildpkg -ipc-sandbox -mount-sandbox -network-sandbox -news -pid-sandbox -qa-unresolved-soname-deps"
        " -sandbox -userfetch -userpriv -usersandbox -usersync"
    ),
    "NOCOLOR": "true",
    "ACCEPT_LICENSE": "*",
    "DISTDIR": f"${{EPREFIX}}/{_DISTDIR}",
    "PKGDIR": "${EPREFIX}/var/cache/binpkgs",
    "RPMDIR": "${EPREFIX}/var/cache/rpm",
    "PORTAGE_TMPDIR": "${EPREFIX}/var/tmp",
    "PORTAGE_LOGDIR": "${EPREFIX}/var/log/portage",
    "BINPKG_FORMAT": "gpkg",
    "BINPKG_COMPRESS": "zstd",
    "MAKEOPTS": "-j2",
    # All distfiles are there, and nothing may be downloaded.
    "FETCHCOMMAND": "false",
    "RESUMECOMMAND": "false",
    "GENTOO_MIRRORS": "",
}


class CommandError(AssertionError):
    """A command in a Gentoo ended with an exit code that its caller did not want.  The message ends with its output."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit code (negative: the signal that killed it), and what it wrote to stdout and stderr, as one text."""

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Running:
    """A command that runs on: its process, and the file that gets its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return what it has written to stdout and stderr so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until its output holds `text`.  Raises CommandError when it ends before that, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"{self.log.name}: no {text!r} in the output:\n{self.output()}")
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def stop(self) -> int:
        """End it and all its children, politely first.  Return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_SECONDS_TO_STOP)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


@dataclass(slots=True)
class Gentoo:
    """A throwaway Gentoo.  Make one with :meth:`create`, in a `with` statement: at its end the daemons are stopped; the files stay."""

    name: str
    root: Path
    eprefix: Path
    namespace: Namespace
    environment: dict[str, str]
    _started: list[Running] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        home: Path,
        name: str,
        *,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> Gentoo:
        """Make the Gentoo `name` in `home`, with real Portage, a profile and the test ebuild repository.

        All of one home see themselves at home/gentoo.  `home` is the tool's own folder, open to everybody.
        `settings` go to its make.conf, as by :meth:`configure`.  `environment` is added to that of each command; nothing of the
        caller's own environment is.  `user` is the uid of an ordinary user to run as.
        """
        home = home.resolve()
        root, eprefix = home / name, home / "gentoo"
        if len(str(eprefix)) > LONGEST_EPREFIX:
            raise ValueError(f"{eprefix} has more than {LONGEST_EPREFIX} characters: sockets in it could not be used")
        eprefix.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)
        root.mkdir()
        made = cls(name, root, eprefix, Namespace(root, eprefix, user), _environment(eprefix) | dict(environment or {}))
        made._fill(settings or {})
        return made

    def _fill(self, settings: Mapping[str, str]) -> None:
        for folder in ("bin", "home", "run", "share/portage/config", "etc/portage/repos.conf", "var/db/pkg", "var/tmp", "var/log"):
            (self.root / folder).mkdir(parents=True)
        repository.lay_out(self.root / _REPOSITORY, self.root / _DISTDIR)
        for part in ("make.globals", "sets", "binrepos.conf"):  # not repos.conf: it names the main Gentoo repository
            (self.root / "share/portage/config" / part).symlink_to(Path(sys.prefix, "share/portage/config", part))
        (self.root / "bin/gtar").symlink_to(shutil.which("gtar") or shutil.which("tar") or "/bin/tar")
        (self.root / "etc/portage/make.profile").symlink_to(Path("../..", _REPOSITORY, "profiles", _PROFILE))
        location = self.eprefix / _REPOSITORY
        self.write(
            "etc/portage/repos.conf/test.conf",
            f"[DEFAULT]\nmain-repo = {repository.NAME}\n\n[{repository.NAME}]\nlocation = {location}\nauto-sync = no\n",
        )
        self.configure(_MAKE_CONF)
        self.configure(settings)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add `settings` to make.conf.  One takes the place of an earlier one of the same name; only FEATURES are added up."""
        with (self.root / "etc/portage/make.conf").open("a") as make_conf:
            for key, value in settings.items():
                make_conf.write(f'{key}="${{FEATURES}} {value}"\n' if key == "FEATURES" else f'{key}="{value}"\n')
        self._hand_over()

    def outside(self, path: str | Path) -> Path:
        """Return where a file of this Gentoo lies for a process outside; `path` is as seen inside, or relative to its EPREFIX."""
        inside = Path(path)
        return self.root / (inside.relative_to(self.eprefix) if inside.is_absolute() else inside)

    def read(self, path: str | Path) -> str:
        """Return the text of one of its files."""
        return self.outside(path).read_text()

    def write(self, path: str | Path, text: str) -> None:
        """Write one of its files, with its folders."""
        file = self.outside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self._hand_over()

    def _hand_over(self) -> None:
        """Give all files to the ordinary user that this Gentoo runs as, if it does."""
        if self.namespace.user is not None:
            for path in [self.root, *self.root.rglob("*")]:
                os.chown(path, self.namespace.user, self.namespace.user, follow_symlinks=False)

    def installed(self) -> set[str]:
        """Return the CPVs (category/name-version) in its database of installed packages."""
        database = self.root / "var/db/pkg"
        return {str(entry.relative_to(database)) for entry in database.glob("*/*") if not entry.name.startswith("-MERGING-")}

    def binary_packages(self) -> list[Path]:
        """Return its gpkg files in PKGDIR, as paths outside, sorted."""
        return sorted((self.root / "var/cache/binpkgs").rglob("*.gpkg.tar"))

    def emerge(self, *arguments: str, environment: Mapping[str, str] | None = None, expect: int | None = 0) -> Finished:
        """Run emerge; else like :meth:`run`."""
        return self.run(["emerge", *arguments], environment=environment, expect=expect)

    def run(
        self, arguments: list[str], *, environment: Mapping[str, str] | None = None, expect: int | None = 0, timeout: float = PATIENCE
    ) -> Finished:
        """Run a command in this Gentoo, at its EPREFIX, and wait for its end.

        Raises CommandError unless its exit code is `expect` (None: any), and if it takes more than `timeout` seconds.
        """
        with tempfile.TemporaryFile() as output:  # not a pipe: what a command leaves behind may hold that open
            process = self._popen(arguments, environment, output.fileno())
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired as expired:
                raise CommandError(f"{self.name}: {arguments} did not end within {timeout} s") from expired
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            output.seek(0)
            finished = Finished(process.returncode, output.read().decode(errors="replace"))
        if expect is not None and finished.code != expect:
            raise CommandError(f"{self.name}: {arguments} ended with {finished.code}, not {expect}:\n{finished.output}")
        return finished

    def start(self, arguments: list[str], *, environment: Mapping[str, str] | None = None) -> Running:
        """Start a command that runs on, a daemon say.  It is stopped at the end of the `with` statement at the latest."""
        log = self.root / "var/log" / f"{len(self._started)}-{Path(arguments[0]).name}.log"
        with log.open("wb") as output:
            running = Running(self._popen(arguments, environment, output.fileno()), log)
        self._started.append(running)
        return running

    def _popen(self, arguments: list[str], environment: Mapping[str, str] | None, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.namespace.command(arguments),
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Stop what was started, the newest first."""
        while self._started:
            self._started.pop().stop()

    def __enter__(self) -> Gentoo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()


def _environment(eprefix: Path) -> dict[str, str]:
    """Return the environment of each command: that of a bare login, and what makes Portage work in this prefix."""
    own = [str(eprefix / "usr/sbin"), str(eprefix / "usr/bin"), str(eprefix / "bin"), str(Path(sys.prefix, "bin"))]
    return {
        "PATH": ":".join([*own, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
        "HOME": str(eprefix / "home"),
        "LANG": "C.UTF-8",
        "PORTAGE_OVERRIDE_EPREFIX": str(eprefix),
        # There need not be a user portage.  In a user namespace there is none but root.
        "PORTAGE_USERNAME": "root",
        "PORTAGE_GRPNAME": "root",
    }
