"""The nine scenes.  Each does what real people would do, looks at what came of it, and says what it saw or raises NotSeenError."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.demo import thief
from tests.world import CHANNEL, Member, NotSeenError, World, eventually

WANTED = "app-misc/starmap"
PACKAGES = {"dev-libs/libdice": "dev-libs/libdice-1.2", "app-misc/dice": "app-misc/dice-0.9", WANTED: "app-misc/starmap-1.4"}
"""What the people of this demo want, by package: starmap needs dice, and both need libdice."""

ELSEWHERE = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "LANG": "C", "MAKEOPTS": "-j1", "MY_SHELL_VARIABLE": "mine"}
DISK = 64 * 1024 * 1024


def see(happened: object, what: str) -> None:
    """Raise NotSeenError unless it happened."""
    if not happened:
        raise NotSeenError(f"did not happen: {what}")


def say(text: str) -> None:
    """Print what the scene shows, indented below its title."""
    for line in text.strip().splitlines():
        print(f"    {line}", flush=True)


class Play:
    """The people, as they come in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server = world.server

    # 1 ---------------------------------------------------------------------------------------------------------------------

    def ceremony(self) -> str:
        """The server is set up with offline keys, and everybody who will be trusted gets on the roster."""
        self.server.initialise()
        self.server.start()
        self.alice = self.world.contributor("alice", trust=3, disk=DISK)
        self.bert = self.world.contributor("bert", environment=ELSEWHERE, disk=DISK)
        self.clara = self.world.contributor("clara", environment={"TZ": "America/Lima"}, disk=DISK)
        self.mallory = self.world.contributor("mallory")
        self.brick = self.world.contributor("brick")
        roles = {self.bert: "trusted", self.clara: "trusted", self.mallory: "semi-trusted", self.brick: "build-server"}
        self.server.sign_roster({member.identity: (member.name, role) for member, role in roles.items()})
        signers = self.server.roster_signatures()
        see(signers >= 2, "two offline keys signed the roster")
        say(f"root fingerprint {self.server.fingerprint[:16]}…; roster signed by {signers} offline keys, {len(roles)} contributors")
        return f"{len(roles)} contributors on a roster with {signers} offline signatures"

    # 2 ---------------------------------------------------------------------------------------------------------------------

    def compile_and_share(self) -> str:
        """Nothing is listed yet, so Portage compiles; what came of it is shared."""
        self.alice.emerge(WANTED)
        installed = self.alice.gentoo.installed()
        see(set(PACKAGES.values()) <= installed, "alice has everything installed")
        say(self.alice.p2pbin("publish"))
        levels = self.server.levels()
        see(set(levels) == set(PACKAGES.values()) and set(levels.values()) == {None}, f"untrusted votes, no level: {levels}")
        return f"{len(PACKAGES)} packages compiled and shared; one untrusted vote each, no level"

    # 3 ---------------------------------------------------------------------------------------------------------------------

    def developers(self) -> str:
        """Two developers with other shells build the same: level 3, then level 2."""
        seen = []
        for developer, level in ((self.bert, 3), (self.clara, 2)):
            developer.gentoo.emerge(WANTED)
            say(developer.p2pbin("publish"))
            eventually(f"level {level} for all", lambda level=level: set(self.server.listed_levels().values()) == {level})
            say(developer.p2pbin("explain", f"={PACKAGES[WANTED]}"))
            seen.append(f"{developer.name}'s vote: level {level}")
        return "; ".join(seen)

    # 4 ---------------------------------------------------------------------------------------------------------------------

    def install_from_peers(self) -> str:
        """A fresh Gentoo installs with plain emerge, over BitTorrent."""
        eventually("a copy of each package on one further host", self.copies_placed)
        dora = self.world.member("dora", trust=3)
        dora.emerge(WANTED)
        self.see_binary(dora, *PACKAGES.values())
        peers, origin = dora.received()
        see(len(peers) >= 2, f"at least two peers gave something: {peers}")
        say("\n".join(f"{sent:>9} bytes from {self.who(address)}" for address, sent in sorted(peers.items())))
        say(f"{origin:>9} bytes from the origin")
        say(dora.gentoo.run(["starmap"]).output)
        self.dora = dora
        return f"{sum(peers.values())} bytes from {len(peers)} peers, {origin} from the origin; starmap runs"

    # 5 ---------------------------------------------------------------------------------------------------------------------

    def without_origin(self) -> str:
        """The origin is down, and the peers go on."""
        self.server.restart(roles=("api", "tracker"))
        emil = self.world.member("emil", trust=3)
        emil.emerge("dev-libs/libdice")
        self.see_binary(emil, PACKAGES["dev-libs/libdice"])
        peers, origin = emil.received()
        see(peers and not origin, f"everything from peers: {peers}, origin {origin}")
        self.server.restart()
        return f"{sum(peers.values())} bytes from {len(peers)} peers, none from the origin"

    # 6 ---------------------------------------------------------------------------------------------------------------------

    def builder(self) -> str:
        """The build server takes the most wanted package; who wants level 1 gets exactly that one."""
        (most_wanted, requests), *_ = self.server.demand()
        say(f"most wanted: {most_wanted}, asked for {requests} times")
        say(self.brick.gentoo.run(["p2pbin-builder", "--once"]).output)
        eventually(f"level 1 for {most_wanted}", lambda: self.server.listed_levels()[most_wanted] == 1)
        others = [cpv for cpv in PACKAGES.values() if cpv != most_wanted]
        see(all(self.server.listed_levels()[cpv] == 2 for cpv in others), "the others stay at level 2")
        strict = self.world.member("frieda", trust=1)
        strict.emerge(WANTED)
        self.see_binary(strict, most_wanted)
        self.see_compiled(strict, *others)
        return f"{most_wanted} is at level 1; at threshold 1 it alone came as a binary, {len(others)} were compiled"

    # 7 ---------------------------------------------------------------------------------------------------------------------

    def clash(self) -> str:
        """A semi-trusted contributor shares the same build with one changed byte in a program."""
        cpv = PACKAGES["app-misc/dice"]
        thief.build_with_one_byte_changed(self.mallory, "app-misc/dice", "usr/bin/dice")
        say(self.mallory.p2pbin("publish", f"={cpv}"))
        shown = eventually("the clash is known with its difference", lambda: self.clash_difference("usr/bin/dice"))
        say(shown)
        see(self.server.listed_levels()[cpv] == 2, "the honest side keeps its level")
        gustav = self.world.member("gustav", trust=6)
        gustav.emerge("app-misc/dice")
        self.see_binary(gustav, cpv)
        honest, got = (member.gentoo.outside("usr/bin/dice").read_bytes() for member in (self.bert, gustav))
        see(honest == got, "even at threshold 6 the honest program was installed")
        return "clash shown with usr/bin/dice; the changed package was listed to nobody"

    # 8 ---------------------------------------------------------------------------------------------------------------------

    def false_packages(self) -> str:
        """Changed bytes on the peers, other contents than voted, an older version under a newer name."""
        seen = [
            self.refused("hanna", thief.bytes_changed_on_peers),
            self.refused("ida", thief.contents_do_not_match_votes),
            self.refused("jonas", thief.older_version_under_newer_entry),
        ]
        return "; ".join(seen)

    # 9 ---------------------------------------------------------------------------------------------------------------------

    def stolen_server(self) -> str:
        """A thief has all online keys and lists a package of his own at level 1."""
        return self.refused("kathrin", thief.lists_at_level_one)

    # What the scenes look at -----------------------------------------------------------------------------------------------

    def refused(self, name: str, crime: Callable[[Play], thief.Loot]) -> str:
        """Commit the crime, have a fresh client fetch what it is about, and see the refusal; its next emerge compiles."""
        victim = self.world.member(name, trust=3)
        loot = crime(self)
        done = victim.gentoo.run(
            ["p2pbin-fetch", f"p2pbin://{self.server.host}/{CHANNEL}/{loot.path}", "home/stolen.gpkg.tar"], expect=None
        )
        say(done.output)
        step = re.search(r"\bP9\.\d+", done.output)
        see(done.code == loot.exit_code and step, f"p2pbin-fetch ends with {loot.exit_code} and names the step: {done.code}")
        see(not victim.gentoo.outside("home/stolen.gpkg.tar").exists(), "nothing was placed")
        victim.emerge(f"={loot.cpv}")
        self.see_compiled(victim, loot.cpv)
        loot.give_back()
        return f"{loot.what}: refused at {step[0] if step else '?'}, compiled instead"

    def copies_placed(self) -> bool:
        """Has the server picked a further host for each package, and has that host the whole file?"""
        picked = self.server.rows(
            "SELECT files.info_hash, files.size, holders.address FROM copies JOIN holders USING (key) JOIN files USING (info_hash)"
        )
        there = {
            info_hash
            for info_hash, size, address in picked
            for member in self.world.members
            if member.address == address
            for path in member.gentoo.outside(f"var/cache/p2pbin/swarm/{info_hash}").glob("*.gpkg.tar")
            if path.stat().st_size == size
        }
        return len(there) == len(PACKAGES)

    def who(self, address: str) -> str:
        """Name and address of a peer."""
        return next((f"{member.name} ({address})" for member in self.world.members if member.address == address), address)

    def clash_difference(self, path: str) -> str | None:
        """What `p2pbin-server clash show` says, once it names `path`."""
        listed = self.server.run("clash", "list", "--config", str(self.server.config))
        numbers = re.findall(r"^\D*(\d+)\b", listed, re.MULTILINE)
        shown = "\n".join(self.server.run("clash", "show", "--config", str(self.server.config), number) for number in numbers)
        return shown if path in shown else None

    def see_binary(self, member: Member, *cpvs: str) -> None:
        """The installed packages were built elsewhere: they have the build time of a machine that compiled them."""
        for cpv in cpvs:
            elsewhere = {other.build_time(cpv) for other in (self.alice, self.bert, self.clara, self.brick)} - {None}
            see(member.build_time(cpv) in elsewhere, f"{member.name} got {cpv} as a binary package")

    def see_compiled(self, member: Member, *cpvs: str) -> None:
        """The installed packages were built here: nobody else has their build time."""
        for cpv in cpvs:
            elsewhere = {other.build_time(cpv) for other in self.world.members if other is not member}
            built = member.build_time(cpv)
            see(built is not None and built not in elsewhere, f"{member.name} compiled {cpv}")


SCENES: list[tuple[str, Callable[[Play], str]]] = [
    ("The server is up, its roster signed offline", Play.ceremony),
    ("Nothing is listed: Portage compiles, and shares", Play.compile_and_share),
    ("Two developers build the same", Play.developers),
    ("A fresh Gentoo installs from its peers", Play.install_from_peers),
    ("The origin is down", Play.without_origin),
    ("The build server takes the most wanted package", Play.builder),
    ("A liar shares one changed byte", Play.clash),
    ("False packages", Play.false_packages),
    ("A thief has the server's keys", Play.stolen_server),
]
