import hashlib
import re

import pytest

from portage_p2pbin.gentoo.installed import Installed, atoms_of, installed_digest
from portage_p2pbin.kernel.errors import RefusedError

CONTENTS = b"""\
dir /usr
obj /usr/bin/a file 0123456789abcdef0123456789abcdef 1700000000
obj /usr/bin/b 0123456789abcdef0123456789abcdef 1700000000
obj /usr/lib/b.pyc 0123456789abcdef0123456789abcdef 1700000000
sym /usr/lib/c -> c 1 1700000000
"""


def test_what_is_hashed():
    lines = (
        b"dir /usr\n"
        b"obj /usr/bin/a file 0123456789abcdef0123456789abcdef\n"
        b"obj /usr/bin/b 0123456789abcdef0123456789abcdef\n"
        b"obj /usr/lib/b.pyc -\n"
        b"sym /usr/lib/c -> c 1\n"
    )
    assert installed_digest(CONTENTS) == hashlib.sha256(lines).hexdigest()


def test_a_package_without_files_has_the_digest_of_nothing():
    assert installed_digest(b"") == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"1700000000", b"1800000000"),
        lambda text: b"".join(reversed(text.splitlines(keepends=True))),
        lambda text: re.sub(rb"(b\.pyc )[0-9a-f]+", rb"\1" + b"f" * 32, text),
        lambda text: text.rstrip(b"\n"),
    ],
)
def test_times_and_order_do_not_matter(change):
    assert change(CONTENTS) != CONTENTS
    assert installed_digest(change(CONTENTS)) == installed_digest(CONTENTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"/b 01", b"/b 11"),
        lambda text: text.replace(b"/usr/bin/b", b"/usr/bin/d"),
        lambda text: text.replace(b"-> c 1 ", b"-> c 2 "),
        lambda text: text.replace(b"b.pyc", b"b.pyd"),
        lambda text: text.replace(b"dir /usr\n", b"fif /usr\n"),
        lambda text: text + b"dir /var\n",
    ],
)
def test_everything_else_does(change):
    assert change(CONTENTS) != CONTENTS
    assert installed_digest(change(CONTENTS)) != installed_digest(CONTENTS)


@pytest.mark.parametrize("ending", ["gz", "jar", "pyc", "zip"])
def test_the_formats_that_hold_a_time(ending):
    one, other = (f"obj /x.{ending} {digit * 32} 1\n".encode() for digit in "01")
    assert installed_digest(one) == installed_digest(other)


class Database:
    """As much of vardbapi as is asked: packages by CPV with what they need at run time."""

    def __init__(self, tmp_path, needs):
        self.tmp_path, self.needs = tmp_path, needs
        for cpv in needs:
            (tmp_path / cpv).mkdir(parents=True)

    def match(self, atom):
        return [cpv for cpv in self.needs if cpv.startswith(f"{atom.cp}-")]

    def aux_get(self, cpv, names):
        values = {"RDEPEND": self.needs[cpv], "USE": "nls b a", "EAPI": "8", "SLOT": "0/1"}
        return [values[name] for name in names]

    def getpath(self, cpv, filename=""):
        return str(self.tmp_path / cpv / filename)


def test_what_a_dependency_needs_is_seen_too(tmp_path):
    needs = {
        "a/top-1": "|| ( a/left a/right ) nls? ( a/deep[static,b(+)] ) !a/blocked other? ( a/unused )",
        "a/right-2": "a/top",
        "a/deep-1": ">=a/deeper-1:0/3=",
        "a/deeper-1": "",
        "a/blocked-1": "",
        "a/unused-1": "",
        "a/unrelated-1": "",
    }
    installed = Installed(Database(tmp_path, needs))
    seen = installed.seen_by(atoms_of("x/y-1", "a/top", "", "8"))
    assert seen == ["a/deep-1", "a/deeper-1", "a/right-2", "a/top-1"]


def test_dependencies_that_nobody_can_read_are_refused():
    with pytest.raises(RefusedError, match=r"x/y-1 refused by P1\.2: its dependencies cannot be read"):
        list(atoms_of("x/y-1", "|| ( a/b", "", "8"))


def test_a_dependency_is_its_slot_use_and_files(tmp_path):
    installed = Installed(Database(tmp_path, {"a/b-1": ""}))
    assert installed.dependency("a/b-1").installed == installed_digest(b"")
    (tmp_path / "a/b-1/CONTENTS").write_bytes(CONTENTS)
    found = installed.dependency("a/b-1")
    assert (found.cpv, found.slot, found.use, found.installed) == ("a/b-1", "0/1", ("a", "b", "nls"), installed_digest(CONTENTS))


def test_when_a_package_was_merged(tmp_path):
    installed = Installed(Database(tmp_path, {"a/b-1": ""}))
    merged = (tmp_path / "a/b-1").stat().st_mtime
    assert installed.changed_since("a/b-1", merged - 1)
    assert not installed.changed_since("a/b-1", merged)


def test_the_atoms_are_portages():
    assert [str(atom) for atom in atoms_of("x/y-1", "a/b:= <c/d-2", "", "8")] == ["a/b:=", "<c/d-2"]
