"""Requests that are wrong in one thing: each gets its status and its reason, and nothing of it is kept."""

import json
import socket
import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pbin_server import app
from p2pbin_server.store.rows import Holder
from p2pbin_server.throttle import TooManyError
from p2pbin_server.web import api
from p2pbin_server.web.http import MethodError, MissingError, RangeError, TooLargeError, error_response
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE, seal
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.model import PublicKey
from portage_p2pbin.kernel.statements import PAYLOAD_TYPE
from portage_p2pbin.kernel.wire import canonical
from tests.makers import NOW, REQUEST, new_key, vote
from tests.served import BUILD_SERVER, STRANGER, TRUSTED, UNTRUSTED, Rig

JOB = "/jobs/" + "a" * 32
ROUTES = ("/contributors", "/votes", "/certificates", "/offers", "/jobs", f"{JOB}/renew", f"{JOB}/done", "/holders")


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """One server for all requests that must leave nothing behind."""
    with Rig(tmp_path_factory.mktemp("server")) as rig:
        rig.give_roles("api", "tracker", "origin")
        yield rig


@pytest.fixture(scope="module")
def client(rig):
    with rig.serving() as client:
        yield client


def nothing_kept(rig):
    with rig.store.reading() as transaction:
        return transaction.builds() == transaction.open_offers() == transaction.holders(0) == []


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"payload":"","payload":""}', b"NaN", b"1e999", b'{"a":' * 2500])
def test_rubbish_is_400(rig, client, path, body):
    status, answer = client.post(path, body)
    assert (status, answer["rule"]) == (400, "P3.1")
    assert nothing_kept(rig)


def test_a_stranger_is_403(rig, client):
    status, answer = client.post("/votes", vote(STRANGER).envelope.data)
    assert (status, answer["rule"]) == (403, "P3.2")
    assert "nobody has registered it" in answer["error"]
    assert nothing_kept(rig)


def test_a_signature_that_does_not_fit_is_403(rig, client):
    envelope = json.loads(vote(TRUSTED).envelope.data)
    envelope["signatures"][0]["sig"] = json.loads(vote(UNTRUSTED).envelope.data)["signatures"][0]["sig"]
    status, answer = client.post("/votes", canonical(envelope))
    assert (status, answer["rule"]) == (403, "P3.1")
    assert nothing_kept(rig)


def test_a_vote_with_one_more_field_is_400(rig, client):
    payload = json.loads(vote(TRUSTED).envelope.payload)
    payload["predicate"]["extra"] = 1
    status, answer = client.post("/votes", seal(canonical(payload), PAYLOAD_TYPE, new_key(TRUSTED)).data)
    assert (status, answer["rule"]) == (400, "P3.1")
    assert "unknown field 'extra'" in answer["error"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"server": "other.example"}, "field 'server' is 'other.example'"),
        ({"at": NOW - timedelta(minutes=5, seconds=1)}, "too old or from the future"),
        ({"at": NOW + timedelta(minutes=5, seconds=1)}, "too old or from the future"),
    ],
)
def test_a_request_for_elsewhere_or_another_time_is_400(rig, client, changes, reason):
    status, answer = client.post("/holders", rig.request("hold", {"port": 1, "bytes": 1}, STRANGER, **changes))
    assert status == 400
    assert reason in answer["error"]
    assert nothing_kept(rig)


def test_a_request_for_one_action_is_none_for_another(rig, client):
    status, answer = client.post("/jobs", rig.request("hold", {"port": 1, "bytes": 1}, BUILD_SERVER))
    assert status == 400
    assert "field 'action' is 'hold'" in answer["error"]


@pytest.mark.parametrize(
    ("path", "action", "fields"),
    [
        ("/jobs", "lease", {"more": 1}),
        ("/jobs/" + "a" * 32 + "/renew", "job-renew", {"more": 1}),
        ("/jobs/" + "a" * 32 + "/done", "job-done", {"vote": "../../x"}),
        ("/holders", "hold", {"port": 0, "bytes": 1}),
        ("/holders", "hold", {"port": 65536, "bytes": 1}),
        ("/holders", "hold", {"port": True, "bytes": 1}),
        ("/holders", "hold", {"port": 1, "bytes": -1}),
        ("/holders", "hold", {"port": 1, "bytes": 1024**5 + 1}),
        ("/contributors", "register", {"openpgp": 1, "certification": ""}),
        ("/contributors", "register", {"openpgp": "", "certification": "x" * 65537}),
        ("/contributors", "register", {"openpgp": "x" * (256 * 1024 + 1), "certification": ""}),
    ],
)
def test_fields_are_bounded(rig, client, path, action, fields):
    status, answer = client.post(path, rig.request(action, fields, BUILD_SERVER))
    assert (status, answer["rule"]) == (400, "P3.1")
    assert nothing_kept(rig)


def test_a_registration_that_gpg_does_not_accept_is_403(rig, client):
    status, answer = client.post("/contributors", rig.request("register", {"openpgp": "no key", "certification": "no text"}, STRANGER))
    assert (status, answer["rule"]) == (403, "P3.2")


def test_registrations_from_one_address_are_limited(tmp_path):
    with Rig(tmp_path, "[limits]\nregistrations = 1\n") as rig, rig.serving() as client:
        body = rig.request("register", {"openpgp": "no key", "certification": "no text"}, STRANGER)
        assert [client.post("/contributors", body)[0] for _ in range(2)] == [403, 429]


def test_requests_from_one_address_are_limited(tmp_path):
    with Rig(tmp_path, "[limits]\nrequests = 2\n") as rig, rig.serving() as client:
        assert [client.raw("GET", "/healthz")[0] for _ in range(3)] == [200, 200, 429]
        assert client.raw("GET", "/announce")[0] == 200


@pytest.mark.parametrize(
    ("path", "most"),
    [("/votes", MOST_ENVELOPE), ("/jobs", app.MOST_SMALL), ("/holders", app.MOST_SMALL), ("/downloads/" + "a" * 64, 0)],
)
def test_a_body_beyond_its_bound_is_413_and_not_read(client, path, most):
    head = f"POST {path} HTTP/1.0\r\nContent-Length: {most + 1}\r\n\r\n".encode()
    assert b" 413 " in client.send(head + b"x" * (most + 1))
    assert b" 413 " not in client.send(f"POST {path} HTTP/1.0\r\nContent-Length: {most}\r\n\r\n".encode() + b"x" * most)


@pytest.mark.parametrize("length", ["-1", "1_0", "abc", "9" * 30])
def test_a_length_that_is_no_number_is_refused(client, length):
    answer = client.send(f"POST /votes HTTP/1.0\r\nContent-Length: {length}\r\n\r\nxxxxxxxxxx".encode())
    assert answer.split()[1][:1] == b"4"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/votes/",
        "/files/" + "A" * 64,
        "/files/" + "a" * 63,
        "/files/../p2pbin.sqlite",
        "/files/%2e%2e/p2pbin.sqlite",
        "/bundles/..%2fp2pbin.sqlite",
        "/torrents/" + "a" * 40 + "%0a",
        "/tuf/metadata/.lock",
        "/tuf/metadata/..%2flock",
        "/tuf/targets//etc/passwd.json",
        "/packages/app-misc",
        "/packages/app-misc/hello-1/x",
        "/clashes/0x1",
        "/clashes/%D9%A3",
        "/clashes/1%0a",
        "/offers/" + "z" * 40,
    ],
)
def test_paths_that_are_none_of_ours_are_404(client, path):
    assert client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode()).split()[1] == b"404"


def test_a_package_name_that_is_none_is_400(client):
    assert client.raw("GET", "/packages/app-misc/..")[0] == 400


@pytest.mark.parametrize(("method", "path"), [("GET", "/votes"), ("DELETE", "/votes"), ("POST", "/"), ("PUT", "/files/" + "a" * 64)])
def test_another_method_is_405(client, method, path):
    status, body, _ = client.raw(method, path)
    assert status == 405
    assert json.loads(body)["error"].endswith("is the method for it")


def test_a_store_that_cannot_be_written_is_503_and_says_so(tmp_path, monkeypatch):
    with Rig(tmp_path) as rig, rig.serving() as client:
        with monkeypatch.context() as broken:
            broken.setattr("p2pbin_server.store.Transaction.add_vote", full_disk)
            status, answer = client.post("/votes", vote(TRUSTED).envelope.data)
        assert (status, answer["error"]) == (503, "The store is not available now: database or disk is full")
        assert nothing_kept(rig)
        assert client.post("/votes", vote(TRUSTED).envelope.data)[0] == 201


def full_disk(transaction, *_):
    transaction._connection.exec_driver_sql("PRAGMA max_page_count = 1")
    transaction._connection.exec_driver_sql("CREATE TABLE filler (x)")
    for _ in range(100):
        transaction._connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(4096))")


def test_a_slow_client_holds_up_nobody(client):
    """Twice as many half-sent requests as there are threads."""
    slow = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(8)]
    try:
        for connection in slow:
            connection.sendall(b"POST /votes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        started = time.monotonic()
        assert client.raw("GET", "/healthz")[0] == 200
        assert time.monotonic() - started < 10
    finally:
        for connection in slow:
            connection.close()


def test_a_package_that_nobody_voted_on_is_404(client):
    assert client.get(f"/packages/{REQUEST.cpv}")[0] == 404


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MissingError("x", "y"), 404),
        (TooManyError("x", "y"), 429),
        (UnavailableError("x", "y"), 503),
        (MethodError("", "x", "y"), 405),
        (TooLargeError("", "x", "y"), 413),
        (RangeError("", "x", "y"), 416),
        (DecodeError("P3.1", "x", "y"), 400),
        (RefusedError("P3.1", "x", "y"), 403),
    ],
)
def test_each_kind_of_error_has_its_status(error, status):
    response = error_response(error)
    rule = error.rule if isinstance(error, RefusedError) else ""
    assert (response.status, json.loads(response.body)) == (status, {"error": str(error), "rule": rule})


def test_only_so_many_peers_are_named(tmp_path):
    with Rig(tmp_path) as rig, rig.serving() as client:
        rig.cast(vote(TRUSTED))
        stored = rig.keep(vote(TRUSTED))
        rig.publisher.round()
        with rig.store.writing() as transaction:
            for number in range(api.MOST_PEERS + 1):
                key = PublicKey(f"{number:064x}")
                transaction.put_holder(Holder(key, f"10.0.0.{number}", 6881, 1, int(NOW.timestamp())))
                transaction.add_copy(stored.info_hash, key)
        assert len(client.get(f"/peers/{stored.info_hash}")[1]["peers"]) == api.MOST_PEERS


PAYLOAD = json.loads(vote(TRUSTED).envelope.payload)
ODD = [None, True, -1, 2**60, "", "x", "\0", "é", "../..", [], {}, ["x", "x"], {"a": "b"}, "A" * 70_000]


def places(value, path=()):
    """The path of each value inside a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def put(value, path, new):
    """`value` with `new` at `path`."""
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = put(value[path[0]], path[1:], new)
    return copied


@given(st.sampled_from(list(places(PAYLOAD))[1:]), st.sampled_from(ODD))
def test_a_vote_with_one_odd_value_is_refused_or_another_vote(rig, client, path, odd):
    """Signed rightly, wrong in one value: never a failure of ours, and never a vote for what it was made from."""
    signed = seal(canonical(put(PAYLOAD, path, odd)), PAYLOAD_TYPE, new_key(TRUSTED))
    status, answer = client.post("/votes", signed.data)
    assert status in (200, 201, 400, 403), (path, odd, answer)
    if status in (200, 201):
        assert answer["vote"] == signed.digest


@given(st.integers(0, len(vote(TRUSTED).envelope.data) - 1), st.integers(1, 255))
def test_a_vote_with_one_changed_byte_is_refused(client, place, change):
    data = bytearray(vote(TRUSTED).envelope.data)
    data[place] ^= change
    assert client.post("/votes", bytes(data))[0] in (400, 403)
