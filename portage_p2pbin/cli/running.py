"""From an exception to an exit code and one line on stderr: the same for every command."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from portage_p2pbin.cli.output import standard_error
from portage_p2pbin.kernel.errors import ExitCode, P2pbinError, SettingsError, UnavailableError, printable

_INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended: 128 + SIGINT."""

_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def run(command: Callable[[], ExitCode], *, debug: bool) -> int:
    """Run `command` and return the exit code of the process: that of the command, or of the class of its failure.

    Whatever else comes out is a bug of ours: Python itself ends the process with code 1, and :func:`_report_bug` says so.
    """
    sys.excepthook = _report_bug if not debug else sys.__excepthook__
    try:
        return _sorted(command)
    except P2pbinError as error:
        if debug:
            traceback.print_exc()
        standard_error().error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        standard_error().error("Interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more, as in `p2pbin contents --manifest FILE | head`.  Python must not try to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE


def _sorted(command: Callable[[], ExitCode]) -> ExitCode:
    """Run `command`; what the machine denies it, rights or space, is the operator's to mend and no bug."""
    try:
        return command()
    except OSError as error:
        if error.errno in _NO_RIGHT:
            raise SettingsError(f"{error.filename or 'Something'}: {error.strerror}", "Run the command as root") from error
        if error.errno in _NO_SPACE:
            raise UnavailableError(f"Space for {error.filename or 'a file'}", error.strerror or "none left") from error
        raise


def _report_bug(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Say in one line that this is our fault."""
    del traceback
    said = printable(f"{kind.__name__}: {error}")
    standard_error().error(f"{said}. This is a bug of portage-p2pbin: please report it with what `--debug` prints")
