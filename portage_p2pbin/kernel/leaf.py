"""What a leaf of the log says, and where it stands (P8.1).

A leaf names no body.  It holds the hash of a random salt and the body's SHA-256, so that nobody learns from the log what an untrusted vote
says before it is listed, and so that nothing is left of a body once it is erased together with its salt.  Whoever runs the log chooses kind
and time freely; a body that the log has committed to cannot be exchanged for another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from portage_p2pbin.kernel.merkle import leaf_hash
from portage_p2pbin.kernel.model import Sha256, Token
from portage_p2pbin.kernel.statements import moment, spelt
from portage_p2pbin.kernel.tiles import MOST_SIZE
from portage_p2pbin.kernel.wire import Fields, canonical

LEAF = "p2pbin-leaf-1"

MOST_EPOCHS = 1000
"""Times that a log may begin anew; each time two people or more sign for it."""


class Kind(Enum):
    """What a leaf stands for, and of which bytes it commits to the SHA-256."""

    VOTE = "vote"
    """The envelope."""
    CERTIFICATE = "certificate"
    """The envelope."""
    REGISTRATION = "registration"
    """The certification of the machine key, the clear-signed text."""
    ROSTER = "roster"
    """One version of roster.json."""
    RULINGS = "rulings"
    """One version of rulings.json."""


class Salt(Token):
    """32 random bytes, 64 lower-case hexadecimal digits."""

    __slots__ = ()
    pattern = Sha256.pattern


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry of the log."""

    kind: Kind
    time: datetime
    commitment: Sha256

    def encode(self) -> bytes:
        """The canonical entry; its hash is the leaf's."""
        return canonical({"_type": LEAF, "commitment": self.commitment, "kind": self.kind.value, "time": spelt(self.time)})


def commit(kind: Kind, body: Sha256, salt: Salt, time: datetime) -> Leaf:
    """The leaf for a body with the SHA-256 `body`, logged at `time`."""
    return Leaf(kind, time, Sha256(hashlib.sha256(bytes.fromhex(salt) + bytes.fromhex(body)).hexdigest()))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a body stands in the log: leaf `index` of `epoch`, logged at `time` with `salt`.

    What a place says is worth nothing until its leaf was found there (P8.7).
    """

    epoch: int
    index: int
    time: datetime
    salt: Salt

    def leaf_hash(self, kind: Kind, body: Sha256) -> bytes:
        """The hash that the leaf has if `body` stands here."""
        return leaf_hash(commit(kind, body, self.salt, self.time).encode())

    def as_json(self) -> dict[str, object]:
        """The place as it stands in a vote bundle."""
        return {"epoch": self.epoch, "index": self.index, "salt": self.salt, "time": spelt(self.time)}


def read_place(fields: Fields) -> Place:
    """Read a place.  Raises DecodeError."""
    with fields.reading():
        return Place(
            epoch=fields.number("epoch", 1, MOST_EPOCHS),
            index=fields.number("index", 0, MOST_SIZE - 1),
            time=fields.of("time", moment),
            salt=fields.of("salt", Salt),
        )
