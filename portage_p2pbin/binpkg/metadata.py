"""The metadata of a package: keys, which of them are hashed, and which cleaning removes (P2.3).

Portage copies the keys into its data base of installed packages, and some steer what it does with the image (EPREFIX) or run as
root (the ebuild, the environment).  So every key is hashed, whether or not anybody knows it, but for those that only describe
the build event.  Whoever made the package chooses names and values within the bounds here.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping

from portage_p2pbin.binpkg.environment import LARGEST_ENVIRONMENT
from portage_p2pbin.kernel.errors import RefusedError

MOST_METADATA = 16 << 20
"""Bytes of all metadata together; the biggest of real packages have a tenth."""

MOST_KEYS = 1000
"""A package has some forty."""

PER_EVENT = frozenset(("BUILD_ID", "BUILD_TIME", "SIZE"))
"""Keys that describe the build and not what was built.  They hold digits only, and are not hashed."""

CLEANED_KEYS = frozenset(("FEATURES", "PKGUSE", "REPO_REVISIONS"))
"""Keys that cleaning removes.  PKGUSE says which flags stood in package.use; USE says which the package was built with."""

ENVIRONMENT = "environment.bz2"

UNORDERED = frozenset(("NEEDED", "NEEDED.ELF.2"))
"""Keys with a line for each ELF file, in the order in which the builder's file system happened to list them."""

_KEY = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,149}").fullmatch
_DIGITS = re.compile(rb"[0-9]{1,18}\n?").fullmatch


class MetadataBounds:
    """Checks the keys of one package as they come: no folder, each once, not too many, not too much."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._left = MOST_METADATA

    def check(self, key: str, size: int) -> None:
        """Raise :class:`RefusedError` ``P2.3`` where a value of `size` bytes for `key` may not come next."""
        if not _KEY(key):
            raise RefusedError("P2.3", key, "it is not a metadata key as Portage writes it")
        if key in self._keys:
            raise RefusedError("P2.3", key, "it is there twice")
        self._keys.add(key)
        self._left -= size
        if self._left < 0 or len(self._keys) > MOST_KEYS:
            raise RefusedError("P2.3", key, f"the metadata has more than {MOST_METADATA} bytes or {MOST_KEYS} keys")


def check_event_keys(metadata: Mapping[str, bytes]) -> None:
    """Raise :class:`RefusedError` ``P2.3`` where a key that is not hashed could say anything but a number."""
    for key in sorted(PER_EVENT & metadata.keys()):
        if not _DIGITS(metadata[key]):
            raise RefusedError("P2.3", key, "it does not hold digits only")


def ebuild_name(metadata: Mapping[str, bytes]) -> str:
    """Return the key of the package's ebuild: the value of PF and ``.ebuild``.

    Raises :class:`RefusedError` ``P2.3`` for metadata without PF, its ebuild or the environment, or with a second ebuild.
    """
    ebuilds = [key for key in metadata if key.endswith(".ebuild")]
    pf = metadata.get("PF", b"").strip().decode("utf-8", "backslashreplace")
    if ebuilds != [f"{pf}.ebuild"] or ENVIRONMENT not in metadata:
        raise RefusedError("P2.3", "the metadata", f"it does not hold PF, its ebuild and {ENVIRONMENT}, each once")
    return ebuilds[0]


def unpack_environment(metadata: Mapping[str, bytes]) -> bytes:
    """Return the text of the saved environment.  Raises :class:`RefusedError` ``P2.4`` unless it is one bzip2 stream of bounded
    size.
    """
    decompressor = bz2.BZ2Decompressor()
    try:
        text = decompressor.decompress(metadata[ENVIRONMENT], LARGEST_ENVIRONMENT + 1)
    except OSError as error:
        raise RefusedError("P2.4", ENVIRONMENT, f"it cannot be unpacked: {error}") from error
    if len(text) > LARGEST_ENVIRONMENT or not decompressor.eof or decompressor.unused_data:
        raise RefusedError("P2.4", ENVIRONMENT, f"it is not one bzip2 stream of at most {LARGEST_ENVIRONMENT} bytes")
    return text


def in_order(key: str, value: bytes) -> bytes:
    """Return what of the key is hashed: its value, with the lines in byte order where their order says nothing."""
    return b"\n".join(sorted(value.split(b"\n"))) if key in UNORDERED else value


def texts(metadata: Mapping[str, bytes]) -> dict[str, str]:
    """Return all keys but the environment and the ebuild as text, without white space at the ends.

    Raises :class:`RefusedError` ``P2.3`` for what is not UTF-8, which PMS asks for.
    """
    return {key: _text(key, value) for key, value in metadata.items() if key != ENVIRONMENT and not key.endswith(".ebuild")}


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RefusedError("P2.3", key, "it is not UTF-8") from error
