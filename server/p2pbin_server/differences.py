"""What differs between the two sides of a clash, entry by entry, the worst first (P6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portage_p2pbin.binpkg.diff import compare
from portage_p2pbin.kernel.model import ContentsDigest

MOST_MANIFEST = 64 * 1024 * 1024
"""Bytes of a manifest that is compared while somebody waits: 200,000 files have about 40 MB."""

MOST_SHOWN = 1000
"""Differences shown; the worst are among them."""


def differences(manifests: Path, sides: Sequence[ContentsDigest]) -> list[dict[str, object]] | None:
    """The entries that differ between the first two of `sides`; None unless the packages of both have been read here."""
    paths = [manifest_path(manifests, side) for side in sides[:2]]
    if len(paths) < 2 or not all(path.exists() and path.stat().st_size <= MOST_MANIFEST for path in paths):
        return None
    found = sorted(compare(paths[0].read_bytes(), paths[1].read_bytes()), key=lambda one: -one.kind)
    return [{"path": one.path, "kind": one.kind.name.lower(), "detail": one.detail} for one in found[:MOST_SHOWN]]


def manifest_path(manifests: Path, contents: ContentsDigest) -> Path:
    """Where the manifest of these contents is kept."""
    return manifests / contents.partition(":")[2]
