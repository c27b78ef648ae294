"""The client's half of each route against the server's, over a real socket: both must mean the same."""

from datetime import timedelta

import pytest

from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, Level, Operator, Role
from portage_p2pbin.kernel.statements import AuditCertificate, Audited, sign_certificate
from portage_p2pbin.kernel.torrent import make_torrent
from portage_p2pbin.net.holding import read_copies
from portage_p2pbin.net.http import Http, HttpSettings
from portage_p2pbin.net.trust_server import OfferState, SaidVoice, TrustServer
from tests.makers import CONTENTS, DEFINITION, NOW, REQUEST, YEAR, fingerprint, new_key, vote
from tests.served import BUILD_SERVER, OTHER_BUILD_SERVER, SEMI, STRANGER, TRUSTED, UNTRUSTED, Rig


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        rig.give_roles("api", "tracker", "origin")
        yield rig


@pytest.fixture
def server(rig):
    with rig.serving() as served:
        yield TrustServer(Http(HttpSettings()), f"http://127.0.0.1:{served.port}", "server.example", lambda: rig.now)


def test_votes(server):
    taken = server.vote(vote(TRUSTED))
    assert (taken.digest, taken.level, taken.reason) == (vote(TRUSTED).envelope.digest, Level.TRUSTED_ONE, "it counts")
    assert server.vote(vote(UNTRUSTED, contents=type(CONTENTS)("p2pbin-contents-1:" + "b" * 64))).level is None
    with pytest.raises(RefusedError) as caught:
        server.vote(vote(STRANGER))
    assert caught.value.rule == "P3.2"


def test_offers(server):
    signed = vote(TRUSTED)
    server.vote(signed)
    torrent = make_torrent(file_name(signed.vote.cpv, signed.vote.file), [b"a package"])
    with pytest.raises(UnavailableError):
        server.offer_progress(torrent.info_hash)
    taken = server.offer(signed.envelope.digest, torrent.size, torrent.data, 6881, new_key(TRUSTED))
    assert (taken.wanted, taken.origin) == (True, Address("127.0.0.1", 6880))
    progress = server.offer_progress(torrent.info_hash)
    assert (progress.state, progress.reason) == (OfferState.WAITING, "")


def test_jobs_and_audits(server, rig):
    key = new_key(BUILD_SERVER)
    assert server.lease(key) is None
    server.vote(vote(UNTRUSTED))
    job = server.lease(key)
    assert (job.request, job.votes, job.expires) == (REQUEST, 1, NOW + timedelta(hours=1))
    built = server.vote(vote(BUILD_SERVER))
    [audit] = server.job_done(job.identifier, built.digest, key)
    assert (audit.openpgp, audit.certification, audit.vote) == ("openpgp", "text", vote(UNTRUSTED))
    audited = (Audited(REQUEST.key, CONTENTS),)
    certificate = AuditCertificate(audit.vote.signer, fingerprint(UNTRUSTED), NOW - YEAR, NOW + YEAR, audited)
    server.certify(sign_certificate(certificate, key))
    with rig.store.reading() as transaction:
        assert len(transaction.certificates_for([audit.vote.signer])) == 1


def test_a_job_that_is_given_back_is_free_for_the_next(server):
    server.vote(vote(UNTRUSTED))
    job = server.lease(new_key(BUILD_SERVER))
    assert server.lease(new_key(OTHER_BUILD_SERVER)) is None
    server.give_back(job.identifier, new_key(BUILD_SERVER))
    assert server.lease(new_key(OTHER_BUILD_SERVER)).request == REQUEST


def test_packages(server, rig):
    server.vote(vote(UNTRUSTED))
    [build] = server.package(REQUEST.cpv)
    assert (build.build_key, build.level, build.requests) == (REQUEST.key, None, 0)
    assert [(one.contents, one.level, one.voices) for one in build.variants] == [(None, None, ())]
    server.vote(vote(SEMI))
    rig.keep(vote(SEMI))
    rig.publisher.round()
    [variant] = server.package(REQUEST.cpv)[0].variants
    voices = (SaidVoice(Operator(f"operator-{SEMI}"), Role.SEMI_TRUSTED),)
    assert (variant.contents, variant.level, variant.listed, variant.definition, variant.voices) == (
        CONTENTS, Level.SEMI_TRUSTED_ONE, True, DEFINITION.digest, voices,
    )  # fmt: skip


def test_copies(server, rig):
    server.vote(vote(SEMI))
    stored = rig.keep(vote(SEMI))
    rig.publisher.round()
    request = rig.request("hold", {"port": 7000, "bytes": 1000}, STRANGER)
    [copy] = read_copies(server.http.post(f"{server.url}/holders", request, 10_000))
    assert (copy.info_hash, copy.size) == (stored.info_hash, stored.size)
