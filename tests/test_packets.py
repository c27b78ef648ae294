"""Messages between processes that do not trust each other."""

import os
import socket
from pathlib import Path

import pytest

from portage_p2pbin.kernel.errors import DecodeError, UnavailableError
from portage_p2pbin.net.packets import MOST_PACKET, Packets, from_text, pair, to_text


@pytest.fixture
def ends():
    ours, theirs = pair()
    with ours, theirs:
        yield Packets(ours, "The other side"), theirs


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_message_and_its_file_arrive(ends, tmp_path):
    ours, theirs = ends
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"hello")
        file.flush()
        Packets(theirs, "").send({"do": "it"}, file.fileno())
    fields, received = ours.receive(1)
    with fields.reading():
        assert fields.text("do") == "it"
    assert os.pread(received, 10, 0) == b"hello"
    os.close(received)


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"a":1,"a":2}', b"\xff", b'{"a":"' + b"x" * MOST_PACKET + b'"}'])
def test_what_is_no_message_is_refused(ends, data):
    ours, theirs = ends
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST_PACKET)
    theirs.send(data)
    with pytest.raises(DecodeError):
        ours.receive(1)


def test_several_files_are_refused_and_closed(ends):
    ours, theirs = ends
    before = open_files()
    socket.send_fds(theirs, [b"{}"], [0, 1])
    with pytest.raises(DecodeError, match="several files"):
        ours.receive(1)
    assert open_files() == before


def test_a_file_with_a_bad_message_is_closed(ends):
    ours, theirs = ends
    before = open_files()
    socket.send_fds(theirs, [b"{"], [0])
    with pytest.raises(DecodeError):
        ours.receive(1)
    assert open_files() == before


def test_silence_and_an_end_are_unavailable(ends):
    ours, theirs = ends
    with pytest.raises(UnavailableError, match="not answered"):
        ours.receive(0.05)
    theirs.close()
    with pytest.raises(UnavailableError, match="has ended"):
        ours.receive(1)
    with pytest.raises(UnavailableError, match="cannot be told"):
        ours.send({"do": "it"})


def test_bytes_as_text():
    assert from_text(to_text(b"\0\xff")) == b"\0\xff"
    for bad in ("!!!!", "AA", "ä"):
        with pytest.raises(ValueError, match="base64"):
            from_text(bad)
