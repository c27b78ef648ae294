"""Attacks on the TUF repository: what somebody between, a mirror, or a thief of keys tries, on our real classes and real files.

The order is that of python-tuf's own attack tests; a thief commits whatever he likes with the stolen online keys.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.editions import Editions
from p2pbin_server.keys import make_online_keys, offline_signers, online_signers
from p2pbin_server.repository import Repository
from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.index import encode_page, read_page
from portage_p2pbin.kernel.model import Operator, Role
from portage_p2pbin.kernel.roster import Contributor, Roster, Ruling, RulingKind, Rulings
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.net.repository import VerifiedRepository
from tests.makers import fingerprint, machine_key
from tests.site import CHANNEL, POLICY, Site, now
from tests.test_index import ENTRY

MALLORY = Roster((Contributor(Operator("mallory"), Role.BUILD_SERVER, fingerprint(66), (machine_key(66),)),), POLICY)
DAY = timedelta(days=1)


class Thief:
    """Somebody with all online keys of a site, and its disk."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.keys = online_signers(site.online)
        self.editions = Editions(site.tuf, self.keys, site.lifetimes)

    def sign(self, signed: Targets, *signers: CryptoSigner) -> bytes:
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def listing(self, version: int, files: dict[str, bytes], delegations: Delegations | None = None) -> Targets:
        listed = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in files.items()}
        for path, data in files.items():
            self.editions.add_target(listed[path], data)
        return Targets(version=version, expires=now() + DAY, targets=listed, delegations=delegations)

    def commit(self, **roles: bytes) -> None:
        self.editions.commit(roles, now())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def thief(site: Site) -> Thief:
    return Thief(site)


def refuse(client: VerifiedRepository, rule: str) -> str:
    with pytest.raises(RefusedError) as caught:
        client.refresh()
    assert caught.value.rule == rule
    return caught.value.reason


def put(site: Site, name: str, data: bytes) -> None:
    (site.tuf / "metadata" / name).write_bytes(data)


def get(site: Site, name: str) -> bytes:
    return (site.tuf / "metadata" / name).read_bytes()


# Rollback: an older state, once rightly signed.


def test_an_older_timestamp(site):
    old = get(site, "timestamp.json")
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    client = site.client()
    client.refresh()
    put(site, "timestamp.json", old)
    assert "timestamp version 1 must be >= 2" in refuse(client, "P7.1")
    assert client.categories(CHANNEL) == ["app-misc"]


def test_an_older_snapshot_under_a_new_timestamp(site, thief):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    client = site.client()
    client.refresh()
    stamp = Metadata(Timestamp(version=9, expires=now() + DAY, snapshot_meta=MetaFile(1)))
    stamp.sign(thief.keys["timestamp"])
    put(site, "timestamp.json", stamp.to_bytes())
    assert "snapshot version must be >= 2" in refuse(client, "P7.1")


@pytest.mark.parametrize("role", ["roster", "rulings", "index", "targets"])
def test_an_older_role_under_a_new_snapshot(site, thief, role):
    site.put_roster(MALLORY)
    site.put_rulings(Rulings())
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    site.renew()
    client = site.client()
    client.refresh()
    thief.commit(**{role: get(site, f"1.{role}.json")})
    assert f"Expected {role}.json version 1" in refuse(client, "P7.1")


def test_a_role_that_vanished_from_the_snapshot(site, thief):
    client = site.client()
    client.refresh()
    head = thief.editions.head()
    snapshot = Metadata(Snapshot(version=2, expires=now() + DAY, meta={k: v for k, v in head.roles.items() if k != "rulings.json"}))
    snapshot.sign(thief.keys["snapshot"])
    put(site, "2.snapshot.json", snapshot.to_bytes())
    stamp = Metadata(Timestamp(version=2, expires=now() + DAY, snapshot_meta=MetaFile(2)))
    stamp.sign(thief.keys["timestamp"])
    put(site, "timestamp.json", stamp.to_bytes())
    assert "missing info for 'rulings.json'" in refuse(client, "P7.1")


# Freeze: the same state for ever.

LONG = dict.fromkeys(("root", "targets", "roster", "rulings", "index", "snapshot", "timestamp"), 6 * DAY)


@pytest.mark.parametrize("role", list(LONG))
def test_what_is_not_signed_again_expires(tmp_path, role):
    site = Site(tmp_path, made=now() - 2 * DAY, lifetimes=Lifetimes(**(LONG | {role: DAY})))
    assert role in refuse(site.client(), "P7.5")


def test_a_site_that_nobody_neglects_does_not_expire(tmp_path):
    Site(tmp_path, made=now() - 2 * DAY, lifetimes=Lifetimes(**LONG)).client().refresh()


def test_hidden_news_come_out_when_the_timestamp_expires(tmp_path):
    site = Site(tmp_path, made=now() - 2 * DAY)
    refuse(site.client(), "P7.5")
    site.repository.refresh(now())
    site.client().refresh()


# Wrong signers.


@pytest.mark.parametrize("role", ["roster", "rulings", "index", "targets"])
def test_online_keys_sign_for_no_other_role(site, thief, role):
    stranger = CryptoSigner.generate_ed25519()
    signers = [signer for name, signer in thief.keys.items() if name != role]
    thief.commit(**{role: thief.sign(thief.listing(2, {}), *signers, stranger)})
    assert f"{role} was signed by 0/" in refuse(site.client(), "P7.1")


@pytest.mark.parametrize(("role", "holder"), [("rulings", "roster"), ("roster", "rulings"), ("index", "roster")])
def test_offline_keys_sign_for_no_other_role(site, thief, role, holder):
    thief.commit(**{role: thief.sign(thief.listing(2, {}), *offline_signers(site.offline, holder))})
    assert f"{role} was signed by 0/" in refuse(site.client(), "P7.1")


def test_one_roster_key_of_two_is_not_enough(site, thief):
    listing = thief.listing(2, {"roster.json": MALLORY.encode()})
    thief.commit(roster=thief.sign(listing, offline_signers(site.offline, "roster")[0]))
    assert "roster was signed by 1/2 keys" in refuse(site.client(), "P7.1")


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_the_index_key_signs_no(site, thief, role):
    thief.keys[role] = thief.keys["index"]
    thief.commit()
    assert f"{role} was signed by 0/1 keys" in refuse(site.client(), "P7.1")


# Endless and changed data.


def test_no_more_is_asked_for_than_its_bound(site):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"123"}, now())
    asked = {}

    def fetch(url, most):
        asked[url.rpartition("/")[2]] = most
        return site.fetch(url, most)

    client = VerifiedRepository(site.root_json, "https://server.example/tuf", site.cache(), fetch)
    client.refresh()
    client.page(CHANNEL, "app-misc")
    assert asked["timestamp.json"] == 16 * 1024
    assert asked["2.root.json"] == 256 * 1024
    assert asked["2.snapshot.json"] == len(get(site, "2.snapshot.json"))
    assert asked["2.index.json"] == len(get(site, "2.index.json"))
    assert next(most for name, most in asked.items() if name.endswith(".app-misc.json")) == 3


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.roster.json"])
def test_endless_data(site, name):
    put(site, name, b" " * 300 * 1024)
    assert "exceeding the maximum" in refuse(site.client(), "P7.1")


@pytest.mark.parametrize("role", ["roster", "rulings", "index", "targets", "snapshot"])
def test_metadata_of_another_edition(site, role):
    data = get(site, f"1.{role}.json")
    put(site, f"1.{role}.json", data.replace(b'"version":1', b'"version":2', 1) if role != "snapshot" else data[:-1] + b" ")
    assert "hash" in refuse(site.client(), "P7.1") or "length" in refuse(site.client(), "P7.1")


def test_a_roster_file_with_other_bytes(site):
    path = next((site.tuf / "targets").glob("*.roster.json"))
    path.write_bytes(MALLORY.encode()[: path.stat().st_size])
    assert "match" in refuse(site.client(), "P7.1")


def test_metadata_that_is_no_json(site):
    put(site, "timestamp.json", b"[" * 16_000)
    assert "Failed to deserialize" in refuse(site.client(), "P7.1")


# All online keys stolen.


def test_a_thief_cannot_replace_the_roster(site, thief):
    files = {"roster.json": MALLORY.encode(), "rulings.json": Rulings().encode()}
    thief.commit(index=thief.sign(thief.listing(2, files), thief.keys["index"]))
    client = site.client()
    client.refresh()
    assert client.roster() == Roster((), POLICY)


def test_a_thief_cannot_appoint_others(site, thief):
    own = CryptoSigner.generate_ed25519()
    delegations = Delegations(
        {own.public_key.keyid: own.public_key}, {"more": DelegatedRole("more", [own.public_key.keyid], 1, True, ["*"])}
    )
    thief.commit(targets=thief.sign(thief.listing(2, {}, delegations), *thief.keys.values()))
    assert "targets was signed by 0/2 keys" in refuse(site.client(), "P7.1")


def test_the_index_hands_its_right_on_to_nobody(site, thief):
    own = CryptoSigner.generate_ed25519()
    role = DelegatedRole("more", [own.public_key.keyid], 1, True, ["index/*/*.json"])
    delegations = Delegations({own.public_key.keyid: own.public_key}, {"more": role})
    page = {f"index/{CHANNEL}/app-misc.json": b"page"}
    thief.commit(index=thief.sign(thief.listing(2, {}, delegations), thief.keys["index"]), more=thief.sign(thief.listing(1, page), own))
    client = site.client()
    client.refresh()
    with pytest.raises(UnavailableError, match="does not list it"):
        client.page(CHANNEL, "app-misc")


def test_a_thief_can_list_at_level_1_what_no_vote_lifts(site, thief):
    path = f"index/{CHANNEL}/{ENTRY.cpv.category}.json"
    page = {path: encode_page(CHANNEL, (ENTRY,))}
    thief.commit(index=thief.sign(thief.listing(2, page), thief.keys["index"]))
    client = site.client()
    client.refresh()
    [entry] = read_page(client.page(CHANNEL, ENTRY.cpv.category), CHANNEL, ENTRY.cpv.category)
    judgement = Electorate(client.roster(), client.rulings(), now()).judge(entry.build_key, entry.contents, (), ())
    assert (int(entry.level), judgement.level) == (int(ENTRY.level), None)


def test_a_thief_cannot_make_a_root(site, thief):
    root = Metadata[Root].from_bytes(site.root_json)
    root.signed.version = 2
    root.signatures.clear()
    own = CryptoSigner.generate_ed25519()
    root.signed.add_key(own.public_key, "targets")
    for signer in (own, *thief.keys.values(), *offline_signers(site.offline, "roster"), offline_signers(site.offline, "root")[0]):
        root.sign(signer, append=True)
    put(site, "2.root.json", root.to_bytes())
    assert "root was signed by 1/2 keys" in refuse(site.client(), "P7.1")


def test_lost_rulings(site, thief):
    ruling = Ruling(RulingKind.SUSPEND, "mallory", "changed a byte", now())
    site.put_rulings(Rulings((ruling,)))
    client = site.client()
    client.refresh()
    forged = thief.sign(thief.listing(3, {"rulings.json": Rulings().encode()}), *offline_signers(site.offline, "rulings"))
    thief.commit(rulings=forged)
    assert "missing" in refuse(client, "P6.6")
    assert client.rulings().entries == (ruling,)


# Root rotation.


def test_a_client_follows_every_renewal(site):
    for _ in range(3):
        site.renew()
    client = site.client()
    client.refresh()
    assert [path for path in site.asked if "root" in path] == [f"metadata/{n}.root.json" for n in (2, 3, 4, 5)]


def test_a_root_key_is_replaced(site):
    (site.offline / "root-1.pem").rename(site.base / "lost.pem")
    (site.offline / "root-4.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    site.renew()
    client = site.client()
    client.refresh()
    site.renew()
    client.refresh()


def test_a_root_that_skips_a_version(site):
    site.renew()
    site.renew()
    put(site, "2.root.json", get(site, "3.root.json"))
    assert "Expected root version 2 instead got version 3" in refuse(site.client(), "P7.1")


def test_new_online_keys_lock_a_thief_out_and_undo_a_fast_forward(site, thief):
    client = site.client()
    far = Metadata[Timestamp].from_bytes(get(site, "timestamp.json"))
    far.signed.version = 10**6
    far.sign(thief.keys["timestamp"])
    honest = get(site, "timestamp.json")
    put(site, "timestamp.json", far.to_bytes())
    client.refresh()
    put(site, "timestamp.json", honest)
    refuse(client, "P7.1")
    site.rotate_online_keys()
    site.repository.publish_pages(CHANNEL, {"app-misc": b"page"}, now())
    client.refresh()
    assert client.categories(CHANNEL) == ["app-misc"]
    thief.commit()
    assert "was signed by 0/1 keys" in refuse(client, "P7.1")


def test_a_server_without_the_appointed_keys_signs_nothing(site):
    make_online_keys(site.base / "others")
    before = {path.name: path.read_bytes() for path in site.tuf.rglob("*") if path.is_file()}
    other = Repository(site.tuf, site.base / "others", site.lifetimes)
    for change in (lambda: other.refresh(now()), lambda: other.publish_pages(CHANNEL, {"app-misc": b"page"}, now())):
        with pytest.raises(SettingsError, match=r"index\.pem is not the one"):
            change()
    assert {path.name: path.read_bytes() for path in site.tuf.rglob("*") if path.is_file()} == before
