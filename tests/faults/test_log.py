"""The log when the disk fails or the process dies: nothing acknowledged is lost, nothing half done is shown, and no fork comes of it."""

import hashlib
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from p2pbin_server.log import LeafRow, PublishedLog, append
from portage_p2pbin import durable
from portage_p2pbin.kernel.checkpoint import Witnesses
from portage_p2pbin.kernel.epochs import Epoch, Epochs
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.leaf import Kind, Salt
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.net.log import Kept, VerifiedLog
from tests.leaf_rows import LeafRows
from tests.makers import NOW, new_key

ALL = 10**9
KILLS = 20 if os.environ.get("CI") else 6


def alone(note, tree):
    return note


def body(number):
    return Sha256(hashlib.sha256(f"body {number}".encode()).hexdigest())


def published(folder):
    return PublishedLog(folder / "log", 1, "server.example/log/1", new_key(1), Witnesses())


def client(folder):
    """A machine that sees what is published, and remembers."""
    out = published(folder)

    def fetch(path, most):
        found = out.file(path.removeprefix("log/1/"))
        return None if found is None else found.read_bytes()[: most + 1]

    return VerifiedLog(Epochs((Epoch(out.verifier),)), Kept(folder / "state", folder / "cache"), fetch)


class DiskFullError(OSError):
    pass


WRITES = 6  # two tiles, two bundles of entries, the tile above, the checkpoint


@pytest.mark.parametrize("at", range(WRITES))
@pytest.mark.parametrize("stored", [False, True], ids=["failed", "failed-but-stored"])
def test_a_write_that_fails_is_made_good_by_the_next_call(tmp_path, monkeypatch, at, stored):
    rows = LeafRows()
    for number in range(200):
        append(rows, 1, Kind.VOTE, body(number), NOW)
    published(tmp_path).publish(rows, ALL, alone)
    client(tmp_path).refresh()
    places = [append(rows, 1, Kind.VOTE, body(number), NOW) for number in range(200, 300)]

    write, calls = durable.write, []

    def failing(path, data, mode=0o644):
        if path.is_relative_to(tmp_path / "log"):
            calls.append(path)
            if len(calls) == at + 1:
                if stored:
                    write(path, data, mode)
                raise DiskFullError(28, "No space left on device")
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", failing)
        with pytest.raises(DiskFullError):
            published(tmp_path).publish(rows, ALL, alone)
    # What is shown meanwhile is whole: the old tree, or, where the checkpoint was stored, the new one.
    assert client(tmp_path).refresh().size == (300 if stored and at == WRITES - 1 else 200)
    assert published(tmp_path).publish(rows, ALL, alone).size == 300
    log = client(tmp_path)
    assert log.refresh().size == 300
    log.check(places[-1], Kind.VOTE, body(299))


class Database:
    """Votes and leaves in SQLite, as the store has them: one transaction for both."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("CREATE TABLE IF NOT EXISTS votes (body TEXT PRIMARY KEY)")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS leaves (epoch INTEGER, place INTEGER, kind TEXT, time INTEGER, commitment TEXT, body TEXT UNIQUE,"
            " salt TEXT, PRIMARY KEY (epoch, place))"
        )

    def vote(self, number):
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("INSERT INTO votes VALUES (?)", (body(number),))
        append(self, 1, Kind.VOTE, body(number), datetime.now(UTC))
        self.connection.execute("COMMIT")

    def _rows(self, where, *values):
        query = f"SELECT epoch, place, kind, time, commitment, body, salt FROM leaves WHERE {where}"  # noqa: S608
        return [
            LeafRow(epoch, index, Kind(kind), datetime.fromtimestamp(at, UTC), Sha256(commitment), Sha256(found), Salt(salt))
            for epoch, index, kind, at, commitment, found, salt in self.connection.execute(query, values)
        ]

    def leaf_of(self, kind, found):
        return next(iter(self._rows("kind = ? AND body = ?", kind.value, found)), None)

    def last_leaf(self, epoch):
        return next(iter(self._rows("epoch = ? ORDER BY place DESC LIMIT 1", epoch)), None)

    def leaves(self, epoch, start, stop):
        return self._rows("epoch = ? AND place >= ? AND place < ? ORDER BY place", epoch, start, stop)

    def add_leaf(self, row):
        values = (row.epoch, row.index, row.kind.value, int(row.time.timestamp()), row.commitment, row.body, row.salt)
        self.connection.execute("INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def count(self, table):
        return self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


def serve(folder, acknowledged):
    """Take votes and publish them until killed; each vote is acknowledged once it is committed."""
    rows = Database(folder / "store.sqlite")
    number = rows.count("votes")
    while True:
        for _ in range(random.randint(1, 40)):  # noqa: S311
            rows.vote(number)
            os.write(acknowledged, b".")
            number += 1
        published(folder).publish(rows, ALL, alone)


def test_a_killed_server_loses_nothing_and_shows_one_history(tmp_path):
    read, write = os.pipe()
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            try:
                serve(tmp_path, write)
            finally:
                os._exit(1)
        time.sleep(random.uniform(0.05, 0.4))  # noqa: S311
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(write)
    acknowledged = 0
    while data := os.read(read, 65536):
        acknowledged += len(data)
    os.close(read)

    rows = Database(tmp_path / "store.sqlite")
    with closing(rows.connection):
        assert acknowledged <= rows.count("votes") == rows.count("leaves") <= acknowledged + KILLS
        seen = client(tmp_path).refresh().size
        head = published(tmp_path).publish(rows, ALL, alone)
        assert seen <= head.size == rows.count("votes")
        log = client(tmp_path)
        assert log.refresh() == head
        for number in range(0, acknowledged, max(1, acknowledged // 10)):
            log.check(rows.leaf_of(Kind.VOTE, body(number)).place, Kind.VOTE, body(number))


def test_a_restored_store_goes_on_if_it_has_all_that_was_published(tmp_path):
    """What was published was backed up before, so that the copy is never behind the checkpoint: no fork."""
    rows = LeafRows()
    for number in range(10):
        append(rows, 1, Kind.VOTE, body(number), NOW)
    backup = LeafRows(rows.rows)
    append(rows, 1, Kind.VOTE, body(10), NOW)
    assert published(tmp_path).publish(rows, len(backup.rows), alone).size == 10
    client(tmp_path).refresh()
    append(backup, 1, Kind.VOTE, body(99), NOW)
    published(tmp_path).publish(backup, 11, alone)
    assert client(tmp_path).refresh().size == 11


def test_a_restored_store_that_is_too_old_stops(tmp_path):
    rows = LeafRows()
    for number in range(10):
        append(rows, 1, Kind.VOTE, body(number), NOW)
    published(tmp_path).publish(rows, ALL, alone)
    backup = LeafRows(rows.rows[:9])
    with pytest.raises(SettingsError, match="begin a new epoch"):
        published(tmp_path).publish(backup, ALL, alone)
    for number in (20, 21):
        append(backup, 1, Kind.VOTE, body(number), NOW)
    with pytest.raises(SettingsError, match="not those that were published"):
        published(tmp_path).publish(backup, ALL, alone)
