import hashlib
import os
from dataclasses import replace

import pytest
from portage.dep import Atom

from portage_p2pbin.gentoo import definition as module
from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.gentoo.definition import CHANGING_FEATURES, build_definition
from portage_p2pbin.gentoo.installed import installed_digest
from portage_p2pbin.kernel.definition import BuildRequest, Dependency
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from tests.finished_build import STARTED, HandMade


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def made(tmp_path):
    return HandMade(tmp_path)


def test_what_was_asked_for(made):
    made.settings["EPREFIX"] = "/opt/gentoo"
    request = build_definition(made.build()).request
    assert request == BuildRequest(
        cpv="app-misc/hello-2.10-r1",
        repository="test",
        eapi="8",
        slot="0/2",
        use=("amd64", "nls"),
        chost="x86_64-pc-linux-gnu",
        cbuild="x86_64-pc-linux-gnu",
        elibc="glibc",
        abi="amd64",
        eprefix="/opt/gentoo",
        flags={"CFLAGS": "-O2 -pipe"},
        features=("splitdebug",),
        install_mask=("INSTALL_MASK=/usr/share/doc", "INSTALL_MASK=*.la", "PKG_INSTALL_MASK=/etc/x"),
        build_path=str(made.home / "tmp"),
        sources={
            "ebuild": sha256("the ebuild"),
            "eclass/toolchain": sha256("an eclass"),
            "files/sub/fix.patch": sha256("a patch"),
            "distfile/hello-2.10.tar.gz": sha256("the sources"),
        },
    )


def test_every_feature_that_changes_what_is_installed_is_in_the_key(made):
    made.put(made.folder / "build-info/FEATURES", " ".join(CHANGING_FEATURES) + " sandbox news ccache")
    assert build_definition(made.build()).request.features == tuple(sorted(CHANGING_FEATURES))


def test_what_it_was_built_with(made):
    found = build_definition(made.build())
    contents = (made.home / "installed/dev-libs/ring-1.2/CONTENTS").read_bytes()
    assert found.dependencies == (Dependency("dev-libs/ring-1.2", "0/1", ("static",), installed_digest(contents)),)
    assert found.programs == {"make": sha256("the program make"), "scanelf": sha256("the program scanelf")}


def test_the_system_set_and_build_dependencies_are_seen_but_not_what_it_needs_later(made):
    for name in ("base", "tool", "later"):
        made.database.add(f"sys-apps/{name}-1")
    made.system_set.append(Atom("sys-apps/base"))
    made.put(made.folder / "build-info/BDEPEND", "sys-apps/tool\n")
    made.put(made.folder / "build-info/RDEPEND", "sys-apps/later\n")
    assert [one.cpv for one in build_definition(made.build()).dependencies] == ["dev-libs/ring-1.2", "sys-apps/base-1", "sys-apps/tool-1"]


def test_a_program_that_a_dependency_owns_is_not_named(made):
    contents = (
        f"obj {made.programs}/make 0123456789abcdef0123456789abcdef 1\nobj {made.programs}/other 0123456789abcdef0123456789abcdef 1\n"
    )
    made.database.add("dev-build/make-4", contents.encode())
    made.system_set.append(Atom("dev-build/make"))
    assert set(build_definition(made.build()).programs) == {"scanelf"}


@pytest.mark.parametrize(
    "which", ["repository/eclass/toolchain.eclass", "repository/app-misc/hello/files/sub/fix.patch", "distfiles/hello-2.10.tar.gz"]
)
def test_a_source_that_changed_since_the_build_began(made, which):
    made.begin_earlier()
    others = [made.home / name for name in ("repository/eclass/toolchain.eclass", "repository/app-misc/hello/files/sub/fix.patch")]
    for other in others:
        if not str(other).endswith(which):
            other.unlink()
    if "eclass" not in which:
        made.put(made.folder / "build-info/INHERITED", "\n")
    with pytest.raises(RefusedError, match=rf"P1\.3: .*{which.rpartition('/')[2]} changed while it was built"):
        build_definition(made.build())


def test_a_dependency_that_was_merged_while_it_was_built(made):
    late = (made.folder / ".setuped").stat().st_mtime + 1
    os.utime(made.home / "installed/dev-libs/ring-1.2", (late, late))
    with pytest.raises(RefusedError, match=r"P1\.2: dev-libs/ring-1\.2 was installed while it was built"):
        build_definition(made.build())


@pytest.mark.parametrize(
    ("limit", "rule"), [("MOST_SOURCES", "P1.3: it has more than 0 sources"), ("MOST_DEPENDENCIES", "P1.2: it could see")]
)
def test_there_are_bounds(made, monkeypatch, limit, rule):
    monkeypatch.setattr(module, limit, 0)
    with pytest.raises(RefusedError, match=rule.replace(".", r"\.")):
        build_definition(made.build())


def test_a_build_with_changes_of_the_user_has_no_definition(made):
    made.package_env.append("mine")
    with pytest.raises(RefusedError, match=r"P1\.3: package\.env gives it mine"):
        build_definition(made.build())


def test_outside_of_a_phase_there_is_no_build():
    with pytest.raises(UnavailableError, match="where Portage runs it"):
        FinishedBuild.of_this_phase({"CATEGORY": "app-misc", "PF": "hello-1"})


def test_the_environment_of_emerge_is_that_of_the_first_process_above_that_is_no_phase(made, monkeypatch):
    # The test runner stands where emerge does: it has no PORTAGE_BUILDDIR.
    build = FinishedBuild.of_this_phase(made.environment)
    assert build.calling["PATH"]
    assert "PORTAGE_BUILDDIR" not in build.calling
    assert build.cpv == "app-misc/hello-2.10-r1"


def test_the_start_is_when_the_first_phase_was_done(made):
    made.begin_earlier()
    assert made.build().started == STARTED


def test_another_folder_is_another_build_path(made):
    build = made.build()
    assert replace(build, folder=type(made.folder)("/var/cache/portage/app-misc/hello-2.10-r1")).build_path == "/var/cache"
