"""Checkpoints: what the log's key, and witnesses, have signed about the size and root of the tree (P8.2, P8.5).

Whoever holds the log's key can sign any tree.  A second one that does not go on from the first is proof against it for everybody who
sees both; witnesses, who sign only what goes on from what they signed before, keep it from showing two trees to two people.  Whoever
holds no key can make nothing that is accepted here.

Formats: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint and https://c2sp.org/tlog-cosignature, with Ed25519 keys.  Of
what these leave open we take the strict reading: no extension lines, and a key's name is the log's origin.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from portage_p2pbin.kernel.envelope import from_base64, public_key
from portage_p2pbin.kernel.errors import DecodeError, RefusedError
from portage_p2pbin.kernel.merkle import HASH_SIZE
from portage_p2pbin.kernel.model import PublicKey
from portage_p2pbin.kernel.tiles import MOST_SIZE

MOST_NOTE = 128 * 1024
"""Bytes of a checkpoint with its signatures: ours have about 200 a witness; a post-quantum one, which we skip, has 3,400."""

MOST_SIGNATURES = 32
MOST_TIME = 2**63 - 1

_ID_SIZE = 4
_TIME_SIZE = 8

# A name has no plus and no white space of any kind, since these separate it from what follows.
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]{1,200}")
_KEY = re.compile(r"([^\s+\x00-\x1f\x7f]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{44})")
_SIGNATURE = re.compile(r"— ([^\s+\x00-\x1f\x7f]{1,200}) ([A-Za-z0-9+/=]{8,10000})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


class KeyKind(IntEnum):
    """What a key signs: the first byte of its encoding."""

    LOG = 1
    WITNESS = 4


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 key, the name it signs under, and what it may sign."""

    name: str
    kind: KeyKind
    public: PublicKey

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise DecodeError("P8.2", "key of the log", f"{self.name!r} is no name for it")

    @property
    def id(self) -> bytes:
        """Four bytes that, with the name, say which key made a signature.  Many keys have the same: it proves nothing."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._encoded()).digest()[:_ID_SIZE]

    def __str__(self) -> str:
        """The key as it is written in the roster: name, id and key."""
        return f"{self.name}+{self.id.hex()}+{_to_base64(self._encoded())}"

    @classmethod
    def of(cls, name: str, kind: KeyKind, key: Ed25519PrivateKey) -> Self:
        """The public half of `key`."""
        return cls(name, kind, public_key(key))

    def _encoded(self) -> bytes:
        return bytes([self.kind]) + bytes.fromhex(self.public)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Has this key signed `message`?"""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public)).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def read_key(text: str) -> VerifierKey:
    """Read a key in its one spelling.  Raises DecodeError (P8.2)."""
    found = _KEY.fullmatch(text)
    try:
        if found is None:
            raise ValueError("not NAME+ID+KEY")
        encoded = from_base64(found[3])
        key = VerifierKey(found[1], KeyKind(encoded[0]), PublicKey(encoded[1:].hex()))
    except ValueError as error:
        raise DecodeError("P8.2", "key of the log", str(error)) from error
    if key.id.hex() != found[2]:
        raise DecodeError("P8.2", "key of the log", f"its id is not {found[2]}")
    return key


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who may cosign, and how many of them have to: k of n (P8.5).  No witnesses, none needed."""

    keys: tuple[VerifierKey, ...] = ()
    quorum: int = 0

    def __post_init__(self) -> None:
        if any(key.kind is not KeyKind.WITNESS for key in self.keys):
            raise DecodeError("P8.5", "witnesses", "a key among them is not a witness's")
        if len({key.name for key in self.keys}) != len(self.keys) or len({key.public for key in self.keys}) != len(self.keys):
            raise DecodeError("P8.5", "witnesses", "one of them stands there twice")
        if not min(1, len(self.keys)) <= self.quorum <= len(self.keys):
            raise DecodeError("P8.5", "witnesses", f"{self.quorum} of {len(self.keys)} is no quorum")


@dataclass(frozen=True, slots=True)
class Head:
    """How large the tree is, and its root: what a checkpoint is about."""

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MOST_SIZE or len(self.root) != HASH_SIZE:
            raise DecodeError("P8.2", "checkpoint", f"no tree has {self.size} leaves and a root of {len(self.root)} bytes")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose signatures were checked.  `note` is the text as it came, signatures included."""

    head: Head
    note: bytes


def sign_checkpoint(origin: str, head: Head, key: Ed25519PrivateKey) -> bytes:
    """The checkpoint of `head`, signed by the log `origin`."""
    text = f"{origin}\n{head.size}\n{_to_base64(head.root)}\n".encode()
    return text + b"\n" + _signature_line(VerifierKey.of(origin, KeyKind.LOG, key), key.sign(text))


def cosign(note: bytes, name: str, key: Ed25519PrivateKey, time: int) -> bytes:
    """The line with which witness `name` says at `time` (seconds since 1970) that it has seen this checkpoint and none that contradicts.

    That the checkpoint goes on from the witness's last one is for the caller to check.
    """
    signature = time.to_bytes(_TIME_SIZE, "big") + key.sign(_cosigned(_text(note), time))
    return _signature_line(VerifierKey.of(name, KeyKind.WITNESS, key), signature)


def open_checkpoint(note: bytes, key: VerifierKey, witnesses: Witnesses) -> Checkpoint:
    """Read a checkpoint of the log `key`.

    Raises DecodeError if it is not one, and RefusedError: P8.2 if the log has not signed it, P8.5 if too few witnesses have.  Signatures of
    others are skipped, as the format wants it; a wrong one under the name and id of a known key is refused.
    """
    text = _text(note)
    head = _read_head(text, key.name)
    signatures = list(_signatures(note[len(text) + 1 :]))
    # P8.2: the log's own key has signed exactly this text.
    if not any(_checked(key, signature, text) for name, signature in signatures if _is_of(key, name, signature)):
        raise RefusedError("P8.2", f"checkpoint of {key.name}", "the log has not signed it")
    # P8.5: so have k of the n witnesses, each counted once.
    seen = {
        witness.name
        for witness in witnesses.keys
        for name, signature in signatures
        if _is_of(witness, name, signature) and _cochecked(witness, signature, text)
    }
    if len(seen) < witnesses.quorum:
        raise RefusedError("P8.5", f"checkpoint of {key.name}", f"{len(seen)} of the {witnesses.quorum} witnesses needed have signed it")
    return Checkpoint(head, note)


def _text(note: bytes) -> bytes:
    """What is signed: all before the last empty line, with its last newline."""
    if len(note) > MOST_NOTE:
        raise DecodeError("P8.2", "checkpoint", f"{len(note)} bytes, more than the {MOST_NOTE} allowed")
    end = note.rfind(b"\n\n")
    if end < 0:
        raise DecodeError("P8.2", "checkpoint", "it has no signatures")
    return note[: end + 1]


def _read_head(text: bytes, origin: str) -> Head:
    lines = _decoded(text).split("\n")
    if len(lines) != 4:
        raise DecodeError("P8.2", "checkpoint", "not three lines")
    if lines[0] != origin:
        raise DecodeError("P8.2", "checkpoint", f"it is of {lines[0]!r}, not of {origin}")
    if _NUMBER.fullmatch(lines[1]) is None:
        raise DecodeError("P8.2", "checkpoint", f"no number of leaves: {lines[1]!r}")
    try:
        return Head(int(lines[1]), from_base64(lines[2]))
    except ValueError as error:
        raise DecodeError("P8.2", "checkpoint", f"its root is {error}") from error


def _signatures(block: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes, key id first, of each signature."""
    lines = _decoded(block).split("\n")
    if lines.pop() or not 0 < len(lines) <= MOST_SIGNATURES:
        raise DecodeError("P8.2", "checkpoint", f"not one to {MOST_SIGNATURES} whole lines of signatures")
    for line in lines:
        found = _SIGNATURE.fullmatch(line)
        if found is None:
            raise DecodeError("P8.2", "checkpoint", f"no signature: {line!r}")
        try:
            yield found[1], from_base64(found[2])
        except ValueError as error:
            raise DecodeError("P8.2", "checkpoint", f"a signature is {error}") from error


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("P8.2", "checkpoint", "not UTF-8") from error
    if any(char < " " and char != "\n" for char in text):
        raise DecodeError("P8.2", "checkpoint", "it holds control characters")
    return text


def _is_of(key: VerifierKey, name: str, signature: bytes) -> bool:
    return name == key.name and signature[:_ID_SIZE] == key.id


def _checked(key: VerifierKey, signature: bytes, text: bytes) -> bool:
    if not key.verify(signature[_ID_SIZE:], text):
        raise RefusedError("P8.2", f"checkpoint of {key.name}", "the signature of the log is wrong")
    return True


def _cochecked(key: VerifierKey, signature: bytes, text: bytes) -> bool:
    time = int.from_bytes(signature[_ID_SIZE : _ID_SIZE + _TIME_SIZE], "big")
    if time > MOST_TIME or not key.verify(signature[_ID_SIZE + _TIME_SIZE :], _cosigned(text, time)):
        raise RefusedError("P8.5", f"checkpoint cosigned by {key.name}", "the signature of this witness is wrong")
    return True


def _cosigned(text: bytes, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n".encode() + text


def _signature_line(key: VerifierKey, signature: bytes) -> bytes:
    return f"— {key.name} {_to_base64(key.id + signature)}\n".encode()


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
