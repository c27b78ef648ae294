"""Files that are whole or not there, and stay so through a power cut.

Nobody outside chooses a path here; the bytes may be anybody's.  The same bytes written twice are the same file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `path` a file of `data`: a temporary file beside it, fsync, rename, fsync of the folder.

    Whoever reads `path` meanwhile, or after a crash, finds what it held before or `data`, and nothing between.  `mode` is
    exact, whatever the umask.  Raises OSError, and then leaves no temporary file.
    """
    beside = _write_beside(path, data, mode)
    try:
        place(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Like :func:`write`, where nothing may be yet.  Raises FileExistsError, and then nothing has changed."""
    beside = _write_beside(path, data, mode)
    try:
        path.hardlink_to(beside)
    finally:
        beside.unlink()
    _sync(path.parent)


def place(complete: Path, path: Path) -> None:
    """Give `complete`, a file on the same file system whose bytes are on disk already, the name `path`.  Raises OSError."""
    complete.replace(path)
    _sync(path.parent)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make the folder `path`, and those above it that are missing, so that they are still there after a crash.  Raises OSError."""
    if not path.is_dir():
        make_folder(path.parent, mode)
        path.mkdir(mode, exist_ok=True)
        _sync(path.parent)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
