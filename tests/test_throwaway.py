"""The throwaway Gentoo itself: its repository is the same everywhere, its commands are kept apart, and nothing of it stays."""

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portage_p2pbin.kernel.errors import SettingsError
from tests.throwaway import Gentoo, check_machine, gentoo, machine, missing_programs, repository
from tests.throwaway.gentoo import LONGEST_EPREFIX, CommandError

ORDINARY_USER = 61000
"""A uid that neither Debian, Gentoo nor systemd gives to anybody."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path, as unix sockets need, closed to others, as the one above it is."""
    with tempfile.TemporaryDirectory(prefix="p2pbin-") as closed:
        home = Path(closed, "home")
        home.mkdir(mode=0o700)
        yield home


def source(folder: Path) -> Path:
    """A small upstream release, with a program and a folder."""
    release = folder / "thing-1.0"
    (release / "data").mkdir(parents=True)
    (release / "data/b").write_text("b")
    (release / "a").write_text("a")
    (release / "a").chmod(0o755)
    return release


def alive(pid: str) -> bool:
    """Whether the process still runs, a moment after it was killed.  One that ended and waits for its parent does not."""
    status = Path("/proc", pid.strip(), "status")
    for _ in range(100):
        if not status.exists() or "State:\tZ" in status.read_text():
            return False
        time.sleep(0.01)
    return True


class TestRepository:
    def test_a_distfile_is_the_same_bytes_on_every_machine(self):
        content = repository.distfile(repository.REPOSITORY / "sources/hello-1.0")
        assert hashlib.sha256(content).hexdigest() == "20a188c6acc6c0cff87a1bdba72dd4be0980413c73a47ceb009854fe1a6de636"

    def test_dates_modes_and_owners_of_the_checkout_do_not_matter(self, tmp_path):
        before = repository.distfile(source(tmp_path / "one"))
        other = source(tmp_path / "two")
        for path in [other, *other.rglob("*")]:
            os.utime(path, (0, 0))
        (other / "data/b").chmod(0o600)
        (other / "data").chmod(0o700)
        if os.getuid() == 0:
            os.chown(other / "a", ORDINARY_USER, ORDINARY_USER)
        assert repository.distfile(other) == before

    def test_what_a_source_says_and_what_may_be_run_does_matter(self, tmp_path):
        release = source(tmp_path)
        before = repository.distfile(release)
        (release / "a").chmod(0o644)
        assert repository.distfile(release) != before
        (release / "a").chmod(0o755)
        (release / "data/b").write_text("c")
        assert repository.distfile(release) != before

    def test_each_ebuild_has_its_distfile_and_a_manifest_that_names_it(self, tmp_path):
        repository.lay_out(tmp_path / "repository", tmp_path / "distfiles")
        ebuilds = sorted((tmp_path / "repository").glob("*/*/*.ebuild"))
        assert len(ebuilds) >= 9
        for ebuild in ebuilds:
            content = (tmp_path / "distfiles" / f"{ebuild.stem}.tar").read_bytes()
            line = f"DIST {ebuild.stem}.tar {len(content)} BLAKE2B {hashlib.blake2b(content).hexdigest()} "
            assert line in (ebuild.parent / "Manifest").read_text()

    def test_sources_stay_outside_the_repository_that_portage_sees(self, tmp_path):
        repository.lay_out(tmp_path / "repository", tmp_path / "distfiles")
        assert not (tmp_path / "repository/sources").exists()


class TestMachine:
    def test_this_machine_has_all_it_needs(self):
        check_machine()

    def test_what_is_missing_is_named_with_the_command_to_get_it(self, monkeypatch, tmp_path):
        for program in ("bash", "make", "apt-get"):
            (tmp_path / program).symlink_to("/bin/true")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "scanelf" in missing_programs()
        assert "make" not in missing_programs()
        with pytest.raises(SettingsError) as refused:
            check_machine()
        assert "scanelf" in refused.value.what
        assert refused.value.remedy.startswith("Get it with: apt-get install ")
        assert "pax-utils" in refused.value.remedy

    def test_on_gentoo_the_command_is_emerge(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SettingsError, match=r"emerge --ask --noreplace .*app-misc/pax-utils"):
            check_machine()

    def test_missing_headers_are_noticed_too(self, monkeypatch, tmp_path):
        monkeypatch.setattr(machine, "_LIBC_HEADER", tmp_path / "stdio.h")
        with pytest.raises(SettingsError, match=r"stdio\.h"):
            check_machine()

    def test_a_machine_without_mount_namespaces_is_noticed(self, monkeypatch, tmp_path):
        for program in [*machine._PROGRAMS]:
            (tmp_path / program).symlink_to(shutil.which(program) or "/bin/true")
        (tmp_path / "unshare").unlink()
        (tmp_path / "unshare").symlink_to("/bin/false")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SettingsError, match="mount namespaces"):
            check_machine()

    @pytest.mark.parametrize(("arguments", "code"), [(["check"], 0), ([], 2), (["cheque"], 2)])
    def test_exit_codes_of_the_command(self, arguments, code):
        assert machine.main(arguments) == code


class TestGentoo:
    def test_each_sees_its_own_files_at_the_path_that_all_share(self, home):
        with Gentoo.create(home, "alice") as alice, Gentoo.create(home, "bob") as bob:
            assert alice.eprefix == bob.eprefix
            for gentoo in (alice, bob):
                gentoo.write("home/name", gentoo.name)
            read = ["cat", str(alice.eprefix / "home/name")]
            assert (alice.run(read).output, bob.run(read).output) == ("alice", "bob")

    def test_the_machine_sees_nothing_of_it(self, home):
        mounts = Path("/proc/self/mounts").read_text()
        with Gentoo.create(home, "alice") as alice:
            alice.start(["sleep", "60"])
            alice.run(["touch", str(alice.eprefix / "home/here")])
            assert list(alice.eprefix.iterdir()) == []
            assert Path("/proc/self/mounts").read_text() == mounts
            assert alice.outside(alice.eprefix / "home/here").exists()

    def test_a_command_gets_nothing_of_the_callers_environment(self, home, monkeypatch):
        monkeypatch.setenv("SECRET", "word")
        with Gentoo.create(home, "alice", environment={"TZ": "Asia/Tokyo"}) as alice:
            output = alice.run(["env"], environment={"LANG": "C"}).output.splitlines()
        assert "TZ=Asia/Tokyo" in output
        assert "LANG=C" in output
        assert not [line for line in output if "SECRET" in line]

    def test_commands_of_one_gentoo_meet_at_a_unix_socket(self, home):
        made = "import socket; s = socket.socket(socket.AF_UNIX); "
        listen = made + "s.bind('run/s'); s.listen(); print('ready', flush=True); s.accept()[0].sendall(b'heard')"
        call = made + "s.connect('run/s'); print(s.recv(9))"
        with Gentoo.create(home, "alice") as alice:
            alice.start(["python3", "-c", listen]).wait_for("ready", timeout=30)
            assert "heard" in alice.run(["python3", "-c", call]).output

    def test_an_unwanted_exit_code_raises_with_the_output(self, home):
        with Gentoo.create(home, "alice") as alice:
            with pytest.raises(CommandError, match=r"(?s)ended with 3, not 0.*reason"):
                alice.run(["sh", "-c", "echo reason >&2; exit 3"])
            assert alice.run(["false"], expect=1).code == 1
            assert alice.run(["sh", "-c", "exit 7"], expect=None).code == 7

    def test_a_command_that_does_not_end_is_ended(self, home):
        with Gentoo.create(home, "alice") as alice, pytest.raises(CommandError, match="did not end within"):
            alice.run(["sh", "-c", "sleep 600 & echo $! > home/pid; wait"], timeout=1)
        assert not alive(alice.read("home/pid"))

    def test_a_command_may_leave_a_daemon_behind(self, home):
        with Gentoo.create(home, "alice") as alice:
            finished = alice.run(["sh", "-c", "sleep 5 & echo done"], timeout=4)
        assert finished.output == "done\n"

    def test_daemons_are_stopped_with_their_children_and_their_log_stays(self, home):
        with Gentoo.create(home, "alice") as alice:
            daemon = alice.start(["sh", "-c", "sleep 600 & echo $! > home/child; echo ready; wait"])
            daemon.wait_for("ready", timeout=30)
        assert daemon.process.returncode is not None
        assert not alive(alice.read("home/child"))
        assert daemon.output() == "ready\n"

    def test_a_daemon_may_say_goodbye(self, home):
        with Gentoo.create(home, "alice") as alice:
            daemon = alice.start(["sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"])
            daemon.wait_for("ready", timeout=30)
        assert (daemon.output(), daemon.process.returncode) == ("ready\nbye\n", 5)

    @pytest.mark.parametrize("command", ["echo gone", "echo busy; sleep 60"])
    def test_waiting_for_what_is_never_said_ends(self, home, command):
        with Gentoo.create(home, "alice") as alice, pytest.raises(CommandError, match=r"no 'ready' in the output:\n(gone|busy)"):
            alice.start(["sh", "-c", command]).wait_for("ready", timeout=0.5)

    def test_a_daemon_that_will_not_stop_is_killed(self, home, monkeypatch):
        monkeypatch.setattr(gentoo, "_SECONDS_TO_STOP", 0.1)
        with Gentoo.create(home, "alice") as alice:
            daemon = alice.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            daemon.wait_for("ready", timeout=30)
        assert daemon.process.returncode == -signal.SIGKILL

    def test_a_later_setting_takes_the_place_of_an_earlier_one(self, home):
        with Gentoo.create(home, "alice", settings={"P2PBIN_TRUST": "3", "FEATURES": "splitdebug"}) as alice:
            alice.configure({"P2PBIN_TRUST": "5", "FEATURES": "nostrip -splitdebug"})
            trust, features = alice.run(["portageq", "envvar", "P2PBIN_TRUST", "FEATURES"]).output.splitlines()
        assert trust == "5"
        assert {"nostrip", "buildpkg"} <= set(features.split())
        assert not {"splitdebug", "sandbox"} & set(features.split())

    def test_a_path_too_long_for_sockets_is_refused(self, home):
        with pytest.raises(ValueError, match="sockets"):
            Gentoo.create(home / ("x" * LONGEST_EPREFIX), "alice")

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; for an ordinary user every test here is this one")
    def test_an_ordinary_user_is_root_in_its_own_gentoo_only(self, home):
        with Gentoo.create(home, "alice", user=ORDINARY_USER) as alice:
            assert alice.run(["id", "-u"]).output == "0\n"
            alice.run(["touch", "home/mine"])
            alice.write("etc/deep/ly/mine", "")
            for path in ("home/mine", "etc/deep", "etc/deep/ly/mine", "etc/portage/make.conf"):
                assert alice.outside(path).stat().st_uid == ORDINARY_USER
            assert alice.run(["touch", "/etc/p2pbin-was-here"], expect=1).code == 1
            alice.run(["python3", "-c", "import portage"])
