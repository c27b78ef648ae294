"""The whole way of a vote over a socket, from the envelope to the page that a verifying client reads."""

import base64
import dataclasses
import datetime
import json
import subprocess
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import quote_from_bytes

import pytest

from p2pbin_server.differences import manifest_path
from p2pbin_server.web.views import page_of
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.index import file_name, read_bundle, read_page
from portage_p2pbin.kernel.model import Level
from portage_p2pbin.kernel.roster import MachineKey, RulingKind
from portage_p2pbin.kernel.statements import read_vote
from portage_p2pbin.kernel.torrent import make_torrent
from portage_p2pbin.openpgp import certify
from tests.handmade import PACKAGE, member, with_image
from tests.makers import CHANNEL, CONTENTS, DEFINITION, NOW, OTHER_CONTENTS, REQUEST, YEAR, certificate, new_key, vote
from tests.served import BUILD_SERVER, OTHER_SEMI, OTHER_TRUSTED, OTHER_UNTRUSTED, SEMI, STRANGER, TRUSTED, UNTRUSTED, Rig
from tests.test_openpgp import Home


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def tuf_time(monkeypatch):
    """Let python-tuf's client live at the time of the makers."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW.astimezone(tz)

    clock = SimpleNamespace(datetime=Then, timezone=datetime.timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", clock)


@pytest.mark.usefixtures("tuf_time")
def test_votes_over_a_socket_become_a_level_that_a_verifying_client_reads(rig):
    first, second = vote(TRUSTED), vote(OTHER_TRUSTED, file=None)
    with rig.serving() as http:
        assert http.post("/votes", first.envelope.data) == (201, {"vote": first.envelope.digest, "level": 3, "reason": "it counts"})
        assert http.post("/votes", second.envelope.data) == (201, {"vote": second.envelope.digest, "level": 2, "reason": "it counts"})
        assert http.post("/votes", first.envelope.data) == (200, {"vote": first.envelope.digest, "level": 2, "reason": "it counts"})
        stored = rig.keep(first)
        rig.publisher.round()
        client = rig.site.client()
        client.refresh()
        [entry] = read_page(client.page(CHANNEL, "app-misc"), CHANNEL, "app-misc")
        assert (entry.file, entry.level, entry.contents) == (first.vote.file, Level.TRUSTED_PAIR, CONTENTS)
        _, bundle, _ = http.raw("GET", f"/bundles/{entry.bundle}")
        assert {one.signer for one in read_bundle(bundle).votes} == {first.signer, second.signer}
        assert http.raw("GET", f"/files/{entry.file}")[0] == 404  # no origin in this process
        assert http.raw("GET", f"/torrents/{stored.info_hash}")[0] == 200
        assert http.raw("POST", f"/downloads/{entry.file}", b"")[0] == 204
        assert http.get(f"/packages/{entry.cpv}")[1]["builds"][0]["requests"] == 1


@pytest.fixture
def http(rig):
    with rig.serving() as http:
        yield http


def listed(rig, seed=TRUSTED, **changes):
    """Cast a vote, keep its file, and bring the index up to date."""
    signed = vote(seed, **changes)
    rig.cast(signed)
    stored = rig.keep(signed, b"0123456789")
    rig.publisher.round()
    return stored


def with_origin(rig):
    rig.give_roles("api", "tracker", "origin")


def test_files_are_handed_out_in_parts(rig):
    with_origin(rig)
    path = f"/files/{listed(rig).sha256}"
    with rig.serving() as http:
        status, body, headers = http.raw("GET", path)
        assert (status, body, headers["Content-Length"], headers["Accept-Ranges"]) == (200, b"0123456789", "10", "bytes")
        status, body, headers = http.raw("GET", path, Range="bytes=2-4")
        assert (status, body, headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        assert http.raw("GET", path, Range="bytes=7-")[:2] == (206, b"789")
        assert http.raw("GET", path, Range="bytes=7-99999")[:2] == (206, b"789")
        assert http.raw("GET", path, Range="bytes=10-")[0] == 416
        for odd in ("bytes=4-2", "bytes=-3", "bytes=0-1,3-4", "lines=1-2", "bytes=٣-"):
            assert http.send(f"GET {path} HTTP/1.0\r\nRange: {odd}\r\n\r\n".encode()).endswith(b"\r\n\r\n0123456789")
        status, body, headers = http.raw("HEAD", path)
        assert (status, body, headers["Content-Length"]) == (200, b"", "10")


def test_nothing_is_handed_out_that_is_not_listed(rig):
    with_origin(rig)
    rig.cast(vote(UNTRUSTED))
    stored = rig.keep(vote(UNTRUSTED))
    rig.publisher.round()
    with rig.serving() as http:
        for path in (f"/files/{stored.sha256}", f"/torrents/{stored.info_hash}", f"/peers/{stored.info_hash}"):
            assert http.raw("GET", path)[0] == 404
        assert http.raw("POST", f"/downloads/{stored.sha256}", b"")[0] == 404


def test_blind_votes_show_nothing_but_that_there_is_a_build(rig, http):
    rig.cast(vote(UNTRUSTED))
    rig.cast(vote(OTHER_UNTRUSTED, contents=OTHER_CONTENTS, file=None))
    rig.certify(certificate(UNTRUSTED, BUILD_SERVER))
    [build] = http.get(f"/packages/{REQUEST.cpv}")[1]["builds"]
    assert build == {
        "buildKey": REQUEST.key, "level": None, "requests": 0,
        "variants": [{"level": None, "listed": False, "definition": DEFINITION.digest, "voices": []}],
    }  # fmt: skip
    for path in ("/", "/clashes"):
        body = http.raw("GET", path)[1].decode()
        assert CONTENTS not in body and OTHER_CONTENTS not in body and vote(UNTRUSTED).vote.file not in body


def test_a_public_package_shows_who_voted(rig, http):
    listed(rig)
    rig.cast(vote(UNTRUSTED))
    [build] = http.get(f"/packages/{REQUEST.cpv}")[1]["builds"]
    voices = [{"operator": f"operator-{TRUSTED}", "role": "trusted"}]
    definition = DEFINITION.digest
    assert build["variants"] == [{"contents": CONTENTS, "level": 3, "listed": True, "definition": definition, "voices": voices}]
    assert build["level"] == 3
    assert http.get("/packages/app-misc/nothing-1")[0] == 404


def test_a_clash_shows_its_sides(rig, http):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(SEMI, contents=OTHER_CONTENTS, file=None))
    [clash] = http.get("/clashes")[1]["clashes"]
    assert (clash["number"], clash["cpv"], clash["open"]) == (1, REQUEST.cpv, True)
    assert [(side["contents"], side["level"], side["stays"]) for side in clash["sides"]] == [
        (CONTENTS, 3, True),
        (OTHER_CONTENTS, 5, False),
    ]
    manifest_path(rig.state.manifests, CONTENTS).write_bytes(read_package(PACKAGE.file()).manifest)
    assert http.get("/clashes/1")[1]["differences"] is None
    changed = with_image(member("image/usr/new", b"1"))
    manifest_path(rig.state.manifests, OTHER_CONTENTS).write_bytes(read_package(changed.file()).manifest)
    assert [one["path"] for one in http.get("/clashes/1")[1]["differences"]] == ["./image/usr/new"]
    assert http.get("/clashes/2")[0] == 404


def test_a_blind_side_of_a_clash_is_not_shown(rig, http):
    rig.cast(vote(UNTRUSTED))
    rig.certify(certificate(UNTRUSTED, BUILD_SERVER))
    rig.cast(vote(TRUSTED, contents=OTHER_CONTENTS))
    [clash] = http.get("/clashes")[1]["clashes"]
    assert [side["contents"] for side in clash["sides"]] == [None, OTHER_CONTENTS]
    assert CONTENTS not in http.raw("GET", "/clashes/1")[1].decode()


def test_a_clash_that_rulings_settled_has_no_sides(rig, http):
    rig.cast(vote(SEMI))
    rig.cast(vote(OTHER_SEMI, contents=OTHER_CONTENTS, file=None))
    rig.import_ruling(RulingKind.VOID, vote(OTHER_SEMI).signer)
    rig.publisher.round()
    assert http.get("/clashes/1")[1]["open"] is False


def test_jobs_over_http(rig, http):
    rig.cast(vote(UNTRUSTED))
    status, answer = http.post("/jobs", rig.request("lease", {}, BUILD_SERVER))
    job = answer["job"]
    assert (status, job["request"], job["votes"], job["expires"]) == (200, REQUEST.as_json(), 1, "2026-05-01T13:00:00Z")
    rig.now += timedelta(minutes=30)
    assert http.post(f"/jobs/{job['id']}/renew", rig.request("job-renew", {}, BUILD_SERVER)) == (200, {"expires": "2026-05-01T13:30:00Z"})
    built = vote(BUILD_SERVER)
    http.post("/votes", built.envelope.data)
    status, answer = http.post(f"/jobs/{job['id']}/done", rig.request("job-done", {"vote": built.envelope.digest}, BUILD_SERVER))
    [audit] = answer["audits"]
    assert (audit["openpgp"], audit["certification"]) == ("openpgp", "text")  # as it was registered
    assert read_vote(audit["vote"].encode()) == vote(UNTRUSTED)
    signed = certificate(UNTRUSTED, BUILD_SERVER)
    assert http.post("/certificates", signed.envelope.data) == (201, {"certificate": signed.envelope.digest})
    assert http.post("/certificates", signed.envelope.data)[0] == 200
    assert http.post("/jobs", rig.request("lease", {}, BUILD_SERVER)) == (200, {"job": None})


def test_a_job_is_given_back_over_http(rig, http):
    rig.cast(vote(UNTRUSTED))
    job = http.post("/jobs", rig.request("lease", {}, BUILD_SERVER))[1]["job"]["id"]
    assert http.post(f"/jobs/{job}/return", rig.request("job-renew", {}, BUILD_SERVER))[0] == 400  # said for something else
    assert http.post(f"/jobs/{job}/return", rig.request("job-return", {}, TRUSTED))[0] == 403
    assert http.post(f"/jobs/{job}/return", rig.request("job-return", {}, BUILD_SERVER)) == (204, None)
    assert http.post(f"/jobs/{job}/return", rig.request("job-return", {}, BUILD_SERVER))[0] == 403


def offer_fields(signed, size=9):
    torrent = make_torrent(file_name(signed.vote.cpv, signed.vote.file), [b"a package"])
    encoded = base64.b64encode(torrent.data).decode()
    return torrent, {"vote": signed.envelope.digest, "size": size, "torrent": encoded, "port": 6881}


def test_offers_over_http(rig):
    with_origin(rig)
    rig.cast(vote(TRUSTED))
    torrent, fields = offer_fields(vote(TRUSTED))
    with rig.serving() as http:
        assert http.get(f"/offers/{torrent.info_hash}")[0] == 404
        assert http.post("/offers", rig.request("offer", fields, TRUSTED)) == (200, {"wanted": True, "origin": ["127.0.0.1", 6880]})
        assert http.get(f"/offers/{torrent.info_hash}") == (200, {"state": "waiting", "reason": ""})
        announce = f"/announce?info_hash={quote_from_bytes(bytes.fromhex(torrent.info_hash))}&port=6881&left=0"
        assert b"failure" not in http.raw("GET", announce)[1]  # at once: who is refused stays away for long
        rig.publisher.round()
        assert b"failure" not in http.raw("GET", announce)[1]
        status, answer = http.post("/offers", rig.request("offer", fields | {"size": 10}, TRUSTED))
        assert (status, answer["rule"]) == (400, "P3.1")
        assert http.post("/offers", rig.request("offer", fields | {"torrent": "d4:infode"}, TRUSTED))[0] == 400


def test_a_server_without_origin_takes_in_nothing(rig, http):
    rig.cast(vote(TRUSTED))
    status, answer = http.post("/offers", rig.request("offer", offer_fields(vote(TRUSTED))[1], TRUSTED))
    assert (status, answer["error"]) == (503, "The origin is not available now: this server takes in no packages now")


def test_holders_and_peers_over_http(rig, http):
    stored = listed(rig)
    hold = {"port": 7000, "bytes": 1000}
    assert http.post("/holders", rig.request("hold", hold, STRANGER)) == (200, {"hold": [{"infoHash": stored.info_hash, "size": 10}]})
    assert http.get(f"/peers/{stored.info_hash}") == (200, {"peers": [["127.0.0.1", 7000]], "origin": None})
    http.raw("GET", f"/announce?info_hash={quote_from_bytes(bytes.fromhex(stored.info_hash))}&port=7001&left=0")
    assert http.get(f"/peers/{stored.info_hash}")[1]["peers"] == [["127.0.0.1", 7001], ["127.0.0.1", 7000]]


def test_the_origin_is_named_where_there_is_one(rig):
    with_origin(rig)
    stored = listed(rig)
    with rig.serving() as http:
        assert http.get(f"/peers/{stored.info_hash}")[1]["origin"] == ["127.0.0.1", 6880]


def test_downloads_are_counted_so_often_only(rig):
    rig.service = dataclasses.replace(
        rig.service, settings=dataclasses.replace(rig.settings, limits=dataclasses.replace(rig.settings.limits, downloads=2))
    )
    path = f"/downloads/{listed(rig).sha256}"
    with rig.serving() as http:
        assert [http.raw("POST", path, b"")[0] for _ in range(3)] == [204, 204, 429]
        assert http.get(f"/packages/{REQUEST.cpv}")[1]["builds"][0]["requests"] == 2


@pytest.fixture
def gpg(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("gpg") / "home")
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home.path), "--kill", "all"], check=True)


def test_a_registration_goes_through_gpg(rig, http, gpg):
    rig.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    identity = gpg.make("larry")
    key = MachineKey(public_key(new_key(STRANGER)), "desktop", rig.now - timedelta(hours=1), rig.now + YEAR)
    certified = certify(gpg.path, identity, key, rig.now)
    fields = {"openpgp": certified.public_key, "certification": certified.text}
    assert http.post("/contributors", rig.request("register", fields, STRANGER)) == (201, {"identity": identity, "role": "untrusted"})
    assert http.post("/contributors", rig.request("register", fields, UNTRUSTED))[1]["rule"] == "P3.2"
    assert http.post("/votes", vote(STRANGER, finished=rig.now).envelope.data)[0] == 201


def test_the_repository_is_served_and_nothing_beside_it(rig, http):
    (rig.site.tuf / "secret.json").write_text("{}")
    status, body, headers = http.raw("GET", "/tuf/metadata/timestamp.json")
    assert (status, headers["Cache-Control"]) == (200, "no-cache")
    assert json.loads(body)["signed"]["_type"] == "timestamp"
    assert http.raw("GET", "/tuf/metadata/1.root.json")[2]["Cache-Control"].endswith("immutable")
    assert http.raw("GET", "/tuf/metadata/99.root.json")[0] == 404
    listed(rig)
    [page] = (rig.site.tuf / "targets/index/amd64-test").glob("*.json")
    assert http.raw("GET", f"/tuf/targets/index/amd64-test/{page.name}")[1] == page.read_bytes()
    for path in ("/tuf/secret.json", "/tuf/metadata/../secret.json", "/tuf/targets/../secret.json", "/tuf/targets/%2e%2e/secret.json"):
        assert b" 404 " in http.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert http.raw("GET", "/tuf/targets/index")[0] == 404
    assert http.raw("GET", f"/tuf/targets/{'x' * 300}.json")[0] == 404
    assert http.raw("GET", f"/tuf/targets/index/amd64-test/{page.name}/x.json")[0] == 404


def test_people_see_a_page(rig, http):
    listed(rig)
    status, body, headers = http.raw("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f'<a href="/packages/{REQUEST.cpv}">{REQUEST.cpv}</a>' in body.decode()
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_health_says_what_people_have_to_sign_soon(rig, http):
    assert http.get("/healthz") == (200, {"status": "ok", "warnings": []})
    rig.now += timedelta(days=6)
    [said] = http.get("/healthz")[1]["warnings"]
    assert said == "the signature of rulings expires 2026-05-08T12:00:00Z; renew it with `p2pbin-server rulings sign`"


def test_whatever_it_shows_is_escaped(rig):
    stored = listed(rig)
    with rig.store.reading() as transaction:
        row = transaction.listing_by(file=stored.sha256)
    hostile = dataclasses.replace(row, cpv='<b>"x', channel="<i>'x")
    page = page_of("<u>&", [(hostile, 1)], 0)
    assert "<b>" not in page and "<i>" not in page and "<u>" not in page
    assert '"/packages/&lt;b&gt;&quot;x"' in page


def test_only_the_proxy_says_who_is_behind_it(rig):
    stored = listed(rig)
    announce = f"/announce?info_hash={quote_from_bytes(bytes.fromhex(stored.info_hash))}&port=6881&left=0"
    forwarded = {"X-Forwarded-For": "203.0.113.5"}
    for proxy, address in (("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "203.0.113.5")):
        rig.service = dataclasses.replace(rig.service, settings=dataclasses.replace(rig.service.settings, proxy=proxy))
        with rig.serving() as http:
            http.raw("GET", announce, **forwarded)
            assert [address, 6881] in http.get(f"/peers/{stored.info_hash}")[1]["peers"]


def test_a_process_without_the_api_is_only_a_tracker(rig):
    rig.give_roles("tracker")
    with rig.serving() as http:
        assert http.raw("GET", "/healthz")[0] == 404
        assert http.raw("GET", "/announce")[0] == 200


def test_a_process_without_the_tracker_is_only_an_api(rig):
    rig.give_roles("api")
    with rig.serving() as http:
        assert http.raw("GET", "/healthz")[0] == 200
        assert http.raw("GET", "/announce")[0] == 404
