import io
from urllib.parse import quote_from_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from p2pbin_server.settings import TrackerSettings
from p2pbin_server.tracker import MOST_ANSWERED, MOST_QUERY, MOST_SCRAPED, Swarms, Tracker
from portage_p2pbin.kernel.model import Address, InfoHash

TORRENT, OTHER, UNLISTED = InfoHash("a1" * 20), InfoHash("b2" * 20), InfoHash("c3" * 20)
SETTINGS = TrackerSettings(interval=300, min_interval=30, peers=5, peers_per_address=2)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def swarms(clock):
    swarms = Swarms(SETTINGS, clock)
    swarms.allow([TORRENT, OTHER])
    return swarms


def ask(swarms, path, query, address="127.0.0.2"):
    """One request, through the validator of the WSGI rules."""
    environ = {"SCRIPT_NAME": "", "REMOTE_ADDR": address, "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    said = {}
    found = validator(Tracker(swarms))(environ, lambda status, headers: said.update(status=status, headers=dict(headers)))
    try:
        body = b"".join(found)
    finally:
        found.close()
    assert said["status"] == "200 OK"
    assert said["headers"]["Content-Length"] == str(len(body))
    return body


def announce(swarms, address="127.0.0.2", torrent=TORRENT, port=6881, left=1, **more):
    query = {"port": port, "left": left, **more}
    text = "".join(f"&{name}={value}" for name, value in query.items())
    return ask(swarms, "/announce", f"info_hash={quote_from_bytes(bytes.fromhex(torrent))}&peer_id={'x' * 20}{text}", address)


def failed(reason):
    return f"d14:failure reason{len(reason)}:{reason}e".encode()


def compact(*peers):
    return b"".join(bytes(map(int, host.split("."))) + port.to_bytes(2, "big") for host, port in peers)


def test_an_announce_answers_with_the_others(swarms):
    assert announce(swarms) == b"d8:completei0e10:incompletei1e8:intervali300e12:min intervali30e5:peers0:e"
    assert announce(swarms, "127.0.0.3") == (
        b"d8:completei0e10:incompletei2e8:intervali300e12:min intervali30e5:peers6:" + compact(("127.0.0.2", 6881)) + b"e"
    )


def test_the_address_is_that_of_the_connection(swarms):
    announce(swarms, "127.0.0.2", ip="10.0.0.1", ipv4="10.0.0.1")
    assert swarms.peers(TORRENT) == [Address("127.0.0.2", 6881)]


def test_ipv6_peers_stand_apart(swarms):
    announce(swarms, "2001:db8::1")
    body = announce(swarms, "127.0.0.2")
    assert b"5:peers0:" in body
    assert body.endswith(b"6:peers618:" + bytes.fromhex("20010db8000000000000000000000001") + (6881).to_bytes(2, "big") + b"e")


def test_ipv4_within_ipv6_is_ipv4(swarms):
    announce(swarms, "::ffff:127.0.0.2")
    assert swarms.peers(TORRENT) == [Address("127.0.0.2", 6881)]


def test_seeds_are_not_told_of_seeds(swarms):
    announce(swarms, "127.0.0.2", left=0)
    announce(swarms, "127.0.0.3", left=5)
    assert compact(("127.0.0.3", 6881)) in announce(swarms, "127.0.0.4", left=0)
    assert b"5:peers6:" in announce(swarms, "127.0.0.4", left=0)


def test_an_unlisted_torrent_is_refused(swarms):
    assert announce(swarms, torrent=UNLISTED) == failed("this tracker does not list the torrent")
    assert swarms.peers(UNLISTED) == []


def test_a_torrent_that_is_not_listed_any_more_is_refused_and_forgotten(swarms):
    announce(swarms)
    swarms.allow([OTHER])
    assert b"failure reason" in announce(swarms)
    swarms.allow([TORRENT])
    assert swarms.peers(TORRENT) == []


def test_listing_another_keeps_the_peers(swarms):
    announce(swarms)
    swarms.allow([TORRENT, UNLISTED])
    assert len(swarms.peers(TORRENT)) == 1


def test_who_stops_is_gone_and_gets_no_peers(swarms):
    announce(swarms, "127.0.0.2")
    announce(swarms, "127.0.0.3")
    assert b"5:peers0:" in announce(swarms, "127.0.0.2", event="stopped")
    assert swarms.peers(TORRENT) == [Address("127.0.0.3", 6881)]
    announce(swarms, "127.0.0.2", event="stopped")


def test_who_is_silent_for_two_intervals_is_gone(swarms, clock):
    announce(swarms)
    clock.now = 599
    swarms.allow([TORRENT])
    assert len(swarms.peers(TORRENT)) == 1
    clock.now = 601
    swarms.allow([TORRENT])
    assert swarms.peers(TORRENT) == []


def test_one_address_has_only_so_many_peers(swarms):
    for port in (1, 2):
        assert b"failure" not in announce(swarms, port=port)
    assert announce(swarms, port=3) == failed("too many peers already")
    assert b"failure" not in announce(swarms, port=2)
    assert b"failure" not in announce(swarms, port=1, torrent=OTHER)
    announce(swarms, port=1, event="stopped")
    assert b"failure" not in announce(swarms, port=3)


def test_an_ipv6_network_counts_as_one_address(swarms):
    """A user is given 2**64 addresses, with which it could else fill every swarm."""
    for number in (1, 2):
        assert b"failure" not in announce(swarms, f"2001:db8:0:1::{number}")
    assert announce(swarms, "2001:db8:0:1:ffff::3") == failed("too many peers already")
    announce(swarms, "2001:db8:0:1::1", event="stopped")
    assert b"failure" not in announce(swarms, "2001:db8:0:1:ffff::3")
    assert b"failure" not in announce(swarms, "2001:db8:0:2::1")


def test_a_swarm_has_only_so_many_peers(swarms, clock):
    for number in range(5):
        announce(swarms, f"127.0.0.{number + 10}")
    assert b"too many peers" in announce(swarms, "127.0.0.99")
    clock.now = 601
    assert b"failure" not in announce(swarms, "127.0.0.99")


def test_at_most_so_many_are_answered():
    swarms = Swarms(TrackerSettings(300, 30, 1000, 20), Clock())
    swarms.allow([TORRENT])
    for number in range(100):
        announce(swarms, f"10.0.0.{number}")
    most = 6 * MOST_ANSWERED
    assert f"5:peers{most}:".encode() in announce(swarms, numwant=1000)
    assert f"5:peers{most}:".encode() in announce(swarms, numwant="-5")
    assert b"5:peers12:" in announce(swarms, numwant=2)
    assert b"5:peers0:" in announce(swarms, numwant=0)
    assert len(swarms.peers(TORRENT)) == MOST_ANSWERED


def test_scrape_counts(swarms):
    announce(swarms, "127.0.0.2", left=0, event="completed")
    announce(swarms, "127.0.0.3", left=1)
    hashes = "&".join(f"info_hash={quote_from_bytes(bytes.fromhex(one))}" for one in (OTHER, TORRENT, UNLISTED))
    files = b"20:%bd8:completei1e10:downloadedi1e10:incompletei1ee" % bytes.fromhex(TORRENT)
    files += b"20:%bd8:completei0e10:downloadedi0e10:incompletei0ee" % bytes.fromhex(OTHER)
    assert ask(swarms, "/scrape", hashes) == b"d5:filesd%bee" % files


def test_a_scrape_of_everything_is_empty(swarms):
    assert ask(swarms, "/scrape", "") == b"d5:filesdee"


def test_a_scrape_reads_only_so_many():
    swarms = Swarms(SETTINGS, Clock())
    many = [InfoHash(f"{number:040x}") for number in range(MOST_SCRAPED + 1)]
    swarms.allow(many)
    query = "&".join("info_hash=" + quote_from_bytes(bytes.fromhex(one)) for one in many)
    assert ask(swarms, "/scrape", query).count(b"8:complete") == MOST_SCRAPED


@pytest.mark.parametrize(
    "query",
    [
        "",
        "port=6881&left=0",
        f"info_hash={'x' * 19}&port=6881&left=0",
        f"info_hash={'x' * 21}&port=6881&left=0",
        *(f"info_hash={'x' * 20}&port={port}&left=0" for port in ("", "0", "65536", "-1", "6_881", "%D9%A3", " 1", "1e3")),
        *(f"info_hash={'x' * 20}&port=6881&left={left}" for left in ("", "-1", "1_0", "%D9%A3", "9" * 19)),
    ],
)
def test_what_is_missing_or_wrong_is_refused(swarms, query):
    assert ask(swarms, "/announce", query) == failed("info_hash, port or left is missing or wrong")


def test_a_long_query_is_not_read(swarms):
    assert ask(swarms, "/announce", "x" * (MOST_QUERY + 1)) == failed("the query is too long")
