"""The smallest world in which something can be fetched: a server, and bert, who is trusted, has built two packages and seeds them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portage_p2pbin.kernel.index import Entry
from tests.world import World, eventually

SMALL, LARGE = "app-misc/hello", "dev-libs/libdice"
"""The two packages: one of a single piece, and one of 1.4 MB."""


@contextmanager
def small_world() -> Iterator[World]:
    """The world, for the block.  Its first member is bert."""
    home = Path(tempfile.mkdtemp(prefix="p2pbin-"))
    home.chmod(0o755)
    try:
        with World(home) as world:
            world.server.initialise()
            world.server.start()
            bert = world.contributor("bert")
            world.server.sign_roster({bert.identity: ("bert", "trusted")})
            bert.gentoo.emerge(SMALL, LARGE)
            bert.p2pbin("publish")
            eventually("both packages are listed", lambda: len(world.server.listed_levels()) == 2)
            yield world
    finally:
        shutil.rmtree(home)


def listed(world: World, package: str) -> Entry:
    """The entry of `package` as the server lists it."""
    return next(entry for entry in world.server.entries() if entry.cpv.cp == package)
