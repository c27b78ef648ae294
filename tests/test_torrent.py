"""One spelling for each torrent, and libtorrent reads it as we do (P9.5, P10.4)."""

import libtorrent
import pytest

from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.torrent import LEAST_PIECE, MOST_TORRENT, PIECES, Torrent, make_torrent, piece_size, read_torrent

NAME = "hello-1.0-0123456789abcdef0123.gpkg.tar"


def torrent(size=50_000):
    data = bytes(range(256)) * (size // 256 + 1)
    step = piece_size(size)
    return make_torrent(NAME, [data[:size][at : at + step] for at in range(0, size, step)])


@pytest.mark.parametrize("size", [1, LEAST_PIECE, LEAST_PIECE + 1, 8 << 20, (9 << 20) + 1])
def test_libtorrent_reads_the_same(size):
    ours = torrent(size)
    theirs = libtorrent.torrent_info(ours.data)
    assert str(theirs.info_hashes().v1) == ours.info_hash
    assert (theirs.name(), theirs.total_size(), theirs.num_files(), theirs.piece_length()) == (NAME, size, 1, piece_size(size))
    assert read_torrent(ours.data) == ours


@pytest.mark.parametrize("size", [1, 8 << 20, (16 << 20) - 1, 16 << 20, 1 << 34])
def test_large_files_have_between_512_and_1024_pieces(size):
    pieces = -(-size // piece_size(size))
    assert piece_size(size) == LEAST_PIECE or PIECES <= pieces < 2 * PIECES + 1
    assert piece_size(size).bit_count() == 1


def test_the_same_bytes_give_the_same_info_hash():
    assert torrent().info_hash == "893709ea419ae42f35a6860a070a3e9d42d115ec"


def change(data, old, new):
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"d4:info", b"d8:announce9:http://x/4:info"),
        (b"d6:length", b"d5:filesle6:length"),
        (b"lengthi50000e4", b"lengthi050000e4"),
        (b"piece lengthi16384e", b"piece lengthi32768e"),
        (b"4:name39:hello-1.0", b"4:name40:hello-1.0"),
        (b"4:name39:hello-1.0", b"4:name39:../lo-1.0"),
        (b"4:name39:hello-1.0", b"4:name39:h\xc3llo-1.0"),
        (b"6:pieces80:", b"6:pieces080:"),
        (b"6:pieces80:", b"6:piecesxxxxxxxxxx80:"),
    ],
)
def test_every_other_spelling_is_refused(old, new):
    with pytest.raises(DecodeError):
        read_torrent(change(torrent().data, old, new))


def test_something_after_the_end_is_refused():
    with pytest.raises(DecodeError, match="pieces does not belong"):
        read_torrent(torrent().data + b"e")
    with pytest.raises(DecodeError, match="form"):
        read_torrent(torrent().data[:-1] + b"i")


def test_a_large_torrent_is_refused_before_it_is_read():
    with pytest.raises(DecodeError, match="more than"):
        read_torrent(torrent().data + bytes(MOST_TORRENT))


def test_pieces_that_do_not_belong_to_the_size_are_refused():
    with pytest.raises(DecodeError, match="number of pieces"):
        Torrent(torrent().name, 50_000, bytes(60))


def test_an_empty_file_has_no_torrent():
    with pytest.raises(DecodeError, match="0 bytes"):
        make_torrent(NAME, [])


@pytest.mark.parametrize(("field", "value"), [("info_hash", "0" * 40), ("name", "other.gpkg.tar"), ("size", 49_999)])
def test_another_torrent_than_the_listed_one_is_refused(field, value):
    one = torrent()
    listed = {"info_hash": one.info_hash, "name": one.name, "size": one.size} | {field: value}
    with pytest.raises(RefusedError, match=r"P9\.5.*listed") as caught:
        one.expect(**listed)
    assert caught.value.rule == "P9.5"
