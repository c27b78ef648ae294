"""The reading half: read a hostile package in a child that can do nothing else (P9.8).

The child is forked, not executed, since other users may not be able to read the interpreter; so everything it needs is imported
here.  It gives up all that :mod:`portage_p2pbin.binpkg.confinement` takes away, reads the open file it was given, and writes
one answer to a pipe: manifest and metadata, or why the package is refused.

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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import BinaryIO, NoReturn

from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.confinement import Bounds, confine, missing_confinement
from portage_p2pbin.binpkg.contents import DIGEST_PREFIX, Reading, examine
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError

__all__ = ["Limits", "clean_sandboxed", "missing_confinement", "read_sandboxed"]

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


Work = Callable[[BinaryIO, BinaryIO], dict[str, object]]
"""What a child does: read the package, write to the pipe, and return what it has to say beyond that."""


def read_sandboxed(fd: int, *, limits: Limits = Limits()) -> Reading:
    """Read the package in the open file `fd` from its start, in a confined child.

    Raises what :func:`portage_p2pbin.binpkg.contents.read_package` raises, and :class:`RefusedError` ``P9.8`` where the child
    exceeded `limits`, crashed or answered nonsense.  The position of `fd` changes.  Does not check that the child was honest.
    """
    text = b"".join(_work_of_child(fd, _read, limits, limits.answer))
    end = _end_of_body(text)
    match _said(text[end:]):
        case {"metadata": dict(metadata), "ebuild_sha256": str(ebuild), "droppings": list(droppings)}:
            texts = [*metadata.values(), *droppings]
            if _SHA256(ebuild) and all(isinstance(value, str) for value in texts):
                manifest = text[: end - 1]
                return Reading(DIGEST_PREFIX + sha256(manifest).hexdigest(), manifest, metadata, ebuild, tuple(droppings))
    raise RefusedError("P9.8", _WHAT, "its reader answered nonsense")


def clean_sandboxed(fd: int, target: BinaryIO, *, prefix: str, limits: Limits = Limits()) -> None:
    """Write the cleaned form of the package in the open file `fd` to `target`, which stands at its start, is empty and can be read.

    The same as :func:`portage_p2pbin.binpkg.cleaning.clean_package` in a confined child, with its errors and those of
    :func:`read_sandboxed`; `target` then holds a part of a package.
    """
    most = os.fstat(fd).st_size + MOST_GROWTH
    for piece in _work_of_child(fd, partial(_clean, prefix=prefix), limits, most):
        target.write(piece)
    size = target.tell()
    start = max(0, size - _PIECE)
    target.seek(start)
    tail = target.read()
    end = _end_of_body(tail)
    if _said(tail[end:]) != {"cleaned": True}:
        raise RefusedError("P9.8", _WHAT, "its reader answered nonsense")
    target.truncate(start + end - 1)
    target.seek(0, os.SEEK_END)


def _work_of_child(fd: int, work: Work, limits: Limits, most: int) -> Iterator[bytes]:
    """Do `work` in a confined child and give what it writes, at most `most` bytes."""
    answer, target = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _child(fd, target, limits, parent, work)
    os.close(target)
    try:
        yield from _receive(answer, limits, most)
    finally:
        os.close(answer)
        _end(child)


def _child(fd: int, target: int, limits: Limits, parent: int, work: Work) -> NoReturn:
    """Be the reading half.  Whatever happens, this process ends here and no caller's code runs in it."""
    try:
        os.setsid()
        fd = _keep_only(fd, target)
        confine(Bounds(limits.memory, limits.seconds), parent)
        os.lseek(fd, 0, os.SEEK_SET)
        with open(target, "wb") as pipe:
            _answer(fd, pipe, work)
    finally:
        os._exit(0)


def _keep_only(fd: int, target: int) -> int:
    """Close every file but the package and the pipe, and return the package's descriptor."""
    if fd < 3:
        fd = os.dup(fd)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    low, high = sorted((fd, target))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
    return fd


def _answer(fd: int, pipe: BinaryIO, work: Work) -> None:
    """Give the answer: what `work` writes, then one line of JSON that says the rest, or why there is no more."""
    try:
        with open(fd, "rb", buffering=0, closefd=False) as file:
            said = work(file, pipe)
    except RefusedError as error:
        said = {"refused": [error.rule, error.what, error.reason]}
    except UnavailableError as error:
        said = {"unavailable": [error.what, error.reason]}
    except MemoryError:
        said = {"refused": ["P9.8", _WHAT, "reading it takes too much memory"]}
    pipe.write(b"\n" + json.dumps(said).encode("ascii") + b"\n")


def _read(file: BinaryIO, pipe: BinaryIO) -> dict[str, object]:
    """Write the manifest."""
    findings = examine(file)
    for batch in _batches(findings.manifest.lines()):
        pipe.write(batch)
    return {"metadata": dict(findings.metadata), "ebuild_sha256": findings.ebuild_sha256, "droppings": findings.droppings}


def _clean(file: BinaryIO, pipe: BinaryIO, *, prefix: str) -> dict[str, object]:
    """Write the cleaned package."""
    clean_package(file, pipe, prefix=prefix)
    return {"cleaned": True}


def _batches(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join lines to pieces that are worth a system call."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _receive(answer: int, limits: Limits, most: int) -> Iterator[bytes]:
    """Give what the child writes until it closes the pipe."""
    deadline = time.monotonic() + limits.seconds
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    left = most
    while poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
        piece = os.read(answer, _PIECE)
        if not piece:
            return
        left -= len(piece)
        if left < 0:
            raise RefusedError("P9.8", _WHAT, f"its manifest and metadata have more than {most} bytes")
        yield piece
    raise RefusedError("P9.8", _WHAT, f"reading it takes more than {limits.seconds} seconds")


def _end(child: int) -> None:
    """End the child and all that it started: its process group, which nothing in it is able to leave."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _end_of_body(text: bytes) -> int:
    """Return where the last line begins."""
    return text.rfind(b"\n", 0, -1) + 1


def _said(line: bytes) -> object:
    """Decode the last line of the child's answer, and raise the error that it tells of."""
    try:
        said: object = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise RefusedError("P9.8", _WHAT, "its reader ended without an answer: it crashed or took too much memory or time") from error
    match said:
        case {"refused": [str(rule), str(what), str(reason)]}:
            raise RefusedError(rule, what, reason)
        case {"unavailable": [str(what), str(reason)]}:
            raise UnavailableError(what, reason)
    return said
