"""The server's log: what is logged has one place for ever, and what is published follows from the rows alone."""

import hashlib
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from p2pbin_server import log
from p2pbin_server.log import PublishedLog, append
from portage_p2pbin import durable
from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import KeyKind, VerifierKey, Witnesses, cosign, open_checkpoint
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.leaf import Kind
from portage_p2pbin.kernel.model import Sha256
from tests.leaf_rows import LeafRows
from tests.makers import NOW, new_key

ORIGIN = "server.example/log/1"
WITNESS = VerifierKey.of("witness.example", KeyKind.WITNESS, new_key(9))
ALL = 10**9


def alone(note, tree):
    return note


def body(number):
    return Sha256(hashlib.sha256(f"body {number}".encode()).hexdigest())


def fill(rows, count):
    """Log `count` more bodies; returns their places."""
    start = len(rows.rows)
    return [append(rows, 1, Kind.VOTE, body(number), NOW + timedelta(seconds=number)) for number in range(start, start + count)]


def published(folder, witnesses=Witnesses(), key=1):  # noqa: B008
    return PublishedLog(folder / "log", 1, ORIGIN, new_key(key), witnesses)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Appending


def test_places_are_numbered_from_zero():
    assert [place.index for place in fill(LeafRows(), 3)] == [0, 1, 2]


def test_the_same_body_has_one_place():
    rows = LeafRows()
    first = append(rows, 1, Kind.VOTE, body(1), NOW)
    assert append(rows, 1, Kind.VOTE, body(1), NOW + timedelta(days=1)) == first
    assert append(rows, 1, Kind.CERTIFICATE, body(1), NOW).index == 1
    assert len(rows.rows) == 2


def test_every_epoch_counts_for_itself():
    rows = LeafRows()
    append(rows, 1, Kind.VOTE, body(1), NOW)
    assert append(rows, 2, Kind.VOTE, body(2), NOW).index == 0


def test_a_clock_set_back_does_not_set_the_log_back():
    rows = LeafRows()
    append(rows, 1, Kind.VOTE, body(1), NOW)
    assert append(rows, 1, Kind.VOTE, body(2), NOW - timedelta(days=1)).time == NOW


def test_a_leaf_tells_nothing_of_its_body():
    one, other = LeafRows(), LeafRows()
    append(one, 1, Kind.VOTE, body(1), NOW)
    append(other, 1, Kind.VOTE, body(1), NOW)
    assert one.rows[0].entry != other.rows[0].entry
    assert body(1).encode() not in one.rows[0].entry


def test_an_erased_body_may_be_logged_again():
    rows = LeafRows()
    append(rows, 1, Kind.VOTE, body(1), NOW)
    rows.erase(0)
    assert append(rows, 1, Kind.VOTE, body(1), NOW).index == 1


# Publishing


@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [256], [300, 1, 700], [66_000, 1]])
def test_the_files_lead_to_every_leaf(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(durable, "write", lambda path, data: path.write_bytes(data))
    rows = LeafRows()
    out = published(tmp_path)
    for count in steps:
        fill(rows, count)
        head = out.publish(rows, ALL, alone)
    assert head.size == len(rows.rows)
    tree = out.tree()
    levels = merkle.levels_above([merkle.leaf_hash(row.entry) for row in rows.rows])
    assert head.root == merkle.root(head.size, lambda level, index: levels[level][index])
    for index in {0, steps[0] - 1, head.size // 2, head.size - 1}:
        row = rows.rows[index]
        proof = merkle.inclusion_proof(index, head.size, tree.node)
        merkle.check_inclusion(row.place.leaf_hash(row.kind, row.body), index, head.size, proof, head.root)


def test_entries_lie_beside_their_tiles(tmp_path):
    rows = LeafRows()
    fill(rows, 3)
    out = published(tmp_path)
    out.publish(rows, ALL, alone)
    data = out.file("tile/entries/000.p/3").read_bytes()
    assert data == b"".join(len(row.entry).to_bytes(2, "big") + row.entry for row in rows.rows)


def test_the_empty_log_has_a_checkpoint(tmp_path):
    out = published(tmp_path)
    assert out.publish(LeafRows(), ALL, alone).size == 0
    assert open_checkpoint(out.file("checkpoint").read_bytes(), out.verifier, Witnesses()).head.root == merkle.EMPTY


def test_publishing_again_changes_nothing(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    published(tmp_path).publish(rows, ALL, alone)
    before = files(tmp_path)
    published(tmp_path).publish(rows, ALL, alone)
    assert files(tmp_path) == before


def test_no_more_is_published_than_is_backed_up(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    assert published(tmp_path).publish(rows, 3, alone).size == 3
    assert published(tmp_path).publish(rows, 0, alone).size == 3
    assert published(tmp_path).publish(rows, 5, alone).size == 5


def test_a_lost_folder_is_made_again_from_the_rows(tmp_path):
    rows = LeafRows()
    fill(rows, 300)
    head = published(tmp_path).publish(rows, ALL, alone)
    before = files(tmp_path)
    shutil.rmtree(tmp_path / "log")
    assert published(tmp_path).publish(rows, ALL, alone) == head
    assert files(tmp_path) == before


def test_parts_of_a_tile_go_when_it_is_full(tmp_path):
    rows = LeafRows()
    out = published(tmp_path)
    for count in (10, 300):
        fill(rows, count)
        out.publish(rows, ALL, alone)
    assert out.file("tile/0/000.p/10") is out.file("tile/entries/000.p/10") is None
    assert out.file("tile/0/000") is not None
    assert out.file("tile/0/001.p/54") is not None


def test_the_tiles_are_on_disk_before_the_checkpoint(tmp_path, monkeypatch):
    written = []
    write = durable.write
    monkeypatch.setattr(durable, "write", lambda path, data, mode=0o644: (written.append(path.name), write(path, data, mode)))
    rows = LeafRows()
    fill(rows, 300)
    published(tmp_path).publish(rows, ALL, alone)
    assert written.index("checkpoint") == len(written) - 1


# What must not become a fork


def test_a_store_that_lost_leaves_is_refused(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    published(tmp_path).publish(rows, ALL, alone)
    with pytest.raises(SettingsError, match="has 4 leaves of the log, but 5 were published"):
        published(tmp_path).publish(LeafRows(rows.rows[:4]), ALL, alone)


def test_a_store_with_a_gap_is_refused(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    with pytest.raises(SettingsError, match="lacks some of the leaves 0 to 5"):
        published(tmp_path).publish(LeafRows(rows.rows[:2] + rows.rows[3:]), ALL, alone)


def test_a_leaf_that_changed_is_refused(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    published(tmp_path).publish(rows, ALL, alone)
    rows.rows[2] = replace(rows.rows[2], kind=Kind.ROSTER)
    fill(rows, 1)
    with pytest.raises(SettingsError, match="between 0 and 5 are not those that were published"):
        published(tmp_path).publish(rows, ALL, alone)
    assert published(tmp_path).head().size == 5


def test_a_tile_that_changed_is_refused(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    out = published(tmp_path)
    out.publish(rows, ALL, alone)
    out.file("tile/0/000.p/5").write_bytes(bytes(160))
    fill(rows, 1)
    with pytest.raises(RefusedError, match="do not lead to the root"):
        out.publish(rows, ALL, alone)


def test_a_tile_that_is_missing_is_not_made_up(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    out = published(tmp_path)
    out.publish(rows, ALL, alone)
    out.file("tile/0/000.p/5").unlink()
    fill(rows, 1)
    with pytest.raises(SettingsError, match=r"tile/0/000\.p/5 of the log is missing"):
        out.publish(rows, ALL, alone)


def test_a_file_of_other_bytes_is_an_alarm(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    target = tmp_path / "log/tile/0/000.p/5"
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(160))
    with pytest.raises(SettingsError, match=r"tile/0/000\.p/5 of the log is not what the store says"):
        published(tmp_path).publish(rows, ALL, alone)
    assert published(tmp_path).head().size == 0


def test_another_key_does_not_go_on_with_the_log(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    published(tmp_path).publish(rows, ALL, alone)
    with pytest.raises(SettingsError, match="published with another key"):
        published(tmp_path, key=2).publish(rows, ALL, alone)


# Witnesses


def witness(note, tree):
    return note + cosign(note, WITNESS.name, new_key(9), 1_700_000_000)


def test_without_its_witnesses_a_checkpoint_is_not_published(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    out = published(tmp_path, Witnesses((WITNESS,), 1))
    with pytest.raises(RefusedError, match=r"P8\.5.*0 of the 1 witnesses"):
        out.publish(rows, ALL, alone)
    assert out.head().size == 0
    assert out.publish(rows, ALL, witness).size == 5


def test_a_new_witness_sees_what_is_published_already(tmp_path):
    rows = LeafRows()
    fill(rows, 5)
    published(tmp_path).publish(rows, ALL, alone)
    demanding = Witnesses((WITNESS,), 1)
    published(tmp_path, demanding).publish(rows, ALL, witness)
    note = published(tmp_path).file("checkpoint").read_bytes()
    assert open_checkpoint(note, published(tmp_path).verifier, demanding).head.size == 5


# Serving


@pytest.mark.parametrize("path", ["../secret", ".lock", "tile/0/../../../secret", "", "tile", "checkpoint/"])
def test_nothing_else_is_served(tmp_path, path):
    (tmp_path / "secret").write_text("x")
    out = published(tmp_path)
    out.publish(LeafRows(), ALL, alone)
    assert out.file(path) is None


def test_log_publishes_in_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "STEP", 4)
    rows = LeafRows()
    fill(rows, 10)
    signed = []
    published(tmp_path).publish(rows, ALL, lambda note, tree: signed.append(tree.size) or note)
    assert signed == [4, 8, 10]
