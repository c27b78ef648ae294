"""A package file that the user names on the command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from portage_p2pbin.kernel.errors import SettingsError


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The open file, unbuffered, since the reading half reads through the same position.

    Raises SettingsError if there is no plain file of that name.
    """
    try:
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise SettingsError(f"{path}: {error.strerror}", "Name a gpkg file") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SettingsError(f"{path} is no plain file", "Name a gpkg file")
        yield cast(BinaryIO, file)
