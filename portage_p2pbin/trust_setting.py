"""Set P2PBIN_TRUST in make.conf, and change nothing else there (P7.4).

make.conf is the operator's own file and full of what they typed; whoever can write it is root already.  So the danger here is
only us: the line is changed or added, the new text is read as Portage reads it, and unless exactly this one variable has changed
the old file stays.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Level

VARIABLE = "P2PBIN_TRUST"

MOST_MAKE_CONF = 1024 * 1024
"""Bytes of a make.conf that is still one; real ones have a few thousand."""

ReadSettings = Callable[[Path], Mapping[str, str]]
"""Reads one file, and what it sources, as Portage does.  Raises SettingsError."""

_ASSIGNMENT = re.compile(rb"^(P2PBIN_TRUST=)(?:\"[^\"\n$`\\]*\"|'[^'\n]*'|[0-9A-Za-z]*)(?=[ \t]*(?:#.*)?$)", re.MULTILINE)
"""The whole of a plain assignment, at the start of its line.  Anything more artful is left to its author."""

_MENTION = re.compile(rb"^[^#\n]*\bP2PBIN_TRUST\b", re.MULTILINE)


def set_threshold(make_conf: Path, level: Level, read: ReadSettings) -> Path:
    """Make `level` the threshold, in `make_conf` or, where that is a folder, in one of its files; return the file changed.

    A link is followed, so that a make.conf kept elsewhere stays a link; mode and owner stay as they are.  Raises SettingsError,
    and then nothing was changed, if the file is not there, is not plain, or sets the variable in a way that we do not dare to edit.
    """
    original = MakeConf.read(make_conf)
    changed = original.with_threshold(level)
    if changed != original:
        _write_checked(original, changed, level, read)
    return changed.path


@dataclass(frozen=True, slots=True)
class MakeConf:
    """A file with Portage's settings and what is in it."""

    path: Path
    text: bytes

    @classmethod
    def read(cls, make_conf: Path) -> Self:
        """The file in which the variable is or would be set."""
        if make_conf.is_dir():
            return cls._in_folder(make_conf)
        if not make_conf.is_file():
            raise SettingsError(f"{make_conf} is not there", "Is this a Gentoo? Make the file first, it may be empty")
        return cls._plain(make_conf.resolve())

    @classmethod
    def _in_folder(cls, folder: Path) -> Self:
        """Portage reads all files of a folder: the one that has the variable, or a new one of our own."""
        files = [cls._plain(path.resolve()) for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        setting = [file for file in files if _MENTION.search(file.text)]
        if len(setting) > 1:
            raise SettingsError(f"{setting[0].path} and {setting[1].path} both set {VARIABLE}", "Keep one of them")
        return setting[0] if setting else cls(folder.resolve() / "p2pbin", b"")

    @classmethod
    def _plain(cls, path: Path) -> Self:
        with path.open("rb") as file:
            text = file.read(MOST_MAKE_CONF + 1)
        if len(text) > MOST_MAKE_CONF or b"\0" in text:
            raise SettingsError(f"{path} is no text of at most {MOST_MAKE_CONF} bytes", f"Set {VARIABLE} there yourself")
        return cls(path, text)

    def with_threshold(self, level: Level) -> Self:
        """The same file with the one assignment changed, or added at its end."""
        line = f'{VARIABLE}="{int(level)}"'.encode("ascii")
        mentions = len(_MENTION.findall(self.text))
        if mentions == 0:
            gap = b"" if self.text.endswith(b"\n") or not self.text else b"\n"
            return type(self)(self.path, self.text + gap + line + b"\n")
        if mentions > 1:
            raise SettingsError(f"{self.path} speaks of {VARIABLE} {mentions} times", "Leave one plain line of it")
        text, replaced = _ASSIGNMENT.subn(line, self.text)
        if replaced != 1:
            raise SettingsError(f"{self.path} sets {VARIABLE} in an unusual way", f"Make it a plain line: {line.decode('ascii')}")
        return type(self)(self.path, text)


def _write_checked(original: MakeConf, changed: MakeConf, level: Level, read: ReadSettings) -> None:
    """Put `changed` in place if Portage reads the new threshold in it, and otherwise the same as in `original`."""
    before = dict(read(original.path)) if original.path.exists() else {}
    # Portage reads no folder whose name begins with a dot, so nobody reads the candidate but us.
    with tempfile.TemporaryDirectory(dir=changed.path.parent, prefix=".p2pbin-") as folder:
        candidate = Path(folder, changed.path.name)
        durable.write(candidate, changed.text)
        if _read_or_nothing(candidate, read) != before | {VARIABLE: str(int(level))}:
            raise SettingsError(f"{changed.path} would not be read as meant", f"Set {VARIABLE} in it yourself; is a quote left open?")
        if original.path.exists():
            _copy_rights(original.path, candidate)
        durable.place(candidate, changed.path)


def _read_or_nothing(path: Path, read: ReadSettings) -> Mapping[str, str]:
    try:
        return read(path)
    except SettingsError:
        return {}


def _copy_rights(source: Path, target: Path) -> None:
    """Owner first: changing it may take mode bits away."""
    found = source.stat()
    os.chown(target, found.st_uid, found.st_gid)
    target.chmod(stat.S_IMODE(found.st_mode))
