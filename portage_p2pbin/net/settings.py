"""What the network half is told when it starts.

Kept apart from the code that uses it, so that the gatekeeper can say it without loading libtorrent or an HTTP client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """Where to listen ("ADDRESS:PORT", port 0 for any), bytes a second (0: no limit), and how long to wait.

    `stall` is the number of seconds without progress after which a download is given up, `origin_after` that after which the
    origin is asked too: until then other peers carry the load.
    """

    listen: str = "0.0.0.0:6881"
    upload: int = 0
    download: int = 0
    lan_discovery: bool = False
    stall: float = 60.0
    origin_after: float = 1.0


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """`stall`: seconds without progress.  `proxy`: the address of one, or empty for none.  `source`: the address of this machine to
    connect from, or empty for the system's choice.

    Without `https` no certificate authorities are read, and https addresses are not to be used.
    """

    stall: float = 60.0
    proxy: str = ""
    source: str = ""
    https: bool = True


@dataclass(frozen=True, slots=True)
class HalfSettings:
    """Everything that the network half needs to know.

    `disk`: bytes for files that are held for others, 0 for none.  `servers`: base addresses of the trust servers by name.
    `resident`: does it outlive this call, so that it should announce itself and hold copies?  `hold_every`: seconds between two
    questions what to hold.
    """

    folder: Path
    swarm: SwarmSettings
    http: HttpSettings
    disk: int
    servers: Mapping[str, str]
    resident: bool
    hold_every: float
