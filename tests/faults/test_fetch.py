"""Fetches that are stopped at any moment: DEST is whole or not there, and the next call succeeds (P9.9)."""

import os
import signal
import time

import pytest

from portage_p2pbin.net.settings import SwarmSettings
from portage_p2pbin.net.swarm import Swarm
from tests.machine import machine
from tests.shop import Shop, package_bytes


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A server whose origin takes about two seconds for a package."""
    base = tmp_path_factory.mktemp("shop")
    with Shop(base) as shop:
        shop.origin.close()
        shop.origin = Swarm(base / "slow", SwarmSettings("127.0.0.1:0", stall=30, upload=150_000))
        yield shop


@pytest.fixture
def here(shop):
    with machine(shop) as one:
        shop.shelves.clear()
        shop.shelve(package_bytes(program=os.urandom(300_000)))
        yield one


def start(here, shop):
    return here.popen("p2pbin-fetch", f"{here.uri}/{shop.shelves[0].entry.path}", str(here.dest / "package"))


def wait_for(happened, seconds=30):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(here):
    return {one.name for one in here.dest.iterdir()}


def moments(here):
    """Conditions at which a fetch is stopped: before it began, and with more and more of its file there."""
    temporary = here.dest / ".package.p2pbin"
    swarm = here.root / "var/cache/p2pbin/swarm"
    return (
        lambda: True,
        temporary.exists,
        lambda: any(one.stat().st_size for one in swarm.glob("*/*.gpkg.tar")),
        lambda: temporary.exists() and temporary.stat().st_size > 0,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_fetch_leaves_no_half_file_and_the_next_one_succeeds(here, shop, how):
    with here.daemon():
        for moment in moments(here):
            with start(here, shop) as process:
                wait_for(lambda moment=moment, process=process: moment() or process.poll() is not None)
                process.send_signal(how)
            assert names(here) <= {".package.p2pbin", "package"}
            if "package" in names(here):
                assert (here.dest / "package").read_bytes() == shop.shelves[0].data
                (here.dest / "package").unlink()
        assert here.fetch(shop.shelves[0].entry.path, "package")[0] == 0
        assert names(here) == {"package"}
        assert (here.dest / "package").read_bytes() == shop.shelves[0].data
        assert here.fetch("Packages")[0] == 0
        assert shop.shelves[0].entry.path in (here.dest / "answer").read_text()  # being stopped is no refusal


def test_without_a_daemon_everything_ends_with_the_call(here, shop):
    with start(here, shop) as process:
        wait_for(moments(here)[2])
        process.kill()
    wait_for(lambda: not our_processes(here))
    assert names(here) <= {".package.p2pbin"}
    code, said = here.fetch(shop.shelves[0].entry.path, "package")
    assert code == 0, said
    assert names(here) == {"package"}


def our_processes(here):
    """Processes with this Gentoo in their environment."""
    found = []
    for one in os.listdir("/proc"):  # noqa: PTH208
        try:
            with open(f"/proc/{one}/environ", "rb") as file:  # noqa: PTH123
                if f"EPREFIX={here.root}\0".encode() in file.read():
                    found.append(one)
        except OSError:
            continue
    return found


def test_a_daemon_that_is_killed_takes_the_call_with_it_and_a_new_one_goes_on(here, shop):
    with here.daemon() as daemon:
        with start(here, shop) as process:
            wait_for(moments(here)[2])
            daemon.terminate()
            _, said = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "run the command again" in said
    assert names(here) == set()
    with here.daemon():
        assert here.fetch(shop.shelves[0].entry.path, "package")[0] == 0
    assert (here.dest / "package").read_bytes() == shop.shelves[0].data


def test_a_daemon_that_was_killed_hard_is_replaced(here, shop):
    with here.daemon() as daemon:
        daemon.kill()
        daemon.wait()
        assert (here.root / "run/p2pbin/p2pbind.sock").exists()
        assert here.fetch(shop.shelves[0].entry.path, "package")[0] == 0  # without one
    wait_for(lambda: not our_processes(here))
    (here.root / "run/p2pbin/p2pbind.sock").unlink()
    with here.daemon():
        assert here.fetch("Packages") == (0, "")


def test_a_full_disk_is_unavailable_and_leaves_nothing(here, shop, monkeypatch):
    import resource

    with here.daemon():
        pass
    code = None
    pid = os.fork()
    if pid == 0:
        from portage_p2pbin.cli import fetch

        code = 99
        try:
            os.environ["EPREFIX"] = str(here.root)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            code = fetch.main([f"{here.uri}/{shop.shelves[0].entry.path}", str(here.dest / "package")])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert names(here) == set()
