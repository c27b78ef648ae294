"""The commands as Portage and a user call them: with p2pbind and without, everything real."""

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from portage_p2pbin.cli import fetch as command
from portage_p2pbin.config import Paths, load
from portage_p2pbin.daemon import MOST_STRANGERS, Caller, Daemon, _caller, _listen, _ThroughDaemon, connect, daemon_status, sharing
from portage_p2pbin.gatekeeper import Call
from portage_p2pbin.gentoo.settings import read_settings
from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Address
from portage_p2pbin.kernel.torrent import read_torrent
from portage_p2pbin.net.packets import Packets, pair, to_text
from portage_p2pbin.net.settings import SwarmSettings
from portage_p2pbin.net.swarm import Sources, Swarm
from tests.machine import CLIENT, Machine, machine
from tests.shop import Shop, package_bytes

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with Shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def here(shop):
    with machine(shop) as one:
        yield one


@pytest.fixture(params=["p2pbind", "no daemon"])
def either(here, request):
    """A machine with and without a daemon."""
    if request.param == "p2pbind":
        with here.daemon():
            yield here
    else:
        yield here


@pytest.fixture
def served(here):
    """A machine with a daemon."""
    with here.daemon():
        yield here


def leftovers(here):
    return {one.name for one in here.dest.iterdir()}


def test_the_index_and_a_package(either, shop):
    shelf = shop.shelves[0]
    code, said = either.fetch("Packages", "index")
    assert (code, said) == (0, "")
    index = (either.dest / "index").read_text()
    assert f"PATH: {shelf.entry.path}\n" in index
    assert either.fetch("Packages.gz", "index.gz") == (0, "")
    assert gzip.decompress((either.dest / "index.gz").read_bytes()).decode() == index
    code, said = either.fetch(shelf.entry.path, "package.partial")
    assert code == 0, said
    assert (either.dest / "package.partial").read_bytes() == shelf.data
    assert f"{len(shelf.data)} bytes from the origin" in said
    assert "trust level 3, built by larry (trusted)" in said
    assert leftovers(either) == {"index", "index.gz", "package.partial"}
    assert f"/downloads/{shelf.entry.file}" in shop.asked


def is_empty(path):
    text = path.read_bytes()
    return b"PACKAGES: 0\n" in text and b"TIMESTAMP: " in text and b"CPV" not in text


def timestamp(here):
    return int((here.dest / "answer").read_text().split("TIMESTAMP: ")[1].split()[0])


WRONG = [
    ("etc/portage/make.conf", "", "P2PBIN_TRUST is not set"),
    ("etc/portage/make.conf", 'P2PBIN_TRUST="7"\n', "no level"),
    ("etc/portage/make.conf", 'P2PBIN_TRUST="abc"\n', "no level"),
    ("etc/portage/make.conf", 'P2PBIN_TRUST="3"\nFEATURES="binpkg-request-signature"\n', "binpkg-request-signature"),
    ("etc/portage/package.p2pbin", "app-misc/* 9\n", "is no rule"),
    ("etc/portage/binrepos.conf", "", "No section of binrepos.conf"),
    ("etc/p2pbin/root.json", b"{}", "P7.1"),
    ("var/lib/p2pbin/refused.json", "{", "is damaged"),
]


def test_whatever_is_wrong_the_index_is_empty_and_newer_and_says_why(served):
    for path, text, reason in WRONG:
        assert served.fetch("Packages")[0] == 0
        assert not is_empty(served.dest / "answer")
        before, target = timestamp(served), served.root / path
        right = target.read_bytes() if target.exists() else None
        served.write(path, text)
        code, said = served.fetch("Packages")
        assert (code, reason in said) == (0, True), said
        assert is_empty(served.dest / "answer")
        assert timestamp(served) > before
        target.unlink() if right is None else target.write_bytes(right)


@pytest.mark.parametrize(
    ("text", "reason"), [("[swarm]\nnonsense = 1\n", "no setting 'nonsense'"), (CLIENT.replace("nobody", "root"), "is root")]
)
def test_where_the_gatekeeper_cannot_even_begin_the_index_is_empty_and_newer(here, text, reason):
    if "is root" in reason and os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    assert here.fetch("Packages")[0] == 0
    before = timestamp(here)
    here.write("etc/p2pbin/client.toml", text)
    code, said = here.fetch("Packages")
    assert (code, reason in said) == (0, True), said
    assert is_empty(here.dest / "answer")
    assert timestamp(here) > before


def test_without_a_trust_anchor_the_index_is_empty_and_says_what_to_get(served):
    (served.root / "etc/p2pbin/root.json").unlink()
    code, said = served.fetch("Packages")
    assert (code, is_empty(served.dest / "answer")) == (0, True)
    assert "root.json is missing" in said
    assert "fingerprint" in said


def test_an_unreachable_server_gives_an_empty_index(served):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"p2pbin://127.0.0.1:{nobody.getsockname()[1]}/amd64-test"
    served.write("etc/portage/binrepos.conf", f"[p2pbin]\nsync-uri = {uri}\n")
    with served.popen("p2pbin-fetch", f"{uri}/Packages", str(served.dest / "answer")) as process:
        said = process.communicate()[1]
    assert (process.returncode, is_empty(served.dest / "answer")) == (0, True)
    assert "refused" in said


def test_a_forged_index_gives_an_empty_one(served, shop):
    text = (shop.site.tuf / "metadata/timestamp.json").read_text()
    shop.answers["/tuf/metadata/timestamp.json"] = re.sub(r'"sig": ?"..', '"sig":"00', text).encode()
    code, said = served.fetch("Packages")
    assert (code, is_empty(served.dest / "answer")) == (0, True)
    assert "P7.1" in said


@pytest.mark.parametrize(
    ("setup", "code", "reason"),
    [
        (lambda served, shop: served.write("etc/portage/make.conf", 'P2PBIN_TRUST="8"\n'), 2, "no level"),
        (lambda served, shop: shop.answers.update({f"/bundles/{shop.shelves[0].entry.bundle}": None}), 3, "(P9.2)"),
        (lambda served, shop: served.write("etc/portage/make.conf", 'P2PBIN_TRUST="2"\n'), 4, "refused by P9.4"),
    ],
)
def test_a_package_that_cannot_be_had_leaves_nothing_and_says_why(served, shop, setup, code, reason):
    setup(served, shop)
    found, said = served.fetch(shop.shelves[0].entry.path)
    assert found == code, said
    assert reason in said
    assert leftovers(served) == set()


def test_a_refused_package_is_compiled_by_the_next_emerge(served, shop):
    entry = shop.shelves[0].entry
    shop.shelves[0].entry = replace(entry, metadata={**entry.metadata, "RDEPEND": "dev-libs/evil"})
    shop.publish()
    assert served.fetch("Packages") == (0, "")
    assert not is_empty(served.dest / "answer")
    code, said = served.fetch(shop.shelves[0].entry.path, "package")
    assert code == 4
    assert "refused by P9.8: RDEPEND" in said
    assert served.fetch("Packages")[0] == 0
    assert is_empty(served.dest / "answer")


def test_a_changed_byte_on_the_way_is_refused(served, shop, monkeypatch):
    monkeypatch.setattr(shop, "with_origin", False)
    shelf = shop.shelves[0]
    shop.answers[f"/files/{shelf.entry.file}"] = shelf.data[:5000] + b"\1" + shelf.data[5001:]
    code, said = served.fetch(shelf.entry.path)
    assert code == 4
    assert "refused by P9.7" in said
    assert leftovers(served) == set()


def test_the_callers_environment_counts_for_root(either, shop):
    assert either.fetch("Packages", P2PBIN_TRUST="1")[0] == 0
    assert is_empty(either.dest / "answer")
    code, said = either.fetch(shop.shelves[0].entry.path, P2PBIN_TRUST="1")
    assert (code, "your threshold is 1" in said) == (4, True)


@pytest.mark.parametrize("arguments", [[], ["p2pbin://x/y/Packages"], ["--version", "x"], ["a", "b", "c"]])
def test_usage(arguments, capsys):
    assert command.main(arguments) == 2
    assert "usage: p2pbin-fetch URI DEST" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["p2pbin-fetch", "p2pbind"])
def test_help_has_an_example(name):
    told = subprocess.run([str(Path(sys.executable).with_name(name)), "--help"], capture_output=True, text=True, check=True)
    assert "example:" in told.stdout


def test_a_destination_that_cannot_be_written_is_a_setting(here, shop):
    code, said = here.fetch(shop.shelves[0].entry.path, "missing/folder/package")
    assert code == 2
    assert "No such file" in said


def test_what_an_earlier_call_left_is_removed(served, shop):
    (served.dest / ".package.p2pbin").symlink_to("/etc/passwd")
    assert served.fetch(shop.shelves[0].entry.path, "package")[0] == 0
    assert leftovers(served) == {"package"}


def test_in_a_folder_of_everybody_nobody_else_can_be_first(served):
    """Portage wants the index in /tmp, where another user could put something in our way and so crash emerge."""
    served.dest.chmod(0o1777)
    (served.dest / ".answer.p2pbin").mkdir()
    assert served.fetch("Packages") == (0, "")
    assert leftovers(served) == {"answer", ".answer.p2pbin"}


def test_a_second_daemon_is_not_started(here):
    with here.daemon(), here.popen("p2pbind") as second:
        assert "another p2pbind" in second.communicate()[1]
        assert second.returncode == 3


def test_the_daemon_ends_cleanly(here):
    with here.daemon() as process:
        half = [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert process.returncode == 0
    assert not (here.root / "run/p2pbin/p2pbind.sock").exists()
    assert not [one for one in half if Path(f"/proc/{one}").exists()]


def test_the_daemon_ends_when_its_network_half_does(here):
    with here.daemon() as process:
        (half,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(half), signal.SIGKILL)
        process.wait(20)
    assert process.returncode == 3


def test_check_config_reads_and_ends(here):
    with here.popen("p2pbind", "--check-config") as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0
    here.write("etc/p2pbin/client.toml", "[nonsense]\n")
    with here.popen("p2pbind", "--check-config") as process:
        assert "no section" in process.communicate()[1]
    assert process.returncode == 2


def as_nobody(call):
    """What `call` returns, a small number, in a child of another user; everything is imported already."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = call()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fetch_as_nobody(here: Machine, path: str, **environment: str) -> tuple[int, Path]:
    target = here.root / "public"
    target.mkdir(exist_ok=True)
    target.chmod(0o777)

    def call():
        os.environ.update({"EPREFIX": str(here.root)} | environment)
        os.environ.pop("PORTAGE_OVERRIDE_EPREFIX", None)
        return command.main([f"{here.uri}/{path}", str(target / "answer")])

    return as_nobody(call), target / "answer"


@root_only
def test_another_user_reads_the_verified_cache_and_changes_nothing(either, shop):
    assert either.fetch("Packages")[0] == 0
    shop.asked.clear()
    code, answer = fetch_as_nobody(either, "Packages", P2PBIN_TRUST="3")
    assert code == 0
    assert answer.read_text() == (either.dest / "answer").read_text()
    assert [one for one in shop.asked if one.startswith("/tuf")] == []


@root_only
def test_another_user_cannot_have_packages_fetched(either, shop):
    assert either.fetch("Packages")[0] == 0
    code, answer = fetch_as_nobody(either, shop.shelves[0].entry.path)
    assert code == 2
    assert not answer.exists()


@root_only
def test_another_users_thresholds_are_not_the_daemons(here, shop):
    with here.daemon():
        assert here.fetch("Packages")[0] == 0
        listed = (here.dest / "answer").read_bytes()
        code, answer = fetch_as_nobody(here, "Packages", P2PBIN_TRUST="1", FEATURES="binpkg-request-signature")
        assert (code, answer.read_bytes()) == (0, listed)


@root_only
def test_another_user_has_no_cached_package_removed(served):
    """What is listed for root may depend on root's environment, and the call of a stranger knows nothing of that."""
    assert served.fetch("Packages")[0] == 0
    cached = "app-misc/hello-1.0-00000000000000000000.gpkg.tar"
    location = read_settings(served.root, {}).repositories[0].location
    (location / cached).parent.mkdir(parents=True)
    (location / cached).touch()
    assert fetch_as_nobody(served, "Packages")[0] == 0
    assert (location / cached).exists()
    assert f"{cached} is no longer listed" in served.fetch("Packages")[1]


def test_who_calls_is_told_by_the_kernel():
    ours, theirs = pair()
    with ours, theirs:
        assert _caller(ours, "nobody") == Caller(trusted=True, publisher=True)


@root_only
def test_a_stranger_is_neither_trusted_nor_a_publisher(tmp_path):
    def call():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(path))
            connection.recv(1)
        return 0

    tmp_path.chmod(0o755)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        path = Path(folder) / "socket"
        Path(folder).chmod(0o755)
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen()
        pid = os.fork()
        if pid == 0:
            os._exit(as_nobody(call))
        connection, _ = listening.accept()
        with connection:
            assert _caller(connection, "root") == Caller(trusted=False, publisher=False)
            assert _caller(connection, "nosuchuser") == Caller(trusted=False, publisher=False)
            assert _caller(connection, "nobody") == Caller(trusted=False, publisher=True)  # its own group
        os.waitpid(pid, 0)


def test_the_file_of_a_call_is_a_plain_one(tmp_path):
    ours, theirs = pair()
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    with ours, theirs:
        for file in (None, fifo):
            with pytest.raises(RefusedError, match="no plain file"):
                Call(Packets(ours, ""), file, Caller(trusted=True, publisher=True)).plain_file()
    os.close(fifo)


def test_publishing_is_the_same_with_and_without_a_daemon(either, shop, tmp_path):
    shelf = shop.shelves[0]
    torrent = read_torrent(shelf.torrent)
    config = load(Paths(either.root))
    with Swarm(tmp_path / "origin", SwarmSettings("127.0.0.7:0", stall=60)) as origin, shelf.file.open("rb") as file:
        with sharing(config) as share:
            assert share.status().port > 0
            share.seed(torrent, file.fileno(), Address("127.0.0.7", origin.port))
            got = origin.download(torrent, Sources, patience=20.0)
        assert got.file.read_bytes() == shelf.data
        assert {address for address, _ in got.received} == {"127.0.0.2"}


@root_only
def test_a_stranger_cannot_have_files_seeded(here, shop):
    shelf = shop.shelves[0]
    here.write("etc/p2pbin/client.toml", CLIENT.replace("nobody", "daemon"))
    shelf.file.chmod(0o644)

    def call():
        connection = connect(Paths(here.root).socket)
        message = {"do": "seed", "connect": None, "torrent": to_text(shelf.torrent)}
        socket.send_fds(connection, [json.dumps(message).encode()], [file.fileno()])
        told = b""
        while data := connection.recv(10_000):
            told += data
        return 0 if b"may not publish" in told and b'{"exit":2}' in told else 1

    with here.daemon(), shelf.file.open("rb") as file:
        assert as_nobody(call) == 0
        assert daemon_status(Paths(here.root).socket).files == 0


def test_what_cannot_be_seeded_is_said(served, shop, tmp_path):
    torrent = read_torrent(shop.shelves[0].torrent)
    with (
        sharing(load(Paths(served.root))) as share,
        (tmp_path / "false").open("w+b") as file,
        pytest.raises(UnavailableError, match="bytes that its torrent says"),
    ):
        share.seed(torrent, file.fileno(), None)


def test_the_status_of_the_daemon(here):
    path = Paths(here.root).socket
    assert daemon_status(path) is None
    with here.daemon():
        assert daemon_status(path).files == 0


def test_a_daemon_that_is_gone_or_says_nothing_is_unavailable(tmp_path):
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        path = Path(folder) / "socket"
        with pytest.raises(UnavailableError, match="nobody answers"):
            _ThroughDaemon(path).status()
        listening.bind(str(path))
        listening.listen()

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.send(b'{"exit":0}')

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(UnavailableError, match="has not said"):
            _ThroughDaemon(path).status()
        answering.join()


def test_calls_that_are_none_end_quickly_and_do_no_harm(here):
    path = Paths(here.root).socket
    with here.daemon():
        for data in (b"[]", b"{", b'{"do":"dance"}', b'{"do":"fetch","uri":"x","environment":{"LD_PRELOAD":"x"}}', b'{"do":"seed"}'):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.connect(str(path))
                connection.send(data)
                connection.settimeout(20)
                said = connection.recv(10_000)
                assert said == b"" or b'"exit"' in said or b'"say"' in said
        assert here.fetch("Packages") == (0, "")


@root_only
def test_strangers_have_their_share_of_calls_only(served):
    path = str(Paths(served.root).socket)

    def call():
        connections = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(MOST_STRANGERS + 1)]
        for connection in connections:
            connection.settimeout(2)
            connection.connect(path)
        return connections[-1].recv(1) != b""  # turned away at once; the others are being waited for

    assert as_nobody(call) == 0
    assert served.fetch("Packages") == (0, "")


def test_with_no_process_to_spare_a_call_is_turned_away_and_the_daemon_stays(here, monkeypatch, capsys):
    """Another user can fill the table of processes for a moment."""

    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    daemon, path = object.__new__(Daemon), Paths(here.root).socket
    daemon._config, daemon._children, daemon._socket = load(Paths(here.root)), {}, _listen(path)
    with daemon._socket, connect(path) as caller:
        monkeypatch.setattr(os, "fork", fork)
        daemon._accept()
        assert caller.recv(1) == b""
    assert (daemon._children, "Resource temporarily" in capsys.readouterr().err) == ({}, True)


def test_settings_errors_have_a_remedy(here):
    here.write("etc/p2pbin/client.toml", "[nonsense]\n")
    with pytest.raises(SettingsError, match="There are"):
        load(Paths(here.root))


def test_two_packages_at_once(here, shop):
    other = shop.shelve(package_bytes(program=b"#!/bin/sh\n" + os.urandom(100_000)))
    with here.daemon():
        first = here.popen("p2pbin-fetch", f"{here.uri}/{shop.shelves[0].entry.path}", str(here.dest / "one"))
        second = here.popen("p2pbin-fetch", f"{here.uri}/{other.entry.path}", str(here.dest / "two"))
        for process in (first, second):
            with process:
                assert process.wait(60) == 0, process.communicate()[1]
    assert (here.dest / "one").read_bytes() == shop.shelves[0].data
    assert (here.dest / "two").read_bytes() == other.data
