import json
from dataclasses import replace
from datetime import timedelta

import pytest

from portage_p2pbin.kernel.definition import BuildDefinition
from portage_p2pbin.kernel.envelope import open_envelope, public_key, seal
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.model import Cpv, Sha256
from portage_p2pbin.kernel.statements import PAYLOAD_TYPE, moment, read_certificate, read_request_fields, read_vote, sign_request, spelt
from portage_p2pbin.kernel.wire import canonical
from tests.makers import DEFINITION, NOW, REQUEST, VOTE, certificate, new_key, vote


def resigned(change, seed=1, payload_type=PAYLOAD_TYPE):
    """The envelope of a valid vote whose statement `change` has changed, signed properly again."""
    statement = json.loads(vote(1).envelope.payload)
    change(statement)
    return seal(canonical(statement), payload_type, new_key(seed)).data


def test_a_vote_survives_the_wire():
    assert read_vote(vote(1).envelope.data) == vote(1)
    assert read_vote(vote(1, file=None).envelope.data).vote.file is None


def test_a_vote_says_who_signed_it():
    assert vote(3).signer == public_key(new_key(3))


def test_a_changed_payload_is_refused():
    envelope = json.loads(vote(1).envelope.data)
    envelope["payload"] = json.loads(vote(1, file=None).envelope.data)["payload"]
    with pytest.raises(RefusedError, match="signature is not that of key"):
        read_vote(canonical(envelope))


def test_somebody_elses_key_id_is_refused():
    envelope = json.loads(vote(1).envelope.data)
    envelope["signatures"][0]["keyid"] = public_key(new_key(2))
    with pytest.raises(RefusedError, match="signature is not that of key"):
        read_vote(canonical(envelope))


def test_another_payload_type_is_refused():
    with pytest.raises(DecodeError, match="payloadType"):
        read_vote(resigned(lambda statement: None, payload_type="application/x"))


def test_two_signatures_are_refused():
    envelope = json.loads(vote(1).envelope.data)
    envelope["signatures"] *= 2
    with pytest.raises(DecodeError, match="more than 1 entries"):
        read_vote(canonical(envelope))


def test_no_signature_is_refused():
    envelope = json.loads(vote(1).envelope.data)
    envelope["signatures"] = []
    with pytest.raises(DecodeError, match="nobody has signed"):
        read_vote(canonical(envelope))


@pytest.mark.parametrize("spelling", ["YQ", "YQ=", "YR==", "Y Q==", "YQ==\n", "Y_=="])
def test_base64_has_one_spelling(spelling):
    envelope = json.loads(vote(1).envelope.data)
    envelope["payload"] = spelling
    with pytest.raises(DecodeError, match="base64"):
        open_envelope(canonical(envelope), PAYLOAD_TYPE, "vote")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.update(extra=1), "unknown field"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v2"), "_type"),
        (lambda s: s.update(predicateType="urn:p2pbin:audit:1"), "predicateType"),
        (lambda s: s["subject"].append(s["subject"][0]), "more than 1 entries"),
        (lambda s: s["subject"].clear(), "speaks of nothing"),
        (lambda s: s["subject"][0].update(name="app-misc/hello-2.11"), "its definition is of"),
        (lambda s: s["subject"][0]["digest"].update(md5="x"), "unknown field"),
        (lambda s: s["subject"][0]["digest"].pop("p2pbin-contents-1"), "missing"),
        (lambda s: s["predicate"]["buildDefinition"].update(buildType="urn:p2pbin:build:2"), "buildType"),
        (lambda s: s["predicate"]["buildDefinition"]["externalParameters"].update(colour="red"), "unknown field"),
        (lambda s: s["predicate"]["buildDefinition"]["externalParameters"]["flags"].update(LD_PRELOAD="x"), "no flag variable"),
        (lambda s: s["predicate"]["buildDefinition"]["externalParameters"].update(use=["b", "a"]), "not sorted"),
        (lambda s: s["predicate"]["buildDefinition"]["internalParameters"].update(channel="../x"), "Channel"),
        (lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].reverse(), None),
        (lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].extend(
            s["predicate"]["buildDefinition"]["resolvedDependencies"]), "twice"),
        (lambda s: s["predicate"]["runDetails"]["metadata"].update(finishedOn="2026-05-01T12:00:00+00:00"), "not a time"),
        (lambda s: s["predicate"]["runDetails"]["metadata"].update(finishedOn="2020-05-01T12:00:00Z"), "before it was started"),
        (lambda s: s["predicate"]["runDetails"]["builder"].update(id="somebody"), "'somebody'"),
    ],
)  # fmt: skip
def test_a_vote_that_is_valid_but_for_one_thing(change, reason):
    if reason is None:  # packages and programs may stand in either order; the definition is the same
        assert read_vote(resigned(change)).vote.definition == DEFINITION
        return
    with pytest.raises(RefusedError, match=reason):
        read_vote(resigned(change))


@pytest.mark.parametrize(
    "change",
    [
        {"cpv": Cpv("app-misc/hello-2.11")},
        {"use": ()},
        {"flags": {"CFLAGS": "-O3"}},
        {"features": ()},
        {"install_mask": ("/usr/share/doc",)},
        {"build_path": "/tmp"},
        {"sources": {"ebuild": Sha256("0" * 64)}},
        {"eprefix": "/gentoo"},
        {"eapi": "7"},
        {"chost": "aarch64-unknown-linux-gnu"},
        {"cbuild": "aarch64-unknown-linux-gnu"},
        {"elibc": "musl"},
        {"abi": "x32"},
    ],
)
def test_each_thing_asked_for_changes_the_build_key(change):
    assert replace(REQUEST, **change).key != REQUEST.key


def test_the_environment_changes_the_definition_but_not_the_build_key():
    other = BuildDefinition(REQUEST, (), DEFINITION.programs)
    assert other.digest != DEFINITION.digest
    assert other.request.key == DEFINITION.request.key
    assert BuildDefinition(REQUEST, DEFINITION.dependencies, {"cc": Sha256("3" * 64)}).digest != DEFINITION.digest


def test_too_many_programs_are_refused(monkeypatch):
    monkeypatch.setattr("portage_p2pbin.kernel.definition.MOST_PROGRAMS", 0)
    with pytest.raises(DecodeError, match="more than 0 programs"):
        read_vote(vote(1).envelope.data)


def test_a_certificate_survives_the_wire():
    assert read_certificate(certificate(1, 2).envelope.data) == certificate(1, 2)


def test_a_certificate_that_audited_nothing_is_refused():
    with pytest.raises(RefusedError, match="names no package"):
        read_certificate(certificate(1, 2, audited=()).envelope.data)


def test_a_vote_is_no_certificate():
    with pytest.raises(DecodeError, match="predicateType"):
        read_certificate(vote(1).envelope.data)


def test_a_request_is_for_one_server_one_action_and_a_short_time():
    data = sign_request("offer", {"size": 1}, "a.example", NOW, new_key(1)).data
    fresh = lambda time: abs(time - NOW) < timedelta(minutes=5)  # noqa: E731
    signer, fields = read_request_fields(data, "offer", "a.example", fresh)
    assert signer == public_key(new_key(1))
    assert fields.number("size") == 1
    with pytest.raises(DecodeError, match="server"):
        read_request_fields(data, "offer", "b.example", fresh)
    with pytest.raises(DecodeError, match="action"):
        read_request_fields(data, "lease", "a.example", fresh)
    with pytest.raises(DecodeError, match="too old"):
        read_request_fields(data, "offer", "a.example", lambda time: False)


def test_a_time_has_one_spelling():
    assert spelt(moment("2026-05-01T12:00:00Z")) == "2026-05-01T12:00:00Z"
    assert spelt(VOTE.finished) == "2026-05-01T12:00:00Z"
    for bad in ("2026-5-1T12:00:00Z", "2026-05-01T12:00:00", "2026-05-01T12:00:00Z\n", "2026-02-31T12:00:00Z"):
        with pytest.raises(ValueError, match=r".+"):
            moment(bad)
