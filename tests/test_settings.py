from pathlib import Path

import pytest

from portage_p2pbin.gentoo.settings import read_rules, read_settings, read_trust, split_uri
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Channel, Cpv, Level

SECTION = """\
[p2pbin]
sync-uri = p2pbin://trust.example.org:8443/amd64-test
fetchcommand = p2pbin-fetch "${URI}" "${DISTDIR}/${FILE}"
verify-signature = false
"""
HOST, CHANNEL = "trust.example.org:8443", Channel("amd64-test")


@pytest.fixture
def eprefix(tmp_path):
    write(tmp_path, "etc/portage/make.conf", 'P2PBIN_TRUST="3"\n')
    write(tmp_path, "etc/portage/binrepos.conf", SECTION)
    return tmp_path


def write(eprefix, path, text):
    file = eprefix / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def trust(eprefix, **environment):
    return read_settings(eprefix, environment).thresholds.default


@pytest.mark.parametrize("level", range(1, 7))
def test_trust_is_a_level(level):
    assert read_trust(str(level)) == Level(level)


@pytest.mark.parametrize("text", ["7", "0", "abc", "", None, " 3", "3\n", "03", "٣", "1_0", "-1"])
def test_anything_else_is_refused_and_the_line_says_what_to_write(text):
    with pytest.raises(SettingsError, match=r'P2PBIN_TRUST="3"') as refused:
        read_trust(text)
    assert "make.conf" in str(refused.value)


def test_make_conf_is_read_as_portage_reads_it(eprefix):
    write(eprefix, "etc/portage/make.conf", "# a comment\nLEVEL='2'\nexport P2PBIN_TRUST=${LEVEL}\n")
    assert trust(eprefix) == Level(2)


def test_make_conf_may_source_and_be_a_folder(eprefix):
    (eprefix / "etc/portage/make.conf").unlink()
    write(eprefix, "etc/portage/make.conf/10-trust", 'P2PBIN_TRUST="1"\n')
    write(eprefix, "etc/portage/make.conf/20-more", 'source "${EPREFIX}/etc/portage/more"\n')
    write(eprefix, "etc/portage/make.conf/30-backup~", 'P2PBIN_TRUST="6"\n')
    write(eprefix, "etc/portage/more", 'P2PBIN_TRUST="4"\n')
    assert trust(eprefix) == Level(4)


def test_the_older_place_of_make_conf_counts_too(eprefix):
    write(eprefix, "etc/make.conf", 'P2PBIN_TRUST="1"\nPKGDIR="/old"\n')
    settings = read_settings(eprefix, {})
    assert settings.thresholds.default == Level(3)
    assert settings.pkgdir == Path("/old")


def test_the_environment_goes_before_make_conf(eprefix):
    assert trust(eprefix, P2PBIN_TRUST="1") == Level(1)


@pytest.mark.parametrize("text", ['P2PBIN_TRUST="3', "P2PBIN_TRUST 3\n", 'source "/nowhere/at/all"\n'])
def test_a_broken_make_conf_is_named(eprefix, text):
    write(eprefix, "etc/portage/make.conf", text)
    with pytest.raises(SettingsError, match=r"etc/portage/make\.conf cannot be read"):
        read_settings(eprefix, {})


def test_features_are_stacked(eprefix):
    write(eprefix, "usr/share/portage/config/make.globals", 'FEATURES="sandbox news"\n')
    write(eprefix, "share/portage/config/make.globals", 'FEATURES="sandbox news"\n')
    write(eprefix, "etc/portage/make.conf", 'P2PBIN_TRUST="3"\nFEATURES="${FEATURES} splitdebug -news"\n')
    assert read_settings(eprefix, {}).features == {"sandbox", "splitdebug"}
    assert read_settings(eprefix, {"FEATURES": "nostrip -splitdebug"}).features == {"sandbox", "nostrip"}
    assert read_settings(eprefix, {"FEATURES": "-* nostrip"}).features == {"nostrip"}


def test_pkgdir_is_portages(eprefix):
    assert read_settings(eprefix, {}).pkgdir == eprefix / "var/cache/binpkgs"
    write(eprefix, "etc/portage/make.conf", 'P2PBIN_TRUST="3"\nPKGDIR="${EPREFIX}/packages"\n')
    assert read_settings(eprefix, {}).pkgdir == eprefix / "packages"
    assert read_settings(eprefix, {"PKGDIR": "/srv/packages"}).pkgdir == Path("/srv/packages")


def test_another_configuration_root(eprefix, tmp_path):
    write(tmp_path / "other", "etc/portage/make.conf", 'P2PBIN_TRUST="6"\n')
    assert trust(eprefix, PORTAGE_CONFIGROOT=str(tmp_path / "other")) == Level(6)


def test_a_section_without_location_gets_portages(eprefix):
    found = read_settings(eprefix, {}).repository(HOST, CHANNEL)
    assert (found.name, found.host, found.channel) == ("p2pbin", HOST, CHANNEL)
    assert found.location == eprefix / "var/cache/binhost/p2pbin"


def test_sections_of_others_are_left_alone(eprefix):
    write(eprefix, "etc/portage/binrepos.conf", SECTION + "[gentoo]\nsync-uri = https://distfiles.gentoo.org/x\n")
    assert len(read_settings(eprefix, {}).repositories) == 1


def test_a_call_for_a_repository_that_is_not_there(eprefix):
    with pytest.raises(SettingsError, match="has sync-uri = p2pbin://trust"):
        read_settings(eprefix, {}).repository("trust.example.org", Channel("other"))


def test_signed_packages_cannot_be_asked_for(eprefix):
    settings = read_settings(eprefix, {"FEATURES": "binpkg-request-signature"})
    with pytest.raises(SettingsError, match="Take it out of FEATURES"):
        settings.repository(HOST, CHANNEL)


@pytest.mark.parametrize("where", ["make.conf", "environment"])
def test_with_portage_binhost_packages_would_land_in_pkgdir(eprefix, where):
    environment = {"PORTAGE_BINHOST": "https://example.org"} if where == "environment" else {}
    write(eprefix, "etc/portage/make.conf", 'P2PBIN_TRUST="3"\n' + ("" if environment else 'PORTAGE_BINHOST="https://example.org"\n'))
    with pytest.raises(SettingsError, match="Take PORTAGE_BINHOST out"):
        read_settings(eprefix, environment).repository(HOST, CHANNEL)


@pytest.mark.parametrize(
    ("location", "pkgdir"),
    [("/srv/p", "/srv/p"), ("/srv/p/p2pbin", "/srv/p"), ("/srv", "/srv/p"), ("/srv/q/../p", "/srv/p")],
)
def test_the_location_lies_outside_pkgdir(eprefix, location, pkgdir):
    write(eprefix, "etc/portage/binrepos.conf", f"{SECTION}location = {location}\n")
    with pytest.raises(SettingsError, match="lie in each other"):
        read_settings(eprefix, {"PKGDIR": pkgdir}).repository(HOST, CHANNEL)


def test_a_symlink_to_pkgdir_is_not_outside(eprefix):
    (eprefix / "packages").mkdir()
    (eprefix / "elsewhere").symlink_to(eprefix / "packages")
    write(eprefix, "etc/portage/binrepos.conf", f"{SECTION}location = {eprefix}/elsewhere\n")
    with pytest.raises(SettingsError, match="lie in each other"):
        read_settings(eprefix, {"PKGDIR": f"{eprefix}/packages"}).repository(HOST, CHANNEL)


@pytest.mark.parametrize(
    "uri",
    [
        "p2pbin://example.org",
        "p2pbin:///amd64",
        "p2pbin://example.org/a/b",
        "p2pbin://example.org/../etc",
        "p2pbin://user@example.org/amd64",
        "p2pbin://example.org/amd64?x",
        "p2pbin://example.org/amd64#x",
        "p2pbin://exa mple.org/amd64",
        "https://example.org/amd64",
        "p2pbin://example.org:x/amd64",
        "p2pbin://[::1/amd64",
    ],
)
def test_a_sync_uri_names_a_host_and_a_channel(uri):
    with pytest.raises(SettingsError, match="p2pbin://HOST/CHANNEL"):
        split_uri(uri)


def test_hosts_with_port_and_addresses():
    assert split_uri("p2pbin://127.0.0.1:8000/amd64") == ("127.0.0.1:8000", Channel("amd64"))
    assert split_uri("p2pbin://[::1]:8000/amd64/") == ("[::1]:8000", Channel("amd64"))


GLIBC = Cpv("sys-libs/glibc-2.38-r5")


def threshold(eprefix, rules, cpv=GLIBC, slot="2.2", repository="gentoo"):
    write(eprefix, "etc/portage/package.p2pbin", rules)
    return read_settings(eprefix, {}).thresholds.for_(cpv, slot, repository)


@pytest.mark.parametrize("rule", ["*/*::gentoo 6", "*/*:2.2 6", "=app-misc/hello-1* 6"])
def test_one_odd_name_in_an_index_breaks_no_rule(eprefix, rule):
    """Portage knows no such package; else everybody with such a rule would be left without an index."""
    assert threshold(eprefix, f"{rule}\n", Cpv("app-misc/hello-1-2")) in (Level(1), Level(3))


def test_without_a_rule_the_default_counts(eprefix):
    assert read_settings(eprefix, {}).thresholds.for_(GLIBC, "2.2", "gentoo") == Level(3)
    assert threshold(eprefix, "sys-apps/* 1\n") == Level(3)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("*/*", "sys-libs/*"),
        ("*/*", "*/glibc"),
        ("sys-*/*", "sys-libs/*"),
        ("sys-libs/*", "sys-libs/gl*"),
        ("sys-libs/*", "sys-libs/glibc"),
        ("=sys-libs/*-*2*", "sys-libs/glibc"),
        ("sys-libs/glibc", "sys-libs/glibc:2.2"),
        ("sys-libs/glibc", "sys-libs/glibc::gentoo"),
        ("sys-libs/glibc::gentoo", "sys-libs/glibc:2.2"),
        ("sys-libs/glibc", ">=sys-libs/glibc-2"),
        ("sys-libs/glibc:2.2", "<sys-libs/glibc-3"),
        (">sys-libs/glibc-2", "=sys-libs/glibc-2.38*"),
        ("=sys-libs/glibc-2.38*", "~sys-libs/glibc-2.38"),
        ("~sys-libs/glibc-2.38", "=sys-libs/glibc-2.38-r5"),
        ("=sys-libs/glibc-2.38-r5", "=sys-libs/glibc-2.38-r5:2.2"),
    ],
)
def test_the_most_specific_atom_wins_whatever_its_place(eprefix, less, more):
    assert threshold(eprefix, f"{less} 6\n{more} 2\n") == Level(2)
    assert threshold(eprefix, f"{more} 5\n{less} 1\n") == Level(5)


@pytest.mark.parametrize("pair", [("<sys-libs/glibc-3", ">sys-libs/glibc-2"), ("sys-libs/glibc", "sys-libs/glibc")])
def test_of_two_that_are_equally_specific_the_stricter_wins(eprefix, pair):
    assert threshold(eprefix, f"{pair[0]} 2\n{pair[1]} 5\n") == threshold(eprefix, f"{pair[0]} 5\n{pair[1]} 2\n") == Level(2)


@pytest.mark.parametrize(
    "atom", ["=sys-libs/glibc-2.38", "<sys-libs/glibc-2", "sys-libs/glibc:2", "sys-libs/glibc::other", "sys-libs/glib", "games-*/*"]
)
def test_an_atom_that_does_not_match_does_not_count(eprefix, atom):
    assert threshold(eprefix, f"{atom} 1\n") == Level(3)


def test_a_sub_slot_is_understood(eprefix):
    assert threshold(eprefix, "sys-libs/glibc:2 1\n", slot="2/3.4") == Level(1)
    assert threshold(eprefix, "sys-libs/glibc:2/3.4 1\n", slot="2/3.4") == Level(1)
    assert threshold(eprefix, "sys-libs/glibc:2/3.5 1\n", slot="2/3.4") == Level(3)


def test_package_p2pbin_may_be_a_folder_with_comments(eprefix):
    write(eprefix, "etc/portage/package.p2pbin/system", "# the base\n\nsys-libs/*  1  # strict\n")
    write(eprefix, "etc/portage/package.p2pbin/games", "games-*/* 6\n")
    thresholds = read_settings(eprefix, {}).thresholds
    assert thresholds.for_(GLIBC, "2.2", "gentoo") == Level(1)
    assert thresholds.for_(Cpv("games-misc/cowsay-3"), "0", "gentoo") == Level(6)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sys-libs/*", "is no rule"),
        ("sys-libs/* 7", "is no rule"),
        ("sys-libs/* 1 2", "is no rule"),
        ("sys-libs/* ٣", "is no rule"),
        ("sys-libs 1", "no package atom"),
        ("sys-libs/glibc-2.38 1", "no package atom"),
        ("!sys-libs/glibc 1", "blocker"),
        ("sys-libs/glibc[nls] 1", "USE flags"),
    ],
)
def test_a_line_that_is_no_rule_is_named(eprefix, line, reason):
    write(eprefix, "etc/portage/package.p2pbin", f"dev-lang/* 1\n{line}\n")
    with pytest.raises(SettingsError, match=f"package.p2pbin, line 2.*{reason}"):
        read_rules(eprefix / "etc/portage/package.p2pbin")


def test_a_missing_package_p2pbin_has_no_rules(eprefix):
    assert read_rules(eprefix / "etc/portage/package.p2pbin") == ()
