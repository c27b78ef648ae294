"""Evidence that a log has shown two histories (P8.8): anybody who has the log's key can check it, and nobody without it can make it.

It holds two checkpoints that the log has signed, and the hashes that lead from the larger tree's root to what its smaller tree was: a root
other than the one that was signed for that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import MOST_NOTE, Checkpoint, VerifierKey, Witnesses, open_checkpoint, read_key
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.wire import canonical, decode

FORK = "p2pbin-fork-1"

MOST_PATH = 64
"""Hashes between two trees: one for each doubling."""

MOST_FORK = 3 * MOST_NOTE


@dataclass(frozen=True, slots=True)
class Fork:
    """`new` does not go on from `old`, though the log `key` has signed both.  Raises RefusedError (P8.8) if it does not show that.

    `path` is a :func:`~portage_p2pbin.kernel.merkle.consistency_path`, empty if both have one size or `old` has none.
    """

    key: VerifierKey
    old: Checkpoint
    new: Checkpoint
    path: Sequence[bytes]

    def __post_init__(self) -> None:
        old, new = self.old.head, self.new.head
        if old.size > new.size:
            raise RefusedError("P8.8", f"evidence against {self.key.name}", "the larger tree is called the older one")
        if 0 < old.size < new.size:
            began, whole = merkle.roots_of_path(old.size, new.size, self.path)
        else:
            began, whole = (new.root if old.size else merkle.EMPTY), new.root
        if whole != new.root or began == old.root:
            raise RefusedError("P8.8", f"evidence against {self.key.name}", "it does not show two histories")

    def encode(self) -> bytes:
        """The canonical file."""
        return canonical(
            {
                "_type": FORK,
                "key": str(self.key),
                "new": self.new.note.decode("utf-8"),
                "old": self.old.note.decode("utf-8"),
                "path": [hash_.hex() for hash_ in self.path],
            }
        )


def read_fork(data: bytes) -> Fork:
    """Read such a file; both signatures are checked.  Raises DecodeError or RefusedError.  Whose log it is, is not checked."""
    fields = decode(data, "evidence of a fork", MOST_FORK)
    with fields.reading():
        fields.exactly("_type", FORK)
        key = fields.of("key", read_key)
        old, new = (open_checkpoint(fields.text(name, MOST_NOTE).encode(), key, Witnesses()) for name in ("old", "new"))
        return Fork(key, old, new, [bytes.fromhex(hash_) for hash_ in fields.texts("path", Sha256, MOST_PATH)])
