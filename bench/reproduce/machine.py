"""What `make reproduce` needs of the machine beyond what a throwaway Gentoo needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from portage_p2pbin.kernel.errors import SettingsError

# Program -> Debian package.  The sources come from Debian, so another system has to have its apt-get too.
_PROGRAMS = {
    "apt-get": "apt",
    "cmake": "cmake",
    "disorderfs": "disorderfs",
    "faketime": "faketime",
    "g++": "g++",
    "hostname": "hostname",
    "jar": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "localedef": "libc-bin",
    "meson": "meson",
    "perl": "perl",
    "xz": "xz-utils",
}
_LOCALES = Path("/usr/share/i18n/locales")


def check_programs() -> None:
    """Raise SettingsError, naming all that is missing and the one command to get it."""
    missing = {program: package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if not _LOCALES.exists():
        missing[str(_LOCALES)] = "locales"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise SettingsError(f"Not on this machine: {', '.join(missing)}", f"Get it with: apt-get install {packages}")
