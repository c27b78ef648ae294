"""The log at a million leaves: proofs out of the files that the server serves, and what a new vote costs.

    python -m bench.log [LEAVES]

Proofs of inclusion and consistency are made from tiles on disk, as a server, a witness or a client makes them: once with every file
read again (a tree opened for one proof), once out of a tree that stays open.  SHA-256 of 8 KiB, a tile's size, is the unit of the ratios.
"""

from __future__ import annotations

import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import heading, line
from p2pbin_server.log import LeafRow, PublishedLog
from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import Witnesses
from portage_p2pbin.kernel.leaf import Kind
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.tiles import MOST_TILE, Tree

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 300
PROOF = 1.0
"""Goal: milliseconds for a proof."""


class Rows:
    """Rows that are made when they are asked for, since a million of them would only measure memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def leaf_of(self, kind: Kind, body: Sha256) -> LeafRow | None:
        return None

    def last_leaf(self, epoch: int) -> LeafRow | None:
        return self.leaves(epoch, self.count - 1, self.count)[0]

    def leaves(self, epoch: int, start: int, stop: int) -> list[LeafRow]:
        return [LeafRow(epoch, index, Kind.VOTE, NOW, Sha256(f"{index:064x}"), None, None) for index in range(start, stop)]

    def add_leaf(self, row: LeafRow) -> None:
        self.count += 1


def alone(note: bytes, tree: Tree) -> bytes:
    return note


def timed(question: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median of `rounds` calls, in milliseconds."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        question()
        spent.append((time.perf_counter() - start) * 1000)
    return statistics.median(spent)


def main(leaves: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = Rows(leaves)
        published = PublishedLog(Path(folder, "log"), 1, "server.example/log/1", Ed25519PrivateKey.generate(), Witnesses())
        start = time.perf_counter()
        with mock.patch("os.fsync"):  # building the tree only sets the stage
            head = published.publish(rows, leaves, alone)
        heading(f"The log, {leaves} leaves")
        line("publishing all of them from nothing, not durably", time.perf_counter() - start, "s")

        block = bytes(MOST_TILE)
        unit = timed(lambda: hashlib.sha256(block).digest())
        report("SHA-256 of one tile", unit, unit)
        pick = random.Random(1)  # noqa: S311

        def inclusion(tree: Tree) -> None:
            merkle.inclusion_proof(pick.randrange(leaves), leaves, tree.node)

        def consistency(tree: Tree) -> None:
            merkle.consistency_proof(pick.randrange(1, leaves), leaves, tree.node)

        report("inclusion proof, files read again", timed(lambda: inclusion(published.tree())), unit)
        report("consistency proof, files read again", timed(lambda: consistency(published.tree())), unit)
        open_tree = published.tree()
        report("inclusion proof, tree open", timed(lambda: inclusion(open_tree)), unit)
        report("consistency proof, tree open", timed(lambda: consistency(open_tree)), unit)
        index = leaves // 3
        proof = merkle.inclusion_proof(index, leaves, open_tree.node)
        leaf = open_tree.node(0, index)
        report("checking an inclusion proof", timed(lambda: merkle.check_inclusion(leaf, index, leaves, proof, head.root)), unit)

        def one_more() -> None:
            rows.count += 1
            published.publish(rows, rows.count, alone)

        report("publishing one more leaf, durably", timed(one_more, 50), unit)


def report(what: str, spent: float, unit: float) -> None:
    line(
        what, spent, f"ms, {spent / unit:.1f} times the SHA-256 of a tile", PROOF if "inclusion" in what or "consistency" in what else None
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
