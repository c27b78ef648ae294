from collections import Counter
from dataclasses import replace

import pytest

from p2pbin_server.placement import hold, pick
from p2pbin_server.store.rows import Holder
from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.model import Cpv, InfoHash
from tests.makers import DEFINITION, NOW, REQUEST, new_key, vote
from tests.served import TRUSTED, Rig, file_of

START = int(NOW.timestamp())
SILENCE = 100


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def holder(seed, address="127.0.0.50", room=1000, seen=START):
    return Holder(public_key(new_key(seed)), address, 6881, room, seen)


def call(rig, one, most=10, most_at_address=10):
    with rig.store.writing() as transaction:
        return [file.sha256 for file in hold(transaction, one, SILENCE, most, most_at_address)]


def listed(rig, number=1, data=b"a package"):
    """List one package, provided by TRUSTED from 127.0.0.9."""
    definition = replace(DEFINITION, request=replace(REQUEST, cpv=Cpv(f"app-misc/hello-{number}")))
    signed = vote(TRUSTED, definition=definition, file=file_of(number))
    rig.cast(signed)
    rig.keep(signed, data + str(number).encode())
    rig.publisher.round()
    return signed.vote.file


def test_one_further_host_holds_what_is_listed(rig):
    file = listed(rig)
    assert call(rig, holder(50)) == [file]
    assert call(rig, holder(51)) == []
    assert call(rig, holder(50)) == [file]


def test_holders_that_are_there_already_get_it_when_it_is_listed(rig):
    assert call(rig, holder(50)) == []
    file = listed(rig)
    assert call(rig, holder(50)) == [file]


def test_the_providers_own_machine_is_no_further_host(rig):
    listed(rig)
    assert call(rig, holder(TRUSTED)) == []
    assert call(rig, holder(50, address="127.0.0.9")) == []


def test_a_full_holder_gets_nothing(rig):
    listed(rig, data=b"x" * 2000)
    assert call(rig, holder(50)) == []


def test_room_is_used_once(rig):
    for number in (1, 2, 3):
        listed(rig, number, b"x" * 400)
    assert len(call(rig, holder(50))) == 2


def test_what_a_silent_holder_had_goes_to_another(rig):
    file = listed(rig)
    assert call(rig, holder(50)) == [file]
    assert call(rig, holder(51, seen=START + SILENCE - 1)) == []
    assert call(rig, holder(51, seen=START + SILENCE)) == [file]


def test_what_is_not_listed_any_more_is_not_held(rig):
    listed(rig)
    call(rig, holder(50))
    with rig.store.writing() as transaction:
        transaction.remove_listing(transaction.listings()[0])
    assert call(rig, holder(50)) == []


def test_there_are_only_so_many_holders(rig):
    call(rig, holder(50), most=1)
    with pytest.raises(TooManyError):
        call(rig, holder(51, address="127.0.0.51"), most=1)
    call(rig, holder(50), most=1)


def test_and_only_so_many_at_one_address(rig):
    call(rig, holder(50), most_at_address=1)
    with pytest.raises(TooManyError):
        call(rig, holder(51), most_at_address=1)
    call(rig, holder(51, address="127.0.0.51"), most_at_address=1)


def torrents(count):
    return [InfoHash(f"{number:040x}") for number in range(count)]


def test_picking_follows_the_weights():
    one, two = holder(50).key, holder(51).key
    picked = Counter(pick(torrent, {one: 1, two: 3}) for torrent in torrents(2000))
    assert 0.7 < picked[two] / 2000 < 0.8


def test_picking_stays_when_others_come_and_go():
    keys = [holder(seed).key for seed in range(50, 60)]
    before = {torrent: pick(torrent, dict.fromkeys(keys, 1)) for torrent in torrents(200)}
    for torrent, picked in before.items():
        others = dict.fromkeys((key for key in keys if key == picked or key < picked), 1)
        assert pick(torrent, others) == picked


def test_nobody_is_picked_from_nobody():
    assert pick(torrents(1)[0], {}) is None
    assert pick(torrents(1)[0], {holder(50).key: 0}) is None
