"""Checkpoints and their signatures; each bad one differs from a good one in one thing."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import (
    MOST_NOTE,
    MOST_SIGNATURES,
    Head,
    KeyKind,
    VerifierKey,
    Witnesses,
    cosign,
    open_checkpoint,
    read_key,
    sign_checkpoint,
)
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.epochs import Epoch, Epochs, read_epochs
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.leaf import Kind, Place, Salt, commit, read_place
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.tiles import MOST_SIZE
from portage_p2pbin.kernel.wire import canonical, decode
from tests.makers import NOW, new_key

ORIGIN = "server.example/log/1"
HEAD = Head(5, bytes(range(32)))
LOG = VerifierKey.of(ORIGIN, KeyKind.LOG, new_key(1))
NOTE = sign_checkpoint(ORIGIN, HEAD, new_key(1))
NAMES = {seed: f"witness-{seed}.example" for seed in (7, 8, 9)}
THREE = tuple(VerifierKey.of(name, KeyKind.WITNESS, new_key(seed)) for seed, name in NAMES.items())


def line(seed, time=1_700_000_000, note=NOTE):
    return cosign(note, NAMES[seed], new_key(seed), time)


def resigned(text, key=1):
    """A checkpoint of any text, rightly signed."""
    data = text.encode()
    signature = base64.b64encode(LOG.id + new_key(key).sign(data)).decode()
    return data + f"\n— {ORIGIN} {signature}\n".encode()


TEXT = NOTE.decode().partition("\n\n")[0] + "\n"


def test_a_checkpoint_is_read_as_it_was_signed():
    assert f"{ORIGIN}\n5\n{base64.b64encode(HEAD.root).decode()}\n" == TEXT
    found = open_checkpoint(NOTE, LOG, Witnesses())
    assert (found.head, found.note) == (HEAD, NOTE)
    assert resigned(TEXT) == NOTE


def test_the_example_of_the_specification():
    """https://c2sp.org/signed-note: a key, and what it signed."""
    key = read_key("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    signature = base64.b64decode("Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=")
    assert key.id == signature[:4]
    assert key.verify(signature[4:], b"This is an example message.\n")
    assert not key.verify(signature[4:], b"This is another message.\n")


def test_the_id_of_a_witness_counts_its_kind():
    expected = hashlib.sha256(f"{NAMES[7]}\n".encode() + b"\x04" + bytes.fromhex(public_key(new_key(7)))).digest()[:4]
    assert THREE[0].id == expected


@pytest.mark.parametrize("key", [LOG, *THREE], ids=str)
def test_a_key_has_one_spelling(key):
    assert read_key(str(key)) == key


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("server", "other"), "its id is not"),
        (lambda text: text.replace("server.example", "server example"), "not NAME"),
        (lambda text: text.replace("server.example", "a+b"), "not NAME"),
        (lambda text: text + "\n", "not NAME"),
        (lambda text: text[:-2] + "==", "."),
        (lambda text: text[:-44] + base64.b64encode(b"\2" + bytes(32)).decode(), "is not a valid KeyKind"),
    ],
)
def test_a_key_that_is_none_is_refused(change, reason):
    with pytest.raises(DecodeError, match=reason):
        read_key(change(str(LOG)))


# P8.2: the log's own signature


def test_another_key_of_that_name_has_not_signed():
    with pytest.raises(RefusedError, match=r"P8\.2.*the log has not signed it"):
        open_checkpoint(sign_checkpoint(ORIGIN, HEAD, new_key(2)), LOG, Witnesses())


def test_a_witness_is_not_the_log():
    with pytest.raises(RefusedError, match=r"P8\.2.*the log has not signed it"):
        open_checkpoint(TEXT.encode() + b"\n" + line(7), LOG, Witnesses())


@pytest.mark.parametrize("text", [TEXT.replace("\n5\n", "\n6\n"), TEXT.replace("AAEC", "AAED")])
def test_a_changed_text_is_refused(text):
    with pytest.raises(RefusedError, match=r"P8\.2.*the signature of the log is wrong"):
        open_checkpoint(NOTE.replace(TEXT.encode(), text.encode()), LOG, Witnesses())


@given(st.integers(0, len(NOTE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at, bits):
    changed = bytearray(NOTE)
    changed[at] ^= bits
    with pytest.raises(RefusedError):
        open_checkpoint(bytes(changed), LOG, Witnesses())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT.replace(ORIGIN, "server.example/log/2"), "it is of 'server.example/log/2'"),
        (TEXT + "an extension\n", "not three lines"),
        (TEXT.replace("\n5\n", "\n05\n"), "no number of leaves"),
        (TEXT.replace("\n5\n", "\n٥\n"), "no number of leaves"),
        (TEXT.replace("\n5\n", "\n1_0\n"), "no number of leaves"),
        (TEXT.replace("\n5\n", "\n-5\n"), "no number of leaves"),
        (TEXT.replace("\n5\n", f"\n{MOST_SIZE + 1}\n"), "no tree has"),
        (TEXT.replace("Hh8=", "Hh9="), "its root is not the usual base64"),
        (TEXT.replace("Hh8=", "Hg=="), "a root of 31 bytes"),
        (TEXT.replace("\n5\n", "\n5\t\n"), "control characters"),
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused_though_signed(text, reason):
    with pytest.raises(DecodeError, match=reason):
        open_checkpoint(resigned(text), LOG, Witnesses())


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (TEXT.encode(), "it has no signatures"),
        (NOTE[:-1], "whole lines of signatures"),
        (NOTE + b"\n", "not three lines"),
        (NOTE + line(7) * MOST_SIGNATURES, "whole lines of signatures"),
        (NOTE + b"- a b\n", "no signature"),
        ((NOTE + line(7)).replace(b"witness-7.example ", b"witness 7.example "), "no signature"),
        (NOTE + "— a AAAAAAAAA\n".encode(), "a signature is not base64"),
        (NOTE + b"\xff\n", "not UTF-8"),
        (NOTE + bytes(MOST_NOTE), "more than the"),
    ],
)
def test_bytes_that_are_no_note_are_refused(note, reason):
    with pytest.raises(DecodeError, match=reason):
        open_checkpoint(note, LOG, Witnesses())


def test_signatures_of_strangers_are_skipped():
    stranger = f"— {ORIGIN} {base64.b64encode(bytes(2432)).decode()}\n".encode()
    assert open_checkpoint(NOTE + line(7) + stranger, LOG, Witnesses()).head == HEAD


# P8.5: witnesses


@pytest.mark.parametrize(("seeds", "quorum"), [((7,), 1), ((9, 7), 2), ((7, 8, 9), 3), ((7, 8, 9), 1)])
def test_enough_witnesses_are_enough(seeds, quorum):
    note = NOTE + b"".join(map(line, seeds))
    assert open_checkpoint(note, LOG, Witnesses(THREE, quorum)).head == HEAD


@pytest.mark.parametrize(
    "extra",
    [b"", line(7), line(7) * 2, line(7) + line(7, 1_800_000_000), line(7) + cosign(NOTE, "other.example", new_key(8), 1)],
    ids=["none", "one", "one twice", "one at two times", "another name"],
)
def test_too_few_witnesses_are_refused(extra):
    with pytest.raises(RefusedError, match=r"P8\.5.*of the 2 witnesses needed"):
        open_checkpoint(NOTE + extra, LOG, Witnesses(THREE, 2))


def test_a_cosignature_of_another_checkpoint_is_refused():
    other = sign_checkpoint(ORIGIN, Head(6, HEAD.root), new_key(1))
    with pytest.raises(RefusedError, match=r"P8\.5.*of this witness is wrong"):
        open_checkpoint(NOTE + line(7, note=other), LOG, Witnesses(THREE, 1))


def test_the_time_of_a_cosignature_is_signed():
    found = line(7)
    name, _, encoded = found.decode().rstrip("\n").rpartition(" ")
    data = bytearray(base64.b64decode(encoded))
    for at, bits in ((11, 1), (4, 0x80)):
        changed = bytearray(data)
        changed[at] ^= bits
        wrong = f"{name} {base64.b64encode(changed).decode()}\n".encode()
        with pytest.raises(RefusedError, match=r"P8\.5.*of this witness is wrong"):
            open_checkpoint(NOTE + wrong, LOG, Witnesses(THREE, 1))


def test_a_time_beyond_what_the_format_allows_is_refused_though_signed():
    with pytest.raises(RefusedError, match=r"P8\.5.*of this witness is wrong"):
        open_checkpoint(NOTE + line(7, 2**63), LOG, Witnesses(THREE, 1))


@pytest.mark.parametrize(
    ("keys", "quorum", "reason"),
    [
        (THREE, 0, "no quorum"),
        (THREE, 4, "no quorum"),
        ((), 1, "no quorum"),
        ((LOG,), 1, "not a witness's"),
        ((THREE[0], THREE[0]), 1, "stands there twice"),
        ((THREE[0], VerifierKey.of("other.example", KeyKind.WITNESS, new_key(7))), 1, "stands there twice"),
        ((THREE[0], VerifierKey.of(NAMES[7], KeyKind.WITNESS, new_key(8))), 1, "stands there twice"),
    ],
)
def test_witnesses_that_could_not_witness_are_refused(keys, quorum, reason):
    with pytest.raises(DecodeError, match=reason):
        Witnesses(keys, quorum)


def test_a_name_without_spaces():
    for name in ("", "a b", "a+b", "a\nb", "a\u2003b"):
        with pytest.raises(DecodeError, match="is no name"):
            VerifierKey.of(name, KeyKind.LOG, new_key(1))


# Leaves, places and epochs


PLACE = Place(1, 7, NOW, Salt("5" * 64))
BODY = Sha256("b" * 64)


def test_a_leaf_is_a_salted_commitment():
    commitment = hashlib.sha256(bytes.fromhex("5" * 64 + "b" * 64)).hexdigest()
    entry = f'{{"_type":"p2pbin-leaf-1","commitment":"{commitment}","kind":"vote","time":"2026-05-01T12:00:00Z"}}'.encode()
    assert commit(Kind.VOTE, BODY, PLACE.salt, NOW).encode() == entry
    assert PLACE.leaf_hash(Kind.VOTE, BODY) == merkle.leaf_hash(entry)


def fields(value):
    return decode(canonical(value), "test", 100_000)


def test_a_place_is_read_as_it_was_written():
    assert read_place(fields(PLACE.as_json())) == PLACE


@pytest.mark.parametrize("change", [{"epoch": 0}, {"index": -1}, {"index": MOST_SIZE}, {"salt": "5" * 63}, {"time": "now"}, {"more": 1}])
def test_a_place_that_is_none_is_refused(change):
    with pytest.raises(DecodeError):
        read_place(fields(PLACE.as_json() | change))


def test_epochs_are_read_as_they_were_written():
    second = VerifierKey.of("server.example/log/2", KeyKind.LOG, new_key(2))
    for epochs in (Epochs(), Epochs((Epoch(LOG),)), Epochs((Epoch(LOG, HEAD), Epoch(second)), Witnesses(THREE, 2))):
        assert read_epochs(fields(epochs.as_json())) == epochs
