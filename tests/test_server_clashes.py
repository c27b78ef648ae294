from dataclasses import replace

import pytest

from p2pbin_server import clashes
from portage_p2pbin.kernel.model import Cpv, Level, Operator, Role
from portage_p2pbin.kernel.trust import Judgement, Voice
from tests.makers import CHANNEL, CONTENTS, DEFINITION, OTHER_CONTENTS, REQUEST, certificate, vote
from tests.served import BUILD_SERVER, OTHER_SEMI, OTHER_TRUSTED, ROSTER, SEMI, TRUSTED, UNTRUSTED, Rig, file_of

BUILD = (CHANNEL, REQUEST.key)
OTHER_ENVIRONMENT = replace(DEFINITION, programs={})


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path, "[clashes]\nmost_open = 2\n") as rig:
        yield rig


def false(seed, **changes):
    """A vote for another result of the same definition."""
    return vote(seed, contents=OTHER_CONTENTS, file=file_of(seed), **changes)


def found(rig):
    with rig.store.reading() as transaction:
        return [(one.number, one.opener) for one in transaction.clashes(10)]


def listed(rig, *signed):
    for one in signed:
        rig.keep(one)
    return {one["contents"] for one in rig.entries()}


def test_two_results_of_one_definition_are_a_clash(rig):
    rig.cast(vote(SEMI))
    assert found(rig) == []
    rig.cast(false(OTHER_SEMI))
    assert found(rig) == [(1, f"operator-{OTHER_SEMI}")]


def test_another_environment_is_a_variant_and_no_clash(rig):
    rig.cast(vote(SEMI))
    rig.cast(false(OTHER_SEMI, definition=OTHER_ENVIRONMENT))
    assert found(rig) == []
    assert listed(rig, vote(SEMI), false(OTHER_SEMI, definition=OTHER_ENVIRONMENT)) == {CONTENTS}


def test_votes_that_do_not_count_open_no_clash(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(false(UNTRUSTED))
    assert found(rig) == []


def test_certified_votes_do(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(UNTRUSTED))
    rig.cast(false(UNTRUSTED))
    rig.certify(certificate(UNTRUSTED, BUILD_SERVER))
    assert found(rig) == [(1, None)]
    assert listed(rig, vote(TRUSTED)) == {CONTENTS}


def test_sides_of_equal_rank_are_withdrawn(rig):
    rig.cast(vote(SEMI))
    rig.cast(false(OTHER_SEMI))
    assert listed(rig, vote(SEMI), false(OTHER_SEMI)) == set()


def test_a_listed_package_goes_when_a_clash_of_equals_comes(rig):
    rig.cast(vote(SEMI))
    assert listed(rig, vote(SEMI)) == {CONTENTS}
    rig.cast(false(OTHER_SEMI))
    assert listed(rig) == set()


@pytest.mark.parametrize("first", [TRUSTED, BUILD_SERVER])
def test_the_side_that_ranks_higher_stays(rig, first):
    rig.cast(vote(first))
    rig.cast(false(SEMI))
    assert listed(rig, vote(first), false(SEMI)) == {CONTENTS}


def test_a_lower_rank_takes_nothing_off_the_air_by_hiding_in_another_definition(rig):
    """The trusted vote is for another environment; its digest keeps the rank of all its votes."""
    rig.cast(vote(TRUSTED, definition=OTHER_ENVIRONMENT))
    rig.cast(vote(SEMI, file=None))
    rig.cast(false(OTHER_SEMI))
    assert listed(rig, vote(TRUSTED, definition=OTHER_ENVIRONMENT), false(OTHER_SEMI)) == {CONTENTS}


def test_who_wins_has_not_attacked(rig):
    rig.cast(vote(SEMI))
    rig.cast(false(TRUSTED))
    assert found(rig) == [(1, None)]


def test_a_clash_is_opened_once(rig):
    rig.cast(vote(SEMI))
    rig.cast(false(OTHER_SEMI))
    rig.cast(false(TRUSTED))
    assert found(rig) == [(1, f"operator-{OTHER_SEMI}")]


def test_who_opens_too_many_is_not_heard_and_what_it_attacked_comes_back(rig):
    packages = [replace(DEFINITION, request=replace(REQUEST, cpv=Cpv(f"app-misc/hello-{number}"))) for number in range(3)]
    honest = [vote(SEMI, definition=one, file=file_of(100 + number)) for number, one in enumerate(packages)]
    for one in honest:
        rig.cast(one)
        rig.keep(one, str(one.vote.cpv).encode())
    assert len(rig.entries()) == 3
    rig.cast(false(OTHER_SEMI, definition=packages[0]))
    assert len(rig.entries()) == 2
    rig.cast(false(OTHER_SEMI, definition=packages[1]))
    assert len(rig.entries()) == 3
    rig.cast(false(OTHER_SEMI, definition=packages[2]))
    assert len(rig.entries()) == 3
    with rig.store.reading() as transaction:
        assert transaction.openers(2) == {Operator(f"operator-{OTHER_SEMI}")}


def test_without_keeps_a_recall():
    one = Voice(vote(TRUSTED), Operator("larry"), Role.TRUSTED)
    other = Voice(vote(SEMI), Operator("mallory"), Role.SEMI_TRUSTED)
    recalled = clashes.without(Judgement(None, (one, other), ()), {"mallory"}, ROSTER.policy)
    assert (recalled.level, recalled.voices) == (None, (one,))
    lowered = clashes.without(Judgement(Level.TRUSTED_ONE, (one, other), ()), {"larry"}, ROSTER.policy)
    assert (lowered.level, lowered.voices) == (Level.SEMI_TRUSTED_ONE, (other,))
    assert [aside.vote for aside in lowered.set_aside] == [one.vote]


def test_two_trusted_operators_outrank_one(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(OTHER_TRUSTED, file=None))
    rig.cast(false(SEMI))
    assert listed(rig, vote(TRUSTED), false(SEMI)) == {CONTENTS}
