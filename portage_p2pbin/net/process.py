"""Start the network half as a process that may do nothing but talk.

It is forked, not executed, since its user may be unable to read the interpreter; libtorrent is loaded in the child only, so that the
gatekeeper, which may be root, never holds it.  Who takes the child over is a user without files, rights or a way back.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from portage_p2pbin.kernel.errors import P2pbinError, SettingsError, UnavailableError
from portage_p2pbin.net.network import Network, kind
from portage_p2pbin.net.packets import Packets, pair
from portage_p2pbin.net.settings import HalfSettings
from portage_p2pbin.rights import is_root

if TYPE_CHECKING:
    from portage_p2pbin.net.half import Half

SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 5.0

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True, slots=True)
class HalfProcess:
    """A running network half.  It ends when the last copy of `control` is closed, or with the process that started it."""

    pid: int
    control: socket.socket
    stall: float

    def connect(self) -> Network:
        """Begin a conversation.  May be called in a forked child of the process that started the half."""
        ours, theirs = pair()
        with theirs:
            try:
                socket.send_fds(self.control, [b"."], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise UnavailableError("The network half", "it has ended; restart p2pbind") from error
        return Network(Packets(ours, "The network half"), self.stall)

    def stop(self) -> None:
        """Let it say goodbye to trackers and end; after some seconds end it."""
        self.control.close()
        deadline = time.monotonic() + SECONDS_TO_STOP
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)


def start_half(settings: HalfSettings, user: str) -> HalfProcess:
    """Fork the network half; if we are root it becomes `user`.

    Raises SettingsError if there is no such user or it cannot reach its folder, UnavailableError if its port is taken.
    """
    account = _account(user) if is_root() else None
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(settings.folder, account.pw_uid, account.pw_gid)
    ours, theirs = pair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_the_half(settings, account, theirs, parent)
    theirs.close()
    half = HalfProcess(pid, ours, settings.swarm.stall)
    _wait_until_ready(half)
    return half


def _account(user: str) -> pwd.struct_passwd:
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise SettingsError(f"There is no user {user!r}", "Create it, or name another in [swarm] user of client.toml") from error
    if account.pw_uid == 0:
        raise SettingsError("[swarm] user is root", "Name a user without rights; no network code runs as root")
    return account


def _wait_until_ready(half: HalfProcess) -> None:
    """Hear whether it has started; it says so, or why not, in one message."""
    try:
        answer, _ = Packets(half.control, "The network half").receive(SECONDS_TO_START)
        with answer.reading():
            kind(answer)
    except P2pbinError:
        half.stop()
        raise


def _be_the_half(settings: HalfSettings, account: pwd.struct_passwd | None, control: socket.socket, parent: int) -> NoReturn:
    """Be the network half until nobody wants it any more.  This process ends here."""
    code = 1
    try:
        # Without the caller's terminal, where it could type commands, and its working directory, which others may not be able to reach.
        os.setsid()
        os.chdir("/")
        _keep_only(control)
        from portage_p2pbin.net.half import Half

        _give_up_rights(account, parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        half = _announced(lambda: Half(settings), Packets(control, "The gatekeeper"))
        half.start()
        half.serve(control)
        half.close()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _announced(make: Callable[[], Half], connection: Packets) -> Half:
    """Make the half and say so, or say why not."""
    try:
        half = make()
    except (UnavailableError, OSError) as error:
        what, reason = (error.what, error.reason) if isinstance(error, UnavailableError) else ("The network half", str(error))
        connection.send({"is": "unavailable", "reason": reason[:1000], "what": what[:500]})
        os._exit(0)
    connection.send({"is": "ready"})
    return half


def _keep_only(control: socket.socket) -> None:
    """Close what the parent had open, but for the connection and stderr, where messages for the operator go."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if os.isatty(2):
        os.dup2(_terminal_to_write_to(null), 2)
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    # Where the parent's was another file, its number may soon be that of a connection.
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _terminal_to_write_to(otherwise: int) -> int:
    """The terminal behind stderr, which is usually open for reading too: what is typed there, passwords included, is not for us."""
    try:
        return os.open(os.ttyname(2), os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return otherwise


def _give_up_rights(account: pwd.struct_passwd | None, parent: int) -> None:
    """Become `account`, for good; leave no core; end with the parent."""
    if account is not None:
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    # Root of a user namespace without others stays who it is, in a namespace where that is nobody.
    if os.geteuid() == 0 and libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    # After the change of user, which resets the first one.
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGTERM), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone")
