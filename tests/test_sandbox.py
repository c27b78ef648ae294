"""The reading half: it says what a plain reader says, and can do nothing else (P9.8)."""

from __future__ import annotations

import ctypes
import io
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from portage_p2pbin.binpkg import confinement, sandbox
from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.sandbox import Limits, clean_sandboxed, missing_confinement, read_sandboxed
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from tests.handmade import PACKAGE, member, with_image, with_metadata

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root has privileges to drop")


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "hello-1-1.gpkg.tar"
    path.write_bytes(PACKAGE.bytes())
    with path.open("rb") as file:
        yield file.fileno()


def doing(monkeypatch, action):
    """Make the child do `action` in place of reading, and answer with what it returns as the name of a dropping."""

    def work(files, pipe):
        return {"metadata": {}, "ebuild_sha256": "0" * 64, "droppings": [str(action())]}

    monkeypatch.setattr(sandbox, "_read", work)


def outcome(monkeypatch, package, action):
    """What `action` comes to inside the child: its result, or the name of the error that it meets."""

    def tried():
        try:
            return action()
        except OSError as error:
            return type(error).__name__

    doing(monkeypatch, tried)
    return read_sandboxed(package).droppings[0]


def test_it_says_what_a_plain_reader_says(package):
    assert read_sandboxed(package) == read_package(PACKAGE.file())


def test_it_reads_from_the_start_wherever_the_file_stands(package):
    os.lseek(package, 100, os.SEEK_SET)
    assert read_sandboxed(package) == read_package(PACKAGE.file())


def test_it_unpacks_with_the_programs_of_the_machine(tmp_path):

    image = subprocess.run(["zstd", "-c"], input=PACKAGE.image, capture_output=True, check=True).stdout
    path = tmp_path / "p"
    path.write_bytes(PACKAGE.but(image=image, image_name="image.tar.zst").bytes())
    with path.open("rb") as file:
        assert read_sandboxed(file.fileno()).digest == read_package(PACKAGE.file()).digest


def test_it_cleans_what_a_plain_cleaner_cleans(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(with_metadata(FEATURES=b"sandbox\n").bytes())
    plain, confined = io.BytesIO(), io.BytesIO()
    clean_package(with_metadata(FEATURES=b"sandbox\n").file(), plain, prefix="hello-1-2")
    with path.open("rb") as file:
        clean_sandboxed(file.fileno(), confined, prefix="hello-1-2")
    assert confined.getvalue() == plain.getvalue()


def test_a_refusal_is_the_same_as_outside(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(with_image(member("image/usr/hello")).bytes())
    with path.open("rb") as file, pytest.raises(RefusedError) as refused:
        read_sandboxed(file.fileno())
    assert (refused.value.rule, refused.value.what, refused.value.reason) == ("P2.2", "image/usr/hello", "it is there twice")


def test_a_missing_program_is_no_refusal(package, monkeypatch):
    def absent(files, pipe):
        raise UnavailableError("image.tar.lzo", "the program lzop is not installed")

    monkeypatch.setattr(sandbox, "_read", absent)
    with pytest.raises(UnavailableError, match="lzop"):
        read_sandboxed(package)


# What the child cannot do ---------------------------------------------------------------------------------------------------------


@needs_root
def test_it_is_nobody(monkeypatch, package):
    assert outcome(monkeypatch, package, lambda: (os.getresuid(), os.getresgid(), os.getgroups())) == str(((65534,) * 3, (65534,) * 3, []))


def test_it_gains_no_privileges(monkeypatch, package):
    status = outcome(monkeypatch, package, lambda: ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))
    assert status == "1"


def test_it_has_no_network(monkeypatch, package):
    assert outcome(monkeypatch, package, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) == "PermissionError"
    assert outcome(monkeypatch, package, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) == "PermissionError"


@needs_root
def test_it_is_in_a_network_of_its_own(monkeypatch, package):
    ours = Path("/proc/self/ns/net").stat().st_ino
    assert outcome(monkeypatch, package, lambda: Path("/proc/self/ns/net").stat().st_ino) != str(ours)


def test_it_opens_no_file_for_writing(monkeypatch, package):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        target = Path(folder, "x")
        assert outcome(monkeypatch, package, lambda: target.write_bytes(b"x")) == "PermissionError"
        assert not target.exists()


def test_it_grows_no_file_that_is_open(monkeypatch, package, tmp_path):
    with (tmp_path / "x").open("w+b") as file:
        monkeypatch.setattr(sandbox, "_keep_only", lambda *kept: None)
        assert outcome(monkeypatch, package, lambda: os.write(file.fileno(), b"x")) == "OSError"


def test_it_reads_nothing_but_programs(monkeypatch, package):
    assert outcome(monkeypatch, package, lambda: Path("/etc/passwd").read_bytes()) == "PermissionError"
    assert outcome(monkeypatch, package, lambda: list(Path("/proc").iterdir())) == "PermissionError"
    assert outcome(monkeypatch, package, lambda: bool(Path("/usr/bin/env").read_bytes())) == "True"


def test_it_has_no_other_open_file(monkeypatch, package, tmp_path):
    with (tmp_path / "secret").open("w") as secret:
        assert outcome(monkeypatch, package, lambda: os.fstat(secret.fileno())) == "OSError"


def test_its_standard_files_are_nothing(monkeypatch, package):
    null = Path("/dev/null").stat().st_rdev
    assert outcome(monkeypatch, package, lambda: [os.fstat(fd).st_rdev for fd in range(3)]) == str([null] * 3)


def test_it_does_not_leave_its_process_group(monkeypatch, package):
    assert outcome(monkeypatch, package, os.setsid) == "PermissionError"
    assert outcome(monkeypatch, package, lambda: os.setpgid(0, 0)) == "PermissionError"


def test_it_sends_no_signal(monkeypatch, package):
    assert outcome(monkeypatch, package, lambda: os.kill(os.getppid(), 0)) == "PermissionError"


# What it may use ------------------------------------------------------------------------------------------------------------------


def refusal_of(package, **limits) -> str:
    with pytest.raises(RefusedError) as refused:
        read_sandboxed(package, limits=Limits(**limits))
    assert refused.value.rule == "P9.8"
    return refused.value.reason


def test_too_much_memory(monkeypatch, package):
    doing(monkeypatch, lambda: bytearray(200 << 20))
    assert "memory" in refusal_of(package, memory=100 << 20)


def test_too_much_time(monkeypatch, package):
    doing(monkeypatch, lambda: time.sleep(60))
    started = time.monotonic()
    assert "time" in refusal_of(package, seconds=1)
    assert time.monotonic() - started < 30


def test_too_long_an_answer(package):
    assert "too large" in refusal_of(package, answer=10)


def test_a_crash(monkeypatch, package):
    doing(monkeypatch, lambda: os.abort())
    assert "without an answer" in refusal_of(package)


def test_a_bug(monkeypatch, package):
    doing(monkeypatch, lambda: 1 // 0)
    assert "without an answer" in refusal_of(package)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"metadata": [], "ebuild_sha256": "0" * 64, "droppings": []},
        {"metadata": {"A": 1}, "ebuild_sha256": "0" * 64, "droppings": []},
        {"metadata": {}, "ebuild_sha256": "0" * 63, "droppings": []},
        {"metadata": {}, "ebuild_sha256": "0" * 64, "droppings": [1]},
        {"refused": ["P2.2", 1, "x"]},
    ],
)
def test_nonsense(monkeypatch, package, said):
    monkeypatch.setattr(sandbox, "_read", lambda files, pipe: said)
    assert "nonsense" in refusal_of(package)


def test_nonsense_about_cleaning(monkeypatch, package):
    monkeypatch.setattr(sandbox, "_clean", lambda files, pipe, *, prefix: {"cleaned": False})
    with pytest.raises(RefusedError, match="nonsense"):
        clean_sandboxed(package, io.BytesIO(), prefix="hello-1")


def test_json_that_is_too_deep(monkeypatch, package):
    monkeypatch.setattr(sandbox.json, "dumps", lambda said: "[" * 100_000)
    assert "without an answer" in refusal_of(package)


def test_the_digest_is_that_of_the_manifest_and_not_what_the_child_says(monkeypatch, package):
    def liar(files, pipe):
        pipe.write(b"#mtree\n")
        return {"metadata": {}, "ebuild_sha256": "0" * 64, "droppings": [], "digest": "p2pbin-contents-1:" + "0" * 64}

    monkeypatch.setattr(sandbox, "_read", liar)
    reading = read_sandboxed(package)
    assert reading.manifest == b"#mtree\n"
    assert reading.digest.startswith("p2pbin-contents-1:952e")


def test_nothing_is_left_behind(monkeypatch, package):
    files, threads = list(Path("/proc/self/fd").iterdir()), threading.active_count()
    doing(monkeypatch, lambda: (os.fork(), time.sleep(60)))
    refusal_of(package, seconds=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(files)
    assert threading.active_count() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_this_kernel_lacks_nothing_or_says_what():
    assert all(sentence.endswith(".") for sentence in missing_confinement())


def test_a_kernel_that_lacks_everything_says_so(monkeypatch):
    monkeypatch.setattr(confinement, "_landlock_version", lambda: 0)
    monkeypatch.setattr(confinement, "_has_filter", lambda: False)
    assert [sentence.split(":")[0].split(" on ")[0] for sentence in missing_confinement()] == [
        "This kernel has no Landlock",
        "No system call filter for this kernel",
    ]
    monkeypatch.setattr(confinement, "_landlock_version", lambda: 5)
    assert "older than version 6" in missing_confinement()[0]


def test_packages_are_read_on_a_kernel_that_lacks_everything(monkeypatch, package):
    monkeypatch.setattr(confinement, "_landlock_version", lambda: 0)
    monkeypatch.setattr(confinement, "_has_filter", lambda: False)
    monkeypatch.setattr(confinement, "_leave_network", lambda: None)
    assert read_sandboxed(package) == read_package(PACKAGE.file())


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_older_versions_of_landlock(monkeypatch, package, version):
    if confinement._landlock_version() < version:
        pytest.skip("this kernel's Landlock is older")
    monkeypatch.setattr(confinement, "_landlock_version", lambda: version)
    assert outcome(monkeypatch, package, lambda: Path("/etc/passwd").read_bytes()) == "PermissionError"


@needs_root
def test_an_ordinary_user_is_confined_as_well(monkeypatch, package):
    """In a process of its own that has become an ordinary user."""

    def tried():
        os.setgroups([])
        os.setresgid(12345, 12345, 12345)
        os.setresuid(12345, 12345, 12345)
        right = read_sandboxed(package) == read_package(PACKAGE.file())
        network = outcome(monkeypatch, package, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        files = outcome(monkeypatch, package, lambda: Path("/etc/passwd").read_bytes())
        return f"{right} {network} {files}"

    answer, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(end, tried().encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(end)
    assert os.read(answer, 1000) == b"True PermissionError PermissionError"
    os.close(answer)


def test_it_dies_with_its_parent():
    with pytest.raises(ProcessLookupError, match="parent is gone"):
        child_of_nobody()


def child_of_nobody():
    answer, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confinement.confine(confinement.Bounds(1 << 30, 10), parent=1)
        except ProcessLookupError:
            os.write(end, b"gone")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(end)
    said = os.read(answer, 10)
    os.close(answer)
    if said == b"gone":
        raise ProcessLookupError("the parent is gone")


def test_a_bolt_that_does_not_close_keeps_the_package_unread(monkeypatch, package):
    monkeypatch.setattr(confinement, "_LANDLOCK_RESTRICT_SELF", 4000)
    assert "without an answer" in refusal_of(package)
