import hashlib
import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from p2pbin_server.differences import differences, manifest_path
from p2pbin_server.offers import offer
from p2pbin_server.origin import INTAKES, STRANGERS, Origin, check_package, next_offers
from p2pbin_server.reader import reader
from p2pbin_server.settings import read_address
from p2pbin_server.store.rows import Offer, OfferState
from portage_p2pbin.binpkg.contents import Reading, read_package
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import file_name
from portage_p2pbin.kernel.model import Address, ContentsDigest, InfoHash, PublicKey, Sha256
from portage_p2pbin.kernel.torrent import make_torrent
from portage_p2pbin.net.attempt import Sources
from portage_p2pbin.net.swarm import Swarm, SwarmSettings
from tests.handmade import EBUILD, PACKAGE, member, with_image
from tests.handmade import METADATA as METADATA_OF_HELLO
from tests.makers import CONTENTS, DEFINITION, REQUEST, vote
from tests.served import TRUSTED, UNTRUSTED, Rig

DATA = os.urandom(100_000)
FILE = Sha256(hashlib.sha256(DATA).hexdigest())
SIGNED = vote(TRUSTED, file=FILE)
NAME = file_name(REQUEST.cpv, FILE)
TORRENT = make_torrent(NAME, [DATA[start : start + 16384] for start in range(0, len(DATA), 16384)])
METADATA = {
    "CATEGORY": "app-misc", "PF": "hello-2.10-r1", "repository": "test", "EAPI": "8", "SLOT": "0", "CHOST": "x86_64-pc-linux-gnu",
    "CBUILD": "x86_64-pc-linux-gnu", "CFLAGS": "-O2 -pipe", "USE": "nls amd64", "RDEPEND": "a/b\n c/d", "DESCRIPTION": "left out",
}  # fmt: skip
MANIFEST = b"the manifest\n"
GOOD = Reading(CONTENTS, MANIFEST, METADATA, "e" * 64, ())


class Answer:
    """A reading half that gives one answer."""

    def __init__(self, answer):
        self.answer = answer

    def read(self, fd):
        assert os.pread(fd, len(DATA), 0) == DATA
        return self.answer


@pytest.fixture
def package(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(DATA)
    return path


def check(package, signed=SIGNED, torrent=TORRENT, reading=GOOD):
    with package.open("rb") as file:
        return check_package(package, file, torrent, signed, Answer(reading))


def test_a_package_that_is_what_its_vote_says_is_kept_with_what_its_entry_repeats(package):
    checked = check(package)
    assert (checked.sha256, checked.sha1) == (FILE, hashlib.sha1(DATA).hexdigest())  # noqa: S324
    assert json.loads(checked.metadata) == {
        "CHOST": "x86_64-pc-linux-gnu", "EAPI": "8", "RDEPEND": "a/b c/d", "SLOT": "0", "USE": "nls amd64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"signed": vote(TRUSTED, file=Sha256("0" * 64))}, "P9.7", "not what was voted"),
        (
            {"torrent": make_torrent(NAME, [DATA]) if len(DATA) < 16384 else make_torrent(NAME, [b"x"])},
            "P10.4",
            "not the one that was offered",
        ),
        ({"reading": replace(GOOD, digest="p2pbin-contents-1:" + "c" * 64)}, "P9.8", "its contents digest is"),
        ({"reading": replace(GOOD, droppings=("HOME",))}, "P2.5", "it was not cleaned: HOME"),
        ({"reading": replace(GOOD, metadata=METADATA | {"PF": "hello-2.9"})}, "P9.8", "PF is 'hello-2.9'"),
        ({"reading": replace(GOOD, ebuild_sha256="f" * 64)}, "P9.8", "ebuild"),
        ({"reading": replace(GOOD, metadata=METADATA | {"LICENSE": "GPL\x1b"})}, "P9.8", "LICENSE is not one printable line"),
        ({"reading": replace(GOOD, metadata=METADATA | {"LICENSE": "G" * 65537})}, "P9.8", "LICENSE is not one printable line"),
    ],
)
def test_other_packages_are_refused(package, changes, rule, reason):
    with pytest.raises(RefusedError, match=reason) as caught:
        check(package, **changes)
    assert caught.value.rule == rule


def test_the_reading_half_is_asked_through_its_own_process(tmp_path):
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"no package")
    with reader() as reading, rubbish.open("rb") as file:
        for _ in range(2):
            with pytest.raises(RefusedError) as caught:
                reading.read(file.fileno())
            assert caught.value.rule.startswith("P2")


def test_a_reading_half_whose_process_is_gone_is_not_available(tmp_path):
    with reader() as reading, (tmp_path / "file").open("wb+") as file:
        reading._connection.shutdown(2)
        with pytest.raises(UnavailableError, match="its process has ended"):
            reading.read(file.fileno())


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        settings = replace(rig.settings.origin, listen=read_address("127.0.0.1:26880"), patience=10)
        roles = frozenset({"api", "tracker", "origin"})
        rig.service = replace(rig.service, settings=replace(rig.settings, origin=settings, roles=roles))
        rig.publisher._service = rig.service
        yield rig


@contextmanager
def origin_of(rig, answer=GOOD):
    origin = Origin(rig.service, rig.state, Answer(answer))
    origin.start()
    try:
        yield origin
    finally:
        origin.stop()


@contextmanager
def published(rig, package, signed=SIGNED, seeds=True):
    """Offer the package of a vote and seed it, or not, from an address of its own."""
    rig.cast(signed)
    with Swarm(package.parent / "publisher", SwarmSettings(listen="127.0.0.8:26881")) as swarm:
        if seeds:
            swarm.seed(TORRENT, package)
        bounds = rig.bounds()
        with rig.store.writing() as transaction:
            where = Address("127.0.0.8", swarm.port)
            assert offer(transaction, rig.electorate, signed.signer, signed.envelope.digest, TORRENT, where, rig.service.rules, bounds)
        rig.service.offered.set()
        yield swarm


def settled(rig):
    for _ in range(200):
        with rig.store.reading() as transaction:
            found = transaction.offer(TORRENT.info_hash)
        if found.state in (OfferState.STORED, OfferState.REFUSED):
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found.state}")


def test_an_offered_package_is_fetched_checked_listed_and_handed_out(rig, package, tmp_path):
    with origin_of(rig):
        with published(rig, package):
            assert settled(rig).state is OfferState.STORED
        assert (rig.state.files / FILE).read_bytes() == DATA
        assert (rig.state.manifests / ("a" * 64)).read_bytes() == MANIFEST
        assert [one["file"] for one in rig.entries()] == [FILE]
        with Swarm(tmp_path / "client", SwarmSettings(listen="127.0.0.7:26882")) as client:
            download = client.download(TORRENT, lambda: Sources(origin=("127.0.0.1", 26880)))
            assert download.file.read_bytes() == DATA
            assert download.received == {("127.0.0.1", 26880): len(DATA)}


def test_a_real_package_passes_through_the_real_reading_half(tmp_path):
    metadata = {key: value for key, value in METADATA_OF_HELLO.items() if key != "hello-1.ebuild"}
    metadata |= {"PF": b"hello-2.10-r1\n", "repository": b"test\n", "EAPI": b"8\n", "USE": b"nls\n", "hello-2.10-r1.ebuild": EBUILD}
    data = PACKAGE.but(metadata=metadata).bytes()
    file = Sha256(hashlib.sha256(data).hexdigest())
    torrent = make_torrent(file_name(REQUEST.cpv, file), [data[start : start + 16384] for start in range(0, len(data), 16384)])
    path = tmp_path / torrent.name
    path.write_bytes(data)
    sources = {"ebuild": Sha256(hashlib.sha256(EBUILD).hexdigest())}
    definition = replace(DEFINITION, request=replace(REQUEST, sources=sources))
    with reader() as reading, path.open("rb") as file_:
        contents = ContentsDigest(reading.read(file_.fileno()).digest)
        signed = vote(TRUSTED, file=file, contents=contents, definition=definition)
        checked = check_package(path, file_, torrent, signed, reading)
    assert json.loads(checked.metadata)["USE"] == "nls"


def test_a_refused_package_is_neither_kept_nor_listed(rig, package):
    with origin_of(rig, replace(GOOD, droppings=("HOME",))), published(rig, package):
        found = settled(rig)
    assert (found.state, found.reason) == (OfferState.REFUSED, f"the file of {REQUEST.cpv} refused by P2.5: it was not cleaned: HOME")
    assert list(rig.state.files.iterdir()) == list(rig.state.intake.iterdir()) == []
    assert rig.entries() == []


def test_an_untrusted_package_is_kept_but_not_handed_out(rig, package, tmp_path):
    with origin_of(rig):
        with published(rig, package, vote(UNTRUSTED, file=FILE)):
            assert settled(rig).state is OfferState.STORED
        assert rig.entries() == []
        settings = SwarmSettings(listen="127.0.0.7:26882", stall=3.0)
        with Swarm(tmp_path / "client", settings) as client, pytest.raises(UnavailableError):
            client.download(TORRENT, lambda: Sources(origin=("127.0.0.1", 26880)), patience=1.0)


def test_what_was_listed_is_handed_out_after_a_restart_and_no_more_once_it_is_not(rig, package, tmp_path):
    with origin_of(rig), published(rig, package):
        settled(rig)
    rig.entries()
    with origin_of(rig) as origin:
        for _ in range(100):
            if origin._swarm.has(TORRENT.info_hash):
                break
            time.sleep(0.05)
        assert origin._swarm.has(TORRENT.info_hash)
        with rig.store.writing() as transaction:
            transaction.remove_listing(transaction.listings()[0])
        origin.seed_listed()
        assert not origin._swarm.has(TORRENT.info_hash)
    assert (rig.state.files / FILE).read_bytes() == DATA


def test_what_was_kept_just_before_a_stop_is_stored_at_the_next_start(rig, package):
    with origin_of(rig), published(rig, package):
        settled(rig)
    with rig.store.writing() as transaction:
        transaction.set_offer(TORRENT.info_hash, OfferState.CHECKING)
    with origin_of(rig):
        assert settled(rig).state is OfferState.STORED


def test_an_offer_that_nobody_sends_is_given_up(rig, package):
    rig.service = replace(rig.service, settings=replace(rig.service.settings, origin=replace(rig.service.settings.origin, patience=1)))
    with origin_of(rig), published(rig, package, seeds=False):
        assert settled(rig).state is OfferState.REFUSED


def test_a_stop_does_not_wait_for_a_publisher_and_the_offer_stays(rig, package):
    rig.service = replace(rig.service, settings=replace(rig.service.settings, origin=replace(rig.service.settings.origin, patience=60)))
    with origin_of(rig) as origin, published(rig, package, seeds=False):
        for _ in range(100):
            if origin._swarm.has(TORRENT.info_hash):
                break
            time.sleep(0.05)
        stopping = threading.Thread(target=origin.stop)
        stopping.start()
        stopping.join(20)
        assert not stopping.is_alive()
    with rig.store.reading() as transaction:
        assert transaction.offer(TORRENT.info_hash).state is OfferState.WAITING


def offered(provider, number):
    return Offer(InfoHash(f"{number:040x}"), FILE, b"", 1, provider, "127.0.0.8", 1, OfferState.WAITING, "", number)


def test_strangers_cannot_keep_every_intake_busy():
    """Whoever registers enough keys, and then sends nothing, would else keep everybody's packages out."""
    strangers = [offered(PublicKey(f"{number:064x}"), number) for number in range(9)]
    trusted = offered(PublicKey("f" * 64), 99)
    known = {trusted.provider}
    assert next_offers([*strangers, trusted], set(), known) == [trusted, *strangers[:STRANGERS]]
    busy = {one.provider for one in strangers[:STRANGERS]}
    assert next_offers([*strangers, trusted], busy, known) == [trusted]
    assert next_offers([trusted, trusted], set(), known) == [trusted]
    several = [offered(PublicKey(f"a{number:063x}"), number) for number in range(9)]
    assert next_offers(several, set(), {one.provider for one in several}) == several[:INTAKES]


def test_a_publisher_that_sends_drop_by_drop_is_left(rig, package, monkeypatch):
    monkeypatch.setattr("p2pbin_server.origin.SLOWEST", len(DATA))
    rig.service = replace(rig.service, settings=replace(rig.service.settings, origin=replace(rig.service.settings.origin, patience=2)))
    with Swarm(package.parent / "slow", SwarmSettings(listen="127.0.0.8:26881", upload=17_000)) as slow:
        slow.seed(TORRENT, package)
        rig.cast(SIGNED)
        with rig.store.writing() as transaction:
            where = Address("127.0.0.8", slow.port)
            offer(transaction, rig.electorate, SIGNED.signer, SIGNED.envelope.digest, TORRENT, where, rig.service.rules, rig.bounds())
        with origin_of(rig):
            found = settled(rig)
    assert (found.state, "bytes a second" in found.reason) == (OfferState.REFUSED, True), found.reason


def test_two_sides_of_a_clash_are_compared_by_their_manifests(tmp_path):
    one, other = ContentsDigest("p2pbin-contents-1:" + "a" * 64), ContentsDigest("p2pbin-contents-1:" + "b" * 64)
    assert differences(tmp_path, [one, other]) is None
    hello = read_package(PACKAGE.file()).manifest
    manifest_path(tmp_path, one).write_bytes(hello)
    assert differences(tmp_path, [one, other]) is None
    assert differences(tmp_path, [one]) is None
    worse = with_image(member("image/usr/evil", b"x", mode=b"0000755\0"), member("image/usr/text.txt", b"y"))
    manifest_path(tmp_path, other).write_bytes(read_package(worse.file()).manifest)
    assert [(found["path"], found["kind"]) for found in differences(tmp_path, [one, other])] == [
        ("./image/usr/evil", "code"),
        ("./image/usr/text.txt", "data"),
    ]
