"""The gatekeeper's end of the network half: start it, ask it, believe nothing that it says.

The half may have been taken over by a peer or a server.  Its answers are bounded, decoded strictly and waited for a bounded time;
files that it hands over are open descriptors, so it names no path to root.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Entry
from portage_p2pbin.kernel.model import Address, InfoHash, Sha256
from portage_p2pbin.kernel.torrent import Torrent
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.net.packets import Packets, to_text

SLOWEST = 16 * 1024
"""Bytes a second that a document must come with, or its wait is over: 64 MiB then take at most an hour."""

MOST_ADDRESSES = 50

MOST_POSTED = 4 * 1024 * 1024
"""Bytes of one request: the envelope of a vote has at most 2 MiB, a registration half of that."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that the network half says is whole: an open descriptor, which is the caller's to close.

    Where the bytes came from is what the half says: from `peers` by address, the `origin`, plain `http`.  `banned` are addresses
    that sent other bytes.
    """

    file: int
    peers: Mapping[str, int]
    origin: int
    http: int
    banned: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class HalfStatus:
    """What the network half is doing: files and bytes that it holds for others, and bytes sent to who is connected now."""

    port: int
    files: int
    bytes: int
    sent: int

    def as_json(self) -> dict[str, object]:
        """As it travels in a message."""
        return {"bytes": self.bytes, "files": self.files, "port": self.port, "sent": self.sent}


def read_status(fields: Fields) -> HalfStatus:
    """Read what :meth:`HalfStatus.as_json` has made.  Raises DecodeError."""
    return HalfStatus(fields.number("port", 1, 65535), fields.number("files"), fields.number("bytes"), fields.number("sent"))


class Network:
    """One conversation with the network half.  `stall`: seconds without progress after which it is over."""

    def __init__(self, connection: Packets, stall: float) -> None:
        self._connection = connection
        self._stall = stall

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.__exit__(kind, error, trace)

    def find(self, url: str, most: int) -> bytes | None:
        """The body at `url`, at most `most` bytes, or None if the server says there is none.

        Raises UnavailableError if nobody answers and RefusedError (P9.2) for a body that is too large.
        """
        answer, file = self._connection.ask({"do": "get", "most": most, "url": url}, 2 * self._stall + most / SLOWEST)
        with _closing(file), answer.reading():
            if kind(answer) == "missing":
                return None
            return _read_all(file, most, url)

    def get(self, url: str, most: int) -> bytes:
        """As :meth:`find`, but raises UnavailableError if there is none."""
        found = self.find(url, most)
        if found is None:
            raise UnavailableError(url, "the server has no such file")
        return found

    def post(self, url: str, body: bytes, most: int) -> bytes:
        """The body, at most `most` bytes, of the answer to `body`.

        Raises UnavailableError if nobody answers, and RefusedError as the server says or for an answer that is too large.
        """
        if len(body) > MOST_POSTED:
            raise RefusedError("P3.1", url, f"{len(body)} bytes were to be sent there, more than the {MOST_POSTED} allowed")
        with memory_file(body) as sent:
            asked = {"do": "post", "most": most, "url": url}
            answer, file = self._connection.ask(asked, 2 * self._stall + (len(body) + most) / SLOWEST, sent.fileno())
        with _closing(file), answer.reading():
            kind(answer)
            return _read_all(file, most, url)

    def download(self, server: str, entry: Entry, on_progress: Callable[[int, int], None]) -> Finished:
        """The file of `entry`, whatever its bytes are (P9.5, P9.6).

        `on_progress` is called with bytes so far and the number of peers.  Raises UnavailableError if nobody sends it, and
        RefusedError (P9.5) for another torrent than the listed one.
        """
        asked = {"file": entry.file, "infoHash": entry.info_hash, "name": entry.name, "server": server, "size": entry.size}
        self._connection.send({"do": "download", **asked})
        done, moved = -1, time.monotonic()
        while True:
            answer, file = self._connection.receive(2 * self._stall)
            with _closing(file), answer.reading():
                if kind(answer) == "finished":
                    return _read_finished(answer, file)
                now, peers = answer.number("done", 0, entry.size), answer.number("peers", 0, 100_000)
            if now > done:
                done, moved = now, time.monotonic()
            elif time.monotonic() - moved > 2 * self._stall:
                raise UnavailableError(str(entry.cpv), f"nothing has come for {2 * self._stall:.0f} seconds")
            on_progress(now, peers)

    def count(self, server: str, file: Sha256) -> None:
        """Tell the server that one more machine has downloaded `file` (P9.10).  Raises UnavailableError."""
        self._simple({"do": "count", "file": file, "server": server})

    def seed(self, torrent: Torrent, file: int, connect: Address | None) -> None:
        """Have a copy of the open `file` seeded, and connect out to a peer that is to have it.  Raises UnavailableError."""
        peer = None if connect is None else [connect.host, connect.port]
        self._simple({"connect": peer, "do": "seed", "torrent": to_text(torrent.data)}, file)

    def forget(self, info_hash: InfoHash) -> None:
        """Have a file neither kept nor seeded any longer."""
        self._simple({"do": "forget", "infoHash": info_hash})

    def status(self) -> HalfStatus:
        """What it is doing."""
        answer, file = self._connection.ask({"do": "status"}, self._stall)
        with _closing(file), answer.reading():
            kind(answer)
            return read_status(answer)

    def _simple(self, message: Mapping[str, object], file: int | None = None) -> None:
        answer, extra = self._connection.ask(message, 2 * self._stall, file)
        with _closing(extra), answer.reading():
            kind(answer)


@contextmanager
def memory_file(body: bytes) -> Iterator[BinaryIO]:
    """A file in memory that stands at its start and holds `body`."""
    with os.fdopen(os.memfd_create("body"), "w+b") as file:
        file.write(body)
        file.seek(0)
        yield file


@contextmanager
def _closing(file: int | None) -> Iterator[None]:
    """Close a descriptor that came with an answer, whatever is done with it."""
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def kind(answer: Fields) -> str:
    """What kind of answer it is.  Raises what the half says went wrong there."""
    found = answer.text("is", 20)
    if found == "unavailable":
        raise UnavailableError(answer.text("what", 500), answer.text("reason", 1000))
    if found == "refused":
        raise RefusedError(answer.text("rule", 20), answer.text("what", 500), answer.text("reason", 1000))
    return found


def _read_all(file: int | None, most: int, url: str) -> bytes:
    """All that is in `file`, a plain one of at most `most` bytes."""
    if file is None or not stat.S_ISREG(os.fstat(file).st_mode):
        raise DecodeError("P9", url, "no plain file came with the answer")
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        body = stream.read(most + 1)
    if len(body) > most:
        raise RefusedError("P9.2", url, f"it has more than the {most} bytes allowed")
    return body


def _read_finished(answer: Fields, file: int | None) -> Finished:
    if file is None or not stat.S_ISREG(os.fstat(file).st_mode):
        raise answer.error("no plain file came along")
    return Finished(
        peers=dict(_read_peer(one) for one in answer.many("peers", MOST_ADDRESSES)),
        origin=answer.number("origin"),
        http=answer.number("http"),
        banned=answer.texts("banned", _address, MOST_ADDRESSES, 50),
        seconds=answer.number("milliseconds") / 1000,
        file=os.dup(file),
    )


def _read_peer(fields: Fields) -> tuple[str, int]:
    with fields.reading():
        return fields.of("address", _address, 50), fields.number("bytes")


def _address(text: str) -> str:
    """A numeric address, so that nothing else is shown on a terminal.  Raises ValueError."""
    return str(ipaddress.ip_address(text))
