"""What a source build leaves behind, with real emerge: a record that another builder's equals, or none (P1.1 to P1.3, P10.1)."""

from __future__ import annotations

import bz2
import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portage_p2pbin.gentoo.local_changes import HOOK
from portage_p2pbin.gentoo.record import FOLDER, Record, read_record
from portage_p2pbin.kernel.consistency import check_definition
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import Sha256
from tests.throwaway import Gentoo

REPOSITORY = "var/db/repos/p2pbin-test"
HELLO = "=app-misc/hello-1.1"

EBUILD = """\
EAPI=8
DESCRIPTION="Made for a test"
HOMEPAGE="https://p2pbin.example.org/"
S="${WORKDIR}"
LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2pbin-") as folder:
        yield Path(folder, "home")


def builder(home: Path, name: str, settings: dict[str, str] | None = None, **environment: str) -> Gentoo:
    gentoo = Gentoo.create(home, name, settings=settings, environment=environment)
    gentoo.write("etc/portage/bashrc", Path("etc/bashrc").read_text())
    return gentoo


@pytest.fixture(scope="module")
def alice(home: Path) -> Iterator[Gentoo]:
    with builder(home, "alice") as gentoo:
        gentoo.emerge("--quiet", "app-misc/dice")
        yield gentoo


def records(gentoo: Gentoo) -> list[Record]:
    """All records, oldest first."""
    files = sorted(gentoo.outside(FOLDER).glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    found = [read_record(file.read_bytes()) for file in files]
    assert [file.stem for file in files] == [record.file for record in found]
    return found


def record_of(gentoo: Gentoo, name: str) -> Record:
    return [record for record in records(gentoo) if record.definition.request.cpv.pf == name][-1]


def put_ebuild(gentoo: Gentoo, name: str, text: str) -> None:
    gentoo.write(f"{REPOSITORY}/app-misc/{name}/{name}-1.ebuild", EBUILD + text)


def test_a_record_is_bound_to_the_file_that_portage_made(alice: Gentoo):
    record = record_of(alice, "dice-0.9")
    package = alice.outside(record.path)
    assert package in alice.binary_packages()
    assert record.file == hashlib.sha256(package.read_bytes()).hexdigest()
    assert record.size == package.stat().st_size
    assert record.started <= record.finished
    record.check_may_be_shared()


def test_the_definition_is_what_was_asked_for(alice: Gentoo):
    request = record_of(alice, "dice-0.9").definition.request
    eprefix = str(alice.eprefix)
    assert (request.repository, request.eapi, request.slot, request.use) == (
        "p2pbin-test",
        "8",
        "0",
        ("amd64", "elibc_glibc", "kernel_linux"),
    )
    assert (request.chost, request.cbuild, request.elibc, request.abi) == ("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu", "glibc", "amd64")
    assert request.flags == {"CFLAGS": "-O2 -pipe", "CXXFLAGS": "-O2 -pipe", "LDFLAGS": "-Wl,-O1 -Wl,--as-needed"}
    assert (request.eprefix, request.build_path) == (eprefix, str(Path(eprefix, "var/tmp")))
    sources = {
        "ebuild": f"{REPOSITORY}/app-misc/dice/dice-0.9.ebuild",
        "eclass/little-make": f"{REPOSITORY}/eclass/little-make.eclass",
        "distfile/dice-0.9.tar": "var/cache/distfiles/dice-0.9.tar",
    }
    assert request.sources == {name: hashlib.sha256(alice.outside(file).read_bytes()).hexdigest() for name, file in sources.items()}


def test_the_environment_is_its_build_dependencies_and_the_toolchain(alice: Gentoo):
    definition = record_of(alice, "dice-0.9").definition
    assert [(one.cpv, one.slot) for one in definition.dependencies] == [("dev-libs/libdice-1.2", "0/1")]
    assert {"bash", "cc", "cc1", "ld", "libc.so.6", "make", "python3", "scanelf", "strip"} <= set(definition.programs)


def test_the_package_says_of_itself_what_the_definition_says(alice: Gentoo):
    entry = alice.outside("var/db/pkg/app-misc/dice-0.9")
    names = ("CATEGORY", "PF", "repository", "EAPI", "SLOT", "CHOST", "CBUILD", "CFLAGS", "CXXFLAGS", "LDFLAGS", "USE")
    metadata = {name: (entry / name).read_text().strip() for name in names}
    ebuild = Sha256(hashlib.sha256((entry / "dice-0.9.ebuild").read_bytes()).hexdigest())
    check_definition(record_of(alice, "dice-0.9").definition, metadata, ebuild)


def test_another_shell_makes_no_other_definition(home: Path, alice: Gentoo):
    foreign = {"TZ": "Asia/Tokyo", "LANG": "C", "LC_ALL": "POSIX", "HOME": "/nonexistent", "CI_TOKEN": "word", "BUILD_ID": "4711"}
    with builder(home, "bob", {"MAKEOPTS": "-j7", "P2PBIN_TRUST": "3"}, **foreign) as bob:
        bob.emerge("--quiet", "app-misc/dice")
        for name in ("dice-0.9", "libdice-1.2"):
            mine, theirs = record_of(alice, name).definition, record_of(bob, name).definition
            assert mine.request == theirs.request
            assert mine.digest == theirs.digest


def test_flags_are_those_of_the_user_whatever_the_ebuild_makes_of_them(alice: Gentoo):
    put_ebuild(alice, "flagger", 'src_compile() { CFLAGS+=" -fno-such-thing"; export CFLAGS; }\n')
    alice.emerge("--quiet", "app-misc/flagger", environment={"CFLAGS": "-O1", "FEATURES": "nodoc"})
    assert alice.read("var/db/pkg/app-misc/flagger-1/CFLAGS") == "-O1 -fno-such-thing\n"
    request = record_of(alice, "flagger-1").definition.request
    assert request.flags["CFLAGS"] == "-O1"
    assert "nodoc" in request.features


def test_the_package_being_replaced_is_what_the_build_saw(alice: Gentoo):
    put_ebuild(alice, "selfish", 'DEPEND="app-misc/seed"\n')
    put_ebuild(alice, "seed", "")
    alice.write(f"{REPOSITORY}/app-misc/seed/seed-2.ebuild", EBUILD + 'DEPEND="<app-misc/seed-2"\n')
    alice.emerge("--quiet", "=app-misc/seed-1")
    alice.emerge("--quiet", "=app-misc/seed-2")
    assert [one.cpv for one in record_of(alice, "seed-2").definition.dependencies] == ["app-misc/seed-1"]


@pytest.mark.parametrize("how", ["--usepkgonly", "--buildpkg=n", "--buildpkgonly"])
def test_only_a_source_merge_is_recorded(alice: Gentoo, how: str):
    before = {record.file for record in records(alice)}
    alice.emerge("--quiet", how, "app-misc/dice")
    assert {record.file for record in records(alice)} == before


def test_quickpkg_is_not_recorded(alice: Gentoo):
    before = {record.file for record in records(alice)}
    alice.run(["quickpkg", "app-misc/dice"])
    assert {record.file for record in records(alice)} == before


def environment_in_package(gentoo: Gentoo, name: str) -> bytes:
    """The environment saved in the newest binary package of `name`."""
    package = max((file for file in gentoo.binary_packages() if file.name.startswith(name)), key=lambda file: file.stat().st_mtime_ns)
    with tarfile.open(package) as outer:
        (member,) = [member for member in outer if Path(member.name).name.startswith("metadata.tar")]
        metadata = subprocess.run(["zstd", "-dc"], input=outer.extractfile(member).read(), stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(metadata)) as inner:
        return bz2.decompress(inner.extractfile("metadata/environment.bz2").read())


def test_the_hook_leaves_nothing_in_the_package(home: Path, alice: Gentoo):
    with Gentoo.create(home, "unhooked") as unhooked:
        for gentoo in (alice, unhooked):
            gentoo.emerge("--quiet", HELLO)
        assert environment_in_package(unhooked, "hello-1.1") == environment_in_package(alice, "hello-1.1")


def hello_is_not_recorded(gentoo: Gentoo, **environment: str) -> str:
    """Build hello, whose merge must succeed without a record; what emerge printed."""
    before = {record.file for record in records(gentoo)}
    output = gentoo.emerge(HELLO, environment=environment).output
    assert {record.file for record in records(gentoo)} == before
    assert output.count("refused by") == 1
    return output


def test_a_patch_of_the_user_is_not_recorded(alice: Gentoo):
    patch = "etc/portage/patches/app-misc/hello/own.patch"
    alice.write(patch, "--- /dev/null\n+++ b/MINE\n@@ -0,0 +1 @@\n+mine\n")
    assert "a patch of your own" in hello_is_not_recorded(alice)
    alice.outside(patch).unlink()


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("etc/portage/bashrc", HOOK + "export MINE=1\n", "bashrc has code of your own"),
        ("etc/portage/env/app-misc/hello", "MINE=1\n", "env/app-misc/hello is code of your own"),
        ("etc/portage/profile/profile.bashrc", "MINE=1\n", "profile.bashrc is code of your own"),
        ("etc/portage/package.env", "app-misc/hello mine\n", "package.env gives it"),
    ],
)
def test_code_and_settings_of_the_user_are_not_recorded(alice: Gentoo, file: str, text: str, reason: str):
    alice.write("etc/portage/env/mine", 'MAKEOPTS="-j1"\n')
    alice.write(file, text)
    try:
        assert reason in hello_is_not_recorded(alice)
    finally:
        alice.outside(file).unlink()
        alice.write("etc/portage/bashrc", Path("etc/bashrc").read_text())


@pytest.mark.parametrize("name", ["EXTRA_ECONF", "CC"])
def test_a_setting_that_the_definition_cannot_say_is_not_recorded(alice: Gentoo, name: str):
    assert f"{name} is set by you" in hello_is_not_recorded(alice, **{name: "gcc"})


def test_a_source_that_changes_while_it_is_built_is_not_recorded(alice: Gentoo):
    put_ebuild(alice, "shifty", 'src_compile() { echo "changed" > "${FILESDIR}/data"; }\n')
    alice.write(f"{REPOSITORY}/app-misc/shifty/files/data", "as it was\n")
    assert "files/data changed while it was built" in alice.emerge("app-misc/shifty").output
    assert all(record.definition.request.cpv.pf != "shifty-1" for record in records(alice))


def test_what_may_not_be_shared_is_recorded_with_the_reason(alice: Gentoo):
    alice.emerge("--quiet", "games-misc/riddles")
    record = record_of(alice, "riddles-1.0")
    with pytest.raises(RefusedError, match=r"refused by P10\.2: its ebuild says RESTRICT=bindist"):
        record.check_may_be_shared()
    assert any("Riddles-not-to-be-passed-on is not in @BINARY-REDISTRIBUTABLE" in reason for reason in record.withheld)


def test_a_build_without_the_command_is_merged_all_the_same(alice: Gentoo):
    alice.write("bin/p2pbin-record", "#!/bin/sh\nexit 1\n")
    alice.outside("bin/p2pbin-record").chmod(0o755)
    before = len(records(alice))
    alice.emerge("--quiet", "=app-misc/hello-1.0")
    alice.outside("bin/p2pbin-record").unlink()
    assert "app-misc/hello-1.0" in alice.installed()
    assert len(records(alice)) == before
