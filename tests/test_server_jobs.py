from dataclasses import replace
from datetime import timedelta

import pytest

from p2pbin_server import jobs
from p2pbin_server.jobs import done, give_back, lease, priority, renew
from p2pbin_server.store.rows import Wanted
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import BuildKey, Cpv, Level
from tests.makers import CHANNEL, DEFINITION, NOW, REQUEST, YEAR, vote
from tests.served import (
    BUILD_SERVER,
    OTHER_BUILD_SERVER,
    OTHER_UNTRUSTED,
    SEMI,
    STRANGER,
    TRUSTED,
    UNTRUSTED,
    Rig,
    file_of,
)  # fmt: skip

HOUR = timedelta(hours=1)
BUILDER, OTHER_BUILDER = vote(BUILD_SERVER).signer, vote(OTHER_BUILD_SERVER).signer
OTHER = replace(DEFINITION, request=replace(REQUEST, cpv=Cpv("dev-libs/ring-1")))


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def take(rig, builder=BUILDER):
    with rig.store.writing() as transaction:
        return lease(transaction, rig.electorate, builder, HOUR)


def finish(rig, leased, signed, builder=BUILDER):
    with rig.store.reading() as transaction:
        return done(transaction, rig.electorate, leased.id, builder, signed.envelope.digest)


def want(rig, definition, downloads):
    with rig.store.writing() as transaction:
        for _ in range(downloads):
            transaction.count_download((CHANNEL, definition.request.key), definition.request.cpv)


def test_the_most_wanted_comes_first_and_each_job_has_one_lease(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(TRUSTED, definition=OTHER))
    want(rig, OTHER, 3)
    assert take(rig).build_key == OTHER.request.key
    assert take(rig, OTHER_BUILDER).build_key == REQUEST.key
    assert take(rig, OTHER_BUILDER).build_key == REQUEST.key  # given back and taken again


def test_nothing_wanted_is_no_job(rig):
    assert take(rig) is None
    rig.cast(vote(BUILD_SERVER))
    assert take(rig) is None


def wanted(level, downloads=0, votes=1, attempts=0):
    return Wanted(CHANNEL, BuildKey("a" * 64), level, downloads, votes, attempts)


@pytest.mark.parametrize(
    ("more", "less"),
    [
        (wanted(None, 10), wanted(None, 9)),
        (wanted(None, votes=2), wanted(None, votes=1)),
        (wanted(None), wanted(Level.UNTRUSTED_SOME)),
        (wanted(Level.TRUSTED_ONE), wanted(Level.TRUSTED_PAIR)),
        (wanted(None), wanted(None, attempts=1)),
    ],
)
def test_priority_is_demand_times_levels_to_gain_less_with_failures(more, less):
    assert priority(more) > priority(less)


@pytest.mark.parametrize("seed", [TRUSTED, SEMI, UNTRUSTED, STRANGER])
def test_only_build_servers_get_a_lease(rig, seed):
    rig.cast(vote(TRUSTED))
    with pytest.raises(RefusedError):
        take(rig, vote(seed).signer)


def test_a_build_server_whose_key_has_expired_gets_none(rig):
    rig.now = NOW + YEAR + timedelta(seconds=1)
    with pytest.raises(RefusedError, match="not that of a build server") as caught:
        take(rig)
    assert caught.value.rule == "P11"


def test_an_expired_lease_goes_to_the_next(rig):
    rig.cast(vote(TRUSTED))
    leased = take(rig)
    assert take(rig, OTHER_BUILDER) is None
    rig.now += HOUR
    assert take(rig, OTHER_BUILDER).build_key == leased.build_key
    with pytest.raises(RefusedError, match="not held by this key any more"):
        finish(rig, leased, vote(BUILD_SERVER))


def test_a_lease_is_renewed_by_its_holder_only(rig):
    rig.cast(vote(TRUSTED))
    leased = take(rig)
    rig.now += timedelta(minutes=59)
    with rig.store.writing() as transaction:
        with pytest.raises(RefusedError, match="not held by this key"):
            renew(transaction, leased.id, OTHER_BUILDER, rig.now, HOUR)
        assert renew(transaction, leased.id, BUILDER, rig.now, HOUR) == int((rig.now + HOUR).timestamp())
    rig.now += timedelta(minutes=59)
    assert take(rig, OTHER_BUILDER) is None


def test_a_job_is_given_back_by_its_holder_only_and_counts_as_tried(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(TRUSTED, definition=OTHER))
    leased = take(rig)
    with rig.store.writing() as transaction:
        with pytest.raises(RefusedError, match="not held by this key"):
            give_back(transaction, leased.id, OTHER_BUILDER, rig.now)
        give_back(transaction, leased.id, BUILDER, rig.now)
    taken = take(rig, OTHER_BUILDER), take(rig)
    assert [one.build_key == leased.build_key for one in taken] == [False, True]


def test_what_failed_comes_later(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(TRUSTED, definition=OTHER))
    first = take(rig)
    assert take(rig).build_key != first.build_key


def test_a_result_lets_the_untrusted_be_audited(rig):
    rig.cast(vote(UNTRUSTED))
    rig.cast(vote(TRUSTED))
    leased = take(rig)
    rig.cast(vote(BUILD_SERVER))
    [(registered, signed)] = finish(rig, leased, vote(BUILD_SERVER))
    assert (registered.key, signed) == (vote(UNTRUSTED).signer, vote(UNTRUSTED))
    assert len(finish(rig, leased, vote(BUILD_SERVER))) == 1  # again is the same


def test_at_most_so_many_are_audited_at_once(rig, monkeypatch):
    rig.cast(vote(UNTRUSTED))
    rig.cast(vote(OTHER_UNTRUSTED))
    leased = take(rig)
    rig.cast(vote(BUILD_SERVER))
    monkeypatch.setattr(jobs, "MOST_AUDITS", 1)
    assert len(finish(rig, leased, vote(BUILD_SERVER))) == 1


@pytest.mark.parametrize(
    "signed",
    [
        vote(TRUSTED),
        vote(OTHER_BUILD_SERVER),
        vote(BUILD_SERVER, definition=OTHER, file=file_of(3)),
        vote(BUILD_SERVER, file=file_of(4)),  # never cast
    ],
)
def test_only_the_builders_own_vote_on_the_job_is_its_result(rig, signed):
    rig.cast(vote(TRUSTED))
    leased = take(rig)
    if signed.vote.file != file_of(4):
        rig.cast(signed)
    with pytest.raises(RefusedError, match="not the builder's own vote") as caught:
        finish(rig, leased, signed)
    assert caught.value.rule == "P11"


def test_a_result_counts_only_from_the_holder(rig):
    rig.cast(vote(TRUSTED))
    leased = take(rig)
    rig.cast(vote(OTHER_BUILD_SERVER))
    with pytest.raises(RefusedError, match="not held by this key"):
        finish(rig, leased, vote(OTHER_BUILD_SERVER), OTHER_BUILDER)
