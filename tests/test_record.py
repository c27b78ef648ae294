import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from portage_p2pbin.cli.record import main
from portage_p2pbin.gentoo import record as module
from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.gentoo.record import FOLDER, Record, find_package, find_record, read_record, record_build, recorded
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.wire import canonical
from tests.finished_build import HandMade
from tests.makers import DEFINITION, NOW

RECORD = Record(
    definition=DEFINITION,
    path=Path("/var/cache/binpkgs/app-misc/hello/hello-2.10-r1-1.gpkg.tar"),
    file=Sha256("a" * 64),
    size=12345,
    started=NOW,
    finished=NOW,
    withheld=(),
)


@pytest.fixture
def made(tmp_path, monkeypatch):
    made = HandMade(tmp_path)
    monkeypatch.setattr(FinishedBuild, "of_this_phase", classmethod(lambda cls, environment: made.build()))
    return made


def test_a_record_survives_the_disk():
    for record in (RECORD, replace(RECORD, withheld=("because", "because of that"))):
        assert read_record(record.encode()) == record


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(_type="p2pbin-build-2"), "this program reads"),
        (lambda r: r.update(extra=1), "unknown field 'extra'"),
        (lambda r: r.pop("file"), "'file' is missing"),
        (lambda r: r.update(file="A" * 64), "Sha256"),
        (lambda r: r.update(size=0), "between 1"),
        (lambda r: r.update(size=True), "not of type int"),
        (lambda r: r.update(finished="2026-05-01"), "not a time"),
        (lambda r: r.update(withheld=["x"] * 21), "more than 20"),
        (lambda r: r.update(path="x" * 4097), "longer than 4096"),
        (lambda r: r["request"].update(cpv="../x-1"), "Cpv"),
        (lambda r: r["environment"].reverse(), "not sorted"),
    ],
)
def test_a_record_that_is_valid_but_for_one_thing(change, reason):
    fields = json.loads(replace(RECORD, definition=replace(DEFINITION, programs={"cc": "2" * 64, "ld": "3" * 64})).encode())
    change(fields)
    with pytest.raises(DecodeError, match=reason):
        read_record(canonical(fields))


def test_a_record_has_a_bound(monkeypatch):
    monkeypatch.setattr(module, "MOST_RECORD", 10)
    with pytest.raises(DecodeError, match="more than the 10 allowed"):
        read_record(RECORD.encode())


def test_a_build_is_recorded_under_the_digest_of_its_package(made):
    record = record_build({})
    assert record.path == made.package
    assert record.size == len("the package")
    assert record.finished == datetime.fromtimestamp(1_700_000_100, UTC)
    assert record.withheld == ()
    assert (made.home / FOLDER / f"{record.file}.json").read_bytes() == record.encode()
    assert find_record(made.home, record.file) == record


def test_what_may_not_be_shared_is_recorded_with_its_reasons(made):
    made.put(made.folder / "build-info/RESTRICT", "bindist fetch\n")
    record = record_build({})
    assert len(record.withheld) == 2
    with pytest.raises(RefusedError, match=r"P10\.2: its ebuild says RESTRICT=bindist"):
        find_record(made.home, record.file).check_may_be_shared()


def test_a_build_without_a_definition_is_not_recorded(made):
    made.package_env.append("mine")
    with pytest.raises(RefusedError, match=r"P1\.3"):
        record_build({})
    assert recorded(made.home) == []


def test_what_could_not_be_read_again_is_not_written(made):
    made.settings["INSTALL_MASK"] = " ".join(map(str, range(1001)))
    with pytest.raises(DecodeError, match="'installMask' holds more than 1000"):
        record_build({})
    assert recorded(made.home) == []


def test_a_package_that_is_not_the_one_just_made_is_not_recorded(made):
    made.package.write_text("repackaged")
    with pytest.raises(UnavailableError, match="is the one that Portage has just made"):
        record_build({})
    assert recorded(made.home) == []


@pytest.mark.parametrize(
    "name",
    [
        "hello-2.10-r1.gpkg.tar",
        "hello/hello-2.10-r1-7.gpkg.tar",
        "hello/hello-2.10-r1-4711.gpkg.tar",
        "hello-2.10-r1.tbz2",
        "hello/hello-2.10-r1-1.xpak",
    ],
)
def test_every_name_that_portage_gives(made, name):
    other = made.packages / "app-misc" / name
    made.package.rename(other)
    older = made.put(made.packages / "app-misc/hello/hello-2.10-r1-2.gpkg.tar", "an older build", time=1)
    assert find_package(made.build())[0] == other
    assert older.exists()


def test_a_newer_build_beside_it_does_not_confuse(made):
    newer = made.put(made.packages / "app-misc/hello/hello-2.10-r1-2.gpkg.tar", "a newer build")
    os.utime(newer, (2_000_000_000, 2_000_000_000))
    assert find_package(made.build())[0] == made.package


def test_a_file_without_a_record_is_never_published(made):
    with pytest.raises(RefusedError, match=r"P10\.1: it is not the result of a source build recorded on this machine"):
        find_record(made.home, Sha256("b" * 64))


def test_a_record_under_another_name_is_refused(made):
    file = record_build({}).file
    (made.home / FOLDER / f"{file}.json").rename(made.home / FOLDER / f"{'b' * 64}.json")
    with pytest.raises(DecodeError, match=r"P10\.1: it speaks of"):
        find_record(made.home, Sha256("b" * 64))


def test_records_are_listed_oldest_first(made):
    file = record_build({}).file
    made.put(made.home / FOLDER / f"{'c' * 64}.json", "", time=1)
    made.put(made.home / FOLDER / f".{file}.json.0011", "")
    assert recorded(made.home) == ["c" * 64, file]


def test_the_command_says_one_line_and_ends_with_the_class_of_the_failure(made, capsys):
    assert main([]) == 0
    assert capsys.readouterr() == ("", "")
    made.package_env.append("mine")
    assert main([]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "app-misc/hello-2.10-r1 refused by P1.3" in printed.err


def test_the_command_outside_of_portage(monkeypatch, capsys):
    monkeypatch.delenv("PORTAGE_BUILDDIR", raising=False)
    assert main([]) == 3
    assert "where Portage runs it" in capsys.readouterr().err
