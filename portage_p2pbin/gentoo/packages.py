"""The `Packages` text that Portage reads, and the files that it keeps from an earlier one (P7.3, P7.5).

Portage believes every header and key of this text: a `URI: file:///…` installs without asking us, a TTL freezes the index, a
PATH with `..` lets root write anywhere, an odd version crashes emerge.  So nothing that a server wrote is passed on as it is: the
text is made here from values whose form the kernel has checked, and an entry that would crash Portage is left out.  What is
listed still proves nothing; each package is judged again when Portage asks for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from portage.versions import catpkgsplit

from portage_p2pbin.kernel.index import METADATA_KEYS, Entry

_CATEGORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*")
_OURS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*-[0-9a-f]{20}\.gpkg\.tar(?:\.partial)?")
"""The form of the names that Entry.path makes, and of Portage's name for a file that it is fetching."""


def packages_text(entries: Iterable[Entry], timestamp: int) -> bytes:
    """The `Packages` text that lists `entries`, an empty one too (P7.3).

    `timestamp` (seconds) must be greater than that of any text served before, or Portage keeps the earlier one.
    """
    listed = [entry for entry in entries if _readable(entry)]
    blocks = [f"PACKAGES: {len(listed)}\nTIMESTAMP: {timestamp}\nVERSION: 0\n"]
    blocks += [_block(entry) for entry in sorted(listed, key=lambda entry: entry.path)]
    return "".join(f"{block}\n" for block in blocks).encode("utf-8")


def _readable(entry: Entry) -> bool:
    """Does Portage know this for the name of a package?  It crashes on `a/b-1-2`, which Cpv allows; odd metadata it just masks."""
    return catpkgsplit(str(entry.cpv)) is not None


def _block(entry: Entry) -> str:
    """One package.  MTIME is the serial: when the entry changes, Portage asks for a cached file again (P7.5).

    Without SIZE and one of MD5 and SHA1 Portage refuses the file that it fetched; it does not read SHA256 here.
    """
    values = {name: entry.metadata.get(name, "") for name in METADATA_KEYS} | {
        "CPV": entry.cpv,
        "MTIME": str(entry.serial),
        "PATH": entry.path,
        "REPO": entry.repository,
        "SHA1": entry.sha1,
        "SIZE": str(entry.size),
    }
    return "".join(f"{name}: {value}\n" for name, value in sorted(values.items()) if value)


def remove_unlisted(location: Path, listed: Collection[str]) -> list[str]:
    """Remove the package files below `location` whose path there is not in `listed`; return their paths (P7.5).

    Only what has a name that :attr:`Entry.path` makes is touched, only two levels down, and no symlink is followed.  Files that
    this user may not remove stay: Portage installs none that is not listed.
    """
    removed: list[str] = []
    with suppress(FileNotFoundError, PermissionError):
        with os.scandir(location) as found:
            categories = sorted(one.name for one in found if one.is_dir(follow_symlinks=False) and _CATEGORY.fullmatch(one.name))
        for category in categories:
            removed += _remove_below(location, category, listed)
    return removed


def _remove_below(location: Path, category: str, listed: Collection[str]) -> list[str]:
    removed = []
    folder = os.open(location / category, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(folder) as found:
            ours = sorted(one.name for one in found if one.is_file(follow_symlinks=False) and _OURS.fullmatch(one.name))
        for name in ours:
            path = f"{category}/{name.removesuffix('.partial')}"
            if path not in listed:
                os.unlink(name, dir_fd=folder)
                removed.append(path)
    finally:
        os.close(folder)
    return removed
