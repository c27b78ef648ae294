import errno
import subprocess
import sys

import pytest

from portage_p2pbin.cli.running import run
from portage_p2pbin.kernel.errors import DecodeError, ExitCode, RefusedError, SettingsError, UnavailableError


def fails_with(error):
    def command():
        raise error

    return command


@pytest.fixture(autouse=True)
def same_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SettingsError("P2PBIN_TRUST is 'abc'", "Set it"), 2, " * P2PBIN_TRUST is 'abc'. Set it\n"),
        (UnavailableError("server", "nobody answers"), 3, " * server is not available now: nobody answers\n"),
        (RefusedError("P9.7", "hello", "other bytes"), 4, " * hello refused by P9.7: other bytes\n"),
        (DecodeError("P3.1", "vote", "not JSON"), 4, " * vote refused by P3.1: not JSON\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, " * /x: Permission denied. Run the command as root\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 3, " * Space for /x is not available now: No space left on device\n"),
        (KeyboardInterrupt(), 130, " * Interrupted\n"),
    ],
)
def test_each_failure_is_one_line_and_its_code(capsys, error, code, line):
    assert run(fails_with(error), debug=False) == code
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback_too(capsys):
    assert run(fails_with(RefusedError("P9.7", "hello", "other bytes")), debug=True) == 4
    assert "Traceback" in capsys.readouterr().err


def test_what_a_stranger_wrote_cannot_reach_the_terminal(capsys):
    run(fails_with(RefusedError("P9.7", "hello\x1b[2J", "\x07")), debug=False)
    assert "\x1b" not in capsys.readouterr().err


def test_done_is_zero(capsys):
    assert run(lambda: ExitCode.DONE, debug=False) == 0
    assert capsys.readouterr().err == ""


BUG = "from portage_p2pbin.cli.running import run; import sys; sys.exit(run(lambda: 1 // 0, debug={}))"


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_of_ours_asks_for_a_report(debug):
    done = subprocess.run([sys.executable, "-c", BUG.format(debug)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is debug
    assert ("please report it" in done.stderr) is not debug
