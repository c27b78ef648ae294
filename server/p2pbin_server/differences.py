"""What differs between the two sides of a clash, entry by entry (P6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portage_p2pbin.kernel.model import ContentsDigest


def differences(manifests: Path, sides: Sequence[ContentsDigest]) -> list[dict[str, object]] | None:
    """The entries that differ between the first two of `sides`; None unless the packages of both are here."""
    return None
