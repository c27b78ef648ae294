"""The client's side of the TUF repository, against a real one on disk."""

import fcntl
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from p2pbin_server import ceremonies
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.model import Channel, Operator, Role
from portage_p2pbin.kernel.roster import Contributor, Roster, Ruling, RulingKind, Rulings
from portage_p2pbin.net import repository as client_side
from portage_p2pbin.net.repository import Cache, VerifiedRepository, expiries, verified_cache
from tests.makers import fingerprint, machine_key
from tests.site import CHANNEL, POLICY, Site, now

ROSTER = Roster((Contributor(Operator("larry"), Role.TRUSTED, fingerprint(1), (machine_key(1),)),), POLICY)
PAGES = {"app-misc": b"one", "dev-c++": b"two"}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def ruling(name: str) -> Ruling:
    return Ruling(RulingKind.SUSPEND, name, "a lost machine", now())


def test_a_new_client_sees_what_the_server_has(site):
    site.put_roster(ROSTER)
    site.put_rulings(Rulings((ruling("larry"),)))
    site.repository.publish_pages(CHANNEL, PAGES, now())
    site.repository.publish_pages(Channel("arm64-test"), {"sys-libs": b"three"}, now())
    client = site.client()
    client.refresh()
    assert client.roster() == ROSTER
    assert client.rulings().entries[0].subject == "larry"
    assert client.categories(CHANNEL) == ["app-misc", "dev-c++"]
    assert client.page(CHANNEL, "dev-c++") == b"two"


def test_nothing_new_costs_two_short_requests(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    site.asked.clear()
    again = site.client()
    again.refresh()
    assert again.page(CHANNEL, "app-misc") == b"one"
    assert site.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_only_a_page_that_changed_is_fetched(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    assert [client.page(CHANNEL, category) for category in PAGES] == [b"one", b"two"]
    site.repository.publish_pages(CHANNEL, PAGES | {"app-misc": b"new"}, now())
    site.asked.clear()
    client.refresh()
    assert [client.page(CHANNEL, category) for category in PAGES] == [b"new", b"two"]
    assert sum(path.startswith("targets/") for path in site.asked) == 1


def test_nothing_is_answered_before_the_first_refresh(site):
    for ask in (VerifiedRepository.roster, VerifiedRepository.rulings, lambda client: client.categories(CHANNEL)):
        with pytest.raises(UnavailableError, match="has not been read"):
            ask(site.client())


def test_a_category_that_is_not_listed(site):
    client = site.client()
    client.refresh()
    with pytest.raises(UnavailableError, match="does not list it"):
        client.page(CHANNEL, "app-misc")


def test_a_page_that_is_no_longer_listed_leaves_the_cache(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    assert len(list(site.cache().targets.iterdir())) == 3
    site.repository.publish_pages(CHANNEL, {"app-misc": None}, now())
    client.refresh()
    assert sorted(path.name for path in site.cache().targets.iterdir()) == ["roster.json", "rulings.json"]


def test_absurdly_many_pages(site, monkeypatch):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    monkeypatch.setattr(client_side, "MOST_CATEGORIES", 1)
    with pytest.raises(RefusedError, match="2 pages"):
        client.categories(CHANNEL)


def test_pages_that_are_too_large_together(site, monkeypatch):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    monkeypatch.setattr(client_side, "MOST_INDEX", 5)
    with pytest.raises(RefusedError, match="6 bytes together"):
        client.categories(CHANNEL)


def test_a_page_that_is_too_large(site, monkeypatch):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    monkeypatch.setattr(client_side, "MOST_PAGE", 2)
    site.asked.clear()
    with pytest.raises(RefusedError, match="3 bytes, more than the 2 allowed"):
        client.page(CHANNEL, "app-misc")
    assert site.asked == []


def test_nobody_answers(site):
    def silence(url, most):
        raise UnavailableError("server.example", "nobody answers")

    client = VerifiedRepository(site.root_json, "https://server.example/tuf", site.cache(), silence)
    with pytest.raises(UnavailableError, match="nobody answers"):
        client.refresh()


def test_a_refusal_of_the_network_stays_one(site):
    def flood(url, most):
        raise RefusedError("P9.2", url, "it does not end")

    with pytest.raises(RefusedError, match=r"P9\.2"):
        VerifiedRepository(site.root_json, "https://server.example/tuf", site.cache(), flood).refresh()


def test_a_failed_refresh_leaves_the_cache_as_good_as_before(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    site.repository.publish_pages(CHANNEL, {"app-misc": b"new"}, now())
    site.forbid("2.index.json", "3.index.json")
    with pytest.raises(UnavailableError, match=r"3\.index\.json"):
        client.refresh()
    site.forbid()
    client.refresh()
    assert client.page(CHANNEL, "app-misc") == b"new"


def test_a_damaged_cache_is_mended(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    for path in [*site.cache().metadata.glob("*.json"), *site.cache().targets.iterdir()]:
        path.unlink()
        path.write_bytes(b"damaged")
    client.refresh()
    assert client.page(CHANNEL, "app-misc") == b"one"


def test_what_is_found_in_the_cache_counts_and_not_what_was_received(site, monkeypatch):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    monkeypatch.setattr(Updater, "download_target", lambda self, listed, path: Path(path).write_bytes(b"bad"))
    with pytest.raises(RefusedError, match=r"P7\.1"):
        client.page(CHANNEL, "app-misc")
    assert sorted(path.name for path in site.cache().targets.iterdir()) == ["roster.json", "rulings.json"]


def test_a_cache_that_cannot_be_written(site):
    site.cache().metadata.parent.mkdir(parents=True)
    site.cache().metadata.write_text("a file where a folder should be")
    with pytest.raises(UnavailableError, match="its cache cannot be used"):
        site.client().refresh()


def test_one_process_at_a_time(site):
    client = site.client()
    client.refresh()
    with (site.cache().metadata / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=client.refresh)
        site.asked.clear()
        other.start()
        other.join(0.05)
        assert other.is_alive()
        assert site.asked == []
        fcntl.flock(lock, fcntl.LOCK_UN)
    other.join(10)
    assert not other.is_alive()


def test_rulings_that_were_seen_are_remembered(site):
    site.put_rulings(Rulings((ruling("larry"),)))
    site.client().refresh()
    fresh = site.cache()
    forgetful = replace(fresh, metadata=site.base / "new" / "metadata", targets=site.base / "new" / "targets")
    older = Site(site.base / "older")  # the same machine is shown a repository in which the ruling is missing
    client = VerifiedRepository(older.root_json, "https://server.example/tuf", forgetful, older.fetch)
    with pytest.raises(RefusedError) as caught:
        client.refresh()
    assert caught.value.rule == "P6.6"


def test_anybody_may_read_the_cache_and_nobody_else_the_lock(site):
    site.client().refresh()
    cache = site.cache()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [*cache.metadata.rglob("*"), *cache.targets.iterdir()] if path.is_file()
    }
    assert modes.pop(".lock") == 0o600
    assert set(modes.values()) == {0o644}


def test_the_cache_is_read_without_network_and_without_writing(site):
    site.put_roster(ROSTER)
    site.put_rulings(Rulings((ruling("larry"),)))
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    before = everything_in(site.base / "client")
    site.asked.clear()
    with verified_cache(site.root_json, site.cache()) as cached:
        assert cached.roster() == ROSTER
        assert cached.rulings() == client.rulings()
        assert cached.categories(CHANNEL) == ["app-misc", "dev-c++"]
        assert cached.page(CHANNEL, "app-misc") == b"one"
        with pytest.raises(UnavailableError):
            cached.page(CHANNEL, "dev-c++")  # never fetched
    assert site.asked == []
    assert everything_in(site.base / "client") == before


def test_the_cache_is_read_after_a_renewal_of_the_root(site):
    site.renew()
    site.client().refresh()
    with verified_cache(site.root_json, site.cache()) as cached:
        assert cached.roster().policy == POLICY


def test_an_empty_cache_is_unavailable(site):
    with pytest.raises(UnavailableError), verified_cache(site.root_json, site.cache()):
        pass


def test_a_cache_is_trusted_for_the_sake_of_root_json_only(site):
    site.client().refresh()
    other = Site(site.base / "other")
    with pytest.raises(RefusedError, match=r"P7\.1"), verified_cache(other.root_json, site.cache()):
        pass


def test_a_changed_page_in_the_cache_is_not_believed(site):
    site.repository.publish_pages(CHANNEL, PAGES, now())
    client = site.client()
    client.refresh()
    client.page(CHANNEL, "app-misc")
    next(site.cache().targets.glob("*app-misc*")).write_bytes(b"bad")
    with verified_cache(site.root_json, site.cache()) as cached, pytest.raises(RefusedError, match=r"P7\.1"):
        cached.page(CHANNEL, "app-misc")


def test_an_expired_cache_is_refused(site):
    site.client().refresh()
    site.editions().stamp(now() - timedelta(days=2))
    (site.cache().metadata / "timestamp.json").write_bytes((site.tuf / "metadata" / "timestamp.json").read_bytes())
    with pytest.raises(RefusedError, match=r"P7\.5"), verified_cache(site.root_json, site.cache()):
        pass


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_fingerprint_is_of_the_file_that_users_get(site):
    assert ceremonies.fingerprint(site.root_json) == ceremonies.fingerprint((site.offline / "root.json").read_bytes())


def test_until_when_the_cache_is_good(site):
    site.client().refresh()
    found = expiries(site.cache())
    assert set(found) == {"root", "timestamp", "snapshot", "targets", "roster", "rulings", "index"}
    assert list(found.values()) == sorted(found.values())
    assert next(iter(found)) == "timestamp"


def test_a_cache_that_is_not_there_has_no_expiries(tmp_path):
    assert expiries(Cache(tmp_path / "metadata", tmp_path / "targets", tmp_path / "rulings.json")) == {}
