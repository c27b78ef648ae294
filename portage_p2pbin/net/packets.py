"""Messages between our own processes: one JSON object a packet, sometimes with an open file.

Each side may have been taken over by whatever it reads, so neither believes the other: packets are bounded, decoded strictly, and
a file that comes along is closed when nobody asked for it.  Sequenced packets keep their borders, so there is no stream to cut.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from portage_p2pbin.kernel.errors import DecodeError, UnavailableError
from portage_p2pbin.kernel.wire import Fields, canonical, decode

MOST_PACKET = 128 * 1024
"""Bytes of one message: a torrent of 64 KiB in base64 fits, and the kernel's buffer holds it."""


class Packets:
    """One end of a connection.  Not for two threads at once."""

    def __init__(self, connection: socket.socket, what: str) -> None:
        """`what` names the other side in errors."""
        self._connection = connection
        self._what = what

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._connection.fileno()

    def send(self, message: Mapping[str, object], file: int | None = None) -> None:
        """Send a message, and a copy of the descriptor `file` with it.  Raises UnavailableError if the other side is gone."""
        try:
            socket.send_fds(self._connection, [canonical(message)], [] if file is None else [file])
        except (OSError, ValueError) as error:
            raise UnavailableError(self._what, f"it cannot be told anything: {error}") from error

    def receive(self, seconds: float | None) -> tuple[Fields, int | None]:
        """The next message, and the file that came with it, which is now the caller's to close.

        Waits at most `seconds`.  Raises UnavailableError if nothing comes or the other side is gone, and DecodeError.
        """
        self._connection.settimeout(seconds)
        try:
            data, files, flags, _ = socket.recv_fds(self._connection, MOST_PACKET, 4)
        except TimeoutError as error:
            raise UnavailableError(self._what, f"it has not answered for {seconds:.0f} seconds") from error
        except OSError as error:
            raise UnavailableError(self._what, f"it cannot be heard: {error}") from error
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(files) > 1:
                raise DecodeError("P9", self._what, "it sent a message that is too long, or several files")
            if not data:
                raise UnavailableError(self._what, "it has ended")
            message = decode(data, f"message of {self._what}", MOST_PACKET)
        except (DecodeError, UnavailableError):
            for file in files:
                os.close(file)
            raise
        return message, files[0] if files else None

    def ask(self, message: Mapping[str, object], seconds: float, file: int | None = None) -> tuple[Fields, int | None]:
        """Send `message` and receive the answer."""
        self.send(message, file)
        return self.receive(seconds)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def to_text(data: bytes) -> str:
    """Bytes as they travel in a message."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: str) -> bytes:
    """The bytes that :func:`to_text` made `text` from.  Raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
