"""An ordinary user in a Gentoo Prefix of his own: plain emerge with and without p2pbind, and p2pbin-fetch by itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from tests.e2e.small_world import LARGE, SMALL, small_world
from tests.throwaway import Finished
from tests.world import CHANNEL, Member, World

ORDINARY_USER = 61000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world() as world:
        yield world


@pytest.fixture(params=["without a daemon", "with p2pbind"])
def user(world: World, request: pytest.FixtureRequest) -> Member:
    """An ordinary user at threshold 3."""
    number = len(world.members)
    return world.member(f"user{number}", user=ORDINARY_USER, daemon=request.param == "with p2pbind")


def fetch(world: World, user: Member, path: str, name: str) -> Finished:
    return user.gentoo.run(["p2pbin-fetch", f"p2pbin://{world.server.host}/{CHANNEL}/{path}", f"var/tmp/{name}"])


def check_owner(user: Member) -> None:
    """Everything that was placed, installed or kept belongs to the user."""
    if os.getuid() == 0:
        kept = [
            path for folder in ("usr", "var/cache", "var/db/pkg", "var/lib", "var/tmp") for path in user.gentoo.outside(folder).rglob("*")
        ]
        assert {path.lstat().st_uid for path in kept} == {ORDINARY_USER}


def test_plain_emerge_installs_what_bert_built(world: World, user: Member):
    done = user.emerge(SMALL, LARGE)
    assert done.output.count(">>> Emerging binary") == 2, done.output
    for entry in world.server.entries():
        assert user.build_time(entry.cpv) == world.members[0].build_time(entry.cpv)
    assert user.gentoo.run(["hello"]).output
    peers, origin = user.received()
    assert sum(peers.values()) + origin >= sum(entry.size for entry in world.server.entries())
    check_owner(user)


def test_p2pbin_fetch_places_the_index_and_packages(world: World, user: Member):
    fetch(world, user, "Packages", "Packages")
    assert "PACKAGES: 2\n" in user.gentoo.read("var/tmp/Packages")
    for entry in world.server.entries():
        fetch(world, user, entry.path, entry.name)
        assert hashlib.sha256(user.gentoo.outside(f"var/tmp/{entry.name}").read_bytes()).hexdigest() == entry.file
    check_owner(user)
