import base64

import pytest

from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.model import Address, InfoHash, Level, Role, Sha256
from portage_p2pbin.kernel.statements import read_request_fields, spelt
from portage_p2pbin.net.trust_server import JobName, OfferState
from tests.http_seam import NAME, RecordedHttp
from tests.makers import CONTENTS, NOW, REQUEST, certificate, fingerprint, new_key, vote

KEY = new_key(7)
DIGEST = Sha256("c" * 64)
HASH = InfoHash("a" * 40)
JOB = JobName("job-1")


@pytest.fixture
def http():
    return RecordedHttp()


def request_of(http, action):
    """The fields of the one signed request that was sent, read as the server reads it."""
    (_, body) = http.asked[-1]
    signer, fields = read_request_fields(body, action, NAME, lambda time: time == NOW)
    assert signer == public_key(KEY)
    return fields


def test_register_sends_key_and_certification_signed_by_the_machine(http):
    http.answer("/contributors", {"identity": fingerprint(7), "role": "untrusted"})
    registered = http.server().register("public", "signed", KEY)
    assert (registered.identity, registered.role) == (fingerprint(7), Role.UNTRUSTED)
    fields = request_of(http, "register")
    with fields.reading():
        assert (fields.text("openpgp"), fields.text("certification")) == ("public", "signed")


@pytest.mark.parametrize(("level", "read"), [(None, None), (3, Level(3))])
def test_a_vote_is_handed_in_as_it_is(http, level, read):
    signed = vote(7)
    http.answer("/votes", {"vote": signed.envelope.digest, "level": level, "reason": "one of two"})
    taken = http.server().vote(signed)
    assert (taken.digest, taken.level, taken.reason) == (signed.envelope.digest, read, "one of two")
    assert http.asked == [("/votes", signed.envelope.data)]


@pytest.mark.parametrize(
    ("wanted", "origin", "read"),
    [(True, ["192.0.2.1", 6880], Address("192.0.2.1", 6880)), (False, ["2001:db8::1", 1], Address("2001:db8::1", 1))],
)
def test_an_offer_names_vote_size_torrent_and_port(http, wanted, origin, read):
    http.answer("/offers", {"wanted": wanted, "origin": origin})
    taken = http.server().offer(DIGEST, 1000, b"d4:infoe", 6881, KEY)
    assert (taken.wanted, taken.origin) == (wanted, read)
    fields = request_of(http, "offer")
    with fields.reading():
        assert (fields.of("vote", Sha256), fields.number("size"), fields.number("port")) == (DIGEST, 1000, 6881)
        assert base64.b64decode(fields.text("torrent")) == b"d4:infoe"


def test_progress_of_an_offer(http):
    http.answer(f"/offers/{HASH}", {"state": "refused", "reason": "P9.8"})
    progress = http.server().offer_progress(HASH)
    assert (progress.state, progress.reason) == (OfferState.REFUSED, "P9.8")


def test_a_job_is_leased(http):
    job = {"id": "job-1", "expires": spelt(NOW), "request": REQUEST.as_json(), "votes": 2}
    http.answer("/jobs", {"job": job}, {"job": None})
    leased = http.server().lease(KEY)
    assert (leased.identifier, leased.expires, leased.request, leased.votes) == ("job-1", NOW, REQUEST, 2)
    with request_of(http, "lease").reading():
        pass
    assert http.server().lease(KEY) is None


def test_a_lease_is_renewed(http):
    http.answer("/jobs/job-1/renew", {"expires": spelt(NOW)})
    assert http.server().renew(JOB, KEY) == NOW
    with request_of(http, "job-renew").reading():
        pass


def test_a_job_is_given_back(http):
    http.answer("/jobs/job-1/return", b"")
    http.server().give_back(JOB, KEY)
    with request_of(http, "job-return").reading():
        pass


def audit(**changes):
    return {"audits": [{"openpgp": "public", "certification": "signed", "vote": vote(8).envelope.data.decode()} | changes]}


def test_a_job_that_is_done_brings_audits(http):
    http.answer("/jobs/job-1/done", audit())
    (found,) = http.server().job_done(JOB, DIGEST, KEY)
    assert (found.openpgp, found.certification, found.vote) == ("public", "signed", vote(8))
    fields = request_of(http, "job-done")
    with fields.reading():
        assert fields.of("vote", Sha256) == DIGEST


def test_an_audit_whose_vote_was_changed_is_refused(http):
    forged = vote(8).envelope.data.replace(b'"sig":"', b'"sig":"A', 1).decode()
    http.answer("/jobs/job-1/done", audit(vote=forged))
    with pytest.raises(RefusedError):
        http.server().job_done(JOB, DIGEST, KEY)


def test_a_certificate_is_handed_in_as_it_is(http):
    signed = certificate(8, 7)
    http.answer("/certificates", {})
    http.server().certify(signed)
    assert http.asked == [("/certificates", signed.envelope.data)]


def build(**changes):
    voice = {"operator": "operator-1", "role": "trusted"}
    variant = {"contents": CONTENTS, "level": 3, "listed": True, "definition": DIGEST, "voices": [voice]}
    return {"builds": [{"buildKey": REQUEST.key, "level": 3, "requests": 4, "variants": [variant | changes]}]}


def test_what_the_server_says_of_a_package(http):
    http.answer(f"/packages/{REQUEST.cpv}", build())
    (found,) = http.server().package(REQUEST.cpv)
    assert (found.build_key, found.level, found.requests) == (REQUEST.key, Level(3), 4)
    (variant,) = found.variants
    assert (variant.contents, variant.level, variant.listed, variant.definition) == (CONTENTS, Level(3), True, DIGEST)
    assert [(voice.operator, voice.role) for voice in variant.voices] == [("operator-1", Role.TRUSTED)]


def test_a_package_and_an_offer_that_the_server_does_not_know(http):
    http.answer(f"/packages/{REQUEST.cpv}", None)
    http.answer(f"/offers/{HASH}", None)
    assert http.server().package(REQUEST.cpv) == ()
    with pytest.raises(UnavailableError, match="does not know"):
        http.server().offer_progress(HASH)


def test_contents_may_be_missing_while_votes_are_blind(http):
    answer = build(level=None, listed=False)
    del answer["builds"][0]["variants"][0]["contents"]
    http.answer(f"/packages/{REQUEST.cpv}", answer)
    assert http.server().package(REQUEST.cpv)[0].variants[0].contents is None


@pytest.mark.parametrize(
    ("path", "answer", "ask", "reason"),
    [
        ("/votes", b"<html>", lambda s: s.vote(vote(7)), "not JSON"),
        ("/votes", {"vote": DIGEST, "level": 7, "reason": ""}, lambda s: s.vote(vote(7)), "between 1 and 6"),
        ("/votes", {"vote": DIGEST, "level": 1, "reason": "x" * 1001}, lambda s: s.vote(vote(7)), "longer than"),
        ("/offers", {"wanted": 1, "origin": ["192.0.2.1", 1]}, lambda s: s.offer(DIGEST, 1, b"", 1, KEY), "type bool"),
        ("/offers", {"wanted": True, "origin": ["localhost", 1]}, lambda s: s.offer(DIGEST, 1, b"", 1, KEY), "no numeric address"),
        (f"/offers/{HASH}", {"state": "lost", "reason": ""}, lambda s: s.offer_progress(HASH), "lost"),
        ("/jobs", {"job": {"id": "../x"}}, lambda s: s.lease(KEY), "JobName"),
        (f"/packages/{REQUEST.cpv}", {"builds": [{}] * 1001}, lambda s: s.package(REQUEST.cpv), "more than 1000"),
        (f"/packages/{REQUEST.cpv}", build(more=1), lambda s: s.package(REQUEST.cpv), "unknown field 'more'"),
    ],
)
def test_an_answer_of_another_form_is_refused(http, path, answer, ask, reason):
    http.answer(path, answer)
    with pytest.raises(DecodeError, match=reason):
        ask(http.server())
