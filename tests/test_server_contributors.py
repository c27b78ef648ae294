from datetime import timedelta
from pathlib import Path

import pytest
import tomli

from p2pbin_server.contributors import promote, register, role
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Operator, Role
from portage_p2pbin.kernel.roster import MachineKey
from portage_p2pbin.openpgp import Certification
from tests.makers import NOW, YEAR, fingerprint, machine_key, new_key
from tests.served import STRANGER, TRUSTED, UNTRUSTED, Rig

TEXTS = ("an OpenPGP key", "a certification")


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def enter(rig, seed=STRANGER, identity=None, signer=None, key=None, most=1000):
    certification = Certification(fingerprint(identity or seed), key or machine_key(seed))
    with rig.store.writing() as transaction:
        register(transaction, certification, TEXTS, public_key(new_key(signer or seed)), rig.now, most)


def registered(rig, seed=STRANGER):
    with rig.store.reading() as transaction:
        return transaction.contributor(public_key(new_key(seed)))


def test_a_key_is_kept_with_its_identity_and_window(rig):
    enter(rig)
    found = registered(rig)
    assert (found.identity, found.machine, found.openpgp, found.certification) == (fingerprint(STRANGER), f"machine-{STRANGER}", *TEXTS)
    assert (found.not_before, found.not_after) == (int((NOW - YEAR).timestamp()), int((NOW + YEAR).timestamp()))
    assert role(rig.electorate, found.key) is Role.UNTRUSTED
    assert role(rig.electorate, public_key(new_key(TRUSTED))) is Role.TRUSTED


def test_the_same_key_again_gets_its_new_window(rig):
    enter(rig)
    rig.now += timedelta(days=1)
    enter(rig, key=MachineKey(public_key(new_key(STRANGER)), "laptop", NOW, NOW + 2 * YEAR), most=0)
    found = registered(rig)
    assert (found.machine, found.not_after, found.registered) == ("laptop", int((NOW + 2 * YEAR).timestamp()), int(NOW.timestamp()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signer": UNTRUSTED}, "not signed by the machine key"),
        ({"key": MachineKey(public_key(new_key(STRANGER)), "", NOW - YEAR, NOW - timedelta(seconds=1))}, "not valid now"),
        ({"key": MachineKey(public_key(new_key(STRANGER)), "", NOW + timedelta(seconds=1), NOW + YEAR)}, "not valid now"),
        ({"seed": UNTRUSTED, "identity": STRANGER}, "belongs to another identity"),
    ],
)
def test_other_registrations_are_refused(rig, changes, reason):
    with pytest.raises(RefusedError, match=reason) as caught:
        enter(rig, **changes)
    assert caught.value.rule == "P3.2"
    assert registered(rig) is None


def test_only_so_many_register_in_a_day(rig):
    with pytest.raises(TooManyError, match="2 keys were registered within a day"):
        enter(rig, most=2)
    enter(rig, most=3)


def test_a_promotion_is_written_for_those_who_sign(rig, tmp_path):
    enter(rig)
    folder = tmp_path / "roster"
    with rig.store.reading() as transaction:
        promote(transaction, fingerprint(STRANGER), Role.TRUSTED, Operator("larry"), folder)
        promote(transaction, fingerprint(UNTRUSTED), Role.SEMI_TRUSTED, Operator("bob"), folder)
        text = (folder / "roster.toml").read_text()
        with pytest.raises(SettingsError, match="already"):
            promote(transaction, fingerprint(STRANGER), Role.TRUSTED, Operator("larry"), folder)
    found = tomli.loads(text)
    assert found["policy"] == {"semi_trusted": 2, "untrusted": 3}
    [larry, bob] = found["contributor"]
    assert (larry["operator"], larry["role"], larry["identity"]) == ("larry", "trusted", fingerprint(STRANGER))
    assert (bob["operator"], bob["role"]) == ("bob", "semi-trusted")
    assert Path(folder / larry["openpgp"]).read_text() == "an OpenPGP key"
    assert [Path(folder / name).read_text() for name in larry["certifications"]] == ["a certification"]


def test_only_who_has_registered_can_be_promoted(rig, tmp_path):
    with rig.store.reading() as transaction, pytest.raises(UnavailableError, match="has not registered here"):
        promote(transaction, fingerprint(STRANGER), Role.TRUSTED, Operator("larry"), tmp_path / "roster")
    assert not (tmp_path / "roster").exists()
