from dataclasses import replace
from datetime import timedelta

import pytest

from p2pbin_server import ledger
from p2pbin_server.ledger import Rules, cast
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Channel, Cpv, Level, Role
from portage_p2pbin.kernel.roster import RulingKind
from portage_p2pbin.kernel.statements import Audited
from tests import makers
from tests.makers import CHANNEL, CONTENTS, DEFINITION, NOW, OTHER_CONTENTS, REQUEST, YEAR, certificate, contributor, roster, vote
from tests.served import (
    BUILD_SERVER,
    OTHER_SEMI,
    OTHER_UNTRUSTED,
    SEMI,
    STRANGER,
    SUSPENDED,
    TRUSTED,
    UNTRUSTED,
    Rig,
)  # fmt: skip

BUILD = (CHANNEL, REQUEST.key)


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def levels(rig):
    with rig.store.reading() as transaction:
        return {one.contents: one.level for one in transaction.variants(BUILD)}


def refused(rig, signed, rule, reason):
    with pytest.raises(RefusedError, match=reason) as caught:
        rig.cast(signed)
    assert caught.value.rule == rule
    with rig.store.reading() as transaction:
        assert transaction.vote(signed.envelope.digest) is None


def asking(**changes):
    """A definition with another request."""
    return replace(DEFINITION, request=replace(REQUEST, **changes))


def test_a_vote_is_kept_counted_and_answered_at_once(rig):
    answer = rig.cast(vote(TRUSTED))
    assert (answer.level, answer.reason, answer.is_new) == (Level.TRUSTED_ONE, "it counts", True)
    assert levels(rig) == {CONTENTS: Level.TRUSTED_ONE}


def test_the_same_vote_twice_is_success_and_the_same_answer(rig):
    first, second = rig.cast(vote(TRUSTED)), rig.cast(vote(TRUSTED))
    assert (second.level, second.reason, second.is_new) == (first.level, first.reason, False)
    with rig.store.reading() as transaction:
        assert len(transaction.votes_on(BUILD)) == 1


def test_a_vote_that_cannot_be_counted_is_not_kept(rig, monkeypatch):
    def broken(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(ledger, "judge", broken)
    with pytest.raises(RuntimeError):
        rig.cast(vote(TRUSTED))
    with rig.store.reading() as transaction:
        assert transaction.votes_on(BUILD) == []


def test_votes_have_growing_places(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(SEMI))
    with rig.store.reading() as transaction:
        assert [one.signer for one in transaction.votes_on(BUILD)] == [vote(TRUSTED).signer, vote(SEMI).signer]


def test_a_vote_for_another_channel_is_refused(rig):
    refused(rig, vote(TRUSTED, channel=Channel("arm64-test")), "P7.2", "there is no channel arm64-test")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chost": "aarch64-unknown-linux-gnu"}, "CHOST is aarch64"),
        ({"flags": {"CFLAGS": "-O2 -march=native"}}, "CFLAGS has -march=native"),
        ({"flags": {"LDFLAGS": "-pipe -Wl,-z,x"}}, "LDFLAGS has -Wl,-z,x"),
    ],
)
def test_a_build_outside_the_baseline_is_refused(rig, changes, reason):
    refused(rig, vote(TRUSTED, definition=asking(**changes)), "P7.2", reason)


def test_a_category_that_no_page_can_have_is_refused(rig):
    refused(rig, vote(TRUSTED, definition=asking(cpv=Cpv("c" * 120 + "/hello-1"))), "P7.2", "is no category")


def test_a_stranger_is_refused(rig):
    refused(rig, vote(STRANGER), "P3.2", "nobody has registered it")


def test_a_suspended_contributor_is_refused(rig):
    refused(rig, vote(SUSPENDED), "P4.1", "its contributor is suspended")


def test_a_voided_key_is_refused(rig):
    rig.import_ruling(RulingKind.VOID, vote(TRUSTED).signer)
    rig.service.voters.reload()
    refused(rig, vote(TRUSTED), "P4.1", "a ruling voids its votes")


def test_a_vote_from_the_future_is_refused(rig):
    late = NOW + timedelta(minutes=6)
    refused(rig, vote(TRUSTED, finished=late), "P3.3", "finished in the future")
    rig.cast(vote(TRUSTED, finished=NOW + timedelta(minutes=5)))


def test_a_build_before_the_window_of_its_key_is_refused(rig):
    early = NOW - YEAR - timedelta(seconds=1)
    refused(rig, vote(TRUSTED, started=early, finished=early), "P3.3", "finished outside the validity window")


@pytest.mark.parametrize("seed", [TRUSTED, UNTRUSTED])
def test_a_key_that_has_expired_is_refused(rig, seed):
    rig.now = NOW + YEAR + timedelta(seconds=1)
    refused(rig, vote(seed), "P3.3", "its key is not valid now")


def test_who_votes_too_often_is_told_so(rig):
    rules = Rules(rig.settings.channels, 1, 10)
    with rig.store.writing() as transaction:
        cast(transaction, rig.electorate, vote(TRUSTED), rules)
        cast(transaction, rig.electorate, vote(SEMI), rules)
    with pytest.raises(TooManyError, match="has voted 1 times within a day"), rig.store.writing() as transaction:
        cast(transaction, rig.electorate, vote(TRUSTED, contents=OTHER_CONTENTS), rules)
    rig.now += timedelta(days=1)
    with rig.store.writing() as transaction:
        cast(transaction, rig.electorate, vote(TRUSTED, contents=OTHER_CONTENTS), rules)


def test_untrusted_votes_are_blind_until_a_level_is_reached(rig):
    alone = rig.cast(vote(UNTRUSTED))
    agreed = rig.cast(vote(OTHER_UNTRUSTED))
    other = rig.cast(vote(UNTRUSTED, contents=OTHER_CONTENTS))
    assert alone.reason == agreed.reason == other.reason == "kept; untrusted votes are blind until level 6 is reached"
    assert {one.level for one in (alone, agreed, other)} == {None}
    rig.cast(vote(TRUSTED))
    assert rig.cast(vote(UNTRUSTED)).level is Level.TRUSTED_ONE
    assert rig.cast(vote(UNTRUSTED, contents=OTHER_CONTENTS)).level is None


def test_an_untrusted_vote_on_a_public_result_is_told_that_it_does_not_count(rig):
    rig.cast(vote(TRUSTED))
    assert rig.cast(vote(UNTRUSTED)).reason == "kept, but it does not count: its key is neither on the roster nor audited"


def test_certificates_make_untrusted_votes_count(rig):
    rig.cast(vote(UNTRUSTED))
    rig.cast(vote(OTHER_UNTRUSTED))
    assert rig.certify(certificate(UNTRUSTED, BUILD_SERVER))
    assert levels(rig) == {CONTENTS: None}
    assert rig.certify(certificate(OTHER_UNTRUSTED, BUILD_SERVER))
    assert levels(rig) == {CONTENTS: Level.UNTRUSTED_SOME}
    assert not rig.certify(certificate(OTHER_UNTRUSTED, BUILD_SERVER))


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (certificate(UNTRUSTED, TRUSTED), "its signer is no build server"),
        (certificate(UNTRUSTED, STRANGER), "its signer is no build server"),
        (certificate(STRANGER, BUILD_SERVER), "its identity has not registered this key"),
        (certificate(UNTRUSTED, BUILD_SERVER, identity=makers.fingerprint(OTHER_UNTRUSTED)), "its identity has not registered this key"),
        (certificate(UNTRUSTED, BUILD_SERVER, audited=(Audited(REQUEST.key, OTHER_CONTENTS),)), "the key has not voted for"),
    ],
)
def test_other_certificates_are_refused(rig, signed, reason):
    rig.cast(vote(UNTRUSTED))
    with pytest.raises(RefusedError, match=reason) as caught:
        rig.certify(signed)
    assert caught.value.rule == "P4.3"


def test_an_auditor_whose_key_has_expired_is_refused(rig):
    rig.cast(vote(UNTRUSTED))
    rig.now = NOW + YEAR + timedelta(seconds=1)
    with pytest.raises(RefusedError, match="its signer is no build server"):
        rig.certify(certificate(UNTRUSTED, BUILD_SERVER))


def test_who_certifies_too_often_is_told_so(rig):
    rig.cast(vote(UNTRUSTED))
    rules = Rules(rig.settings.channels, 0, 10)
    with pytest.raises(TooManyError, match="certified 0 times"), rig.store.writing() as transaction:
        ledger.certify(transaction, rig.electorate, certificate(UNTRUSTED, BUILD_SERVER), rules)


def test_a_new_roster_changes_the_levels(rig):
    rig.cast(vote(SEMI))
    rig.cast(vote(OTHER_SEMI))
    assert levels(rig) == {CONTENTS: Level.SEMI_TRUSTED_SOME}
    rig.import_roster(roster(contributor(SEMI, Role.TRUSTED)))
    rig.publisher.round()
    assert levels(rig) == {CONTENTS: Level.TRUSTED_ONE}
