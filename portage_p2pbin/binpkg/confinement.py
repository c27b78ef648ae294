"""What the reading half gives up before it looks at a hostile byte.

:func:`confine` takes from the calling process, for good and for all that it starts: its privileges, the network, every file but
those that programs are made of, and all but a bounded amount of memory and processor time.  Whoever takes over the process
afterwards can compute, and write to the pipe that it already has.  Some of the bolts hold each other's place: where a kernel
lacks one, :func:`missing_confinement` says so.

Linux only.  System calls that Python has no name for are made through :mod:`ctypes`; sources: ``linux/landlock.h``,
``linux/seccomp.h``, ``linux/audit.h``, ``asm/unistd_64.h`` and ``asm-generic/unistd.h`` of Linux 6.12.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
import stat
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portage_p2pbin.rights import is_root

READABLE = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", sys.base_prefix)
"""Where decompressors and their libraries are; in a Gentoo Prefix that is where Python is.  Nothing secret belongs there, and nothing
else can be opened.
"""

UNPRIVILEGED = "nobody"
"""Whom root becomes.  Every Linux system has this user, and no file belongs to it."""

MOST_FILES = 32
"""Open files: a handful are needed."""

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_PATH_BENEATH = 1, 1
_FOLDER_ACCESSES, _FILE_ACCESSES = 0b1101, 0b0100
"""Execute, read files and read folders; read a file."""

_FS_ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of file access each version of Landlock handles; later versions handle as many as the last."""

_NET_ACCESSES, _SCOPES = 0b11, 0b11
"""Bind and connect TCP (version 4); abstract unix sockets and signals (version 6)."""

_SECCOMP_MODE_FILTER = 2
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 1
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_LARGEST_CALL = 0x3FFFFFFF
"""Above it lies the x32 interface, whose calls are numbered anew."""

_GENERIC_CALLS = (39, 40, 41, 51, 97, 104, 105, 117, 154, 157, 198, 199, 200, 203, 217, 218, 219, 241, 268, 270, 271, 273, 280, 282, 425)
_X86_64_CALLS = (166, 165, 155, 161, 272, 246, 175, 101, 109, 112, 41, 53, 49, 42, 248, 249, 250, 298, 308, 310, 311, 313, 321, 323, 425)
_DENIED_CALLS = {"x86_64": (0xC000003E, _X86_64_CALLS), "aarch64": (0xC00000B7, _GENERIC_CALLS), "riscv64": (0xC00000F3, _GENERIC_CALLS)}
"""For each machine its ``AUDIT_ARCH`` and the numbers of: umount2, mount, pivot_root, chroot, unshare, kexec_load, init_module,
ptrace, setpgid, setsid, socket, socketpair, bind, connect, add_key, request_key, keyctl, perf_event_open, setns,
process_vm_readv, process_vm_writev, finit_module, bpf, userfaultfd, io_uring_setup.  Without setpgid and setsid nothing that is
started escapes the killing of the group."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a confined process may use: bytes of memory beyond what it has, and seconds of processor time."""

    memory: int
    cpu_seconds: int


def confine(bounds: Bounds, parent: int) -> None:
    """Give up everything but computing, for good.  `parent` is the process with whose death this one dies.

    Raises :class:`OSError` where a step fails that this kernel is able to do; the process must not go on then.
    """
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone")
    _leave_network()
    _limit(bounds)
    _drop_privileges()
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _landlock_version():
        _close_files(_landlock_version())
    if _has_filter():
        _deny_calls(*_DENIED_CALLS[os.uname().machine])


def missing_confinement() -> tuple[str, ...]:
    """Return what this kernel lacks for :func:`confine`, one sentence each; empty where it has everything."""
    missing = []
    if not _landlock_version():
        missing.append("This kernel has no Landlock: the reading half can read files that everybody can read.")
    elif _landlock_version() < 6:
        missing.append("This kernel's Landlock is older than version 6: the reading half can send signals to processes of its user.")
    if not _has_filter():
        missing.append(f"No system call filter for this kernel on {os.uname().machine}: the reading half can try its rarer calls.")
    return tuple(missing)


def _has_filter() -> bool:
    """Say whether the kernel can filter system calls, and we know their numbers on this machine."""
    return os.uname().machine in _DENIED_CALLS and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


def _leave_network() -> None:
    """Enter an empty network namespace: as root, or in a user namespace of one's own.  Where the kernel forbids that, the other
    bolts against the network hold.
    """
    flags = _CLONE_NEWNET if is_root() else _CLONE_NEWNET | _CLONE_NEWUSER
    _libc.unshare(flags)


def _limit(bounds: Bounds) -> None:
    has = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, has + bounds.memory),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _drop_privileges() -> None:
    if not is_root():
        return
    user = pwd.getpwnam(UNPRIVILEGED)
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def _landlock_version() -> int:
    """Return the version of Landlock that the kernel has, 0 for none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)))


def _close_files(version: int) -> None:
    """Forbid to open anything but what lies below :data:`READABLE`, TCP, and signals to others."""
    accesses = (1 << _FS_ACCESSES.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", accesses, _NET_ACCESSES, _SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _call(_libc.syscall, _LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path in READABLE:
        with suppress(FileNotFoundError, PermissionError):
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            accesses = _FOLDER_ACCESSES if stat.S_ISDIR(os.fstat(opened).st_mode) else _FILE_ACCESSES
            _call(_libc.syscall, _LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH_BENEATH, struct.pack("=Qi", accesses, opened), 0)
            os.close(opened)
    _call(_libc.syscall, _LANDLOCK_RESTRICT_SELF, rules, 0)
    os.close(rules)


def _deny_calls(architecture: int, denied: tuple[int, ...]) -> None:
    """Make the `denied` system calls, and all of another architecture, fail with EPERM."""
    count = len(denied)
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_IF_EQUAL, 0, count + 3, architecture),
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_GREATER, count + 1, 0, _LARGEST_CALL),
    ]
    program += [(_JUMP_IF_EQUAL, count - at, 0, call) for at, call in enumerate(denied)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _call(_libc.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)


def _call(function: ctypes._NamedFuncPointer, *arguments: object) -> int:
    result = int(function(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
