"""Say on a terminal how far the reading of a long file is.

The reading half can say nothing; but its child reads through the same open file as we do, so the position of the one is that of the
other.  Whoever made the package can make the position go back and forth, no more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from portage_p2pbin.cli.output import standard_error
from portage_p2pbin.kernel.errors import printable

EVERY = 4.0
"""Seconds until the first line, and between two."""


@contextmanager
def progress(*files: BinaryIO) -> Iterator[None]:
    """Meanwhile say every few seconds where the named, open `files` are being read, if a human watches.

    It works by SIGALRM, so only in the main thread, and does not disturb what runs meanwhile: Python goes on with a system call that a
    signal has interrupted, and a child has no timer of its own.
    """
    output = standard_error()
    if not output.stream.isatty():
        yield
        return

    def say(_number: int, _frame: FrameType | None) -> None:
        output.good(", ".join(map(_position, files)))

    before = signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _position(file: BinaryIO) -> str:
    size = os.fstat(file.fileno()).st_size
    at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    return f"{printable(Path(file.name).name)}: {100 * at // max(size, 1)} % of {size} bytes read"
