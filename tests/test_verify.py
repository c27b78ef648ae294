"""Each check of a file that is here: everything fits but for one thing, and only what is about it objects."""

import hashlib
import io
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Bundle, encode_page, read_bundle
from portage_p2pbin.kernel.model import Channel, Cpv, Level, Sha1, Sha256
from portage_p2pbin.kernel.roster import Ruling, RulingKind, Rulings
from portage_p2pbin.kernel.statements import sign_vote
from portage_p2pbin.verify import Seen, Verifier, look
from tests.http_seam import RecordedHttp
from tests.machine import machine
from tests.makers import OTHER_CONTENTS, new_key
from tests.shop import CHANNEL, CPV, DEVELOPER, Shop, developers, now, package_bytes, stock


def read(file):
    return read_package(io.BytesIO(os.pread(file, 1 << 30, 0)))


class Desk:
    """A file that is the listed one, and the index that lists it; tests change a part and verify."""

    def __init__(self, base, data=None):
        self.base = base
        self.http = RecordedHttp()
        self.threshold = Level.TRUSTED_ONE
        self.eprefix = ""
        self.time = now()
        self.decisions = Rulings()
        self.shelf = stock(base, data or package_bytes())
        self.file = self.shelf.file
        self.entry = self.shelf.entry
        self.others = ()
        self.http.answer(f"/bundles/{self.entry.bundle}", self.shelf.bundle)

    def roster(self):
        return developers()

    def rulings(self):
        return self.decisions

    def categories(self, channel):
        return sorted({entry.cpv.category for entry in (self.entry, *self.others)})

    def page(self, channel, category):
        return encode_page(channel, tuple(entry for entry in (self.entry, *self.others) if entry.cpv.category == category))

    def for_(self, cpv, slot, repository):
        assert (slot, repository) == ("0", "test")
        return self.threshold

    def list(self, **changes):
        self.entry = replace(self.entry, **changes)

    def vote(self, seed=DEVELOPER, **changes):
        return sign_vote(replace(read_bundle(self.shelf.bundle).votes[0].vote, **changes), new_key(seed))

    def bundle(self, *votes):
        data = Bundle(votes, ()).encode()
        self.list(bundle=Sha256(hashlib.sha256(data).hexdigest()))
        self.http.answer(f"/bundles/{self.entry.bundle}", data)

    def replace_file(self, data):
        self.file = self.base / "other"
        self.file.write_bytes(data)

    def seen(self):
        with self.file.open("rb", buffering=0) as file:
            return look(file, read)

    def __call__(self):
        return Verifier(self.http.server(), CHANNEL, self, self, self.eprefix, self.time).verify(self.seen())

    def objections(self):
        return [(check.rule, check.objection) for check in self().failed]

    def objects(self, *expected):
        found = self.objections()
        assert [rule for rule, _ in found] == [rule for rule, _ in expected], found
        for (_, objection), (_, part) in zip(found, expected, strict=True):
            assert part in objection


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_the_listed_file_meets_no_objection(desk):
    found = desk()
    assert found.failed == ()
    assert [check.rule for check in found.checks] == [f"P9.{step}" for step in (2, 3, 4, 7, 7, 8, 8, 8, 8, 8)]
    assert (found.entry, found.threshold, found.judgement.level) == (desk.entry, Level.TRUSTED_ONE, Level.TRUSTED_ONE)
    assert len({check.claim for check in found.checks}) == len(found.checks)


def test_what_is_seen_of_a_file(desk):
    seen = desk.seen()
    data = desk.shelf.data
    assert (seen.digests.size, seen.digests.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert seen.reading == read_package(io.BytesIO(data))


def test_1_a_package_that_nobody_lists(desk):
    desk.list(cpv=Cpv("app-misc/hello-3.0"), file=Sha256("0" * 64))
    with pytest.raises(UnavailableError, match="amd64-test does not list it") as caught:
        desk()
    assert caught.value.what == CPV


def test_1_what_is_neither_listed_nor_a_package(desk):
    desk.replace_file(bytes(10240))
    with pytest.raises(RefusedError) as caught:
        desk()
    assert caught.value.rule.startswith("P2")


def test_1_what_has_no_name_of_a_package(desk):
    seen = desk.seen()
    nameless = Seen(seen.digests, replace(seen.reading, metadata={}))
    with pytest.raises(RefusedError, match="not of its form"):
        Verifier(desk.http.server(), CHANNEL, desk, desk, "", desk.time).verify(nameless)


def test_1_the_entry_of_these_bytes_goes_before_others_of_its_version(desk):
    desk.others = tuple(replace(desk.entry, file=Sha256(digit * 64), serial=4_000_000_000) for digit in "09")
    assert desk().entry == desk.entry


def test_1_the_entry_of_this_version_goes_before_another_of_these_bytes(desk):
    desk.others = (replace(desk.entry, cpv=Cpv("app-misc/hello-3.0"), serial=4_000_000_000),)
    assert desk().entry == desk.entry


def test_1_an_entry_of_these_bytes_under_another_name(desk):
    desk.list(cpv=Cpv("sys-libs/hello-3.0"))
    desk.objects(("P9.3", "a vote is about package"))


def test_1_the_entry_with_these_contents_goes_before_others_of_its_version(desk):
    desk.others = tuple(replace(desk.entry, file=Sha256(digit * 64), contents=OTHER_CONTENTS, serial=4_000_000_000) for digit in "09")
    desk.list(file=Sha256("1" * 64))
    assert desk().entry == desk.entry


def test_1_of_other_contents_the_entry_with_these_flags_goes_first(desk):
    metadata = {**desk.entry.metadata, "USE": "doc"}
    desk.others = tuple(replace(desk.entry, file=Sha256(digit * 64), metadata=metadata, serial=4_000_000_000) for digit in "09")
    desk.list(file=Sha256("1" * 64))
    assert desk().entry == desk.entry


def test_2_another_bundle_than_the_listed_one(desk):
    votes = Bundle((desk.vote(), desk.vote()), ()).encode()
    desk.http.answer(f"/bundles/{desk.entry.bundle}", votes)
    desk.objects(("P9.2", "not the listed one"))


@pytest.mark.parametrize("answer", [lambda body: None, UnavailableError("server", "nobody answers")])
def test_2_votes_that_cannot_be_had(desk, answer):
    desk.http.answer(f"/bundles/{desk.entry.bundle}", answer)
    with pytest.raises(UnavailableError):
        desk()


def test_3_votes_that_are_none_leave_the_checks_without_them(desk):
    data = b'{"_type":"p2pbin-bundle-2","certificates":[],"votes":[]}'
    desk.list(bundle=Sha256(hashlib.sha256(data).hexdigest()))
    desk.http.answer(f"/bundles/{desk.entry.bundle}", data)
    desk.objects(("P9.3", "p2pbin-bundle-2"))
    assert desk().judgement is None


def test_3_a_vote_about_another_channel(desk):
    desk.bundle(desk.vote(), desk.vote(seed=4, channel=Channel("arm64-test")))
    desk.objects(("P9.3", "a vote is about channel"))


def test_4_a_level_below_the_threshold(desk):
    desk.threshold = Level.TRUSTED_PAIR
    desk.objects(("P9.4", "its votes give level 3, your threshold is 2"))


def test_4_strangers_give_no_level_and_name_no_file(desk):
    desk.bundle(desk.vote(seed=99))
    desk.objects(("P9.4", "no level"), ("P9.7", "no vote that counts names this file"))


def test_4_no_votes_at_all(desk):
    desk.bundle()
    desk.objects(("P9.4", "no level"), ("P9.7", "no vote that counts names this file"))


def test_4_a_key_that_has_expired_gives_no_level(desk):
    desk.time = now() + timedelta(days=30)
    desk.objects(("P9.4", "not valid now"), ("P9.7", "no vote that counts"))


def test_4_a_recalled_digest_gives_no_level(desk):
    desk.decisions = Rulings((Ruling(RulingKind.RECALL, desk.entry.contents, "bad", desk.time),))
    desk.objects(("P9.4", "no level"))


def test_7_a_file_that_no_vote_names(desk):
    desk.bundle(desk.vote(file=None))
    desk.objects(("P9.7", "no vote that counts names this file"))


def test_7_other_bytes_with_the_same_contents(desk):
    """As this machine's own build of the package has: it is not the listed file, and yet what is inside is what was voted for."""
    desk.list(file=Sha256("1" * 64))
    desk.bundle(desk.vote(file=desk.entry.file))
    desk.objects(("P9.7", "no vote that counts names this file"), ("P9.7", "has SHA-256"))


@pytest.mark.parametrize(("change", "reason"), [({"size": 5}, "not the listed size of 5"), ({"sha1": Sha1("0" * 40)}, "has SHA-1")])
def test_7_a_file_that_is_not_as_listed(desk, change, reason):
    desk.list(**change)
    desk.objects(("P9.7", reason))


def test_8_contents_that_nobody_voted_for(desk):
    desk.list(contents=OTHER_CONTENTS)
    desk.bundle(desk.vote(contents=OTHER_CONTENTS))
    desk.objects(("P9.8", "its contents digest is"))


def test_8_what_cleaning_would_remove(desk, monkeypatch):
    seen = desk.seen()
    monkeypatch.setattr(desk, "seen", lambda: replace(seen, reading=replace(seen.reading, droppings=("key FEATURES",))))
    desk.objects(("P9.8", "it is not cleaned: key FEATURES"))


def test_8_another_entry_than_package(desk):
    desk.list(metadata={**desk.entry.metadata, "RDEPEND": "dev-libs/evil"})
    desk.objects(("P9.8", "RDEPEND"))


def test_8_another_definition_than_package(tmp_path):
    Desk(tmp_path, package_bytes(CFLAGS="-O2 -march=native")).objects(("P9.8", "-march=native"))


def test_8_another_prefix(desk):
    desk.eprefix = "/home/larry/gentoo"
    desk.objects(("P9.8", "EPREFIX ''"))


def test_8_a_listed_file_that_is_no_package(desk):
    data = bytes(len(desk.shelf.data))
    desk.replace_file(data)
    file = Sha256(hashlib.sha256(data).hexdigest())
    desk.list(file=file, sha1=Sha1(hashlib.sha1(data).hexdigest()))  # noqa: S324
    desk.bundle(desk.vote(file=file))
    desk.objects(("P9.8", "(P2.2)"))


def test_nothing_is_asked_but_the_votes(desk):
    desk()
    assert desk.http.paths() == [f"/bundles/{desk.entry.bundle}"]


def test_the_command_with_everything_real(tmp_path):
    with Shop(tmp_path) as shop, machine(shop) as here:
        shelf = shop.shelves[-1]
        (here.root / "var/lib/p2pbin").mkdir(parents=True, exist_ok=True)
        with here.popen("p2pbin", "verify", str(shelf.file)) as process:
            said, trouble = process.communicate(timeout=60)
        assert (process.returncode, trouble) == (0, "")
        assert said.count(" * P9.") == 10
        assert f"/files/{shelf.entry.file}" not in shop.asked
