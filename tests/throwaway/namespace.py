"""Run a command with a Gentoo's folder at the path that all Gentoos of one home share.

Each command gets a mount namespace of its own, made by unshare(1) and gone with the last process in it.  There is no process
to keep alive: two commands of one Gentoo see the same files, unix sockets included, since a socket is found by its inode.
Nothing here touches the network namespace: all Gentoos share the machine's loopback.

Root may let a Gentoo run as an ordinary user.  From there on it is what an ordinary user's own would be: a user namespace in
which that user is root, and nobody else exists.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]

_AS_ORDINARY_USER = ["unshare", "--user", "--map-root-user", "--mount"]

# $1 folder of the Gentoo, $2 shared path, then the command.
_AT_SHARED_PATH = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where one Gentoo lies (`root`), where it sees itself (`shared`), and as whom it runs: the uid `user`, or None for the caller."""

    root: Path
    shared: Path
    user: int | None = None

    def command(self, arguments: list[str]) -> list[str]:
        """Return the command that runs `arguments` in the shared path.  It becomes `arguments`: signals and exit code are theirs."""
        inside = ["bash", "-c", _AT_SHARED_PATH, "bash", str(self.root), str(self.shared), *arguments]
        if os.getuid() != 0:
            return [*_AS_ORDINARY_USER, *inside]
        if self.user is not None:
            inside = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *_AS_ORDINARY_USER, *inside]
        needed = {Path(sys.base_prefix), Path(sys.prefix), _PROJECT, self.shared.parent}
        return ["unshare", "--mount", "bash", "-c", _open_parents(sorted(needed)) + 'exec "$@"', "bash", *inside]


def _open_parents(folders: list[Path]) -> str:
    """Return the bash lines that make `folders` reachable for everybody, in the mount namespace that runs them.

    Python's own folder may lie below /root, and a test's below a folder that is closed as well: whoever drops privileges could run
    nothing.  An empty file system is laid over each closed parent, and the folders, held open meanwhile, are put back in their
    places.  Nothing else below that parent can be seen.
    """
    closed = {folder: parent for folder in folders if (parent := _closed_parent(folder)) is not None}
    held = {folder: f"held{number}" for number, folder in enumerate(closed)}
    lines = ["set -e", "umask 022"]
    lines += [f"exec {{{name}}}<{shlex.quote(str(folder))}" for folder, name in held.items()]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(parent))}" for parent in sorted(set(closed.values()))]
    for folder, name in held.items():
        place = shlex.quote(str(folder))
        lines += [f"mkdir -p {place}", f'mount --no-canonicalize --bind "/proc/self/fd/${name}" {place}', f"exec {{{name}}}<&-"]
    return "\n".join([*lines, ""])


def _closed_parent(folder: Path) -> Path | None:
    """Return the topmost parent of `folder` that others may not enter."""
    for parent in reversed(folder.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None
