"""A channel's baseline: which definitions may be listed in it (P7.2).

Portage does not look at CFLAGS when it takes a binary package, so a package for another processor must never get into the index.
"""

from __future__ import annotations

from p2pbin_server.settings import Baseline
from portage_p2pbin.kernel.definition import BuildRequest


def strays(request: BuildRequest, baseline: Baseline) -> str | None:
    """Why `request` is not of the channel with this `baseline`, or None if it is."""
    if request.chost != baseline.chost:
        return f"CHOST is {request.chost}, not {baseline.chost}"
    for name, value in request.flags.items():
        for word in value.split():
            if word not in baseline.flags:
                return f"{name} has {word}, which is not in the baseline of the channel"
    return None
