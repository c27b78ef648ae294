"""What a machine believes of the log.  The server here is the real one, writing real files; the enemy serves others."""

import hashlib
import shutil
from dataclasses import replace

import pytest

from p2pbin_server.log import PublishedLog, append
from portage_p2pbin.kernel.checkpoint import Head, KeyKind, VerifierKey, Witnesses, cosign
from portage_p2pbin.kernel.epochs import Epoch, Epochs
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.fork import read_fork
from portage_p2pbin.kernel.leaf import Kind, Salt
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.net.log import Kept, VerifiedLog
from tests.leaf_rows import LeafRows
from tests.makers import NOW, new_key

WITNESS = VerifierKey.of("witness.example", KeyKind.WITNESS, new_key(9))
ALL = 10**9


def body(text):
    return Sha256(hashlib.sha256(text.encode()).hexdigest())


def alone(note, tree):
    return note


def witness(note, tree):
    return note + cosign(note, WITNESS.name, new_key(9), 1_700_000_000)


class Server:
    """One epoch of a log and its files.  Two servers with one key are a fork."""

    def __init__(self, base, epoch=1, key=1, witnesses=Witnesses()):  # noqa: B008
        self.folder = base
        self.epoch = epoch
        self.rows = LeafRows()
        self.published = PublishedLog(base, epoch, f"server.example/log/{epoch}", new_key(key), witnesses)
        self.asked = []

    def log(self, *texts, cosign=alone):
        places = [append(self.rows, self.epoch, Kind.VOTE, body(text), NOW) for text in texts]
        self.head = self.published.publish(self.rows, ALL, cosign)
        return places

    def fetch(self, path, most):
        prefix = f"log/{self.epoch}/"
        self.asked.append(path.removeprefix(prefix))
        found = self.published.file(path.removeprefix(prefix)) if path.startswith(prefix) else None
        return None if found is None else found.read_bytes()[: most + 1]

    def key(self):
        return self.published.verifier


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "server")


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "state", tmp_path / "cache")


def client(kept, server, epochs=None):
    return VerifiedLog(epochs or Epochs((Epoch(server.key()),)), kept, server.fetch)


def many(count, prefix="vote"):
    return [f"{prefix} {number}" for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 600])
def test_every_vote_is_found_where_it_stands(server, kept, count):
    places = server.log(*many(count))
    log = client(kept, server)
    for index in {0, count // 2, count - 1}:
        log.check(places[index], Kind.VOTE, body(f"vote {index}"))


def test_the_log_is_followed_as_it_grows(server, kept):
    for round_ in range(4):
        (place, *_) = server.log(*many(100, f"round {round_}"))
        assert client(kept, server).refresh() == server.head
        client(kept, server).check(place, Kind.VOTE, body(f"round {round_} 0"))


def test_a_place_beyond_what_is_known_makes_it_follow(server, kept):
    server.log("old")
    client(kept, server).refresh()
    (place,) = server.log("new")
    client(kept, server).check(place, Kind.VOTE, body("new"))


def test_nothing_new_costs_one_short_request(server, kept):
    server.log(*many(300))
    client(kept, server).refresh()
    server.asked.clear()
    client(kept, server).refresh()
    assert server.asked == ["checkpoint"]


def test_a_vote_whose_tiles_are_known_costs_no_request(server, kept):
    places = server.log(*many(300))
    client(kept, server).check(places[7], Kind.VOTE, body("vote 7"))
    server.asked.clear()
    client(kept, server).check(places[8], Kind.VOTE, body("vote 8"))
    assert server.asked == []


def test_parts_of_tiles_that_became_full_are_still_found(server, kept):
    places = server.log(*many(10))
    client(kept, server).refresh()
    server.log(*many(300, "more"))
    shutil.rmtree(kept.cache)
    client(kept, server).check(places[3], Kind.VOTE, body("vote 3"))


def test_the_cache_forgets_parts_of_tiles(server, kept):
    for round_ in range(3):
        server.log(*many(10, f"round {round_}"))
        client(kept, server).refresh()
    assert [path.name for path in kept.cache.rglob("*.p/*")] == ["30"]


# P8.7: what stands where


@pytest.mark.parametrize(
    "change",
    [{"index": 6}, {"salt": Salt("0" * 64)}, {"time": NOW.replace(second=1)}],
    ids=lambda change: next(iter(change)),
)
def test_another_place_is_refused(server, kept, change):
    places = server.log(*many(10))
    with pytest.raises(RefusedError, match=r"P8\.7.*not in the log at this place"):
        client(kept, server).check(replace(places[5], **change), Kind.VOTE, body("vote 5"))


def test_another_body_or_kind_is_refused(server, kept):
    places = server.log(*many(10))
    for kind, text in ((Kind.VOTE, "another"), (Kind.CERTIFICATE, "vote 5")):
        with pytest.raises(RefusedError, match=r"P8\.7"):
            client(kept, server).check(places[5], kind, body(text))


def test_a_vote_that_was_never_logged_is_refused(server, kept):
    places = server.log(*many(10))
    with pytest.raises(RefusedError, match=r"P8\.7.*the log has 10 leaves"):
        client(kept, server).check(replace(places[5], index=10), Kind.VOTE, body("vote 5"))


def test_an_erased_body_leaves_the_log_whole(server, kept):
    places = server.log(*many(10))
    server.rows.erase(5)
    server.log("after")
    client(kept, server).check(places[4], Kind.VOTE, body("vote 4"))


# P8.2, P8.5: who signed


def test_a_checkpoint_of_another_key_is_refused(tmp_path, server, kept):
    server.log("one")
    stranger = Server(tmp_path / "stranger", key=2)
    stranger.log("one")
    log = VerifiedLog(Epochs((Epoch(server.key()),)), kept, stranger.fetch)
    with pytest.raises(RefusedError, match=r"P8\.2.*has not signed it"):
        log.refresh()
    assert log.forks() == []


def test_witnesses_are_demanded(tmp_path, server, kept):
    server.log("one")
    epochs = Epochs((Epoch(server.key()),), Witnesses((WITNESS,), 1))
    with pytest.raises(RefusedError, match=r"P8\.5.*0 of the 1 witnesses"):
        client(kept, server, epochs).refresh()
    watched = Server(tmp_path / "watched", witnesses=epochs.witnesses)
    watched.log("one", cosign=witness)
    assert client(kept, watched, epochs).refresh().size == 1


# P8.6: it only grows


def test_an_older_checkpoint_changes_nothing(server, kept):
    server.log(*many(10))
    old = server.fetch("log/1/checkpoint", ALL)
    places = server.log(*many(300, "more"))
    client(kept, server).refresh()

    def replayed(path, most):
        return old if path == "log/1/checkpoint" else server.fetch(path, most)

    log = VerifiedLog(Epochs((Epoch(server.key()),)), kept, replayed)
    assert log.refresh().size == 310
    log.check(places[-1], Kind.VOTE, body("more 299"))


def test_tiles_of_another_log_are_refused_and_are_no_fork(tmp_path, server, kept):
    server.log(*many(10))
    client(kept, server).refresh()
    server.log(*many(10, "more"))
    tile = server.published.file("tile/0/000.p/20")
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    log = client(kept, server)
    with pytest.raises(RefusedError, match=r"P8\.6"):
        log.refresh()
    assert log.forks() == []
    tile.unlink()
    with pytest.raises(UnavailableError, match="has no tile/0/000 "):
        client(kept, server).refresh()


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(9000)])
def test_a_tile_of_another_size_is_refused(server, kept, data):
    server.log(*many(10))
    server.published.file("tile/0/000.p/10").write_bytes(data)
    with pytest.raises(DecodeError, match="bytes, not 320"):
        client(kept, server).refresh()


def test_a_damaged_cache_mends_itself(server, kept):
    places = server.log(*many(300))
    client(kept, server).check(places[7], Kind.VOTE, body("vote 7"))
    for path in kept.cache.rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    client(kept, server).check(places[7], Kind.VOTE, body("vote 7"))


# P8.8: two histories


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (1, 5), (2, 5), (4, 9), (5, 3), (10, 10), (256, 700), (300, 600)])
def test_a_fork_is_kept_and_stops_installs(tmp_path, server, kept, ours, theirs):
    places = server.log(*many(ours))
    client(kept, server).refresh()
    other = Server(tmp_path / "other")
    other.log(*many(theirs, "other"))
    with pytest.raises(RefusedError, match=r"P8\.8.*it has shown two histories"):
        client(kept, other).refresh()
    # The true log coming back does not make it good.
    log = client(kept, server)
    with pytest.raises(RefusedError, match=r"P8\.8"):
        log.refresh()
    with pytest.raises(RefusedError, match=r"P8\.8"):
        log.check(places[0], Kind.VOTE, body("vote 0"))
    (fork,) = log.forks()
    assert sorted((ours, theirs)) == [fork.old.head.size, fork.new.head.size]
    # Somebody else can check it with nothing but the file.
    assert read_fork((kept.state / "1.fork.json").read_bytes()).key == server.key()


def test_a_smaller_history_that_cannot_be_compared_is_not_followed(tmp_path, server, kept):
    """The tiles that would show the fork are our own server's, and it does not answer."""
    server.log(*many(600))
    client(kept, server).refresh()
    other = Server(tmp_path / "other")
    (place, *_) = other.log(*many(300, "other"))
    with pytest.raises(UnavailableError):
        client(kept, other).refresh()
    assert client(kept, server).refresh().size == 600
    with pytest.raises((RefusedError, UnavailableError)):
        client(kept, other).check(place, Kind.VOTE, body("other 0"))


def test_a_new_epoch_ends_it(tmp_path, server, kept):
    places = server.log(*many(10))
    client(kept, server).refresh()
    other = Server(tmp_path / "other")
    other.log(*many(10, "other"))
    with pytest.raises(RefusedError, match=r"P8\.8"):
        client(kept, other).refresh()
    second = Server(tmp_path / "second", epoch=2, key=2)
    (place,) = second.log("again")
    epochs = Epochs((Epoch(server.key(), server.head), Epoch(second.key())))

    def fetch(path, most):
        return second.fetch(path, most) if path.startswith("log/2/") else server.fetch(path, most)

    log = VerifiedLog(epochs, kept, fetch)
    log.check(place, Kind.VOTE, body("again"))
    log.check(places[3], Kind.VOTE, body("vote 3"))
    assert len(log.forks()) == 1


def test_an_ended_epoch_is_what_the_roster_says(tmp_path, server, kept):
    """After a loss: what was logged beyond the end is not in the log any more."""
    places = server.log(*many(5))
    end = server.head
    places += server.log("lost")
    epochs = Epochs((Epoch(server.key(), end), Epoch(Server(tmp_path / "second", epoch=2, key=2).key())))
    log = client(kept, server, epochs)
    log.check(places[4], Kind.VOTE, body("vote 4"))
    with pytest.raises(RefusedError, match=r"P8\.7.*the log has 5 leaves"):
        log.check(places[5], Kind.VOTE, body("lost"))


def test_there_is_no_epoch_but_those_of_the_roster(server, kept):
    places = server.log("one")
    for epoch in (2, 1000):
        with pytest.raises(RefusedError, match=r"P8\.4.*no such epoch"):
            client(kept, server).check(replace(places[0], epoch=epoch), Kind.VOTE, body("one"))


def test_a_server_without_a_log_is_unavailable(server, kept):
    with pytest.raises(UnavailableError, match="no checkpoint of epoch 1"):
        client(kept, server).refresh()


# The evidence itself


def forked(tmp_path, server, kept):
    server.log(*many(3))
    client(kept, server).refresh()
    other = Server(tmp_path / "other")
    other.log(*many(7, "other"))
    with pytest.raises(RefusedError):
        client(kept, other).refresh()
    (fork,) = client(kept, server).forks()
    return fork


def test_one_history_is_no_evidence(tmp_path, server, kept):
    fork = forked(tmp_path, server, kept)
    with pytest.raises(RefusedError, match="does not show two histories"):
        replace(fork, old=fork.new)
    with pytest.raises(RefusedError, match="the larger tree is called the older"):
        replace(fork, old=fork.new, new=fork.old)
    with pytest.raises(RefusedError, match="does not show two histories"):
        replace(fork, path=[bytes(32), *fork.path[1:]])


def test_evidence_that_nobody_signed_is_refused(tmp_path, server, kept):
    fork = forked(tmp_path, server, kept)
    with pytest.raises(RefusedError, match=r"P8\.2"):
        read_fork(fork.encode().replace(b"\\n3\\n", b"\\n2\\n"))


def test_epochs_are_closed_but_the_last():
    keys = [VerifierKey.of(f"server.example/log/{number}", KeyKind.LOG, new_key(number)) for number in (1, 2)]
    end = Head(0, bytes(32))
    for wrong in ((Epoch(keys[0]), Epoch(keys[1])), (Epoch(keys[0], end), Epoch(keys[1], end)), (Epoch(keys[0], end),)):
        with pytest.raises(RefusedError, match=r"P8\.4.*every epoch but the last"):
            Epochs(wrong)
    with pytest.raises(RefusedError, match="two epochs have one origin"):
        Epochs((Epoch(keys[0], end), Epoch(keys[0])))
    with pytest.raises(RefusedError, match="is a witness's"):
        Epoch(WITNESS)
