"""Files that are there wholly or not at all, whatever stops the machine in between.

Whoever can write in the folder of such a file can replace it; that is decided by the folder's mode, not here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, in place of what was there.  Afterwards it is on disk, or the old file still is.

    The folder must exist.  Raises OSError.
    """
    temporary = _temporary(path, data, mode)
    try:
        place_durably(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def place_durably(temporary: Path, path: Path) -> None:
    """Give a file that is on disk already the name `path`, in the same folder.  Raises OSError."""
    temporary.replace(path)
    _sync_folder(path.parent)


def create_durably(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path`, where nothing may be yet.  Raises FileExistsError, and then nothing was changed."""
    temporary = _temporary(path, data, mode)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def _temporary(path: Path, data: bytes, mode: int) -> Path:
    """A new file beside `path` that holds `data`, readable for nobody else until it is complete."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
