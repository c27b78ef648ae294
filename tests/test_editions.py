"""Publishing on the server's disk: batches, crashes, two processes, old files."""

import os
import threading
from datetime import timedelta

import pytest

from p2pbin_server import editions as editions_module
from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.editions import Editions
from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.roster import Policy, Roster
from tests.site import CHANNEL, Site, now

DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def state(site):
    return {str(path.relative_to(site.tuf)): path.read_bytes() for path in site.tuf.rglob("*") if path.is_file()}


def listed(site):
    client = site.client()
    client.refresh()
    return {category: client.page(CHANNEL, category) for category in client.categories(CHANNEL)}


def test_pages_come_and_change_and_go(site):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"one", "dev-libs": b"two"}, now())
    assert listed(site) == {"app-misc": b"one", "dev-libs": b"two"}
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    assert listed(site) == {"app-misc": b"new", "dev-libs": b"two"}
    site.repository.publish_pages(CHANNEL, {"app-misc": None}, now())
    assert listed(site) == {"dev-libs": b"two"}


def test_a_batch_is_one_edition(site):
    site.repository.publish_pages(CHANNEL, {f"dev-{number}": b"page" for number in range(20)}, now())
    assert sorted(name for name in state(site) if "snapshot" in name) == ["metadata/1.snapshot.json", "metadata/2.snapshot.json"]


def test_what_has_not_changed_is_not_signed(site):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"one"}, now())
    before = state(site)
    site.repository.publish_pages(CHANNEL, {"app-misc": b"one", "dev-libs": None}, now())
    assert state(site) == before


def test_no_page_outside_the_index(site):
    before = state(site)
    with pytest.raises(DecodeError):
        site.repository.publish_pages(CHANNEL, {"../roster": b"page"}, now())
    assert state(site) == before


def test_nothing_is_signed_anew_in_the_first_half_of_its_life(site):
    before = state(site)
    site.repository.refresh(now() + timedelta(hours=11))
    assert state(site) == before


def test_a_timestamp_is_signed_anew_in_its_second_half(site):
    later = now() + timedelta(hours=13)
    site.repository.refresh(later)
    assert site.editions().head().timestamp_expires == later + DAY
    assert site.editions().head().snapshot == 1


def test_a_snapshot_is_signed_anew_in_its_second_half(tmp_path):
    site = Site(tmp_path, lifetimes=Lifetimes(snapshot=2 * DAY))
    later = now() + timedelta(hours=25)
    site.repository.refresh(later)
    head = site.editions().head()
    assert (head.snapshot_expires, head.roles["index.json"].version) == (later + 2 * DAY, 1)


def test_an_index_is_signed_anew_in_its_second_half(site):
    site.editions().commit({}, now() + 3 * DAY)
    site.repository.refresh(now() + 4 * DAY)
    assert site.editions().head().roles["index.json"].version == 2


def test_what_was_replaced_stays_for_a_day(site):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"one"}, now())
    for path in site.tuf.rglob("*"):
        os.utime(path, (0, 0))  # written long ago
    site.repository.refresh(now())
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    before = set(state(site))
    site.repository.refresh(now() + timedelta(hours=10))
    assert set(state(site)) == before
    site.repository.refresh(now() + timedelta(hours=25))
    gone = before - set(state(site))
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in gone} == {"app-misc", "index", "snapshot"}
    assert listed(site) == {"app-misc": b"new"}


def test_a_roster_that_was_replaced_stays_for_a_day(site):
    for path in site.tuf.rglob("*"):
        os.utime(path, (0, 0))
    site.put_roster(Roster((), Policy(5, 7)))
    site.repository.refresh(now() + timedelta(hours=10))
    assert len(list((site.tuf / "targets").glob("*.roster.json"))) == 2
    site.repository.refresh(now() + timedelta(hours=25))
    assert len(list((site.tuf / "targets").glob("*.roster.json"))) == 1


def test_a_roster_file_that_was_damaged_on_disk(site):
    next((site.tuf / "targets").glob("*.roster.json")).write_bytes(Roster((), Policy(9, 9)).encode())
    with pytest.raises(RefusedError, match="does not vouch"):
        site.repository.roster()


def test_roots_are_kept_for_ever(site):
    site.renew()
    for path in site.tuf.rglob("*.root.json"):
        os.utime(path, (0, 0))
    site.repository.refresh(now() + 5 * DAY)
    listed(site)


@pytest.mark.parametrize("crash_at", range(4))
def test_a_crash_in_the_middle_changes_nothing_and_the_next_run_goes_through(site, monkeypatch, crash_at):
    site.repository.publish_pages(CHANNEL, {"app-misc": b"one"}, now())
    written = 0
    write = durable.write

    def crash(path, data, mode=0o644):
        nonlocal written
        if written == crash_at:
            raise KeyboardInterrupt
        written += 1
        write(path, data, mode)

    monkeypatch.setattr(editions_module.durable, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    monkeypatch.undo()
    assert listed(site) == {"app-misc": b"one"}
    site.repository.publish_pages(CHANNEL, {"app-misc": b"newer"}, now())
    assert listed(site) == {"app-misc": b"newer"}


def test_two_processes_take_turns(site):
    results = []
    with Editions(site.tuf, {}, site.lifetimes).changing():
        other = threading.Thread(
            target=lambda: results.append(site.repository.publish_pages(CHANNEL, {"app-misc": b"one"}, now())),
        )
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join(10)
    assert results == [None]
    assert listed(site) == {"app-misc": b"one"}
