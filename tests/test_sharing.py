from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from portage_p2pbin.gentoo.sharing import check_files, check_identity, check_name, reasons_to_withhold
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Cpv
from tests.makers import DEFINITION, REQUEST


def definition(**changes):
    return replace(DEFINITION, request=replace(REQUEST, **changes))


class Licences:
    """Portage's own evaluation of licences, with two groups."""

    def expandLicenseTokens(self, tokens):  # noqa: N802
        assert tokens == ["@BINARY-REDISTRIBUTABLE"]
        return ["GPL-2", "MIT"]

    def _getMaskedLicenses(self, asked, acceptable):  # noqa: N802
        from portage.package.ebuild._config.LicenseManager import LicenseManager

        return LicenseManager._getMaskedLicenses(self, asked, acceptable)


def build(tmp_path, cpv="app-misc/hello-2.10", **info):
    scanelf = tmp_path / "scanelf"
    scanelf.write_text("#!/bin/sh\n")
    scanelf.chmod(0o755)
    values = {"LICENSE": "GPL-2", "USE": "nls"} | info
    return SimpleNamespace(
        cpv=Cpv(cpv),
        info=lambda name: values.get(name, ""),
        environment={"PATH": str(tmp_path)},
        portage=SimpleNamespace(settings=SimpleNamespace(_license_manager=Licences())),
    )


def test_nothing_speaks_against_an_ordinary_package(tmp_path):
    assert list(reasons_to_withhold(build(tmp_path, RESTRICT="mirror test"))) == []


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"RESTRICT": "mirror bindist"}, "RESTRICT=bindist"),
        ({"RESTRICT": "fetch"}, "RESTRICT=fetch"),
        ({"PROPERTIES": "live"}, "live ebuild"),
        ({"cpv": "app-misc/hello-9999"}, "live ebuild"),
        ({"cpv": "app-misc/hello-1.99999-r1"}, "live ebuild"),
        ({"LICENSE": "Secret"}, "its licence Secret is not in @BINARY-REDISTRIBUTABLE"),
        ({"LICENSE": "GPL-2 Secret"}, "its licence Secret"),
        ({"LICENSE": "nls? ( Secret )"}, "its licence Secret"),
        ({"LICENSE": "|| ( Secret Other )"}, "its licence Secret"),
        ({"LICENSE": "|| ( GPL-2"}, "licence"),
    ],
)
def test_each_reason_alone(tmp_path, info, reason):
    (found,) = reasons_to_withhold(build(tmp_path, **info))
    assert reason in found


@pytest.mark.parametrize("licence", ["|| ( Secret MIT )", "static? ( Secret ) MIT", ""])
def test_a_licence_that_may_be_chosen_is_enough(tmp_path, licence):
    assert list(reasons_to_withhold(build(tmp_path, LICENSE=licence))) == []


def test_without_scanelf_files_are_not_stripped(tmp_path):
    found = build(tmp_path)
    (tmp_path / "scanelf").unlink()
    (reason,) = reasons_to_withhold(found)
    assert "no scanelf" in reason


def test_what_the_user_keeps_to_himself():
    check_name(DEFINITION, ["games-*/*", "app-misc/hell", "=app-misc/hello-2", "app-misc/hello::other"])
    for atom in ("app-misc/*", "app-misc/hello", "=app-misc/hello-2.10-r1", "app-misc/hello:0", "*/*::test"):
        with pytest.raises(RefusedError, match=r"P10\.2.*you keep") as refused:
            check_name(DEFINITION, ["games-*/*", atom])
        assert atom in str(refused.value)


def test_an_exclusion_that_is_no_atom():
    with pytest.raises(SettingsError, match="'games' is no package atom"):
        check_name(DEFINITION, ["games"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"build_path": "/home/joe/tmp"}, "build path names a home"),
        ({"build_path": "/root/tmp"}, "build path names a home"),
        ({"flags": {"CFLAGS": "-O2 -ffile-prefix-map=/home/joe=x"}}, "CFLAGS names a home"),
        ({"flags": {"LDFLAGS": "-L/srv/tower/lib"}}, "LDFLAGS names this machine"),
        ({"flags": {"LDFLAGS": "-L/srv/TOWER/lib"}}, "LDFLAGS names this machine"),
        ({"install_mask": ("INSTALL_MASK=/etc/tower.conf",)}, "INSTALL_MASK names this machine"),
        ({"eprefix": "/opt/gentoo", "build_path": "/opt/gentoo/home/joe/tmp"}, "build path names a home"),
    ],
)
def test_a_definition_that_tells_whose_it_is(changes, reason):
    with pytest.raises(RefusedError, match=rf"P10\.2.*{reason}"):
        check_identity(definition(**changes), "tower")


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({}, "tower"),
        ({"eprefix": "/home/joe/gentoo", "build_path": "/home/joe/gentoo/var/tmp"}, "tower"),
        ({"build_path": "/var/lib/gentoo/tmp"}, "gentoo"),
        ({"build_path": "/var/towers/tmp"}, "tower"),
        ({"build_path": "/srv/home/tmp"}, "tower"),
    ],
)
def test_a_definition_that_could_be_anybodys(changes, host):
    check_identity(definition(**changes), host)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ssh/ssh_host_ed25519_key",
        "/usr/share/x/id_rsa",
        "etc/ssl/private/server.key",
        "/usr/share/x/privkey.pem",
        "/usr/share/x/my-key.pem",
        "/etc/shadow",
        "/etc/machine-id",
        "/usr/share/x/.netrc",
        "/var/lib/x/.ssh/config",
        "/etc/hostname",
        "/home/joe/notes",
        "/root/notes",
    ],
)
@pytest.mark.parametrize("eprefix", ["", "/opt/gentoo"])
def test_files_that_look_private(path, eprefix):
    with pytest.raises(RefusedError, match=r"app-misc/hello-2\.10-r1 refused by P10\.2"):
        check_files(definition(eprefix=eprefix), ["/usr/bin/hello", f"{eprefix}/{path.lstrip('/')}"])


def test_files_of_ordinary_packages():
    paths = [
        "/usr/bin/ssh-keygen",
        "/etc/ssl/certs/ca.pem",
        "/usr/share/x/id_rsa.pub",
        "/usr/share/doc/x/keys.html",
        "/home",
        "/root",
        "/usr/share/hostname",
        "/usr/lib/python3.12/netrc.py",
        "usr/share/monkey.pem",
    ]
    check_files(DEFINITION, paths)
    check_files(definition(eprefix="/home/joe/gentoo"), ["/home/joe/gentoo/usr/bin/x"])


def test_the_hook_in_etc_is_the_one_that_builds_are_checked_for():
    from portage_p2pbin.gentoo.local_changes import HOOK

    code = [line for line in Path("etc/bashrc").read_text().splitlines(keepends=True) if not line.startswith("#")]
    assert "".join(code) == HOOK
