"""The network half as a real process: it gets, downloads, seeds, holds, and can be believed in nothing."""

import hashlib
import json
import os
import re
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from portage_p2pbin.kernel.errors import DecodeError, RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Address, InfoHash, Sha256
from portage_p2pbin.kernel.torrent import read_torrent
from portage_p2pbin.net.delivery import Delivery
from portage_p2pbin.net.network import MOST_POSTED, Network
from portage_p2pbin.net.packets import Packets, pair, to_text
from portage_p2pbin.net.process import _give_up_rights, start_half
from portage_p2pbin.net.settings import HalfSettings, HttpSettings, SwarmSettings
from portage_p2pbin.net.swarm import Sources, Swarm
from tests.shop import Shop, package_bytes

USER = "nobody"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with Shop(tmp_path_factory.mktemp("shop")) as shop:
        shop.shelve()
        yield shop


@pytest.fixture
def url(shop):
    shop.answers.clear()
    shop.peers.clear()
    return f"http://{shop.host}"


@pytest.fixture
def folder():
    """A folder that another user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path) / "swarm"


def settings(folder, url, number=2, **changes):
    swarm = SwarmSettings(f"127.0.0.{number}:0", stall=5, origin_after=0.2)
    plain = HalfSettings(folder, swarm, HttpSettings(5, https=False), 1 << 30, {"packages.example.org": url}, resident=False, hold_every=60)
    return replace(plain, **changes)


@pytest.fixture
def start(folder, url):
    """`start(**changes)` is a conversation with a new network half."""
    running = []

    def start(**changes):
        half = start_half(settings(folder, url, **changes), USER)
        network = half.connect()
        running.append((network, half))
        return network

    yield start
    for network, half in running:
        network.__exit__(None, None, None)
        half.stop()


@contextmanager
def start_and_stop(one):
    """A conversation with a half that is there for the block."""
    half = start_half(one, USER)
    try:
        with half.connect() as network:
            yield network
    finally:
        half.stop()


def fetched(network, shop, **changes):
    """Bytes of the first package, and what the half says about them."""
    finished = network.download(f"http://{shop.host}", replace(shop.shelves[0].entry, **changes), lambda done, peers: None)
    with os.fdopen(finished.file, "rb") as file:
        return file.read(), finished


def test_it_runs_without_rights(folder, url):
    half = start_half(settings(folder, url), USER)
    try:
        status = dict(line.split(":\t") for line in Path(f"/proc/{half.pid}/status").read_text().splitlines() if ":\t" in line)
        if os.geteuid() == 0:
            assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
            assert status["Groups"].strip() == ""
            assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert not [one for one in os.listdir(f"/proc/{half.pid}/fd") if os.readlink(f"/proc/{half.pid}/fd/{one}").startswith(str(folder))]  # noqa: PTH115, PTH208
    finally:
        half.stop()


def test_it_has_no_hold_on_the_terminal_of_who_started_it(folder, url):
    """A controlling terminal would let it type commands there (TIOCSTI), and a readable one let it read passwords."""
    seen, terminal = os.openpty()
    stderr = os.dup(2)
    os.dup2(terminal, 2)
    try:
        half = start_half(settings(folder, url), USER)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    try:
        assert os.getsid(half.pid) == half.pid
        assert os.readlink(f"/proc/{half.pid}/cwd") == "/"  # noqa: PTH115
        flags = re.search(r"flags:\s+0*([0-7]+)", Path(f"/proc/{half.pid}/fdinfo/2").read_text())
        assert int(flags[1], 8) & os.O_ACCMODE == os.O_WRONLY
    finally:
        half.stop()
        os.close(seen)
        os.close(terminal)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(("user", "reason"), [("root", "is root"), ("nosuchuser", "no user")])
def test_it_never_runs_as_root(folder, url, user, reason):
    with pytest.raises(SettingsError, match=reason):
        start_half(settings(folder, url), user)


def test_a_port_that_is_taken_is_said(folder, url):
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match="another program"):
            start_half(settings(folder, url, swarm=SwarmSettings(f"127.0.0.2:{port}")), USER)


def test_documents_are_got_bounded_and_missing_ones_are_none(start, shop, url):
    network = start()
    body = shop.shelves[0].bundle
    address = f"{url}/bundles/{shop.shelves[0].entry.bundle}"
    assert network.get(address, len(body)) == body
    with pytest.raises(RefusedError, match="more than") as caught:
        network.get(address, len(body) - 1)
    assert caught.value.rule == "P9.2"
    assert network.find(f"{url}/nothing", 10) is None
    with pytest.raises(UnavailableError, match="no such file"):
        network.get(f"{url}/nothing", 10)
    with pytest.raises(UnavailableError, match="refused"):
        network.get("http://127.0.0.1:1/", 10)


def test_a_request_is_posted_within_bounds(start, shop, url):
    network = start()
    shop.answers["/votes"] = b"taken"
    assert network.post(f"{url}/votes", b"{}", 5) == b"taken"
    with pytest.raises(RefusedError, match="more than"):
        network.post(f"{url}/votes", bytes(MOST_POSTED + 1), 5)


def test_a_file_comes_from_the_origin(start, shop):
    data, finished = fetched(start(), shop)
    assert data == shop.shelves[0].data
    assert (finished.peers, finished.origin, finished.http) == ({}, len(data), 0)


def test_a_file_that_another_call_deletes_in_between_is_fetched_again(start, shop, monkeypatch):
    fetch, deleted = Delivery.fetch, []

    def fetch_and_lose_it_once(self, server, torrent, file, on_progress):
        delivered = fetch(self, server, torrent, file, on_progress)
        if not deleted:
            deleted.append(torrent.info_hash)
            self.drop(torrent.info_hash)
        return delivered

    monkeypatch.setattr(Delivery, "fetch", fetch_and_lose_it_once)
    assert fetched(start(), shop)[0] == shop.shelves[0].data


def test_a_resident_half_seeds_for_others_and_again_after_a_restart(shop, folder, url):
    for _ in range(2):
        with start_and_stop(settings(folder / "one", url, number=5, resident=True)) as first:
            data, _ = fetched(first, shop)
            assert (first.status().files, first.status().bytes) == (1, len(data))
            shop.peers[:] = [("127.0.0.5", first.status().port)]
            with start_and_stop(settings(folder / "two", url, number=6)) as second:
                _, finished = fetched(second, shop)
            assert (finished.peers, finished.origin) == ({"127.0.0.5": len(data)}, 0)


def test_without_any_peer_it_comes_over_http(start, shop, monkeypatch):
    monkeypatch.setattr(shop, "with_origin", False)
    data, finished = fetched(start(), shop)
    assert data == shop.shelves[0].data
    assert (finished.peers, finished.origin, finished.http) == ({}, 0, len(data))


def test_where_nobody_has_it_that_is_said(start, shop, monkeypatch):
    monkeypatch.setattr(shop, "with_origin", False)
    shop.answers[f"/files/{shop.shelves[0].entry.file}"] = None
    with pytest.raises(UnavailableError, match=r"no peer.*no such file"):
        fetched(start(), shop)


def test_a_torrent_of_another_file_is_refused(start, shop):
    entry = shop.shelves[0].entry
    network = start()
    for changes, what in (({"size": entry.size + 1}, "size"), ({"file": Sha256("0" * 64)}, "name")):
        with pytest.raises(RefusedError, match=f"its {what} is") as caught:
            fetched(network, shop, **changes)
        assert caught.value.rule == "P9.5"


def test_a_torrent_that_is_not_the_one_asked_for_is_refused(start, shop):
    shop.answers["/torrents/" + "0" * 40] = shop.shelves[0].torrent
    with pytest.raises(RefusedError, match="its info-hash is") as caught:
        fetched(start(), shop, info_hash=InfoHash("0" * 40))
    assert caught.value.rule == "P9.5"


def test_a_torrent_that_is_none_is_refused(start, shop):
    shop.answers[f"/torrents/{shop.shelves[0].entry.info_hash}"] = b"d4:infode"
    with pytest.raises(RefusedError, match="form") as caught:
        fetched(start(), shop)
    assert caught.value.rule == "P9.5"


def test_an_odd_list_of_peers_is_no_list(start, shop):
    shop.answers[f"/peers/{shop.shelves[0].entry.info_hash}"] = b'{"peers":[["evil.example.org",1]],"origin":null}'
    _, finished = fetched(start(), shop)
    assert finished.http


def test_one_that_does_not_stay_keeps_nothing_but_what_was_kept_before(shop, folder, url):
    with start_and_stop(settings(folder, url, resident=True)) as resident:
        fetched(resident, shop)
    kept = {one.name for one in folder.iterdir()}
    with start_and_stop(settings(folder, url)) as passing:
        _, finished = fetched(passing, shop)
        assert finished.origin == 0  # it was here
    assert {one.name for one in folder.iterdir()} == kept
    with start_and_stop(settings(folder / "other", url)) as passing:
        fetched(passing, shop)
    assert list((folder / "other").iterdir()) == []


def test_the_oldest_file_makes_room(start, shop, url, folder):
    size = shop.shelves[0].entry.size
    second = shop.shelve(package_bytes(program=os.urandom(size)))
    network = start(resident=True, disk=second.entry.size)
    fetched(network, shop)
    finished = network.download(url, second.entry, lambda done, peers: None)
    os.close(finished.file)
    assert (network.status().files, network.status().bytes) == (1, second.entry.size)
    assert not (folder / shop.shelves[0].entry.info_hash).exists()
    network.forget(second.entry.info_hash)
    assert network.status().files == 0
    shop.shelves.pop()


def test_a_file_is_seeded_and_the_receiver_connected_to(start, shop, tmp_path, url):
    shelf = shop.shelves[0]
    torrent = read_torrent(shelf.torrent)
    with Swarm(tmp_path / "origin", SwarmSettings("127.0.0.7:0", stall=20)) as origin, shelf.file.open("rb") as file:
        taken = []
        waiting = threading.Thread(target=lambda: taken.append(origin.download(torrent, Sources, patience=20.0)))
        waiting.start()
        start(number=5).seed(torrent, file.fileno(), Address("127.0.0.7", origin.port))
        waiting.join()
    assert taken[0].file.read_bytes() == shelf.data
    assert {address for address, _ in taken[0].received} == {"127.0.0.5"}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_file_that_is_not_the_torrents_is_not_seeded(start, shop, tmp_path, change):
    false = tmp_path / "false"
    false.write_bytes(change(shop.shelves[0].data))
    with false.open("rb") as file, pytest.raises(UnavailableError, match="bytes that its torrent says"):
        start().seed(read_torrent(shop.shelves[0].torrent), file.fileno(), None)


def test_copies_are_held_as_the_server_asks(start, shop, url):
    shelf = shop.shelves[0]
    shop.answers["/holders"] = json.dumps({"hold": [{"infoHash": shelf.entry.info_hash, "size": shelf.entry.size}]}).encode()
    network = start(resident=True)
    wait_for(lambda: network.status().files == 1)
    _, finished = fetched(network, shop)
    assert finished.origin == 0


def wait_for(happened):
    for _ in range(200):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("answer", [b"{}", b'{"hold":[{"infoHash":"x","size":1}]}', b'{"hold":[{"infoHash":"%s","size":1}]}' % (b"0" * 40)])
def test_an_odd_list_of_copies_does_no_harm(start, shop, answer):
    shop.answers["/holders"] = answer
    network = start(resident=True)
    wait_for(lambda: "/holders" in shop.asked)
    data, _ = fetched(network, shop)
    assert data == shop.shelves[0].data


def test_it_survives_messages_that_are_none(folder, url, shop):
    half = start_half(settings(folder / "other", url), USER)
    try:
        for data in (b"[]", b"{", b'{"do":"dance"}', b'{"do":"get"}', b'{"do":"seed","torrent":"!","connect":null}'):
            ours, theirs = pair()
            with ours, theirs:
                socket.send_fds(half.control, [b"."], [theirs.fileno()])
                theirs.close()
                ours.settimeout(5)
                ours.send(data)
                assert b'"refused"' in (said := ours.recv(10_000)) or said == b""
        with half.connect() as network:
            assert fetched(network, shop)[0] == shop.shelves[0].data
    finally:
        half.stop()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"do": "post", "url": "http://x/", "most": 1}, b"did not come along"),
        ({"do": "seed", "torrent": None, "connect": None}, b"to be seeded did not come along"),
    ],
)
def test_a_file_that_did_not_come_along_is_missed(folder, url, shop, message, reason):
    if "torrent" in message:
        message["torrent"] = to_text(shop.shelves[0].torrent)
    half = start_half(settings(folder, url), USER)
    ours, theirs = pair()
    with ours:
        socket.send_fds(half.control, [b"."], [theirs.fileno()])
        theirs.close()
        ours.send(json.dumps(message).encode())
        ours.settimeout(10)
        assert reason in ours.recv(10_000)
    half.stop()


def test_it_does_not_outlive_who_started_it():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _give_up_rights(None, parent=1 << 22)
        except ProcessLookupError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def conversation(answers):
    """A gatekeeper's end of a conversation with a half that says `answers`, pairs of a message and the path of a file."""
    ours, theirs = pair()

    def tell():
        with Packets(theirs, "the gatekeeper") as packets:
            packets.receive(5)
            for message, path in answers:
                file = None if path is None else os.open(path, os.O_RDWR | os.O_NONBLOCK)
                packets.send(message, file)

    threading.Thread(target=tell).start()
    return Network(Packets(ours, "The network half"), 0.2)


FINISHED = {"is": "finished", "banned": [], "http": 0, "milliseconds": 1, "origin": 0, "peers": []}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (({"is": "body"}, None), "no plain file"),
        (({"is": "body"}, "fifo"), "no plain file"),
        (({"is": "body"}, "large"), "more than"),
        (({"is": "body", "path": "/etc/shadow"}, "small"), "unknown field"),
        (({"is": "unavailable", "what": "x", "reason": "y"}, None), "y"),
        (({"is": "refused", "rule": "P1", "what": "x", "reason": "y"}, None), "y"),
    ],
)
def test_a_half_that_lies_about_a_document_is_not_believed(tmp_path, answer, reason):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "small").write_bytes(bytes(10))
    message, name = answer
    with conversation([(message, name and tmp_path / name)]) as network, pytest.raises((RefusedError, UnavailableError), match=reason):
        network.get("http://x/", 10)


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({}, None, "no plain file"),
        ({}, "fifo", "no plain file"),
        ({"peers": [{"address": "\x1b[2J", "bytes": 1}]}, "small", "address"),
        ({"peers": [{"address": "127.0.0.1", "bytes": 1}] * 51}, "small", "more than 50"),
        ({"banned": ["evil"]}, "small", "banned"),
        ({"origin": -1}, "small", "between"),
        ({"is": "progress", "done": 1 << 30, "peers": 1}, None, "between"),
    ],
)
def test_a_half_that_lies_about_a_download_is_not_believed(tmp_path, shop, changes, name, reason):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "small").touch()
    with conversation([(FINISHED | changes, name and tmp_path / name)]) as network, pytest.raises(DecodeError, match=reason):
        network.download("http://x", shop.shelves[0].entry, lambda done, peers: None)


def test_a_half_that_only_says_that_it_is_alive_is_left(shop):
    stuck = [({"is": "progress", "done": 7, "peers": 1}, None)] * 9
    with conversation(stuck) as network, pytest.raises(UnavailableError, match="nothing has come"):
        network.download("http://x", shop.shelves[0].entry, lambda done, peers: time.sleep(0.1))


def test_digests_of_the_shop_are_real(shop):
    assert hashlib.sha256(shop.shelves[0].data).hexdigest() == shop.shelves[0].entry.file
