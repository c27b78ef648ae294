import hashlib
from dataclasses import replace

import pytest

from p2pbin_server.offers import is_missing, is_wanted, offer
from p2pbin_server.store.rows import OfferState
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, Sha256
from portage_p2pbin.kernel.torrent import make_torrent
from tests.makers import DEFINITION, OTHER_CONTENTS, REQUEST, certificate, vote
from tests.served import BUILD_SERVER, OTHER_TRUSTED, OTHER_UNTRUSTED, STRANGER, SUSPENDED, TRUSTED, UNTRUSTED, Rig, file_of

WHERE = Address("127.0.0.8", 6881)


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def torrent_of(signed, size=100, name=None):
    data = hashlib.sha256(signed.vote.file.encode()).digest() * (size // 32 + 1)
    return make_torrent(name or file_name(signed.vote.cpv, signed.vote.file), [data[:size]])


def make(rig, signed, torrent=None, provider=None, bounds=None):
    with rig.store.writing() as transaction:
        return offer(
            transaction, rig.electorate, provider or signed.signer, signed.envelope.digest, torrent or torrent_of(signed), WHERE,
            rig.service.rules, bounds or rig.bounds(),
        )  # fmt: skip


def cast(rig, seed, **changes):
    signed = vote(seed, **{"file": file_of(seed), **changes})
    rig.cast(signed)
    return signed


def state(rig, signed):
    with rig.store.reading() as transaction:
        return transaction.offer(torrent_of(signed).info_hash)


def test_the_first_file_of_a_vote_that_counts_is_wanted(rig):
    signed = cast(rig, TRUSTED)
    assert make(rig, signed)
    found = state(rig, signed)
    assert (found.vote, found.provider, found.address, found.port) == (signed.envelope.digest, signed.signer, "127.0.0.8", 6881)
    assert (found.state, found.size) == (OfferState.WAITING, 100)
    assert make(rig, signed)  # again, as after a crash


def test_a_second_one_is_not(rig):
    rig.keep(cast(rig, TRUSTED))
    other = cast(rig, OTHER_TRUSTED)
    assert not make(rig, other)
    assert state(rig, other) is None


def test_a_file_that_no_counting_vote_names_does_not_stand_in_the_way(rig):
    rig.keep(cast(rig, UNTRUSTED))
    assert make(rig, cast(rig, TRUSTED))


def test_what_an_untrusted_contributor_is_told_shows_nothing_of_others(rig):
    rig.keep(cast(rig, UNTRUSTED))
    assert make(rig, cast(rig, OTHER_UNTRUSTED))
    assert make(rig, cast(rig, OTHER_UNTRUSTED, contents=OTHER_CONTENTS, file=file_of(98)))
    with rig.store.reading() as transaction:
        assert is_wanted(transaction, rig.electorate, vote(OTHER_UNTRUSTED, file=file_of(OTHER_UNTRUSTED)), rig.service.rules)
        assert not is_missing(transaction, rig.electorate, vote(OTHER_UNTRUSTED, file=file_of(OTHER_UNTRUSTED)), rig.service.rules)


def test_it_is_asked_for_no_more_files_once_the_level_is_public(rig):
    rig.keep(cast(rig, TRUSTED))
    assert not make(rig, cast(rig, UNTRUSTED))


def test_not_even_one_whose_vote_counts_by_a_certificate(rig):
    rig.keep(cast(rig, UNTRUSTED))
    other = cast(rig, OTHER_UNTRUSTED)
    for seed in (UNTRUSTED, OTHER_UNTRUSTED):
        rig.certify(certificate(seed, BUILD_SERVER))
    assert not make(rig, other)


@pytest.mark.parametrize(("seed", "rule"), [(STRANGER, "P3.2"), (SUSPENDED, "P4.1")])
def test_only_who_may_vote_may_offer(rig, seed, rule):
    with pytest.raises(RefusedError) as caught:
        make(rig, vote(seed))
    assert caught.value.rule == rule


def test_an_offer_names_a_vote_that_was_cast(rig):
    with pytest.raises(RefusedError, match="not one of its sender's; vote first") as caught:
        make(rig, vote(TRUSTED))
    assert caught.value.rule == "P10.5"


def test_an_offer_names_a_vote_of_its_sender(rig):
    signed = cast(rig, TRUSTED)
    with pytest.raises(RefusedError, match="not one of its sender's"):
        make(rig, signed, provider=vote(OTHER_TRUSTED).signer)


def test_a_vote_without_a_file_offers_none(rig):
    signed = cast(rig, TRUSTED, file=None)
    with pytest.raises(RefusedError, match="its vote names no file"):
        make(rig, signed, torrent=torrent_of(vote(TRUSTED)))


def test_a_torrent_has_the_name_of_its_file(rig):
    signed = cast(rig, TRUSTED)
    with pytest.raises(RefusedError, match="its torrent is named") as caught:
        make(rig, signed, torrent=torrent_of(signed, name=file_name(REQUEST.cpv, Sha256("f" * 64))))
    assert caught.value.rule == "P9.5"


def bounded(rig, **changes):
    bounds = rig.bounds()
    limits = {name: value for name, value in changes.items() if name == "open_offers"}
    origin = {name: value for name, value in changes.items() if name != "open_offers"}
    return replace(bounds, origin=replace(bounds.origin, **origin), limits=replace(bounds.limits, **limits))


@pytest.mark.parametrize(
    ("most", "kind", "reason"),
    [
        ({"package": 99}, RefusedError, "this server takes at most 99"),
        ({"open_offers": 0}, TooManyError, "too many of its offers are open"),
        ({"unlisted": 99}, TooManyError, "too much that it brought is not listed"),
        ({"disk": 99}, UnavailableError, "no room for further packages"),
    ],
)
def test_bounds(rig, most, kind, reason):
    signed = cast(rig, TRUSTED)
    with pytest.raises(kind, match=reason):
        make(rig, signed, bounds=bounded(rig, **most))
    assert state(rig, signed) is None
    assert make(rig, signed, bounds=bounded(rig, **{name: value + 1 for name, value in most.items()}))


def test_what_is_not_listed_counts_against_its_provider(rig):
    first = cast(rig, TRUSTED)
    rig.keep(first, b"x" * 100)
    second = cast(rig, TRUSTED, contents=OTHER_CONTENTS, file=file_of(98))
    with pytest.raises(TooManyError):
        make(rig, second, bounds=bounded(rig, unlisted=100))
    assert make(rig, second, bounds=bounded(rig, unlisted=200))


def test_but_what_is_listed_does_not(rig):
    first = cast(rig, TRUSTED)
    rig.keep(first, b"x" * 100)
    assert len(rig.entries()) == 1
    second = cast(rig, TRUSTED, definition=replace(DEFINITION, request=replace(REQUEST, use=())), file=file_of(98))
    assert make(rig, second, bounds=bounded(rig, unlisted=100))


def test_a_refused_offer_may_be_made_again(rig):
    signed = cast(rig, TRUSTED)
    make(rig, signed)
    with rig.store.writing() as transaction:
        transaction.set_offer(torrent_of(signed).info_hash, OfferState.REFUSED, "it was rubbish")
    assert make(rig, signed)
    assert (state(rig, signed).state, state(rig, signed).reason) == (OfferState.WAITING, "")
