"""How far a long file is read is said to who watches, and to nobody else."""

import os
import signal
import time

import pytest

from portage_p2pbin.cli import progress as module
from portage_p2pbin.cli.output import Output
from portage_p2pbin.cli.progress import progress
from tests.test_output import Terminal


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(module, "standard_error", lambda: Output(stream, colours=False))
    monkeypatch.setattr(module, "EVERY", 0.01)
    return stream


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a\x1b.gpkg.tar"
    path.write_bytes(bytes(1000))
    with path.open("rb", buffering=0) as file:
        yield file


def wait_for(stream, text):
    deadline = time.monotonic() + 10
    while text not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert text in stream.getvalue()


def test_the_position_of_a_child_is_said_until_the_end(terminal, file):
    with progress(file):
        child = os.fork()
        if child == 0:
            os.read(file.fileno(), 250)
            os._exit(0)
        os.waitpid(child, 0)
        wait_for(terminal, " * a\\x1b.gpkg.tar: 25 % of 1000 bytes read\n")
    said = terminal.getvalue()
    time.sleep(0.05)
    assert terminal.getvalue() == said
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_two_files_and_one_that_is_empty(terminal, file, tmp_path):
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as empty, progress(file, empty):
        wait_for(terminal, "0 % of 1000 bytes read, empty: 0 % of 0 bytes read\n")


def test_a_failure_ends_it(terminal, file):
    with pytest.raises(KeyError), progress(file):
        raise KeyError
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_pipe_is_told_nothing(terminal, file, monkeypatch):
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with progress(file):
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
