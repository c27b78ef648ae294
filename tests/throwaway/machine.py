"""What the tests and the demo, which run throwaway Gentoos, need of the machine, and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from portage_p2pbin.kernel.errors import SettingsError

# Program -> Debian package, Gentoo package.
_PROGRAMS = {
    "bash": ("bash", "app-shells/bash"),
    "bzip2": ("bzip2", "app-arch/bzip2"),
    "gcc": ("gcc", "sys-devel/gcc"),
    "gpg": ("gnupg", "app-crypt/gnupg"),
    "ld": ("binutils", "sys-devel/binutils"),
    "make": ("make", "dev-build/make"),
    "mount": ("mount", "sys-apps/util-linux"),
    "scanelf": ("pax-utils", "app-misc/pax-utils"),
    "setpriv": ("util-linux", "sys-apps/util-linux"),
    "tar": ("tar", "app-arch/tar"),
    "unshare": ("util-linux", "sys-apps/util-linux"),
    "zstd": ("zstd", "app-arch/zstd"),
}
_LIBC_HEADER = Path("/usr/include/stdio.h")


def missing_programs() -> list[str]:
    """Return the names of the programs that they need and PATH lacks, sorted."""
    return [program for program in sorted(_PROGRAMS) if shutil.which(program) is None]


def check_machine() -> None:
    """Raise SettingsError, naming all that is missing and the one command to get it, unless they can run here."""
    missing = {program: _PROGRAMS[program] for program in missing_programs()}
    if not _LIBC_HEADER.exists():
        missing[str(_LIBC_HEADER)] = ("libc6-dev", "sys-libs/glibc")
    if missing:
        raise SettingsError(f"Not on this machine: {', '.join(missing)}", f"Get it with: {_install_command(list(missing.values()))}")
    namespaces = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
    if subprocess.run(["unshare", *namespaces, "true"], capture_output=True, check=False).returncode:
        raise SettingsError(
            "This machine lets you make no mount namespaces",
            "Run: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; or start a container with --cap-add SYS_ADMIN",
        )


def _install_command(packages: list[tuple[str, str]]) -> str:
    """Return the command that installs `packages`, each named for Debian and for Gentoo."""
    if shutil.which("apt-get"):
        return "apt-get install " + " ".join(sorted({debian for debian, _ in packages}))
    return "emerge --ask --noreplace " + " ".join(sorted({gentoo for _, gentoo in packages}))


def main(arguments: list[str]) -> int:
    """Run `python -m tests.throwaway check`: say in one line what is missing.  Return the exit code."""
    if arguments != ["check"]:
        print("usage: python -m tests.throwaway check", file=sys.stderr)
        return 2
    try:
        check_machine()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
