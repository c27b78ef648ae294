from datetime import timedelta
from urllib.parse import quote_from_bytes

import pytest

from p2pbin_server import publishing
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.model import Level, Role
from tests.makers import CHANNEL, NOW, YEAR, contributor, roster, vote
from tests.served import SEMI, TRUSTED, UNTRUSTED, Rig


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def listed(rig):
    rig.cast(vote(TRUSTED))
    return rig.keep(vote(TRUSTED))


def published(rig):
    return sorted(path.name.partition(".")[2] for path in (rig.site.tuf / "targets/index/amd64-test").glob("*.json"))


def test_a_round_publishes_what_has_changed_and_nothing_twice(rig):
    listed(rig)
    rig.publisher.round()
    assert published(rig) == ["app-misc.json"]
    before = (rig.site.tuf / "metadata/timestamp.json").read_bytes()
    rig.publisher.round()
    assert (rig.site.tuf / "metadata/timestamp.json").read_bytes() == before


def test_what_a_stop_left_undone_is_done_at_the_next_start(rig, monkeypatch):
    listed(rig)

    def broken(*_):
        raise UnavailableError("The disk", "full")

    with monkeypatch.context() as failing:
        failing.setattr(rig.site.repository, "publish_pages", broken)
        with pytest.raises(UnavailableError):
            rig.publisher.round()
    with rig.store.reading() as transaction:
        assert transaction.changed_pages() == [(CHANNEL, "app-misc")]
    rig.publisher.round()
    assert published(rig) == ["app-misc.json"]


def test_the_tracker_knows_a_torrent_before_the_index_lists_it(rig, monkeypatch):
    stored = listed(rig)
    known = []
    torrent = bytes.fromhex(stored.info_hash)
    monkeypatch.setattr(rig.site.repository, "publish_pages", lambda *_: known.append(rig.service.swarms.scrape([torrent])))
    rig.publisher.round()
    assert [b"8:complete" in one for one in known] == [True]
    assert rig.service.offered.is_set()


def test_a_roster_that_another_process_imported_is_noticed(rig):
    listed(rig)
    assert [one["level"] for one in rig.entries()] == [Level.TRUSTED_ONE]
    rig.import_roster(roster(contributor(TRUSTED, Role.SEMI_TRUSTED), contributor(SEMI, Role.SEMI_TRUSTED)))
    assert [one["level"] for one in rig.entries()] == [Level.SEMI_TRUSTED_ONE]


def test_levels_follow_the_windows_of_keys_within_an_hour(rig):
    listed(rig)
    assert len(rig.entries()) == 1
    rig.now = NOW + YEAR + timedelta(seconds=1)
    assert rig.entries() == []


def test_signatures_are_looked_at_once_an_hour_even_if_the_clock_goes_back(rig, monkeypatch):
    looked = []
    monkeypatch.setattr(rig.site.repository, "refresh", looked.append)
    for moved in (timedelta(0), timedelta(minutes=59), timedelta(minutes=60), timedelta(minutes=30)):
        rig.now = NOW + moved
        rig.publisher.round()
    assert looked == [NOW, NOW + timedelta(minutes=60), NOW + timedelta(minutes=30)]


def test_it_runs_until_it_is_stopped_and_survives_a_failure(rig, monkeypatch, capsys):
    monkeypatch.setattr(publishing, "POLL", 0.01)
    failures = [UnavailableError("The store", "locked"), OSError(28, "No space left on device")]
    real = rig.site.repository.refresh

    def refresh(now):
        if failures:
            raise failures.pop()
        real(now)

    monkeypatch.setattr(rig.site.repository, "refresh", refresh)
    listed(rig)
    rig.publisher.start()
    for _ in range(1000):
        if (rig.site.tuf / "targets/index/amd64-test").exists() and published(rig):
            break
        rig.publisher.join(0.01)
    rig.publisher.stop()
    assert published(rig) == ["app-misc.json"]
    said = capsys.readouterr().err
    assert "No space left on device" in said and "locked" in said
    assert not rig.publisher.is_alive()


def test_the_tracker_serves_what_is_listed_from_the_first_request_on(rig):
    stored = listed(rig)
    rig.publisher.round()
    rig.service.swarms.allow([])
    rig.publisher.tell()
    with rig.serving() as http:
        query = f"info_hash={quote_from_bytes(bytes.fromhex(stored.info_hash))}&port=6881&left=0"
        assert b"failure" not in http.raw("GET", f"/announce?{query}")[1]


def test_the_tracker_knows_what_was_taken_in_and_is_not_listed_yet(rig):
    rig.cast(vote(UNTRUSTED))
    stored = rig.keep(vote(UNTRUSTED))
    rig.publisher.tell()
    assert b"8:complete" in rig.service.swarms.scrape([bytes.fromhex(stored.info_hash)])
