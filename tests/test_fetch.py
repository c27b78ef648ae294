"""The ten steps of P9, each guard on its own: everything fits but for one thing, and the refusal names the step."""

import hashlib
import io
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.fetch import Judge, Means, Wanted, _check_inside, fetch
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Bundle, encode_page, read_bundle
from portage_p2pbin.kernel.model import Channel, ContentsDigest, Cpv, Level, Sha1, Sha256
from portage_p2pbin.kernel.roster import Ruling, RulingKind, Rulings
from portage_p2pbin.kernel.statements import sign_vote
from portage_p2pbin.net.network import Finished
from portage_p2pbin.refusals import Refusals
from tests.makers import OTHER_CONTENTS, new_key
from tests.shop import CHANNEL, CPV, DEVELOPER, EBUILD, developers, now, package_bytes, stock

SERVER = "https://packages.example.org"


class FakeNetwork:
    """The network half in memory: hands over `file`, or raises `failure`."""

    def __init__(self, shelf):
        self.answers = {f"{SERVER}/bundles/{shelf.entry.bundle}": shelf.bundle}
        self.file = shelf.file
        self.failure = None
        self.counted, self.forgotten = [], []

    def get(self, url, most):
        try:
            return self.answers[url][: most + 1]
        except KeyError:
            raise UnavailableError(url, "the server has no such file") from None

    def download(self, server, entry, on_progress):
        if self.failure:
            raise self.failure
        on_progress(entry.size, 2)
        return Finished(os.open(self.file, os.O_RDONLY), {"127.0.0.3": entry.size}, 0, 0, (), 0.1)

    def count(self, server, file):
        self.counted.append(file)

    def forget(self, info_hash):
        self.forgotten.append(info_hash)


class FakeRepository:
    """A verified index of one shelf."""

    def __init__(self, shelf):
        self.shelf = shelf
        self.people = developers()
        self.decisions = Rulings()

    def roster(self):
        return self.people

    def rulings(self):
        return self.decisions

    def categories(self, channel):
        return ["app-misc"] if channel == CHANNEL else []

    def page(self, channel, category):
        assert (channel, category) == (CHANNEL, "app-misc")
        return encode_page(CHANNEL, (self.shelf.entry,))


class FakeThresholds:
    level = Level.TRUSTED_ONE

    def for_(self, cpv, slot, repository):
        assert (cpv, slot, repository) == (CPV, "0", "test")
        return self.level


class Bench:
    """One fetch with everything in place; tests change a part and call it."""

    def __init__(self, base, data=None, **options):
        self.base = base
        self.said = []
        self.time = now()
        self.thresholds = FakeThresholds()
        self.refusals = Refusals(base / "refused.json")
        self.eprefix = options.get("eprefix", "")
        self.largest = 1 << 30
        self.shelf = stock(base, data or package_bytes(), **options)
        self.network = FakeNetwork(self.shelf)
        self.repository = FakeRepository(self.shelf)
        self.target = base / "target"

    def list(self, **changes):
        self.shelf.entry = replace(self.shelf.entry, **changes)

    def bundle(self, *votes):
        """Replace the bundle, and list the new one."""
        data = Bundle(votes, ()).encode()
        self.list(bundle=Sha256(hashlib.sha256(data).hexdigest()))
        self.network.answers[f"{SERVER}/bundles/{self.shelf.entry.bundle}"] = data

    def vote(self, seed=DEVELOPER, **changes):
        """The vote of the shelf, changed and signed again."""
        return sign_vote(replace(read_bundle(self.shelf.bundle).votes[0].vote, **changes), new_key(seed))

    def __call__(self):
        judge = Judge(self.thresholds, self.refusals, self.eprefix, self.largest, self.time)
        means = Means(self.network, lambda file: read_package(io.BytesIO(os.pread(file, 1 << 30, 0))), self.said.append)
        wanted = Wanted(SERVER, CHANNEL, self.shelf.entry.path)
        with self.target.open("w+b") as file:
            return fetch(wanted, file.fileno(), self.repository, judge, means)

    def refused(self, rule, match, *, lasting):
        """The fetch is refused for this reason, remembered for so long, and the file is kept no longer."""
        with pytest.raises(RefusedError, match=match) as caught:
            self()
        assert caught.value.rule == rule
        assert caught.value.what == CPV
        (noted,) = self.refusals.read(self.time)
        assert (noted.file, noted.rule, noted.until is None) == (self.shelf.entry.file, rule, lasting)
        assert self.network.forgotten == [self.shelf.entry.info_hash]
        assert self.network.counted == []


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_good_package_passes_every_step(bench):
    assert bench() == bench.shelf.entry
    assert bench.target.read_bytes() == bench.shelf.data
    assert bench.network.counted == [bench.shelf.entry.file]
    assert bench.refusals.read(bench.time) == ()
    assert bench.said[0] == f">>> {CPV}: trust level 3, built by larry (trusted)"
    assert f" * {bench.shelf.entry.size} bytes from peer 127.0.0.3" in bench.said
    assert bench.said[-1] == " * finished in 0.10 seconds; 0 bytes from the origin"


def test_1_what_is_not_listed_is_unavailable(bench):
    bench.repository.page = lambda channel, category: encode_page(CHANNEL, ())
    with pytest.raises(UnavailableError, match="does not list it"):
        bench()
    bench.repository.categories = lambda channel: []
    with pytest.raises(UnavailableError, match="does not list it"):
        bench()


def test_1_a_package_larger_than_the_user_allows_is_not_fetched(bench):
    bench.largest = bench.shelf.entry.size - 1
    with pytest.raises(UnavailableError, match=r"client\.toml allows"):
        bench()


def test_2_a_bundle_that_is_not_the_listed_one_is_refused(bench):
    bench.network.answers[f"{SERVER}/bundles/{bench.shelf.entry.bundle}"] += b" "
    bench.refused("P9.2", "not the listed one", lasting=False)


def test_2_a_missing_bundle_is_unavailable_and_remembered_for_an_hour(bench):
    bench.network.answers.clear()
    with pytest.raises(UnavailableError, match=r"no such file \(P9\.2\)"):
        bench()
    (noted,) = bench.refusals.read(bench.time)
    assert noted.until == bench.time + timedelta(hours=1)


def test_3_a_bundle_that_is_none_is_refused(bench):
    data = b'{"_type":"p2pbin-bundle-2","certificates":[],"votes":[]}'
    bench.list(bundle=Sha256(hashlib.sha256(data).hexdigest()))
    bench.network.answers[f"{SERVER}/bundles/{bench.shelf.entry.bundle}"] = data
    bench.refused("P9.3", "p2pbin-bundle-2", lasting=True)


def test_3_a_vote_whose_signature_is_false_is_refused(bench):
    data = bench.shelf.bundle.replace(b'sig\\":\\"', b'sig\\":\\"AAAA', 1)
    data = data[: data.index(b"AAAA") + 4] + data[data.index(b"AAAA") + 8 :]
    bench.list(bundle=Sha256(hashlib.sha256(data).hexdigest()))
    bench.network.answers[f"{SERVER}/bundles/{bench.shelf.entry.bundle}"] = data
    bench.refused("P9.3", "signature is not that of key", lasting=True)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("contents digest", {"contents": OTHER_CONTENTS}), ("channel", {"channel": Channel("arm64-test")})],
)
def test_3_a_vote_about_something_else_is_refused(bench, name, changes):
    bench.bundle(bench.vote(), bench.vote(seed=4, **changes))
    bench.refused("P9.3", f"a vote is about {name}", lasting=True)


def test_3_a_vote_about_another_build_key_is_refused(bench):
    definition = bench.vote().vote.definition
    bench.bundle(bench.vote(definition=replace(definition, request=replace(definition.request, use=()))))
    bench.refused("P9.3", "a vote is about build key", lasting=True)


@pytest.mark.parametrize(("field", "value"), [("cpv", Cpv("app-misc/hello-3.0")), ("repository", "other")])
def test_3_an_entry_under_another_name_than_its_votes_is_refused(bench, field, value):
    bench.list(**{field: value})
    with pytest.raises(RefusedError, match=r"a vote is about (package|repository)") as caught:
        bench()
    assert caught.value.rule == "P9.3"


def test_4_a_level_below_the_threshold_is_refused(bench):
    bench.thresholds.level = Level.TRUSTED_PAIR
    bench.refused("P9.4", "its votes give level 3, your threshold is 2", lasting=True)


def test_4_what_the_server_says_of_the_level_counts_for_nothing(bench):
    bench.list(level=Level.BUILD_SERVER)
    bench.thresholds.level = Level.BUILD_SERVER
    bench.refused("P9.4", "its votes give level 3, your threshold is 1", lasting=True)


def test_4_a_stranger_gives_no_level(bench):
    bench.bundle(bench.vote(seed=99))
    bench.refused("P9.4", r"no level.*neither on the roster nor audited", lasting=True)


def test_4_a_key_out_of_its_window_gives_no_level(bench):
    bench.bundle(bench.vote(started=now() - timedelta(days=11), finished=now() - timedelta(days=10)))
    bench.refused("P9.4", r"no level.*outside its key's validity window", lasting=True)


def test_4_a_recalled_digest_gives_no_level(bench):
    bench.repository.decisions = Rulings((Ruling(RulingKind.RECALL, bench.shelf.entry.contents, "bad", bench.time),))
    bench.refused("P9.4", "no level", lasting=True)


def test_4_a_file_that_no_vote_names_is_refused(bench):
    bench.bundle(bench.vote(file=None))
    bench.refused("P9.4", "no vote that counts names this file", lasting=True)


def test_5_another_torrent_is_refused(bench):
    bench.network.failure = RefusedError("P9.5", "torrent of x", "its name is y")
    bench.refused("P9.5", "its name is y", lasting=False)


def test_6_a_download_that_nobody_finishes_is_remembered_for_an_hour(bench):
    bench.network.failure = UnavailableError(bench.shelf.entry.name, "no peer has sent the rest of it")
    with pytest.raises(UnavailableError, match=r"no peer.*\(P9\.6\)"):
        bench()
    (noted,) = bench.refusals.read(bench.time)
    assert noted.until == bench.time + timedelta(hours=1)
    assert bench.network.forgotten == []  # the next attempt goes on from what is there


@pytest.mark.parametrize("rule", ["P9.3", "P9.4", "P9.8", "P9.\x1b[2J"])
def test_6_what_a_server_calls_its_refusal_is_not_taken_for_a_step_of_ours(bench, rule):
    """Else whoever answers in the server's place could have a good file left out for good."""
    bench.network.failure = RefusedError(rule, "https://mirror", "go away")
    bench.refused("P9.6", "go away", lasting=False)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_7_a_file_of_another_size_is_refused(bench, change):
    bench.network.file = bench.base / "false"
    bench.network.file.write_bytes(change(bench.shelf.data))
    bench.refused("P9.7", "not the listed size", lasting=False)


def test_7_a_changed_byte_is_refused(bench):
    changed = bytearray(bench.shelf.data)
    changed[5000] ^= 1
    bench.network.file = bench.base / "false"
    bench.network.file.write_bytes(changed)
    bench.refused("P9.7", "has SHA-256", lasting=False)


def test_7_a_sha1_that_portage_would_miss_is_refused(bench):
    bench.list(sha1=Sha1("0" * 40))
    bench.refused("P9.7", "Portage would miss", lasting=False)


def test_8_contents_that_do_not_match_the_votes_are_refused(bench):
    bench.list(contents=OTHER_CONTENTS)
    bench.bundle(bench.vote(contents=OTHER_CONTENTS))
    bench.refused("P9.8", "its contents digest is", lasting=True)


def test_8_an_entry_that_says_something_else_than_the_package_is_refused(bench):
    bench.list(metadata={**bench.shelf.entry.metadata, "RDEPEND": "dev-libs/evil"})
    bench.refused("P9.8", "RDEPEND", lasting=True)


def test_8_a_definition_that_says_something_else_than_the_package_is_refused(tmp_path):
    bench = Bench(tmp_path, package_bytes(CFLAGS="-O2 -march=native"))
    bench.refused("P9.8", "CFLAGS", lasting=True)


def test_8_an_older_version_under_a_newer_name_is_refused(tmp_path):
    older = package_bytes(Cpv("app-misc/hello-2.9"))
    bench = Bench(tmp_path)
    file = Sha256(hashlib.sha256(older).hexdigest())
    contents = ContentsDigest(read_package(io.BytesIO(older)).digest)
    sha1 = Sha1(hashlib.sha1(older).hexdigest())  # noqa: S324
    bench.list(contents=contents, file=file, sha1=sha1, size=len(older))
    bench.bundle(bench.vote(contents=contents, file=file))
    bench.network.file = tmp_path / "older"
    bench.network.file.write_bytes(older)
    bench.refused("P9.8", "PF is 'hello-2.9'", lasting=True)


def test_8_a_package_for_another_prefix_is_refused(bench):
    bench.eprefix = "/home/larry/gentoo"
    bench.refused("P9.8", "EPREFIX ''", lasting=True)


def test_8_what_the_reading_half_refuses_is_refused(bench):
    not_a_package = bytes(len(bench.shelf.data))
    bench.list(file=Sha256(hashlib.sha256(not_a_package).hexdigest()), sha1=Sha1(hashlib.sha1(not_a_package).hexdigest()))  # noqa: S324
    bench.bundle(bench.vote(file=bench.shelf.entry.file))
    bench.network.file = bench.base / "false"
    bench.network.file.write_bytes(not_a_package)
    bench.refused("P9.8", r"P2\.2", lasting=True)


def test_a_file_that_was_found_bad_is_not_downloaded_again(bench):
    test_7_a_changed_byte_is_refused(bench)
    bench.network.file = bench.shelf.file
    assert bench() == bench.shelf.entry  # the next peer may send the right bytes
    bench.eprefix = "/other"
    with pytest.raises(RefusedError):
        bench()
    bench.eprefix = ""
    bench.network.failure = AssertionError("asked again")
    with pytest.raises(RefusedError, match=r"as before.*p2pbin forget"):
        bench()


def test_8_an_uncleaned_package_is_refused(bench):
    reading = replace(read_package(io.BytesIO(bench.shelf.data)), droppings=("FEATURES",))
    judge = Judge(bench.thresholds, bench.refusals, "", 1, bench.time)
    with pytest.raises(RefusedError, match="not cleaned: FEATURES"):
        _check_inside(reading, bench.shelf.entry, read_bundle(bench.shelf.bundle), judge)


def test_counting_fails_silently(bench):
    def broken(server, file):
        raise UnavailableError("the server", "it is away")

    bench.network.count = broken
    assert bench() == bench.shelf.entry


def test_the_ebuild_of_the_tests_is_the_one_that_is_hashed(bench):
    assert bench.vote().vote.definition.request.sources["ebuild"] == hashlib.sha256(EBUILD).hexdigest()
    assert Path(bench.shelf.file).read_bytes() == bench.shelf.data
