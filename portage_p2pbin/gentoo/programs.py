"""The toolchain programs of a build that no installed package owns (P1.2), by SHA-256.

On a Gentoo machine that is hardly any.  On another distribution under a prefix it is the compiler and most of the tools, whose
name and version nobody here can vouch for: two such builds are comparable only where the very bytes of the programs are equal.
The list is frozen: another one makes the definitions of equal builds differ.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from portage_p2pbin.kernel.model import Sha256

ON_PATH = (
    # Their code ends up in every compiled file.
    "cc", "gcc", "c++", "g++", "cpp", "as", "ld", "ar", "ranlib", "nm", "objcopy",
    # They decide what a stripped, compressed or split file looks like, and which files are stripped at all.
    "strip", "scanelf", "debugedit", "dwz", "gzip", "bzip2", "xz", "zstd",
    # They run the ebuild and the build systems, and write files of their own: scripts, .pyc files, archives.
    "bash", "sh", "make", "python3", "perl", "m4", "tar", "patch", "sed", "awk", "grep", "find", "install",
    # It decides which libraries a configure script finds.
    "pkg-config",
)  # fmt: skip

OF_THE_COMPILER = {
    "cc1": "-print-prog-name=cc1",
    "cc1plus": "-print-prog-name=cc1plus",
    "crt1.o": "-print-file-name=crt1.o",
    "libc.so.6": "-print-file-name=libc.so.6",
    "libgcc.a": "-print-file-name=libgcc.a",
}
"""What the compiler finds by itself, and how to ask it: its two real programs, the C library, and what it links into everything."""

OF_PORTAGE = ("ebuild.sh", "estrip", "ecompress", "doins.py")
"""Portage's own programs that change what is installed; on a Gentoo machine sys-apps/portage owns them."""

_SECONDS = 10.0


def toolchain(path: str, portage_bin: Path, contents: Iterable[bytes]) -> dict[str, Sha256]:
    """The SHA-256 of each program by its plain name, in order of name, as the PATH of a build finds it.

    Left out: programs that are not there, and those that one of the CONTENTS of installed packages in `contents` lists.
    """
    found = {name: Path(os.path.realpath(file)) for name, file in _found(path, portage_bin)}
    owned = set(_owned({file.name for file in found.values()}, contents))
    digests = {file: sha256(file) for file in set(found.values()) if str(file) not in owned}
    return {name: digests[file] for name, file in sorted(found.items()) if file in digests}


def _found(path: str, portage_bin: Path) -> Iterator[tuple[str, str]]:
    # Portage's wrappers come first in the PATH of a build, and call the real ones.
    behind_wrappers = os.pathsep.join(folder for folder in path.split(os.pathsep) if not Path(folder).is_relative_to(portage_bin))
    for name in ON_PATH:
        file = shutil.which(name, path=behind_wrappers)
        if file is not None:
            yield name, file
    for name, question in OF_THE_COMPILER.items():
        file = _ask_compiler(behind_wrappers, question)
        if file is not None:
            yield name, file
    for name in OF_PORTAGE:
        if (portage_bin / name).is_file():
            yield name, str(portage_bin / name)


def _ask_compiler(path: str, question: str) -> str | None:
    """The file that `cc` names; None where there is no compiler or it knows no such file."""
    compiler = shutil.which("cc", path=path)
    if compiler is None:
        return None
    answer = subprocess.run([compiler, question], capture_output=True, env={"PATH": path}, timeout=_SECONDS, check=False)
    file = os.fsdecode(answer.stdout).strip()
    return file if Path(file).is_absolute() and Path(file).is_file() else None


def _owned(names: set[str], contents: Iterable[bytes]) -> Iterator[str]:
    """The real paths of the files in `contents` that have one of `names`."""
    any_name = b"|".join(re.escape(os.fsencode(name)) for name in sorted(names))
    line = re.compile(rb"^obj (.*/(?:" + any_name + rb")) [0-9a-f]{32} [0-9]+$", re.MULTILINE)
    for text in contents:
        for found in line.finditer(text):
            yield os.path.realpath(os.fsdecode(found[1]))


def sha256(file: Path) -> Sha256:
    """The SHA-256 of a file.  Raises OSError."""
    with file.open("rb") as data:
        return Sha256(hashlib.file_digest(data, "sha256").hexdigest())
