import os
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from portage_p2pbin import builder as module
from portage_p2pbin.builder import Builder, Emerge
from portage_p2pbin.gentoo.record import FOLDER, Record
from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Channel, Sha256
from portage_p2pbin.kernel.statements import read_certificate, read_request_fields, spelt
from portage_p2pbin.publish import Outcome, Published
from tests.http_seam import NAME, RecordedHttp
from tests.makers import CONTENTS, DEFINITION, NOW, OTHER_CONTENTS, REQUEST, YEAR, machine_key, new_key, vote
from tests.test_openpgp import Home, statement

KEY = 5
FILE = Sha256("f" * 64)
NEW = Record(DEFINITION, Path("/var/cache/binpkgs/hello.gpkg.tar"), FILE, 1000, NOW, NOW, ())


class World:
    """A build machine whose emerge is a shell script, and a server in memory."""

    def __init__(self, folder):
        self.eprefix = folder
        self.package_use = folder / "etc/portage/package.use/p2pbin-builder"
        self.said = []
        self.published = []
        self.http = RecordedHttp()
        job = {"id": "job-1", "expires": spelt(NOW + YEAR), "request": REQUEST.as_json(), "votes": 2}
        self.http.answer("/jobs", {"job": job})
        self.http.answer("/jobs/job-1/renew", {"expires": spelt(NOW + timedelta(hours=1))})
        self.http.answer("/jobs/job-1/done", {"audits": []})
        self.http.answer("/jobs/job-1/return", b"")
        self.http.answer("/certificates", {})
        self.records = folder / FOLDER
        self.records.mkdir(parents=True)

    def emerge(self, script, **changes):
        """An emerge that runs `script`, with the atom as $0."""
        plain = Emerge(("sh", "-c", script), self.package_use, self.eprefix, timeout=60.0)
        return replace(plain, **changes)

    def leaves(self, record=NEW):
        """A script that leaves `record`, as the hook does."""
        written = self.eprefix / "record"
        written.write_bytes(record.encode())
        return f"cp {written} {self.records}/{record.file}.json"

    def builder(self, emerge):
        def publish(record):
            self.published.append(record)
            return Published(Outcome.STORED, vote(KEY))

        return Builder(self.http.server(), new_key(KEY), emerge, publish, timedelta(days=90), self.said.append)

    def work(self, script=None, **changes):
        return self.builder(self.emerge(self.leaves() if script is None else script, **changes)).work()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_job_is_built_published_and_done(world):
    assert world.work()
    assert world.published == [NEW]
    assert world.http.paths() == ["/jobs", "/jobs/job-1/renew", "/jobs/job-1/done"]
    _, fields = read_request_fields(world.http.asked[-1][1], "job-done", NAME, lambda time: True)
    with fields.reading():
        assert fields.of("vote", Sha256) == vote(KEY).envelope.digest


def test_nothing_is_wanted(world):
    world.http.answer("/jobs", {"job": None})
    assert not world.work("exit 1")
    assert world.published == []


def test_emerge_is_given_the_version_the_repository_and_the_flags_of_the_job(world):
    seen = world.eprefix / "seen"
    world.work(f'{world.leaves()}; (echo "$0"; cat {world.package_use}) > {seen}')
    assert seen.read_text() == "=app-misc/hello-2.10-r1::test\n=app-misc/hello-2.10-r1::test -* nls\n"
    assert not world.package_use.exists()


@pytest.mark.parametrize("flag", ["nls\n*/* static", "-nls", "nls #", "*", ""])
def test_what_is_no_use_flag_never_reaches_portage(world, flag):
    request = replace(REQUEST, use=(flag,))
    job = {"id": "job-1", "expires": spelt(NOW), "request": request.as_json(), "votes": 1}
    world.http.answer("/jobs", {"job": job})
    with pytest.raises(RefusedError, match="is no USE flag"):
        world.work(f"touch {world.eprefix}/ran")
    assert not world.package_use.exists()
    assert not (world.eprefix / "ran").exists()


def test_a_failed_build_is_said_and_leaves_nothing(world):
    with pytest.raises(UnavailableError, match="ended with 7"):
        world.work("exit 7")
    assert world.published == []
    assert not world.package_use.exists()


def test_a_job_that_failed_is_given_back(world):
    with pytest.raises(UnavailableError, match="ended with 7"):
        world.work("exit 7")
    path, body = world.http.asked[-1]
    assert path == "/jobs/job-1/return"
    _, fields = read_request_fields(body, "job-return", NAME, lambda time: True)
    with fields.reading():
        pass


def test_a_job_that_cannot_be_given_back_fails_for_its_own_reason(world):
    world.http.answer("/jobs/job-1/return", UnavailableError("server", "nobody answers"))
    with pytest.raises(UnavailableError, match="ended with 7"):
        world.work("exit 7")
    assert "was not given back: server is not available now" in world.said[-1]


def test_a_job_is_given_back_when_the_builder_is_ended(world):
    def ended(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(world.builder(world.emerge(world.leaves())), publish=ended).work()
    assert world.http.paths()[-1] == "/jobs/job-1/return"


def test_a_build_that_the_hook_did_not_record(world):
    with pytest.raises(SettingsError, match="not recorded"):
        world.work("exit 0")


def test_an_earlier_record_is_not_taken_for_this_build(world):
    (world.records / f"{FILE}.json").write_bytes(NEW.encode())
    with pytest.raises(SettingsError, match="not recorded"):
        world.work("exit 0")


def test_another_build_key_is_refused_field_by_field(world):
    other = replace(NEW, definition=replace(DEFINITION, request=replace(REQUEST, use=("doc",), flags={})))
    with pytest.raises(RefusedError) as caught:
        world.work(world.leaves(other))
    assert caught.value.rule == "P11"
    assert "flags.CFLAGS is - here, and -O2 -pipe was wanted; use is doc here, and nls was wanted" in caught.value.reason
    assert world.published == []
    assert world.http.paths()[-1] == "/jobs/job-1/return"


def test_another_environment_is_no_objection(world):
    assert world.work(world.leaves(replace(NEW, definition=replace(DEFINITION, programs={}))))


def test_a_build_that_takes_too_long_is_ended_with_all_that_it_started(world, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WAIT", 0.05)
    pid = world.eprefix / "pid"
    started = datetime.now(UTC)
    world.http.answer("/jobs/job-1/renew", {"expires": spelt(started)})
    emerge = world.emerge(f"sleep 1000 & echo $! > {pid}; wait", timeout=0.3)
    builder = world.builder(emerge)
    builder = replace(builder, server=replace(builder.server, clock=lambda: datetime.now(UTC)))
    with pytest.raises(UnavailableError, match="did not end"):
        builder.work()
    assert eventually_gone(int(pid.read_text()))


def eventually_gone(pid):
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


def test_a_lease_that_is_lost_ends_the_build(world, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WAIT", 0.05)
    world.http.answer("/jobs/job-1/renew", {"expires": spelt(NOW)}, RefusedError("P11", "job-1", "its lease is not held any more"))
    with pytest.raises(RefusedError, match="not held any more"):
        world.work("sleep 1000")


def test_a_server_that_does_not_answer_for_a_while_costs_no_build(world, monkeypatch):
    monkeypatch.setattr(module, "RETRY", 0.05)
    world.http.answer("/jobs/job-1/renew", UnavailableError("server", "nobody answers"))
    assert world.work(f"sleep 0.2; {world.leaves()}")


def test_a_command_that_is_not_there(world):
    with pytest.raises(SettingsError, match=r"Set command in builder\.toml"):
        world.work(command=("/nonexistent/emerge",))
    assert not world.package_use.exists()


def test_a_package_use_that_is_a_file_is_not_touched(world):
    world.package_use.parent.parent.mkdir(parents=True)
    world.package_use.parent.write_text("*/* doc\n")
    with pytest.raises(SettingsError, match="Make it a folder"):
        world.work()
    assert world.package_use.parent.read_text() == "*/* doc\n"


LONG_AGO = ("--faked-system-time", "20250101T000000")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("gpg") / "home")
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home.path), "--kill", "all"], check=True)


@pytest.fixture(scope="module")
def larry(home):
    return home.make("larry", "ed25519", "sign", *LONG_AGO, expires="never")


@pytest.fixture
def audit(world, home, larry):
    """Lets the job bring one audit: of machine key 8, which larry has certified; what is named instead is wrong about it."""

    def bring(signed=None, openpgp=None, **changes):
        key = machine_key(8)
        said = {"public": key.public, "notBefore": spelt(key.not_before), "notAfter": spelt(key.not_after)}
        text = home.sign(larry, *LONG_AGO, line=statement(larry, **(said | changes)))
        envelope = (signed or vote(8)).envelope.data.decode()
        found = {"openpgp": openpgp or home.public_key(larry), "certification": text, "vote": envelope}
        world.http.answer("/jobs/job-1/done", {"audits": [found]})

    return bring


def certificates(world):
    return [read_certificate(body) for path, body in world.http.asked if path == "/certificates"]


def test_who_has_built_the_same_is_certified(world, audit, larry):
    audit()
    world.work()
    (signed,) = certificates(world)
    assert signed.signer == machine_key(KEY).public
    found = signed.certificate
    assert (found.key, found.identity) == (machine_key(8).public, larry)
    assert (found.not_before, found.not_after) == (NOW - YEAR, NOW + timedelta(days=90))
    assert [(one.build_key, one.contents) for one in found.audited] == [(REQUEST.key, CONTENTS)]


def test_a_certificate_does_not_outlive_its_key(world, audit):
    audit(notAfter=spelt(NOW + timedelta(days=1)))
    world.work()
    assert certificates(world)[0].certificate.not_after == NOW + timedelta(days=1)


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (vote(8, contents=OTHER_CONTENTS), "the contents differ"),
        (vote(9), "signed by another key"),
        (vote(8, definition=replace(DEFINITION, request=replace(REQUEST, eapi="7"))), "about another build"),
        (vote(8, channel=Channel("arm64-test")), "about another build"),
        (vote(8, started=NOW - 2 * YEAR, finished=NOW - 2 * YEAR), "outside the window"),
    ],
)
def test_who_has_not_built_the_same_is_not_certified(world, audit, larry, signed, reason):
    audit(signed=signed)
    assert world.work()
    assert certificates(world) == []
    assert f"Not certified: audit of {larry} refused by P4.3" in world.said[-1]
    assert reason in world.said[-1]


def test_a_machine_key_that_is_over_is_not_certified(world, audit):
    audit(signed=vote(8, started=NOW - timedelta(days=9), finished=NOW - timedelta(days=9)), notAfter=spelt(NOW - timedelta(days=1)))
    assert world.work()
    assert certificates(world) == []
    assert "outside the window" in world.said[-1]


def test_the_servers_word_for_an_identity_is_not_enough(world, audit, home):
    """A stolen server puts the key of an identity of its own beside the certification, so that somebody else gets the voice."""
    audit(openpgp=home.public_key(home.make("mallory", "ed25519", "sign", *LONG_AGO, expires="never")))
    assert world.work()
    assert certificates(world) == []
    assert "refused by P3.2" in world.said[-1]


def test_a_certification_of_another_machine_key_is_of_no_use(world, audit):
    audit(public=machine_key(9).public)
    assert world.work()
    assert certificates(world) == []
    assert "signed by another key" in world.said[-1]


def test_a_forged_vote_certifies_nobody(world, audit):
    audit()
    [found] = world.http.answers["/jobs/job-1/done"][0]["audits"]
    found["vote"] = found["vote"].replace('"sig":"', '"sig":"A', 1)
    with pytest.raises(RefusedError):
        world.work()
    assert certificates(world) == []
