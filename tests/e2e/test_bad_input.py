"""What goes wrong from the first day: each gets one clear line and the right exit code, and nothing is placed or lost.

Everything is real: server, Portage, p2pbind, libtorrent, gpg.  Where the server itself has to lie, an impostor stands on its address
with its files and its online keys.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import TargetFile

from p2pbin_server import keys
from p2pbin_server.ceremonies import Lifetimes, read_targets
from p2pbin_server.editions import Editions
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.index import MOST_BUNDLE, Bundle, Entry, read_bundle
from portage_p2pbin.kernel.model import Channel, Fingerprint, Sha256
from portage_p2pbin.kernel.roster import MachineKey
from portage_p2pbin.kernel.statements import SignedVote, sign_vote
from portage_p2pbin.kernel.targets import page_file
from portage_p2pbin.machine_key import load_machine_key
from portage_p2pbin.net.http import Http
from portage_p2pbin.net.settings import HttpSettings
from portage_p2pbin.net.trust_server import TrustServer
from portage_p2pbin.openpgp import certify
from tests.e2e.impostor import Impostor
from tests.e2e.small_world import LARGE, SMALL, listed, small_world
from tests.throwaway import Finished, Running
from tests.world import CHANNEL, Member, World, eventually, new_identity

DONE, SETTINGS, UNAVAILABLE, REFUSED = 0, 2, 3, 4
DEST = "var/tmp/dest"
BEFORE = "what was there before"
YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world() as world:
        yield world


@pytest.fixture(scope="module")
def bert(world: World) -> Member:
    return world.members[0]


@pytest.fixture(scope="module")
def key(bert: Member) -> Ed25519PrivateKey:
    """The key of bert's machine."""
    return load_machine_key(bert.gentoo.outside("var/lib/p2pbin/machine.key"))


_NUMBERS = count()


@pytest.fixture
def client(world: World) -> Member:
    """A fresh Gentoo at threshold 3, without a daemon."""
    return new_client(world)


def new_client(world: World, **settings: str) -> Member:
    member = world.member(f"client{next(_NUMBERS)}", daemon=False, settings=settings)
    member.gentoo.write(f"{DEST}/package", BEFORE)
    return member


def fetch(world: World, client: Member, path: str, name: str = "package", command: str = "p2pbin-fetch") -> Finished:
    return client.gentoo.run([command, f"p2pbin://{world.server.host}/{CHANNEL}/{path}", f"{DEST}/{name}"], expect=None)


def said(output: str, *words: str) -> None:
    """One line says all the `words`, and nothing looks like a bug of ours."""
    assert len([line for line in output.splitlines() if all(word in line for word in words)]) == 1, output
    assert "Traceback" not in output and "bug" not in output, output


def check_index_is_empty(world: World, client: Member, *words: str) -> None:
    """The index call succeeds with an index that lists nothing, says why, and leaves nothing else."""
    done = fetch(world, client, "Packages", "index")
    assert done.code == DONE, done.output
    said(done.output, *words)
    assert "PACKAGES: 0\n" in client.gentoo.read(f"{DEST}/index")
    client.gentoo.outside(f"{DEST}/index").unlink()
    check_nothing_placed(client)


def check_package(world: World, client: Member, path: str, code: int, *words: str) -> None:
    """The call for a package ends with `code`, says why, and the destination is as it was."""
    done = fetch(world, client, path)
    assert done.code == code, done.output
    said(done.output, *words)
    if code != SETTINGS:
        said(done.output, "Run emerge again", "Portage compiles it")
    check_nothing_placed(client)


def check_nothing_placed(client: Member) -> None:
    assert {path.name for path in client.gentoo.outside(DEST).iterdir()} == {"package"}
    assert client.gentoo.read(f"{DEST}/package") == BEFORE


def check_emerge_compiles(client: Member, *words: str) -> None:
    """Plain emerge goes on, and compiles; what is wrong is said in its output."""
    done = client.emerge(SMALL)
    if words:
        said(done.output, *words)
    assert "Emerging binary" not in done.output
    assert "app-misc/hello-1.1" in client.gentoo.installed()


def check_everything_refused(world: World, client: Member, code: int, *words: str) -> None:
    """An index call, a call for a package, and emerge."""
    check_index_is_empty(world, client, *words)
    check_package(world, client, listed(world, SMALL).path, code, *words)
    check_emerge_compiles(client, *words)


# The server and its index ------------------------------------------------------------------------------------------------------------


def test_an_unreachable_server(world: World, client: Member):
    world.server.stop()
    try:
        check_everything_refused(world, client, UNAVAILABLE, "not available now", world.server.host)
    finally:
        world.server.start()


def test_an_expired_index(world: World, client: Member):
    with Impostor(world.server) as impostor:
        impostor.list(listed(world, SMALL), at=datetime.now(UTC) - timedelta(days=30))
        check_everything_refused(world, client, REFUSED, "P7.5", "expired", "sign it again")


def test_an_index_signed_by_a_stranger(world: World, client: Member):
    with Impostor(world.server) as impostor:
        entry = listed(world, SMALL)
        page = impostor.page(replace(entry, serial=entry.serial + 1))
        _sign_by_a_stranger(impostor, page_file(Channel(CHANNEL), entry.cpv.category), page)
        check_everything_refused(world, client, REFUSED, "P7.1", "index")


def _sign_by_a_stranger(impostor: Impostor, path: str, page: bytes) -> None:
    """The impostor has the keys of snapshot and timestamp, but another one for the index."""
    signers = keys.online_signers(impostor.state / "keys")
    keys.make_online_keys(impostor.state / "strangers-keys")
    stranger = keys.online_signers(impostor.state / "strangers-keys")["index"]
    editions = Editions(impostor.state / "tuf", signers, Lifetimes())
    index = read_targets("index", editions.metadata("index"))
    file = TargetFile.from_data(path, page, ["sha256"])
    index.signed.targets[path] = file
    index.signed.version += 1
    index.sign(stranger)
    editions.add_target(file, page)
    editions.commit({"index": index.to_bytes()}, datetime.now(UTC))


def test_a_page_of_the_index_with_other_bytes(world: World, client: Member):
    with Impostor(world.server) as impostor:
        for page in (impostor.state / "tuf/targets").rglob("*.app-misc.json"):
            page.write_bytes(page.read_bytes().replace(b'"level":3', b'"level":1'))
        check_index_is_empty(world, client, "P7.1", "does not match", "ask its operator")
        check_package(world, client, listed(world, SMALL).path, REFUSED, "P7.1", "does not match", "ask its operator")


# Votes and torrents ------------------------------------------------------------------------------------------------------------------


def list_with_bundle(impostor: Impostor, entry: Entry, bundle: bytes) -> Entry:
    """List `entry` with other votes."""
    digest = Sha256(hashlib.sha256(bundle).hexdigest())
    impostor.answers[f"/bundles/{digest}"] = bundle
    return impostor.list(replace(entry, bundle=digest))


def test_a_vote_bundle_that_is_too_large(world: World, client: Member):
    with Impostor(world.server) as impostor:
        news = list_with_bundle(impostor, listed(world, SMALL), bytes(MOST_BUNDLE + 1))
        check_package(world, client, news.path, REFUSED, "app-misc/hello-1.1", "P9.2", str(MOST_BUNDLE))


def test_a_malformed_vote_in_a_bundle(world: World, client: Member):
    with Impostor(world.server) as impostor:
        entry = listed(world, SMALL)
        bundle = json.loads(impostor.bundle(entry).encode())
        bundle["votes"][0] = bundle["votes"][0].replace('"signatures"', '"signature"')
        data = json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode()
        news = list_with_bundle(impostor, entry, data)
        check_package(world, client, news.path, REFUSED, "app-misc/hello-1.1", "P9.3", "signatures")
        check_emerge_compiles(client)


def list_with_vote(impostor: Impostor, entry: Entry, key: Ed25519PrivateKey, **changes: object) -> Entry:
    vote = impostor.bundle(entry).votes[0].vote
    return list_with_bundle(impostor, entry, Bundle((sign_vote(replace(vote, **changes), key),), ()).encode())


def test_a_vote_by_a_stranger(world: World, client: Member):
    with Impostor(world.server) as impostor:
        news = list_with_vote(impostor, listed(world, SMALL), Ed25519PrivateKey.generate())
        check_package(world, client, news.path, REFUSED, "app-misc/hello-1.1", "P9.4", "neither on the roster nor audited")


def test_a_vote_from_before_the_window_of_its_key(world: World, client: Member, key: Ed25519PrivateKey):
    with Impostor(world.server) as impostor:
        then = datetime.now(UTC).replace(microsecond=0) - YEAR
        news = list_with_vote(impostor, listed(world, SMALL), key, started=then, finished=then)
        check_package(world, client, news.path, REFUSED, "app-misc/hello-1.1", "P9.4", "outside its key's validity window")


def test_a_torrent_that_is_not_the_listed_one(world: World, client: Member):
    with Impostor(world.server) as impostor:
        entry, other = listed(world, SMALL), listed(world, LARGE)
        impostor.answers[f"/torrents/{entry.info_hash}"] = (impostor.state / "torrents" / other.info_hash).read_bytes()
        check_package(world, client, entry.path, REFUSED, "app-misc/hello-1.1", "P9.5", "info-hash")


def test_a_listed_torrent_that_names_another_file(world: World, client: Member):
    with Impostor(world.server) as impostor:
        news = impostor.list(replace(listed(world, SMALL), info_hash=listed(world, LARGE).info_hash))
        check_package(world, client, news.path, REFUSED, "app-misc/hello-1.1", "P9.5", "libdice-1.2")


# Votes and registrations that are handed in ------------------------------------------------------------------------------------------


def post(world: World, path: str, body: bytes) -> tuple[int, str]:
    """Status and reason of the server's answer."""
    try:
        with urllib.request.urlopen(f"http://{world.server.host}/{path}", body, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


@contextmanager
def nothing_kept(world: World) -> Iterator[None]:
    """The server's rows are the same after the block."""

    def rows() -> list[object]:
        kept = ("SELECT * FROM votes ORDER BY 1", "SELECT * FROM contributors ORDER BY 1", "SELECT * FROM variants ORDER BY 1")
        return [world.server.rows(query) for query in kept]

    before = rows()
    yield
    assert rows() == before


@pytest.fixture(scope="module")
def vote(world: World) -> SignedVote:
    """Bert's vote on the small package."""
    return read_bundle((world.server.state / "bundles" / listed(world, SMALL).bundle).read_bytes()).votes[0]


def test_a_malformed_vote_is_not_taken(world: World, vote: SignedVote):
    with nothing_kept(world):
        status, reason = post(world, "votes", vote.envelope.data.replace(b'"payloadType"', b'"payloadTyp"'))
        assert status == 400
        assert "payloadType" in reason


def test_a_vote_by_a_stranger_is_not_taken(world: World, vote: SignedVote):
    with nothing_kept(world):
        status, reason = post(world, "votes", sign_vote(vote.vote, Ed25519PrivateKey.generate()).envelope.data)
        assert status == 403
        assert "nobody has registered it" in reason


def test_a_vote_from_before_the_window_of_its_key_is_not_taken(world: World, vote: SignedVote, key: Ed25519PrivateKey):
    then = datetime.now(UTC).replace(microsecond=0) - YEAR
    with nothing_kept(world):
        status, reason = post(world, "votes", sign_vote(replace(vote.vote, started=then, finished=then), key).envelope.data)
        assert status == 403
        assert "window" in reason


def gpg(home: Path, *arguments: str, text: str = "") -> str:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stdout


def revoke(home: Path, identity: str) -> str:
    """Revoke the identity with the certificate that gpg made with it; return its public key as others see it then."""
    revocation = (home / "openpgp-revocs.d" / f"{identity}.rev").read_text().replace("\n:-----", "\n-----")
    gpg(home, "--import", text=revocation)
    return gpg(home, "--armor", "--export", identity)


def test_a_revoked_identity_registers_nothing(world: World, client: Member):
    home = client.gentoo.outside("home/.gnupg")
    home.mkdir(mode=0o700)
    identity = new_identity(home, "rita <rita@example.org>")
    revoke(home, identity)
    with nothing_kept(world):
        done = client.gentoo.run(["p2pbin", "register", "--identity", identity], expect=SETTINGS)
        said(done.output, identity, "revoked")
    assert not client.gentoo.outside("var/lib/p2pbin/machine.json").exists()


def test_an_identity_that_was_revoked_after_it_certified_is_not_registered(world: World, client: Member):
    home = client.gentoo.outside("home/.gnupg")
    home.mkdir(mode=0o700)
    identity = Fingerprint(new_identity(home, "rosa <rosa@example.org>"))
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC).replace(microsecond=0)
    text = certify(home, identity, MachineKey(public_key(key), "desktop", now, now + YEAR), now).text
    server = TrustServer(Http(HttpSettings(https=False)), f"http://{world.server.host}", world.server.host, lambda: datetime.now(UTC))
    with nothing_kept(world), pytest.raises(RefusedError, match="revoked"):
        server.register(revoke(home, identity), text, key)


def test_an_identity_that_was_revoked_does_not_get_on_the_roster(world: World, tmp_path: Path):
    rudi = world.contributor("rudi", daemon=False)
    config, offline = ["--config", str(world.server.config)], tmp_path / "roster"
    promoted = ["--role", "trusted", "--operator", "rudi", "--output", str(offline)]
    world.server.run("contributor", "promote", *config, rudi.identity, *promoted)
    world.server.run("roster", "export", *config, "--output", str(offline / "previous"))
    (offline / f"{rudi.identity}.asc").write_text(revoke(rudi.gentoo.outside("home/.gnupg"), rudi.identity))
    sign = ["--keys", str(world.server.keys), "--previous", str(offline / "previous"), "--output", str(offline / "signed")]
    said(world.server.run("roster", "sign", *sign, str(offline / "roster.toml"), expect=REFUSED), "P3.2", "revoked")
    assert not (offline / "signed").exists()


# Calls that are killed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(world: World) -> Member:
    """A client whose line is slow."""
    client = new_client(world)
    settings = client.gentoo.read("etc/p2pbin/client.toml")
    client.gentoo.write("etc/p2pbin/client.toml", settings.replace("[swarm]\n", "[swarm]\ndownload = 500000\n"))
    return client


def start_daemon(member: Member) -> Running:
    """Start p2pbind, to be killed."""
    daemon = member.gentoo.start(["p2pbind"])
    daemon.wait_for("p2pbind answers")
    return daemon


def killed_in_the_middle(world: World, slow: Member, daemon: Running, *, kill_daemon: bool) -> Finished:
    """Kill p2pbin-fetch, or the daemon, once a part of the file is there."""
    entry = listed(world, LARGE)
    running = slow.gentoo.start(["p2pbin-fetch", f"p2pbin://{world.server.host}/{CHANNEL}/{entry.path}", f"{DEST}/package"])
    parts = slow.gentoo.outside("var/cache/p2pbin/swarm")
    eventually("a part is there", lambda: any(path.stat().st_blocks for path in parts.glob("*/*.gpkg.tar")))
    assert running.process.poll() is None
    (daemon if kill_daemon else running).process.send_signal(signal.SIGKILL)
    code = running.process.wait(60)
    assert slow.gentoo.read(f"{DEST}/package") == BEFORE
    return Finished(code, running.output())


def check_next_call_works(world: World, slow: Member) -> None:
    done = fetch(world, slow, listed(world, LARGE).path)
    assert done.code == DONE, done.output
    placed = slow.gentoo.outside(f"{DEST}/package")
    assert hashlib.sha256(placed.read_bytes()).hexdigest() == listed(world, LARGE).file
    assert [path.name for path in placed.parent.iterdir()] == ["package"]


def test_a_killed_fetch(world: World, slow: Member):
    killed_in_the_middle(world, slow, start_daemon(slow), kill_daemon=False)
    check_next_call_works(world, slow)


def test_a_killed_daemon(world: World, slow: Member):
    done = killed_in_the_middle(world, slow, start_daemon(slow), kill_daemon=True)
    assert done.code == UNAVAILABLE, done.output
    said(done.output, "libdice-1.2 is not available now", "it has ended")
    said(done.output, "Run emerge again", "Portage compiles it")
    check_nothing_placed(slow)
    start_daemon(slow)
    check_next_call_works(world, slow)


# Settings ----------------------------------------------------------------------------------------------------------------------------


def test_signatures_that_no_package_of_ours_has(world: World):
    client = new_client(world, FEATURES="binpkg-request-signature -buildpkg")
    check_everything_refused(world, client, SETTINGS, "FEATURES=binpkg-request-signature", "Take it out of FEATURES in make.conf")


@pytest.mark.parametrize("text", ["7", "abc"])
def test_a_threshold_that_is_none(world: World, text: str):
    client = new_client(world, P2PBIN_TRUST=text)
    check_everything_refused(world, client, SETTINGS, f"P2PBIN_TRUST is '{text}'", "Set P2PBIN_TRUST in make.conf to a number from 1")
