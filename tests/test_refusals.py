"""What is left out of the index, and for how long (P9)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Cpv, Sha256
from portage_p2pbin.refusals import MOST_BYTES, Refusal, Refusals
from tests.makers import NOW

BAD = Refusal(Sha256("a" * 64), Cpv("app-misc/hello-1.0"), "P9.8", "its contents digest is another", None)
GONE = Refusal(Sha256("b" * 64), Cpv("app-misc/dice-1.0"), "P9.6", "no peer has it", NOW + timedelta(hours=1))


@pytest.fixture
def refusals(tmp_path):
    return Refusals(tmp_path / "refused.json")


def test_nothing_is_refused_at_first(refusals):
    assert refusals.read(NOW) == ()


def test_a_bad_file_stays_out_and_an_unavailable_one_comes_back(refusals):
    refusals.add(BAD, NOW)
    refusals.add(GONE, NOW)
    assert refusals.read(NOW) == (BAD, GONE)
    assert refusals.read(NOW + timedelta(minutes=59)) == (BAD, GONE)
    assert refusals.read(NOW + timedelta(minutes=60)) == (BAD,)


def test_a_clock_that_was_ahead_does_not_make_an_hour_a_year(refusals):
    ahead = NOW + timedelta(days=365)
    refusals.add(replace(GONE, until=ahead + timedelta(hours=1)), ahead)
    assert refusals.read(NOW) == ()


def test_one_file_stands_once(refusals):
    refusals.add(BAD, NOW)
    refusals.add(replace(BAD, reason="again"), NOW)
    assert [one.reason for one in refusals.read(NOW)] == ["again"]


def test_forgetting_tells_what_was_forgotten(refusals):
    refusals.add(BAD, NOW)
    refusals.add(GONE, NOW)
    assert refusals.forget(lambda one: one.cpv.cp == "app-misc/hello", NOW) == (BAD,)
    assert refusals.read(NOW) == (GONE,)


def test_only_the_latest_are_kept(refusals, monkeypatch):
    monkeypatch.setattr("portage_p2pbin.refusals.MOST_REFUSALS", 2)
    for number in range(3):
        refusals.add(replace(BAD, file=Sha256(f"{number:064x}")), NOW)
    assert [one.file[-1] for one in refusals.read(NOW)] == ["1", "2"]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"_type":"p2pbin-refusals-2","refusals":[]}', b" " * (MOST_BYTES + 1)])
def test_a_damaged_file_is_an_error_that_says_what_to_do(refusals, tmp_path, data):
    (tmp_path / "refused.json").write_bytes(data)
    with pytest.raises(SettingsError, match="Delete it"):
        refusals.read(NOW)
