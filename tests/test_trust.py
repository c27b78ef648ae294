from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portage_p2pbin.kernel.model import Level, Role
from portage_p2pbin.kernel.roster import MachineKey, Ruling, RulingKind, Rulings
from portage_p2pbin.kernel.trust import Electorate, Judgement, Voice, level, winner
from tests.makers import (
    CONTENTS,
    NOW,
    OTHER_CONTENTS,
    REQUEST,
    YEAR,
    certificate,
    contributor,
    fingerprint,
    machine_key,
    roster,
    vote,
)  # fmt: skip

SERVER, DEV, OTHER_DEV, SEMI, OTHER_SEMI, GONE = 1, 2, 3, 4, 5, 6
STRANGER, OTHER_STRANGER, THIRD_STRANGER = 11, 12, 13

ROSTER = roster(
    contributor(SERVER, Role.BUILD_SERVER),
    contributor(DEV, Role.TRUSTED),
    contributor(OTHER_DEV, Role.TRUSTED),
    contributor(SEMI, Role.SEMI_TRUSTED),
    contributor(OTHER_SEMI, Role.SEMI_TRUSTED),
    contributor(GONE, Role.SUSPENDED),
)
CERTIFICATES = [certificate(seed, SERVER) for seed in (STRANGER, OTHER_STRANGER, THIRD_STRANGER)]


def judged(*seeds, roster=ROSTER, rulings=None, now=NOW, certificates=CERTIFICATES):
    votes = [vote(seed) for seed in seeds]
    return Electorate(roster, rulings or Rulings(), now).judge(REQUEST.key, CONTENTS, votes, certificates)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ((), None),
        ((SERVER,), 1),
        ((SERVER, DEV, OTHER_DEV), 1),
        ((DEV, OTHER_DEV), 2),
        ((DEV,), 3),
        ((DEV, SEMI, OTHER_SEMI, STRANGER), 3),
        ((SEMI, OTHER_SEMI), 4),
        ((SEMI,), 5),
        ((SEMI, STRANGER, OTHER_STRANGER), 5),
        ((STRANGER, OTHER_STRANGER), 6),
        ((STRANGER,), None),
        ((GONE,), None),
        ((STRANGER, GONE), None),
    ],
)
def test_the_six_levels(seeds, expected):
    assert judged(*seeds).level == expected


def test_x_and_y_come_from_the_roster():
    strict = replace(ROSTER, policy=roster(semi_trusted=3, untrusted=3).policy)
    assert judged(SEMI, OTHER_SEMI, roster=strict).level == 5
    assert judged(STRANGER, OTHER_STRANGER, roster=strict).level is None
    assert judged(STRANGER, OTHER_STRANGER, THIRD_STRANGER, roster=strict).level == 6


def test_one_operator_has_one_voice_however_many_keys():
    same = roster(contributor(DEV, Role.TRUSTED, "larry"), contributor(OTHER_DEV, Role.TRUSTED, "larry"))
    assert judged(DEV, OTHER_DEV, roster=same).level == 3


def test_two_untrusted_keys_of_one_identity_are_one_voice():
    certificates = [certificate(STRANGER, SERVER), certificate(OTHER_STRANGER, SERVER, identity=fingerprint(STRANGER))]
    assert judged(STRANGER, OTHER_STRANGER, certificates=certificates).level is None


def test_an_operator_with_two_roles_counts_in_the_better():
    both = roster(contributor(SEMI, Role.SEMI_TRUSTED, "larry"), contributor(DEV, Role.TRUSTED, "larry"))
    assert judged(SEMI, DEV, roster=both).level == 3


@pytest.mark.parametrize(
    ("certificates", "why"),
    [
        ([], "no certificate"),
        ([certificate(STRANGER, DEV), certificate(OTHER_STRANGER, DEV)], "a developer is no auditor"),
        ([certificate(STRANGER, STRANGER), certificate(OTHER_STRANGER, STRANGER)], "nobody audits himself"),
        ([certificate(one, SERVER, not_after=NOW - timedelta(days=1)) for one in (STRANGER, OTHER_STRANGER)], "expired"),
        ([certificate(one, SERVER, not_before=NOW + timedelta(days=1)) for one in (STRANGER, OTHER_STRANGER)], "not yet"),
    ],
)
def test_an_untrusted_vote_counts_only_when_audited(certificates, why):
    assert judged(STRANGER, OTHER_STRANGER, certificates=certificates).level is None, why


def test_a_certificate_of_an_expired_build_server_key_lifts_nobody():
    old = replace(contributor(SERVER, Role.BUILD_SERVER), keys=(replace(machine_key(SERVER), not_after=NOW - timedelta(1)),))
    assert judged(STRANGER, OTHER_STRANGER, roster=roster(old)).level is None


def test_a_suspended_member_does_not_come_back_through_a_certificate():
    certificates = [*CERTIFICATES, certificate(GONE, SERVER)]
    assert judged(GONE, STRANGER, certificates=certificates).level is None


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ((NOW - YEAR, NOW - timedelta(seconds=1)), "outside its key's validity window"),
        ((NOW + timedelta(seconds=1), NOW + YEAR), "outside its key's validity window"),
        ((NOW - YEAR, NOW + timedelta(days=1)), "not valid now"),
    ],
)
def test_a_machine_key_out_of_its_window(window, reason):
    key = MachineKey(machine_key(DEV).public, "m", *window)
    narrow = roster(replace(contributor(DEV, Role.TRUSTED), keys=(key,)))
    judgement = judged(DEV, roster=narrow, now=NOW + timedelta(days=2))
    assert judgement.level is None
    assert reason in judgement.set_aside[0].reason


def test_votes_on_something_else_do_not_count():
    electorate = Electorate(ROSTER, Rulings(), NOW)
    other_contents = electorate.judge(REQUEST.key, OTHER_CONTENTS, [vote(DEV)], [])
    other_key = electorate.judge(replace(REQUEST, use=()).key, CONTENTS, [vote(DEV)], [])
    assert (other_contents.level, other_key.level) == (None, None)
    assert "another contents digest" in other_contents.set_aside[0].reason
    assert "another build key" in other_key.set_aside[0].reason


@pytest.mark.parametrize(
    ("kind", "subject", "seeds"),
    [
        (RulingKind.RECALL, CONTENTS, (SERVER, DEV, OTHER_DEV)),
        (RulingKind.VOID, machine_key(DEV).public, (DEV,)),
        (RulingKind.SUSPEND, "operator-2", (DEV,)),
        (RulingKind.VOID, machine_key(SERVER).public, (STRANGER, OTHER_STRANGER)),
        (RulingKind.SUSPEND, f"identity-{fingerprint(STRANGER)}", (STRANGER, OTHER_STRANGER)),
        (RulingKind.VOID, machine_key(STRANGER).public, (STRANGER, OTHER_STRANGER)),
    ],
)
def test_a_ruling_takes_the_level_away(kind, subject, seeds):
    assert judged(*seeds).level is not None
    assert judged(*seeds, rulings=Rulings((Ruling(kind, subject, "", NOW),))).level is None


SEEDS = st.lists(
    st.sampled_from([SERVER, DEV, OTHER_DEV, SEMI, OTHER_SEMI, GONE, STRANGER, OTHER_STRANGER, THIRD_STRANGER, 99]), max_size=8
)


@given(SEEDS, st.randoms())
def test_order_and_repetition_change_nothing(seeds, random):
    shuffled = seeds + seeds[:2]
    random.shuffle(shuffled)
    assert judged(*shuffled).level == judged(*seeds).level


@given(SEEDS, SEEDS)
def test_more_votes_never_lower_a_level(seeds, more):
    before, after = judged(*seeds).level, judged(*seeds, *more).level
    assert before is None or (after is not None and after <= before)


@given(SEEDS)
def test_every_vote_is_either_heard_or_set_aside_with_a_reason(seeds):
    judgement = judged(*seeds)
    assert len(judgement.voices) + len(judgement.set_aside) == len(set(seeds))
    assert all(one.reason for one in judgement.set_aside)


def test_no_voice_is_no_level():
    assert level([], ROSTER.policy) is None


def side(number, seed=DEV):
    voices = (Voice(vote(seed), "x", Role.TRUSTED),)
    return Judgement(None if number is None else Level(number), voices, ())


@pytest.mark.parametrize(
    ("ours", "theirs", "stays"),
    [(side(3), side(5), CONTENTS), (side(5), side(1), OTHER_CONTENTS), (side(3), side(3), None), (side(3), side(None), CONTENTS),
     (side(None), side(None), None), (side(3), Judgement(None, (), ()), CONTENTS)],
)  # fmt: skip
def test_the_side_of_a_clash_that_ranks_strictly_higher_stays(ours, theirs, stays):
    assert winner({CONTENTS: ours, OTHER_CONTENTS: theirs}) == stays
