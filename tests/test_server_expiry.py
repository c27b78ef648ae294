from datetime import timedelta

import pytest

from p2pbin_server import ceremonies
from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.expiry import warnings
from p2pbin_server.repository import Repository
from tests.makers import NOW
from tests.served import Rig

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("role", "lifetime", "command"),
    [("root", 90, "root renew"), ("targets", 90, "root renew"), ("roster", 30, "roster sign"), ("rulings", 7, "rulings sign")],
)
def test_the_last_fifth_of_a_lifetime_is_warned_of(role, lifetime, command):
    expires = NOW + timedelta(days=lifetime)
    last = expires - timedelta(days=lifetime) / 5
    assert warnings({role: expires}, Lifetimes(), last) == []
    [soon] = warnings({role: expires}, Lifetimes(), last + HOUR)
    assert soon.startswith(f"the signature of {role} expires 20") and soon.endswith(f"renew it with `p2pbin-server {command}`")
    [late] = warnings({role: expires}, Lifetimes(), expires)
    assert late.startswith(f"the signature of {role} has expired, and clients refuse this server since 20")


def test_only_what_is_due_is_named(tmp_path):
    with Rig(tmp_path) as rig:
        expiries = rig.service.voters.expiries()
        assert set(expiries) == {"root", "targets", "roster", "rulings"}
        assert [one.split()[3] for one in warnings(expiries, Lifetimes(), NOW + timedelta(days=25))] == ["roster", "rulings"]


def test_a_running_server_says_it_once_and_learns_of_a_renewal(tmp_path, capsys):
    with Rig(tmp_path) as rig:
        rig.publisher.round()
        assert capsys.readouterr().err == ""
        rig.now += timedelta(days=6)
        rig.publisher.round()
        rig.publisher.round()
        assert capsys.readouterr().err.count("p2pbin-server: the signature of rulings expires") == 1
        renew_rulings(rig)
        rig.publisher.round()
        assert rig.service.voters.expiries()["rulings"] == rig.now + timedelta(days=7)
        assert capsys.readouterr().err == ""


def renew_rulings(rig):
    """What another process does: `p2pbin-server rulings import`."""
    site = rig.site
    other = Repository(site.tuf, site.online, site.lifetimes)
    previous = other.current("rulings")
    signed = ceremonies.sign_rulings(other.rulings(), site.offline, previous, site.lifetimes, rig.now)
    other.import_signed("rulings", signed, rig.now)
