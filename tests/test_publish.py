import base64
import hashlib
import io
from dataclasses import dataclass, field, replace

import pytest

from portage_p2pbin import publish as module
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.gentoo.record import Record
from portage_p2pbin.kernel.definition import BuildDefinition
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, Cpv, Level, Sha256
from portage_p2pbin.kernel.statements import Vote, read_request_fields, read_vote, sign_vote
from portage_p2pbin.kernel.torrent import read_torrent
from portage_p2pbin.net.network import HalfStatus
from portage_p2pbin.publish import Outcome, Publisher, SharingRules, is_done, publication
from tests.handmade import EBUILD, IMAGE, PACKAGE, archive, folder, member, with_metadata
from tests.http_seam import NAME, RecordedHttp
from tests.makers import CHANNEL, CONTENTS, DEFINITION, NOW, REQUEST, new_key

CPV = Cpv("app-misc/hello-1")
KEY = new_key(7)
ORIGIN = Address("192.0.2.1", 6880)
SAID = {"CBUILD": REQUEST.cbuild, "CFLAGS": "-O2 -pipe", "CHOST": REQUEST.chost, "EAPI": "8", "USE": "nls", "repository": "test"}
BUILT = with_metadata(**{name: f"{value}\n".encode() for name, value in SAID.items()}, FEATURES=b"sandbox\n")
"""A package as Portage leaves it in PKGDIR: not cleaned."""


def definition(**changes):
    request = replace(REQUEST, cpv=CPV, sources={"ebuild": Sha256(hashlib.sha256(EBUILD).hexdigest())})
    return BuildDefinition(replace(request, **changes), DEFINITION.dependencies, DEFINITION.programs)


@dataclass
class RecordingSeeder:
    """The network half in memory."""

    seeded: list[tuple[object, bytes, Address | None]] = field(default_factory=list)
    failure: Exception | None = None

    def status(self):
        return HalfStatus(port=6881, files=0, bytes=0, sent=0)

    def seed(self, torrent, file, connect):
        if self.failure:
            raise self.failure
        with open(file, "rb", closefd=False) as stream:
            stream.seek(0)
            self.seeded.append((torrent, stream.read(), connect))


@pytest.fixture
def http():
    http = RecordedHttp()
    http.answer("/votes", lambda body: b'{"vote":"%s","level":3,"reason":"it counts"}' % read_vote(body).envelope.digest.encode())
    http.answer("/offers", {"wanted": True, "origin": [ORIGIN.host, ORIGIN.port]})
    http.answer("/offers/*", {"state": "checking", "reason": ""}, {"state": "stored", "reason": ""})
    return http


@pytest.fixture
def seeder():
    return RecordingSeeder()


@pytest.fixture
def publisher(tmp_path, http, seeder, monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.0)
    rules = SharingRules(("games-*/*",), "attic")
    said = []
    return Publisher(tmp_path / "publishing", CHANNEL, http.server(), seeder, KEY, rules, patience=60.0, tell=said.append)


@pytest.fixture
def record(tmp_path):
    return make_record(tmp_path, BUILT)


def make_record(tmp_path, package, **changes):
    path = tmp_path / "hello-1-1.gpkg.tar"
    path.write_bytes(package.bytes())
    digest = Sha256(hashlib.sha256(package.bytes()).hexdigest())
    return replace(Record(definition(), path, digest, len(package.bytes()), NOW, NOW, ()), **changes)


def folder_of(publisher, record):
    return publication(publisher.folder, NAME, CHANNEL, record)


def test_a_build_is_cleaned_voted_on_and_sent(publisher, http, seeder, record):
    published = publisher.publish(record)
    assert (published.outcome, published.level, published.reason) == (Outcome.STORED, Level.TRUSTED_ONE, "it counts")
    ((torrent, sent, connect),) = seeder.seeded
    reading = read_package(io.BytesIO(sent))
    assert reading.droppings == ()
    vote = read_vote(http.asked[0][1])
    assert (vote.signer, vote.vote.channel, vote.vote.definition) == (public_key(KEY), CHANNEL, record.definition)
    assert vote.vote.contents == reading.digest
    assert vote.vote.file == hashlib.sha256(sent).hexdigest()
    assert (vote.vote.started, vote.vote.finished) == (record.started, record.finished)
    assert (torrent.name, torrent.size, connect) == (file_name(CPV, vote.vote.file), len(sent), ORIGIN)
    assert http.paths() == ["/votes", "/offers", *[f"/offers/{torrent.info_hash}"] * 2]
    _, fields = read_request_fields(http.asked[1][1], "offer", NAME, lambda time: True)
    with fields.reading():
        assert (fields.of("vote", Sha256), fields.number("port"), fields.number("size")) == (vote.envelope.digest, 6881, len(sent))
        offered = fields.text("torrent")
    assert read_torrent(base64.b64decode(offered)) == torrent


def test_afterwards_only_the_vote_is_kept(publisher, record):
    publisher.publish(record)
    kept = folder_of(publisher, record)
    assert is_done(kept)
    assert sorted(file.name for file in kept.iterdir()) == ["done", "vote"]


def test_a_file_that_is_not_wanted_is_not_sent(publisher, http, seeder, record):
    http.answer("/offers", {"wanted": False, "origin": [ORIGIN.host, ORIGIN.port]})
    assert publisher.publish(record).outcome is Outcome.VOTED
    assert seeder.seeded == []


def test_publishing_twice_is_harmless(publisher, http, record):
    first = publisher.publish(record)
    asked = len(http.asked)
    again = publisher.publish(record)
    assert (again.outcome, again.vote) == (Outcome.BEFORE, first.vote)
    assert len(http.asked) == asked


@pytest.mark.parametrize("path", ["/votes", "/offers", "/offers/*"])
def test_what_was_stopped_goes_on_with_the_same_vote(publisher, http, record, path):
    working = http.answers[path]
    http.answer(path, UnavailableError("server", "nobody answers"))
    with pytest.raises(UnavailableError):
        publisher.publish(record)
    assert not is_done(folder_of(publisher, record))
    http.answers[path] = working
    record.path.unlink()  # what is needed has been put aside
    assert publisher.publish(record).outcome is Outcome.STORED
    assert len({body for path, body in http.asked if path == "/votes"}) == 1


def test_a_network_half_that_is_gone_stops_it_and_it_goes_on(publisher, seeder, record):
    seeder.failure = UnavailableError("p2pbind", "it has ended")
    with pytest.raises(UnavailableError):
        publisher.publish(record)
    seeder.failure = None
    assert publisher.publish(record).outcome is Outcome.STORED


def test_a_power_cut_while_cleaning_leaves_nothing_that_is_taken_for_whole(publisher, seeder, record):
    kept = folder_of(publisher, record)
    kept.mkdir(parents=True)
    (kept / "partial").write_bytes(b"half a package" * 10_000)
    publisher.publish(record)
    assert read_package(io.BytesIO(seeder.seeded[0][1])).droppings == ()


def test_a_new_machine_key_signs_the_same_statement(publisher, http, record):
    first = publisher.publish(record)
    other = replace(publisher, key=new_key(8))
    again = other.publish(record)
    assert again.outcome is Outcome.STORED
    assert (again.vote.vote, again.vote.signer) == (first.vote.vote, public_key(new_key(8)))


def test_another_server_gets_it_too(publisher, http, record):
    publisher.publish(record)
    elsewhere = replace(publisher, server=replace(publisher.server, name="other.example.org"))
    assert elsewhere.publish(record).outcome is Outcome.STORED


def refusal(publisher, http, record):
    with pytest.raises(RefusedError) as caught:
        publisher.publish(record)
    assert http.asked == [], "nothing was sent"
    return caught.value


def test_a_file_that_was_changed_since_it_was_built(publisher, http, record):
    record.path.write_bytes(PACKAGE.bytes())
    assert refusal(publisher, http, record).rule == "P10.1"


def test_a_file_that_is_gone(publisher, http, record):
    record.path.unlink()
    assert "build it again" in refusal(publisher, http, record).reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"withheld": ("its ebuild says RESTRICT=bindist",)}, "bindist"),
        ({"definition": definition(cpv=Cpv("games-misc/hello-1"))}, "games-"),
        ({"definition": definition(flags={"CFLAGS": "-O2 -fdebug-prefix-map=/x=attic"})}, "names this machine"),
        ({"definition": definition(build_path="/home/alice/tmp")}, "names a home"),
    ],
)
def test_what_may_not_be_shared_is_not_even_opened(publisher, http, record, changes, reason):
    found = refusal(publisher, http, replace(record, path=record.path.with_name("not-there"), **changes))
    assert found.rule == "P10.2"
    assert reason in found.reason


def test_a_file_that_looks_like_a_secret_stays_here(publisher, http, tmp_path):
    image = archive(*IMAGE, folder("image/etc"), folder("image/etc/ssh"), member("image/etc/ssh/ssh_host_rsa_key", b"x"))
    found = refusal(publisher, http, make_record(tmp_path, BUILT.but(image=image)))
    assert (found.rule, "/etc/ssh/ssh_host_rsa_key" in found.reason) == ("P10.2", True)


def test_a_package_that_is_not_what_the_record_says(publisher, http, record):
    found = refusal(publisher, http, replace(record, definition=definition(eapi="7")))
    assert (found.rule, "EAPI" in found.reason) == ("P9.8", True)


def test_the_reason_of_a_refusal_by_the_origin_is_shown(publisher, http, record):
    http.answer("/offers/*", {"state": "refused", "reason": "its contents digest is another one"})
    with pytest.raises(RefusedError, match="its contents digest is another one"):
        publisher.publish(record)
    assert not is_done(folder_of(publisher, record))


def test_an_origin_that_never_takes_it_is_not_waited_for_without_end(publisher, http, record, monkeypatch):
    monkeypatch.setattr(module, "SLOWEST", 1 << 40)
    http.answer("/offers/*", {"state": "waiting", "reason": ""})
    with pytest.raises(UnavailableError, match="publish it again"):
        replace(publisher, patience=0.05).publish(record)
    assert not is_done(folder_of(publisher, record))


def test_a_cleaning_that_left_something_is_noticed(publisher, http, record, monkeypatch):
    def copy(fd, target, *, prefix):
        with open(fd, "rb", closefd=False) as source:
            source.seek(0)
            target.write(source.read())

    monkeypatch.setattr(module, "clean_sandboxed", copy)
    found = refusal(publisher, http, record)
    assert (found.rule, "key FEATURES" in found.reason) == ("P2.5", True)


def test_a_kept_vote_that_names_no_file_is_not_offered(publisher, http, seeder, record):
    signed = sign_vote(Vote(CHANNEL, record.definition, CONTENTS, None, NOW, NOW), KEY)
    kept = folder_of(publisher, record)
    kept.mkdir(parents=True)
    (kept / "vote").write_bytes(signed.envelope.data)
    with pytest.raises(RefusedError, match="names no file"):
        publisher.publish(record)
    assert seeder.seeded == []
