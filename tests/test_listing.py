"""An index call has always an answer, and Portage reads it when it has changed (P7.3 to P7.5)."""

import gzip
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from portage_p2pbin.config import Paths
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import MOST_FILE, encode_page
from portage_p2pbin.kernel.model import Level, Sha256
from portage_p2pbin.kernel.roster import Ruling, RulingKind, Rulings
from portage_p2pbin.listing import Allowed, Answers, Listing, list_packages, write_empty
from portage_p2pbin.refusals import Refusal, Refusals
from tests.makers import NOW
from tests.shop import CHANNEL, package_bytes, stock


class FakeRepository:
    """A verified index of some entries."""

    def __init__(self, *entries):
        self.entries = entries
        self.decisions = Rulings()

    def rulings(self):
        return self.decisions

    def categories(self, channel):
        return sorted({entry.cpv.category for entry in self.entries})

    def page(self, channel, category):
        return encode_page(channel, tuple(entry for entry in self.entries if entry.cpv.category == category))


class FakeThresholds:
    def __init__(self, level):
        self.level = level

    def for_(self, cpv, slot, repository):
        assert (slot, repository) == ("0", "test")
        return self.level


@pytest.fixture
def entry(tmp_path):
    return stock(tmp_path, package_bytes()).entry


@pytest.fixture
def refusals(tmp_path):
    return Refusals(tmp_path / "refused.json")


def allowed(refusals, level=Level.TRUSTED_ONE, now=NOW, largest=MOST_FILE):
    return Allowed(FakeThresholds(level), refusals, largest, now)


def test_what_the_threshold_allows_is_listed(entry, refusals):
    better = replace(entry, file=Sha256("b" * 64), level=Level.TRUSTED_PAIR)
    repository = FakeRepository(entry, better)
    assert allowed(refusals).entries(repository, CHANNEL) == (entry, better)
    assert allowed(refusals, Level.TRUSTED_PAIR).entries(repository, CHANNEL) == (better,)
    assert allowed(refusals, Level.BUILD_SERVER).entries(repository, CHANNEL) == ()


def test_what_was_refused_is_left_out_until_other_bytes_are_listed(entry, refusals):
    refusals.add(Refusal(entry.file, entry.cpv, "P9.8", "bad", None), NOW)
    other = replace(entry, file=Sha256("b" * 64))
    assert allowed(refusals).entries(FakeRepository(entry, other), CHANNEL) == (other,)


def test_what_was_not_to_be_had_is_left_out_for_an_hour(entry, refusals):
    refusals.add(Refusal(entry.file, entry.cpv, "P9.6", "gone", NOW + timedelta(hours=1)), NOW)
    assert allowed(refusals).entries(FakeRepository(entry), CHANNEL) == ()
    assert allowed(refusals, now=NOW + timedelta(hours=1)).entries(FakeRepository(entry), CHANNEL) == (entry,)


def test_what_was_recalled_is_left_out_whatever_the_index_says(entry, refusals):
    repository = FakeRepository(entry)
    repository.decisions = Rulings((Ruling(RulingKind.RECALL, entry.contents, "bad", NOW),))
    assert allowed(refusals).entries(repository, CHANNEL) == ()


def test_what_is_too_large_to_be_fetched_is_left_out(entry, refusals):
    assert allowed(refusals, largest=entry.size).entries(FakeRepository(entry), CHANNEL) == (entry,)
    assert allowed(refusals, largest=entry.size - 1).entries(FakeRepository(entry), CHANNEL) == ()


def timestamp(answer):
    (line,) = (line for line in answer.splitlines() if line.startswith(b"TIMESTAMP: "))
    return int(line.split()[1])


@pytest.fixture
def answers(tmp_path):
    return lambda seconds=0, writable=True: Answers(tmp_path / "listings/host_channel", NOW + timedelta(seconds=seconds), writable=writable)


def test_the_same_answer_keeps_its_timestamp(answers, entry):
    first = answers().next((entry,))
    assert timestamp(first) == int(NOW.timestamp())
    assert answers(100).next((entry,)) == first


def test_another_answer_has_a_greater_timestamp_whatever_the_clock_says(answers, entry):
    first = timestamp(answers().next((entry,)))
    second = timestamp(answers(0).next(()))
    third = timestamp(answers(-1000).next((entry,)))
    assert first < second < third
    assert timestamp(answers(1000).next(())) == int(NOW.timestamp()) + 1000


def test_a_damaged_record_is_written_anew(answers, entry, tmp_path):
    answers().next((entry,))
    (tmp_path / "listings/host_channel").write_bytes(b"TIMESTAMP: 1_0\n")
    assert timestamp(answers().next((entry,))) == int(NOW.timestamp())


def test_who_may_not_write_leaves_no_record(answers, entry, tmp_path):
    assert b"hello" in answers(writable=False).next((entry,))
    assert not (tmp_path / "listings").exists()


def test_a_failure_is_an_empty_index_and_says_why(answers, tmp_path):
    def fail():
        raise RefusedError("P7.5", "the server's index", "it has expired")

    said = []
    answer = list_packages(fail, answers(), said.append)
    assert b"PACKAGES: 0\n" in answer
    assert "expired" in said[0]
    assert "Portage compiles" in said[1]


def test_a_failure_removes_no_cached_file_and_a_listing_those_it_does_not_name(answers, entry, tmp_path):
    stale = tmp_path / "cache/app-misc/hello-1.0-00000000000000000000.gpkg.tar"
    kept = tmp_path / "cache" / entry.path
    stale.parent.mkdir(parents=True)
    for path in (stale, kept):
        path.touch()

    def fail():
        raise UnavailableError("the server", "it is away")

    list_packages(fail, answers(), lambda line: None)
    assert stale.exists()
    said = []
    list_packages(lambda: Listing((entry,), tmp_path / "cache"), answers(), said.append)
    assert (stale.exists(), kept.exists()) == (False, True)
    assert said == [" * app-misc/hello-1.0-00000000000000000000.gpkg.tar is no longer listed and was removed"]


def empty(tmp_path, uri):
    target = tmp_path / "target"
    with target.open("w+b") as file:
        file.write(b"half an answer that is longer than an empty index" * 10)
        file.flush()
        write_empty(uri, file.fileno(), {"EPREFIX": str(tmp_path)})
    return target.read_bytes()


def test_an_index_that_nobody_answered_is_empty_and_newer_than_what_was_served(tmp_path, entry):
    assert Paths(tmp_path).may_write()
    path = Paths(tmp_path).listings / "example.org_amd64-test"
    served = Answers(path, NOW + timedelta(days=9999), writable=True).next((entry,))
    found = empty(tmp_path, "p2pbin://example.org/amd64-test/Packages")
    assert b"PACKAGES: 0\n" in found
    assert timestamp(found) == timestamp(served) + 1
    assert gzip.decompress(empty(tmp_path, "p2pbin://example.org/amd64-test/Packages.gz")) == found


def test_where_it_cannot_be_noted_an_empty_index_is_still_an_answer(tmp_path):
    """Emerge crashes without one: with a full disk, say."""
    assert Paths(tmp_path).may_write()
    Paths(tmp_path).listings.touch()  # no folder can be made here
    assert b"PACKAGES: 0\n" in empty(tmp_path, "p2pbin://example.org/amd64-test/Packages")


@pytest.mark.parametrize("uri", ["p2pbin://example.org/Packages", "https://example.org/x/Packages", "p2pbin://../../Packages"])
def test_an_odd_address_gets_an_empty_index_and_writes_nothing_else(tmp_path, uri):
    assert b"PACKAGES: 0\n" in empty(tmp_path, uri)
    assert os.listdir(tmp_path) == ["target"]  # noqa: PTH208
