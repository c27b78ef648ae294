"""Run a command with a Gentoo's folder at the path that all Gentoos share.

Each command gets a mount namespace of its own, made by unshare(1) and gone with the last process in it.  There is no process
to keep alive: two commands of one Gentoo see the same files, unix sockets included, since a socket is found by its inode.
Nothing here touches the network namespace: all Gentoos share the machine's loopback.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# $1 real folder, $2 shared path, then the command.
_AT_SHARED_PATH = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where one Gentoo lies (`real`), where it sees itself (`shared`), and as whom it runs: `user`, or whoever calls if None."""

    real: Path
    shared: Path
    user: int | None = None

    def command(self, arguments: list[str]) -> list[str]:
        """Return the command that runs `arguments` in the shared path.  It replaces itself by them: signals and exit code are theirs."""
        namespaces = ["--mount"] if self.user is None and os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
        return ["unshare", *namespaces, "sh", "-c", _AT_SHARED_PATH, "sh", str(self.real), str(self.shared), *arguments]
