"""What is signed away from the server, and what the server takes in of it."""

import stat
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from p2pbin_server import ceremonies, keys
from p2pbin_server.ceremonies import Lifetimes, Signed, countersign, renew, sign_roster, sign_rulings
from p2pbin_server.repository import Repository
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Operator, Role
from portage_p2pbin.kernel.roster import Contributor, Policy, Roster, Ruling, RulingKind, Rulings
from tests.makers import fingerprint, machine_key
from tests.site import POLICY, Site, now

ROSTER = Roster((Contributor(Operator("larry"), Role.TRUSTED, fingerprint(1), (machine_key(1),)),), POLICY)
RULING = Ruling(RulingKind.SUSPEND, "mallory", "changed a byte", now())
DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def refused(rule, call, *arguments):
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.rule == rule
    return caught.value.reason


def roster_of(site, roster=ROSTER, time=None):
    return sign_roster(roster, site.offline, site.repository.current("roster").metadata, site.lifetimes, time or now())


def rulings_of(site, *entries, time=None):
    return sign_rulings(Rulings(entries), site.offline, site.repository.current("rulings"), site.lifetimes, time or now())


# Keys.


def test_keys_are_for_their_owner_alone(site):
    paths = [*site.offline.glob("*.pem"), *site.online.glob("*.pem")]
    assert len(paths) == 3 + 3 + 1 + 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert not {path.name for path in site.online.iterdir()} & {path.name for path in site.offline.iterdir()}


@pytest.mark.parametrize("make", [keys.make_offline_keys, keys.make_online_keys])
def test_a_key_is_never_overwritten(tmp_path, make):
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SettingsError, match="exists already"):
        make(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", CryptoSigner.generate_ecdsa().private_bytes]
)
def test_a_file_that_is_no_ed25519_key(tmp_path, content):
    (tmp_path / "root-1.pem").write_bytes(content)
    with pytest.raises(SettingsError, match=r"root-1\.pem is no"):
        keys.offline_signers(tmp_path, "root")


def test_no_keys_at_all(tmp_path):
    with pytest.raises(SettingsError, match="No key root"):
        keys.offline_signers(tmp_path, "root")
    with pytest.raises(SettingsError, match=r"index\.pem is no readable key"):
        keys.online_signers(tmp_path)


# The beginning.


def test_who_may_sign_what_from_the_first_day(site):
    root = Metadata[Root].from_bytes(site.root_json).signed
    targets = Metadata[Targets].from_bytes((site.offline / "targets.json").read_bytes()).signed
    assert {role: (len(one.keyids), one.threshold) for role, one in root.roles.items()} == {
        "root": (3, 2), "targets": (3, 2), "snapshot": (1, 1), "timestamp": (1, 1),
    }  # fmt: skip
    assert {name: (len(one.keyids), one.threshold, one.terminating, one.paths) for name, one in targets.delegations.roles.items()} == {
        "roster": (3, 2, True, ["roster.json"]),
        "rulings": (1, 1, True, ["rulings.json"]),
        "index": (1, 1, True, ["index/*/*.json"]),
    }
    assert targets.targets == {}
    assert root.consistent_snapshot is True


def test_lifetimes_are_those_of_the_architecture(site):
    days = {role: (expires - site.made).days for role, expires in site.repository.expiries().items()}
    assert days == {"root": 90, "targets": 90, "roster": 30, "rulings": 7}


def test_rulings_live_seven_days_at_most():
    with pytest.raises(SettingsError, match="7 days"):
        Lifetimes(rulings=timedelta(days=8))


def test_a_threshold_needs_as_many_keys(tmp_path):
    keys.make_offline_keys(tmp_path / "offline", keys=1)
    online = keys.make_online_keys(tmp_path / "online")
    with pytest.raises(SettingsError, match="Fewer keys"):
        ceremonies.begin(tmp_path / "offline", online, POLICY, Lifetimes(), now())


def test_a_folder_of_keys_begins_one_repository(site):
    with pytest.raises(SettingsError, match="belongs to a repository already"):
        ceremonies.begin(site.offline, {}, POLICY, site.lifetimes, now())


def test_a_repository_is_never_overwritten(site):
    beginning = ceremonies.Beginning(site.root_json, b"", Signed(b"", b""), Signed(b"", b""))
    with pytest.raises(SettingsError, match="already"):
        Repository.create(site.tuf, site.online, beginning, site.lifetimes, now())


def test_no_repository(tmp_path, site):
    with pytest.raises(SettingsError, match="No repository"):
        Repository(tmp_path / "nothing", site.online, site.lifetimes)


# The roster.


def test_a_roster_travels_in_a_folder(site):
    roster_of(site).write(site.base / "signed")
    site.repository.import_signed("roster", Signed.read(site.base / "signed"), now())
    assert site.repository.roster() == ROSTER


def test_a_folder_with_nothing_in_it(tmp_path):
    with pytest.raises(SettingsError, match=r"metadata\.json cannot be read"):
        Signed.read(tmp_path)


def test_importing_twice_is_success(site):
    signed = roster_of(site)
    site.repository.import_signed("roster", signed, now())
    site.repository.import_signed("roster", signed, now())
    assert site.repository.roster() == ROSTER


def test_two_people_sign_one_after_the_other(site):
    for key in ("roster-2.pem", "roster-3.pem"):
        (site.offline / key).rename(site.base / key)
    half = roster_of(site)
    assert "1/2 keys" in refused("P7.1", site.repository.import_signed, "roster", half, now())
    (site.offline / "roster-1.pem").rename(site.base / "roster-1.pem")
    (site.base / "roster-2.pem").rename(site.offline / "roster-2.pem")
    site.repository.import_signed("roster", Signed(countersign("roster", half.metadata, site.offline), half.target), now())
    assert site.repository.roster() == ROSTER


def test_an_older_roster_is_not_imported(site):
    first = roster_of(site, Roster((), Policy(5, 7)))  # of the same version as the one that is imported
    site.repository.import_signed("roster", roster_of(site), now())
    assert "not newer" in refused("P7.1", site.repository.import_signed, "roster", first, now())


def test_an_expired_roster_is_not_imported(site):
    assert "expired" in refused("P7.1", site.repository.import_signed, "roster", roster_of(site, time=now() - 31 * DAY), now())


def test_a_roster_by_strangers_is_not_imported(site):
    other = Site(site.base / "other")
    assert "0/2 keys" in refused("P7.1", site.repository.import_signed, "roster", roster_of(other), now())


def test_a_roster_whose_file_was_changed_is_not_imported(site):
    signed = Signed(roster_of(site).metadata, Roster((), POLICY).encode())
    assert "vouch" in refused("P7.1", site.repository.import_signed, "roster", signed, now())


def test_a_roster_that_delegates_is_not_imported(site):
    signed = roster_of(site)
    metadata = Metadata[Targets].from_bytes(signed.metadata)
    metadata.signed.delegations = Metadata[Targets].from_bytes((site.offline / "targets.json").read_bytes()).signed.delegations
    metadata.signatures.clear()
    signed = Signed(countersign("roster", metadata.to_bytes(), site.offline), signed.target)
    assert "hands its rights on" in refused("P7.1", site.repository.import_signed, "roster", signed, now())


def test_a_roster_that_nobody_can_read_is_not_imported(site):
    previous = site.repository.current("roster").metadata

    class Unreadable:
        def encode(self):
            return b"{}"

    signed = sign_roster(Unreadable(), site.offline, previous, site.lifetimes, now())
    assert "missing" in refused("P3.1", site.repository.import_signed, "roster", signed, now())
    assert site.repository.roster() == Roster((), POLICY)


@pytest.mark.parametrize("metadata", [b"", b"{}", b"[]"])
def test_what_is_no_metadata_is_not_imported(site, metadata):
    assert "no TUF metadata" in refused("P7.1", site.repository.import_signed, "roster", Signed(metadata, b""), now())


def test_metadata_of_another_type_is_not_imported(site):
    assert refused("P7.1", site.repository.import_signed, "roster", Signed(site.root_json, b""), now()) == "metadata of type root"


def test_a_stolen_server_cannot_drive_the_roster_version_up(site):
    metadata = Metadata[Targets].from_bytes(site.repository.current("roster").metadata)
    metadata.signed.version = 10**6
    metadata.sign(keys.online_signers(site.online)["index"])
    assert "0/2 keys" in refused("P7.1", sign_roster, ROSTER, site.offline, metadata.to_bytes(), site.lifetimes, now())


def test_the_policy_changes_with_the_roster(site):
    site.repository.import_signed("roster", roster_of(site, Roster((), Policy(5, 7))), now())
    assert site.repository.roster().policy == Policy(5, 7)


# The rulings.


def test_rulings_grow(site):
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    another = Ruling(RulingKind.SUSPEND, "eve", "a second machine", now())
    site.repository.import_signed("rulings", rulings_of(site, RULING, another), now())
    assert site.repository.rulings() == Rulings((RULING, another))


def test_rulings_are_renewed_without_a_change(site):
    site.repository.import_signed("rulings", rulings_of(site, RULING, time=now() - 6 * DAY), now() - 6 * DAY)
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    assert site.repository.expiries()["rulings"] > now() + 6 * DAY


def test_no_ruling_is_signed_away(site):
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    assert "missing" in refused("P6.6", rulings_of, site)


def test_no_ruling_is_imported_away(site):
    empty = rulings_of(site)
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    metadata = Metadata[Targets].from_bytes(empty.metadata)
    metadata.signed.version = 9
    metadata.signatures.clear()
    signed = Signed(countersign("rulings", metadata.to_bytes(), site.offline), empty.target)
    assert "missing" in refused("P6.6", site.repository.import_signed, "rulings", signed, now())


def test_previous_rulings_with_another_file(site):
    previous = Signed(site.repository.current("rulings").metadata, Rulings((RULING,)).encode())
    assert "vouch" in refused("P7.1", sign_rulings, Rulings(), site.offline, previous, site.lifetimes, now())


def test_rulings_good_for_too_long_are_not_imported(site):
    signed = rulings_of(site, RULING, time=now() + 2 * DAY)
    assert "more than 7 days" in refused("P6.6", site.repository.import_signed, "rulings", signed, now())


def test_a_signing_machine_whose_clock_is_a_little_ahead(site):
    site.repository.import_signed("rulings", rulings_of(site, RULING, time=now() + timedelta(minutes=30)), now())
    assert site.repository.rulings() == Rulings((RULING,))


# Root and targets.


def test_a_renewal_moves_every_expiry(site):
    later = now() + 60 * DAY
    site.repository.import_root(*renew(site.offline, {}, site.lifetimes, later), later)
    assert site.repository.expiries()["root"] == site.repository.expiries()["targets"] == later + 90 * DAY


def test_importing_a_renewal_twice_is_success(site):
    renewed = renew(site.offline, {}, site.lifetimes, now())
    site.repository.import_root(*renewed, now())
    site.repository.import_root(*renewed, now())
    assert site.repository.root() == renewed[0]


def test_a_renewal_without_enough_of_the_old_keys(site):
    for number in (1, 2):
        (site.offline / f"root-{number}.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    before = (site.offline / "root.json").read_bytes()
    assert "1/2 keys" in refused("P7.1", renew, site.offline, {}, site.lifetimes, now())
    assert (site.offline / "root.json").read_bytes() == before


def test_a_root_of_another_repository_is_not_imported(site):
    other = Site(site.base / "other")
    assert "0/2 keys" in refused("P7.1", site.repository.import_root, *renew(other.offline, {}, site.lifetimes, now()), now())


def test_a_root_that_skips_a_version_is_not_imported(site):
    renew(site.offline, {}, site.lifetimes, now())
    assert "does not follow" in refused("P7.1", site.repository.import_root, *renew(site.offline, {}, site.lifetimes, now()), now())


def test_a_root_whose_own_keys_did_not_sign_it_is_not_imported(site):
    old = keys.offline_signers(site.offline, "root")
    for number in (4, 5):
        (site.offline / f"root-{number}.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    root, targets = renew(site.offline, {}, site.lifetimes, now())
    metadata = Metadata[Root].from_bytes(root)
    appointed = metadata.signed.roles["root"]
    appointed.keyids = [key for key in appointed.keyids if key not in {signer.public_key.keyid for signer in old}]
    metadata.signatures.clear()
    for signer in old:
        metadata.sign(signer, append=True)
    assert "0/2 keys" in refused("P7.1", site.repository.import_root, metadata.to_bytes(), targets, now())


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_expired_renewal_is_not_imported(site, role):
    lifetimes = Lifetimes(**{role: timedelta(days=-1)})
    assert "expired" in refused("P7.1", site.repository.import_root, *renew(site.offline, {}, lifetimes, now()), now())


def test_targets_by_others_are_not_imported(site):
    other = Site(site.base / "other")
    root, _ = renew(site.offline, {}, site.lifetimes, now())
    targets = (other.offline / "targets.json").read_bytes()
    assert "0/2 keys" in refused("P7.1", site.repository.import_root, root, targets, now())


def test_older_targets_are_not_imported(site):
    old = (site.offline / "targets.json").read_bytes()
    site.renew()
    root, _ = renew(site.offline, {}, site.lifetimes, now())
    assert "older" in refused("P7.1", site.repository.import_root, root, old, now())


def test_a_root_that_appoints_other_online_keys_waits_for_them(site):
    online = keys.make_online_keys(site.base / "new")
    with pytest.raises(SettingsError, match="is not the one that the root appoints"):
        site.repository.import_root(*renew(site.offline, online, site.lifetimes, now()), now())
    assert site.repository.root() == site.root_json


def test_a_roster_key_is_replaced_one_at_a_time(site):
    (site.offline / "roster-1.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    site.renew()
    site.repository.import_signed("roster", roster_of(site), now())
    assert site.repository.roster() == ROSTER


def test_roster_keys_that_leave_the_roster_in_force_unsigned(site):
    for number in (1, 2):
        (site.offline / f"roster-{number}.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    assert "roster was signed by 1/2" in refused("P7.1", site.renew)


def test_the_rulings_key_is_replaced(site):
    (site.offline / "rulings-2.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    site.renew()
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    (site.offline / "rulings-1.pem").unlink()
    site.renew()
    site.repository.import_signed("rulings", rulings_of(site, RULING), now())
    assert site.repository.rulings() == Rulings((RULING,))


def test_a_folder_without_root_json(site):
    (site.offline / "root.json").unlink()
    with pytest.raises(SettingsError, match=r"root\.json cannot be read"):
        renew(site.offline, {}, site.lifetimes, now())
