"""Whether this process has rights to give up: root's, and not only root's number.

What is read comes from the kernel alone.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_root() -> bool:
    """Say whether this process is root and there are others whom it can become.

    Root of a user namespace that holds nobody else (``unshare --map-root-user``, a container without subordinate ids) is not: to
    everybody outside it is an ordinary user, and every other user's number is invalid to it.
    """
    if os.geteuid() != 0:
        return False
    mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()  # inside, outside, how many: user_namespaces(7)
    return sum(int(line.split()[2]) for line in mapped) > 1
