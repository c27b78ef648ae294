import json
from datetime import timedelta

import pytest

from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.model import Role
from portage_p2pbin.kernel.roster import Policy, Ruling, RulingKind, Rulings, read_roster, read_rulings
from portage_p2pbin.kernel.wire import canonical
from tests.makers import CONTENTS, NOW, contributor, machine_key, roster

ROSTER = roster(contributor(1, Role.BUILD_SERVER), contributor(2, Role.TRUSTED), semi_trusted=3, untrusted=5)
RECALL = Ruling(RulingKind.RECALL, CONTENTS, "it was false", NOW)
VOID = Ruling(RulingKind.VOID, machine_key(1).public, "stolen", NOW)


def test_a_roster_survives_the_wire():
    assert read_roster(ROSTER.encode()) == ROSTER


def test_rulings_survive_the_wire():
    assert read_rulings(Rulings((RECALL, VOID)).encode()) == Rulings((RECALL, VOID))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(_type="p2pbin-roster-2"), "_type"),
        (lambda r: r["policy"].update(untrusted=1), "between 2"),
        (lambda r: r["policy"].update(semiTrusted=1), "between 2"),
        (lambda r: r["policy"].update(other=1), "unknown field"),
        (lambda r: r["contributors"][0].update(role="god"), "role"),
        (lambda r: r["contributors"][0].update(identity="xyz"), "identity"),
        (lambda r: r["contributors"].append(r["contributors"][0]), "one machine key stands at two"),
    ],
)
def test_a_roster_that_is_valid_but_for_one_thing(change, reason):
    value = json.loads(ROSTER.encode())
    change(value)
    with pytest.raises(RefusedError, match=reason):
        read_roster(canonical(value))


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (0, 2)])
def test_one_voice_is_never_some_voices(numbers):
    with pytest.raises(RefusedError, match="at least 2"):
        Policy(*numbers)


def test_a_machine_key_covers_both_ends_of_its_window():
    key = machine_key(1)
    assert key.covers(key.not_before)
    assert key.covers(key.not_after)
    assert not key.covers(key.not_before - timedelta(seconds=1))
    assert not key.covers(key.not_after + timedelta(seconds=1))


def test_rulings_may_only_grow():
    Rulings((RECALL, VOID)).follows(Rulings((RECALL,)))
    Rulings((RECALL,)).follows(Rulings())
    for later in (Rulings(), Rulings((VOID,)), Rulings((VOID, RECALL))):
        with pytest.raises(RefusedError, match="missing or was changed"):
            later.follows(Rulings((RECALL,)))


def test_a_ruling_names_something_of_its_kind():
    with pytest.raises(DecodeError, match="ContentsDigest"):
        Ruling(RulingKind.RECALL, machine_key(1).public, "", NOW)
