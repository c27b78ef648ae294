"""Real sessions on 127.0.0.x: who sends what, who is asked last, and what happens when peers lie or are silent."""

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace

import libtorrent
import pytest

from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.net.attempt import Watched
from portage_p2pbin.net.swarm import Sources, Swarm, SwarmSettings, make_torrent

NAME = "hello-1.0-0123456789abcdef0123.gpkg.tar"
SIZE = 40 * 16384 + 5
FAST = SwarmSettings(stall=6, origin_after=0.3)


def nothing():
    return Sources()


@pytest.fixture
def swarms(tmp_path):
    """`swarms(n)` is a session on 127.0.0.n; all are closed at the end."""
    made = []

    def make(number, settings=FAST):
        swarm = Swarm(tmp_path / f"peer-{number}", replace(settings, listen=f"127.0.0.{number}:0"))
        made.append(swarm)
        return swarm

    yield make
    for swarm in made:
        swarm.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "published"
    path.write_bytes(bytes(range(251)) * (SIZE // 251) + b"x" * (SIZE % 251))
    return path


@pytest.fixture
def torrent(file):
    return make_torrent(file, NAME)


def at(number, swarm):
    return f"127.0.0.{number}", swarm.port


def seeding(swarms, number, torrent, file):
    swarm = swarms(number)
    swarm.seed(torrent, file)
    return swarm


def test_the_file_arrives_on_disk_and_every_byte_is_accounted_for(swarms, torrent, file):
    one, two = seeding(swarms, 2, torrent, file), seeding(swarms, 3, torrent, file)
    sources = Sources(peers=[at(2, one), at(3, two)])
    got = swarms(4).download(torrent, lambda: sources)
    assert got.file.read_bytes() == file.read_bytes()
    assert set(got.received) == {at(2, one), at(3, two)}
    assert sum(got.received.values()) >= SIZE
    assert got.banned == ()


def test_with_peers_the_origin_is_not_asked(swarms, torrent, file):
    peer, origin = seeding(swarms, 2, torrent, file), seeding(swarms, 3, torrent, file)
    got = swarms(4).download(torrent, lambda: Sources(peers=[at(2, peer)], origin=at(3, origin)))
    assert got.received == {at(2, peer): SIZE}


def test_without_peers_the_origin_is_asked_at_once(swarms, torrent, file):
    origin = seeding(swarms, 3, torrent, file)
    got = swarms(4, replace(FAST, origin_after=60.0)).download(torrent, lambda: Sources(origin=at(3, origin)))
    assert got.received == {at(3, origin): SIZE}


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.9", 0))
        return probe.getsockname()


def test_when_peers_are_gone_the_origin_is_asked(swarms, torrent, file):
    origin = seeding(swarms, 3, torrent, file)
    got = swarms(4).download(torrent, lambda: Sources(peers=[closed_port()], origin=at(3, origin)))
    assert got.received == {at(3, origin): SIZE}


def test_what_was_downloaded_is_seeded(swarms, torrent, file):
    origin, first, second = seeding(swarms, 2, torrent, file), swarms(3), swarms(4)
    first.download(torrent, lambda: Sources(origin=at(2, origin)))
    got = second.download(torrent, lambda: Sources(peers=[at(3, first)]))
    assert got.received == {at(3, first): SIZE}
    assert first.uploaded(torrent.info_hash) == {"127.0.0.4": SIZE}


def test_a_second_download_of_the_same_file_needs_nobody(swarms, torrent, file):
    origin, client = seeding(swarms, 2, torrent, file), swarms(3)
    client.download(torrent, lambda: Sources(origin=at(2, origin)))
    assert client.is_whole(torrent.info_hash)
    assert client.download(torrent, nothing).received == {}


def test_a_publisher_connects_out_to_who_waits(swarms, torrent, file):
    publisher, origin = seeding(swarms, 2, torrent, file), swarms(3)
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(origin.download(torrent, nothing, patience=20.0)))
    waiting.start()
    assert publisher.connect(torrent.info_hash, at(3, origin))
    waiting.join()
    assert taken[0].file.read_bytes() == file.read_bytes()
    assert {address for address, _ in taken[0].received} == {"127.0.0.2"}


def test_a_swarm_without_anybody_is_given_up_soon(swarms, torrent):
    client = swarms(2)
    with pytest.raises(UnavailableError, match="no peer"):
        client.download(torrent, nothing, patience=0.3)
    assert not client.has(torrent.info_hash)


def test_the_list_of_peers_is_asked_for_again(swarms, torrent, file, monkeypatch):
    monkeypatch.setattr("portage_p2pbin.net.attempt.ASK_AGAIN", 0.3)
    peer = seeding(swarms, 2, torrent, file)
    answers = [Sources()]
    got = swarms(3).download(torrent, lambda: answers.pop() if answers else Sources(peers=[at(2, peer)]), patience=20.0)
    assert got.received == {at(2, peer): SIZE}


@pytest.fixture
def liar(torrent, tmp_path):
    """A peer on 127.0.0.8 that says it has everything and sends other bytes."""
    (tmp_path / NAME).write_bytes(bytes(SIZE))
    quick = {"enable_outgoing_utp": False, "enable_incoming_utp": False, "enable_dht": False, "enable_lsd": False, "enable_upnp": False}
    session = libtorrent.session({"listen_interfaces": "127.0.0.8:0", "disable_hash_checks": True, "enable_natpmp": False} | quick)
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(torrent.data)
    parameters.save_path = str(tmp_path)
    parameters.flags = libtorrent.torrent_flags.seed_mode
    handle = session.add_torrent(parameters)
    while handle.status().state != libtorrent.torrent_status.seeding:
        time.sleep(0.05)
    yield "127.0.0.8", session.listen_port()
    session.pause()


def test_a_peer_with_other_bytes_is_banned_and_the_file_comes_from_others(swarms, torrent, file, liar):
    origin = seeding(swarms, 3, torrent, file)
    got = swarms(4).download(torrent, lambda: Sources(peers=[liar], origin=at(3, origin)))
    assert got.file.read_bytes() == file.read_bytes()
    assert got.banned == ("127.0.0.8",)


def test_where_only_a_liar_has_it_the_download_is_given_up(swarms, torrent, liar):
    with pytest.raises(UnavailableError, match="no peer"):
        swarms(4, replace(FAST, stall=1.5)).download(torrent, lambda: Sources(peers=[liar]))


def test_silent_peers_are_given_up_and_nothing_is_left_running(swarms, torrent):
    with socket.socket() as silent:
        silent.bind(("127.0.0.9", 0))
        silent.listen()
        client = swarms(2, replace(FAST, stall=1.5))
        with pytest.raises(UnavailableError):
            client.download(torrent, lambda: Sources(peers=[silent.getsockname()]), patience=0.5)
    assert not client.has(torrent.info_hash)


@pytest.fixture
def dripper(torrent, file):
    """A peer on 127.0.0.7 that has everything and sends it, a few bytes at a time."""
    listening = socket.socket()
    listening.bind(("127.0.0.7", 0))
    listening.listen()
    threading.Thread(target=drip, args=(listening, torrent, file), daemon=True).start()
    with listening:
        yield listening.getsockname()


def drip(listening, torrent, file):
    with suppress(OSError), listening.accept()[0] as peer, peer.makefile("rb") as said:
        said.read(68)
        pieces = len(torrent.pieces) // 20
        peer.sendall(b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(torrent.info_hash) + b"-XX0000-dripdripdrip")
        field = ((1 << pieces) - 1) << -pieces % 8
        peer.sendall(struct.pack(">IB", 1 + -(-pieces // 8), 5) + field.to_bytes(-(-pieces // 8), "big") + struct.pack(">IB", 1, 1))
        while (length := struct.unpack(">I", said.read(4))[0]) != 13 or (message := said.read(13))[0] != 6:
            said.read(length if length != 13 else 0)
        piece, begin, size = struct.unpack(">III", message[1:])
        peer.sendall(struct.pack(">IBII", 9 + size, 7, piece, begin))
        for at in range(0, size, 4):
            peer.sendall(file.read_bytes()[piece * 16384 + begin :][at : at + 4])
            time.sleep(0.1)


def test_the_origin_is_asked_although_a_peer_sends_next_to_nothing(swarms, torrent, file, dripper):
    origin = seeding(swarms, 3, torrent, file)
    got = swarms(4).download(torrent, lambda: Sources(peers=[dripper], origin=at(3, origin)))
    assert got.file.read_bytes() == file.read_bytes()


def test_an_interrupted_download_goes_on_where_it_was(swarms, torrent, file):
    origin, client = seeding(swarms, 2, torrent, file), swarms(3, replace(FAST, download=300_000))

    class InterruptedDownloadError(Exception):
        pass

    def interrupt(done, _peers):
        if done > SIZE // 3:
            raise InterruptedDownloadError

    with pytest.raises(InterruptedDownloadError):
        client.download(torrent, lambda: Sources(origin=at(2, origin)), interrupt)
    assert not client.has(torrent.info_hash)
    got = client.download(torrent, lambda: Sources(origin=at(2, origin)))
    assert got.file.read_bytes() == file.read_bytes()
    assert sum(got.received.values()) < SIZE


def test_a_full_disk_is_a_failure_and_not_a_file(swarms, torrent, file, tmp_path):
    origin, client = seeding(swarms, 2, torrent, file), swarms(3)
    client.path(torrent).mkdir(parents=True)  # stands where the file would be
    with pytest.raises(UnavailableError):
        client.download(torrent, lambda: Sources(origin=at(2, origin)))


def test_forgetting_ends_seeding_and_deletes_what_was_downloaded(swarms, torrent, file):
    origin, client = seeding(swarms, 2, torrent, file), swarms(3)
    got = client.download(torrent, lambda: Sources(origin=at(2, origin)))
    client.forget(torrent.info_hash)
    origin.forget(torrent.info_hash)
    assert not got.file.exists()
    assert file.exists()
    assert not client.has(torrent.info_hash)


def test_a_port_that_is_taken_is_an_error(swarms, tmp_path):
    taken = swarms(2)
    with pytest.raises(UnavailableError, match="another program"):
        Swarm(tmp_path / "other", SwarmSettings(listen=f"127.0.0.2:{taken.port}"))


def test_the_upload_limit_holds_on_loopback_too(swarms, torrent, file):
    slow = swarms(2, replace(FAST, upload=400_000))
    slow.seed(torrent, file)
    got = swarms(3).download(torrent, lambda: Sources(peers=[at(2, slow)]))
    assert got.seconds > 0.7


def test_what_cannot_be_written_is_no_file(swarms, tmp_path):
    """`torrent_finished` came, and then the disk failed."""
    watched = Watched(NAME, tmp_path / NAME)

    class Handle:
        def flush_cache(self):
            watched.failure = "No space left on device"

    watched.handle = Handle()
    with pytest.raises(UnavailableError, match="No space left"):
        swarms(2)._flush(watched)
