"""The server's way to the reading half: a process that was forked before there were threads (P9.8).

:func:`portage_p2pbin.binpkg.sandbox.read_sandboxed` forks without exec, which a process with threads must not do.  So this one,
which has a single thread and no network, forks for it.  It gets open files through a socket and answers with what was read; both
ends of that socket are our own code.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError

_LENGTHS = struct.Struct("!QQ")
"""Before each answer: bytes of its JSON, bytes of its manifest."""


class Reader:
    """The process.  Any thread may ask; one file is read at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def read(self, fd: int) -> Reading:
        """What :func:`read_sandboxed` says of the open file `fd`, and raises."""
        with self._lock:
            try:
                socket.send_fds(self._connection, [b"r"], [fd])
                said, manifest = _receive(self._connection)
            except OSError as error:
                raise UnavailableError("The reading half", "its process has ended; restart the server") from error
        match json.loads(said):
            case {"refused": [rule, what, reason]}:
                raise RefusedError(rule, what, reason)
            case {"unavailable": [what, reason]}:
                raise UnavailableError(what, reason)
            case {"digest": digest, "metadata": metadata, "ebuild": ebuild, "droppings": droppings}:
                return Reading(digest, manifest, metadata, ebuild, tuple(droppings))
        raise UnavailableError("The reading half", "its process answered nonsense; restart the server")


@contextmanager
def reader() -> Iterator[Reader]:
    """Fork the process; it ends with the block.  To be called before any thread is started."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _serve(theirs)
    theirs.close()
    try:
        with ours:
            yield Reader(ours)
    finally:
        os.waitpid(child, 0)


def _serve(connection: socket.socket) -> None:
    """Answer until the other end is closed.  Never returns."""
    try:
        # Signals for the group end the parent, which then closes the socket.
        os.setsid()
        while (received := socket.recv_fds(connection, 1, 1))[0]:
            connection.sendall(_answer(received[1][0]))
    except OSError as error:
        print(f"p2pbin-server: the reading half's process ends: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(0)


def _answer(fd: int) -> bytes:
    manifest = b""
    said: dict[str, object]
    try:
        reading = read_sandboxed(fd)
        manifest = reading.manifest
        said = {
            "digest": reading.digest,
            "metadata": dict(reading.metadata),
            "ebuild": reading.ebuild_sha256,
            "droppings": list(reading.droppings),
        }
    except RefusedError as error:
        said = {"refused": [error.rule, error.what, error.reason]}
    except UnavailableError as error:
        said = {"unavailable": [error.what, error.reason]}
    finally:
        os.close(fd)
    text = json.dumps(said).encode("ascii")
    return _LENGTHS.pack(len(text), len(manifest)) + text + manifest


def _receive(connection: socket.socket) -> tuple[bytes, bytes]:
    text, manifest = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    return _exactly(connection, text), _exactly(connection, manifest)


def _exactly(connection: socket.socket, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = connection.recv(min(size - len(pieces), 1 << 20))
        if not piece:
            raise ConnectionResetError("closed")
        pieces += piece
    return bytes(pieces)
