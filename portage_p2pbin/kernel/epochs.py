"""Whose word the log is: its keys, epoch by epoch, and its witnesses, as the roster names them (P8.4, P8.5).

The offline keys sign the roster.  Whoever holds a threshold of them can begin a new log and so forget what the old one said; the api
process, whose own key only signs the open epoch's checkpoints, cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portage_p2pbin.kernel.checkpoint import Head, KeyKind, VerifierKey, Witnesses, read_key
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.leaf import MOST_EPOCHS
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.tiles import MOST_SIZE
from portage_p2pbin.kernel.wire import Fields

MOST_WITNESSES = 16


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of the log: the key whose name is the origin, and, once it is over, how it ended."""

    key: VerifierKey
    end: Head | None = None

    def __post_init__(self) -> None:
        if self.key.kind is not KeyKind.LOG:
            raise RefusedError("P8.4", "log", "the key of an epoch is a witness's")


@dataclass(frozen=True, slots=True)
class Epochs:
    """All epochs, oldest first, numbered from 1.  Only the last is open.  None at all: votes need no place in a log."""

    epochs: tuple[Epoch, ...] = ()
    witnesses: Witnesses = field(default_factory=Witnesses)

    def __post_init__(self) -> None:
        if any((epoch.end is None) is not (epoch is self.epochs[-1]) for epoch in self.epochs):
            raise RefusedError("P8.4", "log", "every epoch but the last has to have ended, and the last not")
        if len({epoch.key.name for epoch in self.epochs}) != len(self.epochs):
            raise RefusedError("P8.4", "log", "two epochs have one origin")

    @property
    def current(self) -> int:
        """The number of the open epoch; 0 if there is no log."""
        return len(self.epochs)

    def epoch(self, number: int) -> Epoch:
        """The epoch of this number.  Raises RefusedError (P8.4) if there is none."""
        if not 0 < number <= len(self.epochs):
            raise RefusedError("P8.4", f"epoch {number}", "the roster names no such epoch of the log")
        return self.epochs[number - 1]

    def as_json(self) -> dict[str, object]:
        """The epochs as they stand in the roster."""
        return {
            "epochs": [{"key": str(one.key)} | ({} if one.end is None else {"end": _head_json(one.end)}) for one in self.epochs],
            "quorum": self.witnesses.quorum,
            "witnesses": [str(key) for key in self.witnesses.keys],
        }


def read_epochs(fields: Fields) -> Epochs:
    """Read what the roster says of the log.  Raises DecodeError or RefusedError (P8.4)."""
    with fields.reading():
        epochs = tuple(_read_epoch(one) for one in fields.many("epochs", MOST_EPOCHS))
        return Epochs(epochs, Witnesses(fields.texts("witnesses", read_key, MOST_WITNESSES), fields.number("quorum", 0, MOST_WITNESSES)))


def _read_epoch(fields: Fields) -> Epoch:
    with fields.reading():
        return Epoch(fields.of("key", read_key), _read_head(fields.fields("end")) if fields.has("end") else None)


def _head_json(head: Head) -> dict[str, object]:
    return {"root": head.root.hex(), "size": head.size}


def _read_head(fields: Fields) -> Head:
    with fields.reading():
        return Head(fields.number("size", 0, MOST_SIZE), bytes.fromhex(fields.of("root", Sha256)))
