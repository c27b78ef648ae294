"""A trust server's TUF repository on disk, its offline keys, and clients of it: for tests of either side."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from p2pbin_server import ceremonies, keys
from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.editions import Editions
from p2pbin_server.repository import Repository
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.roster import Policy, Roster, Rulings
from portage_p2pbin.net.repository import Cache, VerifiedRepository

CHANNEL = Channel("amd64-test")
POLICY = Policy(2, 3)


def now() -> datetime:
    """The time to the second: TUF metadata expires by the real clock."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Site:
    """`base` holds offline/, online/ and tuf/; made with the offline keys at the time `made`."""

    base: Path
    made: datetime = field(default_factory=now)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    asked: list[str] = field(default_factory=list)
    forbidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys.make_offline_keys(self.offline)
        online = keys.make_online_keys(self.online)
        beginning = ceremonies.begin(self.offline, online, POLICY, self.lifetimes, self.made)
        self.repository = Repository.create(self.tuf, self.online, beginning, self.lifetimes, self.made)
        self.root_json = self.repository.root()

    @property
    def offline(self) -> Path:
        return self.base / "offline"

    @property
    def online(self) -> Path:
        return self.base / "online"

    @property
    def tuf(self) -> Path:
        return self.base / "tuf"

    def fetch(self, url: str, most: int) -> bytes | None:
        """What a web server over tuf/ answers."""
        path = url.removeprefix("https://server.example/tuf/")
        self.asked.append(path)
        if path.rpartition("/")[2] in self.forbidden:
            return None
        try:
            with (self.tuf / path).open("rb") as file:
                return file.read(most + 1)
        except FileNotFoundError:
            return None

    def editions(self) -> Editions:
        """The server's disk, without the rules."""
        return Editions(self.tuf, keys.online_signers(self.online), self.lifetimes)

    def cache(self, name: str = "client") -> Cache:
        return Cache(self.base / name / "metadata", self.base / name / "targets", self.base / name / "rulings.json")

    def client(self, name: str = "client") -> VerifiedRepository:
        return VerifiedRepository(self.root_json, "https://server.example/tuf", self.cache(name), self.fetch)

    def forbid(self, *names: str) -> None:
        """From now on the web server has no files of these names."""
        self.forbidden = names

    def put_roster(self, roster: Roster) -> None:
        previous = self.repository.current("roster").metadata
        self.repository.import_signed("roster", ceremonies.sign_roster(roster, self.offline, previous, self.lifetimes, now()), now())

    def put_rulings(self, rulings: Rulings) -> None:
        previous = self.repository.current("rulings")
        self.repository.import_signed("rulings", ceremonies.sign_rulings(rulings, self.offline, previous, self.lifetimes, now()), now())

    def renew(self) -> None:
        """The quarterly ceremony: the next root and targets."""
        self.repository.import_root(*ceremonies.renew(self.offline, {}, self.lifetimes, now()), now())

    def rotate_online_keys(self) -> None:
        """The ceremony after a theft: new online keys, appointed by the offline ones."""
        self.online.rename(self.base / "stolen")
        root, targets = ceremonies.renew(self.offline, keys.make_online_keys(self.online), self.lifetimes, now())
        self.repository = Repository(self.tuf, self.online, self.lifetimes)
        self.repository.import_root(root, targets, now())
