"""The two formats of package files, and which of them a file is in.

Portage tells them apart by their ends and magic numbers, and so does this.  Whoever made a file chooses its format; both are
read as strictly, and give the same digest for the same contents (P2.7).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from portage_p2pbin.binpkg.gpkg import Gpkg
from portage_p2pbin.binpkg.tar import TarReader
from portage_p2pbin.binpkg.xpak import Xpak, has_xpak


class Package(Protocol):
    """A package file that is read from its start to its end: call :meth:`metadata`, :meth:`image` and :meth:`finish`, in this
    order.

    Only after :meth:`finish` has anything been proven about the file.  Each step raises :class:`RefusedError` for what
    Portage's writer would not have written.
    """

    @property
    def droppings(self) -> tuple[str, ...]:
        """Return what of the format itself cleaning would take away; known at the end."""

    def metadata(self) -> dict[str, bytes]:
        """Return the metadata: the value of each key, as it is stored."""

    def image(self) -> AbstractContextManager[TarReader]:
        """Give the reader of the image, whose members all have to be read."""

    def finish(self) -> None:
        """Check that the file ends where it should."""


def open_package(file: BinaryIO) -> Package:
    """Return the package in `file`, which can be sought and is read from its start."""
    is_xpak = has_xpak(file)
    file.seek(0, os.SEEK_SET)
    return Xpak(file) if is_xpak else Gpkg(file)
