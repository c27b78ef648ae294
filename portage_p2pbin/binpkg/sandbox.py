"""The reading half: read a hostile package in a child that can do nothing else (P9.8).

The child is forked, not executed, since other users may not be able to read the interpreter; so everything it needs is imported
here.  It gives up all that :mod:`portage_p2pbin.binpkg.confinement` takes away, reads the open file it was given, and writes to two
pipes: to the first the manifest or the cleaned package, to the second, as JSON, what else there is to say, or why the package is
refused.

An attacker who takes the child over can answer wrongly for that one file and burn a bounded amount of time and memory.  So the
answer is decoded as strictly as anything else from outside.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import BinaryIO, NoReturn, cast

from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.confinement import Bounds, confine, missing_confinement
from portage_p2pbin.binpkg.contents import DIGEST_PREFIX, Reading, examine
from portage_p2pbin.binpkg.detail import explain
from portage_p2pbin.binpkg.diff import Difference, Kind
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError

__all__ = ["Limits", "clean_sandboxed", "explain_sandboxed", "missing_confinement", "read_sandboxed"]

MOST_GROWTH = 64 << 20
"""Bytes by which cleaning can make a package longer: its metadata may have been compressed better."""

_WHAT = "the package"
_PIECE = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Limits:
    """How much reading one package may take.

    `seconds` on the clock and, for each of the processes, of processor time; `memory` in bytes for each; `answer` in bytes for
    manifest and metadata.
    """

    seconds: int = 1800
    memory: int = 1 << 30
    answer: int = 512 << 20


Work = Callable[[list[BinaryIO], BinaryIO], dict[str, object]]
"""What a child does: read the packages, write to the pipe, and return what it has to say beyond that."""


def read_sandboxed(fd: int, *, limits: Limits = Limits()) -> Reading:
    """Read the package in the open file `fd` from its start, in a confined child.

    Raises what :func:`portage_p2pbin.binpkg.contents.read_package` raises, and :class:`RefusedError` ``P9.8`` where the child
    exceeded `limits`, crashed or answered nonsense.  The position of `fd` changes.  Does not check that the child was honest.
    """
    pieces: list[bytes] = []
    match _work_of_child([fd], _read, pieces.append, limits, limits.answer):
        case {"metadata": dict(metadata), "ebuild_sha256": str(ebuild), "droppings": list(droppings)}:
            texts = [*metadata.values(), *droppings]
            if _SHA256(ebuild) and all(isinstance(value, str) for value in texts):
                manifest = b"".join(pieces)
                return Reading(DIGEST_PREFIX + sha256(manifest).hexdigest(), manifest, metadata, ebuild, tuple(droppings))
    raise _nonsense()


def clean_sandboxed(fd: int, target: BinaryIO, *, prefix: str, limits: Limits = Limits()) -> None:
    """Write the cleaned form of the package in the open file `fd` to `target`.

    The same as :func:`portage_p2pbin.binpkg.cleaning.clean_package` in a confined child, with its errors and those of
    :func:`read_sandboxed`; `target` then holds a part of a package.
    """
    most = os.fstat(fd).st_size + MOST_GROWTH
    if _work_of_child([fd], partial(_clean, prefix=prefix), target.write, limits, most) != {"cleaned": True}:
        raise _nonsense()


def explain_sandboxed(a: int, b: int, *, limits: Limits = Limits()) -> tuple[Difference, ...]:
    """Return what differs between the packages in the open files `a` and `b`, with lines about the insides of files.

    The same as :func:`portage_p2pbin.binpkg.detail.explain` in a confined child, with its errors and those of :func:`read_sandboxed`.
    Every text in it was chosen by whoever made the packages.
    """
    match _work_of_child([a, b], _explain, lambda piece: None, limits, 0):
        case {"differences": list(differences)}:
            return tuple(map(_difference, differences))
    raise _nonsense()


def _difference(said: object) -> Difference:
    match said:
        case [str(path), int(kind), str(detail), list(lines)] if kind in set(Kind) and all(isinstance(line, str) for line in lines):
            return Difference(path, Kind(kind), detail, tuple(lines))
    raise _nonsense()


def _work_of_child(fds: list[int], work: Work, take: Callable[[bytes], object], limits: Limits, most: int) -> object:
    """Do `work` in a confined child, `take` what it writes, at most `most` bytes, and return what it says."""
    body, body_end = os.pipe()
    said, said_end = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _child(fds, body_end, said_end, limits, parent, work)
    os.close(body_end)
    os.close(said_end)
    deadline = time.monotonic() + limits.seconds
    try:
        for piece in _receive(body, deadline, most):
            take(piece)
        return _decode(b"".join(_receive(said, deadline, limits.answer)))
    finally:
        os.close(body)
        os.close(said)
        _end(child)


def _child(fds: list[int], body: int, said: int, limits: Limits, parent: int, work: Work) -> NoReturn:
    """Be the reading half.  Whatever happens, this process ends here and no caller's code runs in it."""
    try:
        os.setsid()
        _keep_only(*fds, body, said)
        confine(Bounds(limits.memory, limits.seconds), parent)
        answer = _answer(fds, body, work)
        with open(said, "wb") as pipe:
            pipe.write(json.dumps(answer).encode("ascii"))
    finally:
        os._exit(0)


def _keep_only(*kept: int) -> None:
    """Close every other file; the standard ones become nothing, unless they are kept."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in {0, 1, 2} - set(kept):
        os.dup2(null, standard)
    start = 3
    for fd in sorted(fd for fd in kept if fd > 2):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _answer(fds: list[int], body: int, work: Work) -> dict[str, object]:
    """Do `work` on the files from their starts, and return what there is to say: its own answer, or why it has none."""
    try:
        with ExitStack() as opened:
            pipe = opened.enter_context(open(body, "wb", buffering=_PIECE))
            files = [opened.enter_context(open(fd, "rb", buffering=0, closefd=False)) for fd in fds]
            for file in files:
                file.seek(0)
            return work([cast(BinaryIO, file) for file in files], pipe)
    except RefusedError as error:
        return {"refused": [error.rule, error.what, error.reason]}
    except UnavailableError as error:
        return {"unavailable": [error.what, error.reason]}
    except MemoryError:
        return {"refused": ["P9.8", _WHAT, "reading it takes too much memory"]}


def _read(files: list[BinaryIO], pipe: BinaryIO) -> dict[str, object]:
    """Write the manifest."""
    findings = examine(files[0])
    pipe.writelines(findings.manifest.lines())
    return {"metadata": dict(findings.metadata), "ebuild_sha256": findings.ebuild_sha256, "droppings": findings.droppings}


def _clean(files: list[BinaryIO], pipe: BinaryIO, *, prefix: str) -> dict[str, object]:
    """Write the cleaned package."""
    clean_package(files[0], pipe, prefix=prefix)
    return {"cleaned": True}


def _explain(files: list[BinaryIO], pipe: BinaryIO) -> dict[str, object]:
    """Say what differs; nothing is written."""
    differences = explain(*files)
    return {"differences": [[found.path, found.kind, found.detail, found.lines] for found in differences]}


def _receive(pipe: int, deadline: float, most: int) -> Iterator[bytes]:
    """Give what the child writes until it closes the pipe."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
        piece = os.read(pipe, _PIECE)
        if not piece:
            return
        most -= len(piece)
        if most < 0:
            raise RefusedError("P9.8", _WHAT, "its manifest, its metadata or what cleaning leaves of it is too large")
        yield piece
    raise RefusedError("P9.8", _WHAT, "reading it takes too much time")


def _end(child: int) -> None:
    """End the child and all that it started: its process group, which nothing in it is able to leave."""
    os.kill(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _nonsense() -> RefusedError:
    return RefusedError("P9.8", _WHAT, "its reader answered nonsense")


def _decode(text: bytes) -> object:
    """Decode what the child says, and raise the error that it tells of."""
    try:
        said: object = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise RefusedError("P9.8", _WHAT, "its reader ended without an answer: it crashed or took too much memory or time") from error
    match said:
        case {"refused": [str(rule), str(what), str(reason)]}:
            raise RefusedError(rule, what, reason)
        case {"unavailable": [str(what), str(reason)]}:
            raise UnavailableError(what, reason)
    return said
