import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from portage_p2pbin.explain import Explainer
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.index import Bundle, Entry, encode_page
from portage_p2pbin.kernel.model import Cpv, InfoHash, Level, Role, Sha256
from portage_p2pbin.kernel.roster import Roster, Rulings
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.refusals import Refusal
from tests.http_seam import RecordedHttp
from tests.makers import CHANNEL, CONTENTS, DEFINITION, NOW, REQUEST, contributor, roster, vote

FILE = Sha256("f" * 64)


@dataclass
class FakeRepository:
    """The verified index of one category, and who is on the roster."""

    entries: tuple[Entry, ...]
    members: Roster | None = None

    def roster(self):
        return self.members or roster()

    def rulings(self):
        return Rulings()

    def categories(self, channel):
        assert channel == CHANNEL
        return ["app-misc"]

    def page(self, channel, category):
        return encode_page(channel, self.entries)


@dataclass
class FixedThreshold:
    level: Level

    def for_(self, cpv, slot, repository):
        return self.level


def entry(bundle, level=3):
    return Entry(
        cpv=REQUEST.cpv, repository=REQUEST.repository, build_key=REQUEST.key, contents=CONTENTS, level=Level(level), file=FILE,
        sha1="0" * 40, size=1000, info_hash=InfoHash("a" * 40), bundle=Sha256(hashlib.sha256(bundle).hexdigest()), serial=1,
        metadata={"SLOT": "0"},
    )  # fmt: skip


def explain(*votes, threshold=3, index_level=3, refusals=(), built_here=None, answer=None, said=None, members=None):
    """Explain the package of the makers, listed with `votes`, to one whose threshold is `threshold`."""
    bundle = Bundle(votes, ()).encode()
    listed = entry(bundle, index_level)
    http = RecordedHttp()
    http.answer(f"/bundles/{listed.bundle}", bundle if answer is None else answer)
    http.answer(f"/packages/{REQUEST.cpv}", said or {"builds": []})
    electorate = Electorate(roster(*(members or [contributor(1, Role.TRUSTED)])), Rulings(), NOW)
    explainer = Explainer(http.server(), CHANNEL, FakeRepository((listed,)), electorate, FixedThreshold(Level(threshold)), refusals)
    return explainer.explain(REQUEST.cpv, explainer.entries("app-misc"), built_here)


def test_what_is_good_enough_meets_no_objection():
    (listed,) = explain(vote(1)).listed
    assert listed.objection == ""
    assert listed.judgement.level is Level.TRUSTED_ONE
    assert [voice.operator for voice in listed.judgement.voices] == ["operator-1"]


@pytest.mark.parametrize(
    ("options", "objection"),
    [
        ({"threshold": 2}, "listed at level 3, and your threshold for it is 2"),
        ({"index_level": 1, "threshold": 1}, "give it level 3 here, although the index says 1"),
        ({"members": [contributor(2, Role.TRUSTED)]}, "give it no level here, although the index says 3"),
        ({"answer": b"{}"}, "not the listed one"),
        ({"answer": lambda body: None}, "has it no longer"),
        ({"answer": UnavailableError("bundle", "nobody answers")}, "nobody answers"),
        ({"refusals": (Refusal(FILE, REQUEST.cpv, "P9.8", "other bytes", None),)}, "left out by P9.8: other bytes"),
        (
            {"refusals": (Refusal(FILE, REQUEST.cpv, "P9.6", "nobody has it", NOW + timedelta(hours=1)),)},
            "nobody has it (tried again after 2026-05-01T13:00:00Z)",
        ),
    ],
)
def test_each_objection_says_what_speaks_against_it(options, objection):
    (listed,) = explain(vote(1), **options).listed
    assert objection in listed.objection


def test_a_refusal_of_another_file_is_no_objection():
    refusal = Refusal(Sha256("0" * 64), REQUEST.cpv, "P9.8", "other bytes", None)
    (listed,) = explain(vote(1), refusals=(refusal,)).listed
    assert listed.objection == ""


def test_votes_that_do_not_count_are_shown_with_the_reason():
    (listed,) = explain(vote(1), vote(5)).listed
    assert [one.reason for one in listed.judgement.set_aside] == ["its key is neither on the roster nor audited"]


def test_the_field_that_keeps_builds_apart_is_named():
    here = replace(DEFINITION, request=replace(REQUEST, use=("doc",)), programs={})
    (listed,) = explain(vote(1), built_here=here).listed
    assert [(one.field, one.here, one.there) for one in listed.apart.request] == [("use", "doc", "nls")]
    assert [one.field for one in listed.apart.environment] == ["program cc"]


def test_an_equal_build_is_kept_apart_by_nothing():
    (listed,) = explain(vote(1), built_here=DEFINITION).listed
    assert (listed.apart.request, listed.apart.environment) == ((), ())


def test_other_versions_and_categories_are_left_out():
    explainer = Explainer(
        RecordedHttp().server(), CHANNEL, FakeRepository(()), Electorate(roster(), Rulings(), NOW), FixedThreshold(Level(3)), ()
    )
    assert explainer.entries("sys-apps") == ()
    assert explainer.explain(Cpv("app-misc/hello-9"), [entry(b"")], None).listed == ()


def test_what_the_server_says_is_kept_apart():
    said = {"builds": [{"buildKey": REQUEST.key, "level": 1, "requests": 2, "variants": []}]}
    found = explain(vote(1), said=said)
    assert [build.level for build in found.said] == [Level.BUILD_SERVER]
    assert found.listed[0].judgement.level is Level.TRUSTED_ONE


@pytest.mark.parametrize(("said", "silence"), [(UnavailableError("server", "nobody answers"), "nobody answers"), (b"<html>", "not JSON")])
def test_a_server_that_says_nothing_sensible_hides_nothing_that_is_verified(said, silence):
    found = explain(vote(1), said=said)
    assert silence in found.silence
    assert found.listed[0].objection == ""
