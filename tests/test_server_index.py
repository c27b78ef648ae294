import dataclasses
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from p2pbin_server import index
from p2pbin_server.index import bundled, pages
from p2pbin_server.settings import Baseline
from portage_p2pbin.kernel.index import read_bundle, read_page
from portage_p2pbin.kernel.model import Cpv, Level, Operator, Role
from portage_p2pbin.kernel.roster import RulingKind
from portage_p2pbin.kernel.trust import Judgement, Voice
from tests.makers import CHANNEL, CONTENTS, DEFINITION, NOW, OTHER_CONTENTS, REQUEST, certificate, contributor, roster, vote
from tests.served import BUILD_SERVER, OTHER_SEMI, OTHER_TRUSTED, OTHER_UNTRUSTED, SEMI, TRUSTED, UNTRUSTED, Rig, file_of

OTHER_ENVIRONMENT = replace(DEFINITION, programs={})


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def listing(rig):
    rig.publisher.round()
    with rig.store.reading() as transaction:
        return transaction.listing((CHANNEL, REQUEST.key))


def bundle(rig):
    return read_bundle((rig.state.bundles / listing(rig).bundle).read_bytes())


def test_nothing_is_listed_without_a_file(rig):
    rig.cast(vote(TRUSTED))
    assert rig.entries() == []


def test_nothing_is_listed_without_a_level(rig):
    rig.cast(vote(UNTRUSTED))
    rig.keep(vote(UNTRUSTED))
    assert rig.entries() == []


def test_a_file_that_no_counting_vote_names_is_not_listed(rig):
    rig.cast(vote(UNTRUSTED))
    rig.keep(vote(UNTRUSTED))
    rig.cast(vote(TRUSTED, file=None))
    assert rig.entries() == []
    rig.cast(vote(SEMI))  # the same file
    assert [one["level"] for one in rig.entries()] == [Level.TRUSTED_ONE]


def test_the_best_variant_is_listed(rig):
    low, high = vote(SEMI), vote(TRUSTED, contents=OTHER_CONTENTS, file=file_of(2), definition=OTHER_ENVIRONMENT)
    rig.cast(low)
    rig.keep(low)
    assert [one["contents"] for one in rig.entries()] == [CONTENTS]
    rig.cast(high)
    assert [one["contents"] for one in rig.entries()] == [CONTENTS]  # its file is not here yet
    rig.keep(high, b"other")
    assert [one["contents"] for one in rig.entries()] == [OTHER_CONTENTS]


def test_of_equal_variants_the_first_is_listed(rig):
    second, first = vote(SEMI), vote(OTHER_SEMI, contents=OTHER_CONTENTS, file=file_of(2), definition=OTHER_ENVIRONMENT)
    for signed, data in ((first, b"other"), (second, b"a package")):
        rig.cast(signed)
        rig.keep(signed, data)
    assert [one["contents"] for one in rig.entries()] == [OTHER_CONTENTS]


def test_a_recall_unlists(rig):
    rig.cast(vote(TRUSTED))
    rig.keep(vote(TRUSTED))
    assert len(rig.entries()) == 1
    rig.import_ruling(RulingKind.RECALL, CONTENTS)
    assert rig.entries() == []


def test_a_baseline_that_was_narrowed_unlists(rig):
    rig.cast(vote(TRUSTED))
    rig.keep(vote(TRUSTED))
    assert len(rig.entries()) == 1
    narrow = replace(rig.settings, channels={CHANNEL: Baseline("x86_64-pc-linux-gnu", frozenset({"-O2"}))})
    rig.publisher._service = replace(rig.service, settings=narrow)
    rig.publisher._derive_all()
    assert rig.entries() == []


def test_the_serial_stays_while_the_file_does_and_grows_when_it_changes(rig):
    rig.cast(vote(SEMI))
    rig.keep(vote(SEMI))
    first = listing(rig)
    assert first.serial == int(NOW.timestamp())
    rig.now += timedelta(minutes=1)
    rig.cast(vote(OTHER_SEMI, file=None))
    second = listing(rig)
    assert (second.serial, second.level) == (first.serial, Level.SEMI_TRUSTED_SOME)
    rig.now -= timedelta(minutes=5)  # even if the clock was set back
    better = vote(TRUSTED, contents=OTHER_CONTENTS, file=file_of(2), definition=OTHER_ENVIRONMENT, finished=NOW - timedelta(minutes=5))
    rig.cast(better)
    rig.keep(better, b"other")
    assert listing(rig).serial == first.serial + 1


def test_a_bundle_has_the_votes_that_count_and_the_certificates_they_need(rig):
    for seed in (UNTRUSTED, OTHER_UNTRUSTED):
        rig.cast(vote(seed))
        rig.certify(certificate(seed, BUILD_SERVER))
    rig.keep(vote(UNTRUSTED))
    found = bundle(rig)
    assert {one.signer for one in found.votes} == {vote(UNTRUSTED).signer, vote(OTHER_UNTRUSTED).signer}
    assert {one.certificate.key for one in found.certificates} == {vote(UNTRUSTED).signer, vote(OTHER_UNTRUSTED).signer}


def test_a_bundle_has_no_vote_that_does_not_count(rig):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(UNTRUSTED))
    rig.cast(vote(SEMI, contents=OTHER_CONTENTS, definition=OTHER_ENVIRONMENT))
    rig.keep(vote(TRUSTED))
    assert [one.signer for one in bundle(rig).votes] == [vote(TRUSTED).signer]
    assert bundle(rig).certificates == ()


def voice(seed, role, **changes):
    return Voice(vote(seed, **changes), Operator(f"operator-{seed}"), role)


def test_a_bundle_has_first_the_vote_that_names_the_file_then_the_best_roles():
    voices = (voice(SEMI, Role.SEMI_TRUSTED), voice(TRUSTED, Role.TRUSTED, file=None), voice(BUILD_SERVER, Role.BUILD_SERVER, file=None))
    chosen = bundled(Judgement(Level.BUILD_SERVER, voices, ()), voices[0].vote.vote.file)
    assert [one.role for one in chosen] == [Role.SEMI_TRUSTED, Role.BUILD_SERVER, Role.TRUSTED]


def test_a_bundle_has_one_vote_of_each_operator():
    voices = (voice(TRUSTED, Role.TRUSTED), dataclasses.replace(voice(SEMI, Role.SEMI_TRUSTED), operator=Operator(f"operator-{TRUSTED}")))
    assert len(bundled(Judgement(Level.TRUSTED_ONE, voices, ()), voices[0].vote.vote.file)) == 1


@pytest.mark.parametrize("bound", ["MOST_BUNDLE", "MOST_VOTES"])
def test_a_bundle_stays_within_its_bounds(monkeypatch, bound):
    voices = (voice(TRUSTED, Role.TRUSTED), voice(OTHER_TRUSTED, Role.TRUSTED, file=None))
    size = len(voices[0].vote.envelope.data)
    monkeypatch.setattr(index, bound, {"MOST_BUNDLE": 2 * size + 100, "MOST_VOTES": 1}[bound])
    assert len(bundled(Judgement(Level.TRUSTED_PAIR, voices, ()), voices[0].vote.vote.file)) == 1


def test_the_listed_level_is_that_of_the_bundle(rig, monkeypatch):
    rig.cast(vote(TRUSTED))
    rig.cast(vote(OTHER_TRUSTED, file=None))
    rig.keep(vote(TRUSTED))
    monkeypatch.setattr(index, "MOST_VOTES", 1)
    assert listing(rig).level is Level.TRUSTED_ONE


def test_pages_hold_what_is_listed_in_a_category(rig):
    other = replace(DEFINITION, request=replace(REQUEST, cpv=Cpv("dev-libs/ring-1")))
    for number, signed in enumerate((vote(TRUSTED), vote(TRUSTED, definition=other, file=file_of(2)))):
        rig.cast(signed)
        rig.keep(signed, str(number).encode())
    while index.update(rig.store, rig.electorate, rig.service.rules, rig.state.bundles):
        pass
    with rig.store.reading() as transaction:
        found = pages(transaction)[CHANNEL]
    assert set(found) == {"app-misc", "dev-libs"}
    [entry] = read_page(found["dev-libs"], CHANNEL, "dev-libs")
    assert (entry.cpv, entry.metadata) == (other.request.cpv, {"SLOT": "0"})


def test_a_category_in_which_nothing_is_listed_any_more_goes(rig):
    rig.cast(vote(TRUSTED))
    rig.keep(vote(TRUSTED))
    rig.entries()
    rig.import_roster(roster(contributor(SEMI, Role.SEMI_TRUSTED)))
    rig.service.voters.reload()
    rig.publisher._derive_all()
    while index.update(rig.store, rig.electorate, rig.service.rules, rig.state.bundles):
        pass
    with rig.store.reading() as transaction:
        assert pages(transaction) == {CHANNEL: {"app-misc": None}}


def test_two_entries_with_one_path_do_not_spoil_a_page(rig):
    twin = replace(DEFINITION, request=replace(REQUEST, use=()))
    for number, signed in enumerate((vote(TRUSTED), vote(TRUSTED, definition=twin, file=file_of(0)))):
        rig.cast(signed)
        rig.keep(signed, str(number).encode())
    rig.publisher.round()
    with rig.store.writing() as transaction:
        one, other = transaction.listings()
        transaction.put_listing(replace(other, file=type(other.file)(one.file[:20] + "0" * 44)))
    with rig.store.reading() as transaction:
        assert len(read_page(pages(transaction)[CHANNEL]["app-misc"], CHANNEL, "app-misc")) == 1


def test_metadata_in_the_store_is_json(rig):
    rig.cast(vote(TRUSTED))
    assert json.loads(rig.keep(vote(TRUSTED)).metadata) == {"SLOT": "0"}
