"""The `Packages` text and real emerge (P7.3, P7.5): what Portage does with ours, and what it would do with a server's own."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from portage_p2pbin.gentoo.packages import packages_text, remove_unlisted
from portage_p2pbin.kernel.definition import RepositoryName
from portage_p2pbin.kernel.index import METADATA_KEYS, Entry
from portage_p2pbin.kernel.model import BuildKey, ContentsDigest, Cpv, InfoHash, Level, Sha1, Sha256
from tests.throwaway import Gentoo

URI = "p2pbin://trust.example.org/amd64-test"
LOCATION = "var/cache/binhost/p2pbin"
SECTION = f"""\
[p2pbin]
sync-uri = {URI}
fetchcommand = fetch "${{URI}}" "${{DISTDIR}}/${{FILE}}"
resumecommand = false
verify-signature = false
priority = 10
"""
FETCH = f"""\
#!/bin/sh
echo "${{1#{URI}/}}" >> "$PORTAGE_OVERRIDE_EPREFIX/fetched"
exec cp "$PORTAGE_OVERRIDE_EPREFIX/served/${{1#{URI}/}}" "$2"
"""
SERIAL = 1_800_000_000
GREETER = {
    "BUILD_ID": "1",
    "BUILD_TIME": "1700000000",
    "DEFINED_PHASES": "compile install postinst",
    "EAPI": "8",
    "IUSE": "+frame report",
    "KEYWORDS": "amd64",
    "LICENSE": "GPL-2+",
    "RDEPEND": "app-misc/hello",
    "USE": "amd64 elibc_glibc frame kernel_linux",
}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2pbin-") as folder:
        yield Path(folder, "home")


@pytest.fixture(scope="module")
def built(home: Path) -> list[tuple[Entry, Path]]:
    """The entries of three packages, and their files."""
    with Gentoo.create(home, "builder") as builder:
        builder.emerge("--quiet", "app-misc/dice", "=app-misc/hello-1.1")
        blocks = builder.read("var/cache/binpkgs/Packages").split("\n\n")[1:]
        keys = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if block.strip()]
        return [entry_of(found, builder.outside(f"var/cache/binpkgs/{found['PATH']}")) for found in keys]


def entry_of(found: dict[str, str], file: Path) -> tuple[Entry, Path]:
    data = file.read_bytes()
    entry = Entry(
        cpv=Cpv(found["CPV"]),
        repository=RepositoryName(found["REPO"]),
        build_key=BuildKey("0" * 64),
        contents=ContentsDigest("p2pbin-contents-1:" + "0" * 64),
        level=Level(1),
        file=Sha256(hashlib.sha256(data).hexdigest()),
        sha1=Sha1(hashlib.sha1(data).hexdigest()),  # noqa: S324
        size=len(data),
        info_hash=InfoHash("0" * 40),
        bundle=Sha256("1" * 64),
        serial=SERIAL,
        metadata={name: found[name] for name in METADATA_KEYS if name in found},
    )
    return entry, file


class Client:
    """A Gentoo that fetches what a test serves."""

    def __init__(self, gentoo: Gentoo, built: list[tuple[Entry, Path]]):
        self.gentoo, self.entries = gentoo, [entry for entry, _ in built]
        self.clock = int(time.time())
        gentoo.write("etc/portage/binrepos.conf", SECTION)
        gentoo.write("bin/fetch", FETCH)
        gentoo.outside("bin/fetch").chmod(0o755)
        for entry, file in built:
            gentoo.write(f"served/{entry.path}", "")
            shutil.copy(file, gentoo.outside(f"served/{entry.path}"))

    def entry(self, name: str) -> Entry:
        (found,) = [entry for entry in self.entries if entry.cpv.startswith(name)]
        return found

    def serve(self, *entries: Entry) -> None:
        self.clock += 1
        self.serve_text(packages_text(entries, self.clock).decode())

    def serve_text(self, text: str) -> None:
        self.gentoo.write("served/Packages", text)

    def emerge(self, *arguments: str, expect: int | None = 0) -> str:
        self.gentoo.write("fetched", "")
        return self.gentoo.emerge("--getbinpkg", *arguments, expect=expect).output

    @property
    def fetched(self) -> list[str]:
        """The packages that Portage asked for since the last emerge began."""
        return [line for line in self.gentoo.read("fetched").splitlines() if not line.startswith("Packages")]

    def cached(self, entry: Entry) -> Path:
        return self.gentoo.outside(f"{LOCATION}/{entry.path}")


@pytest.fixture
def client(home: Path, built: list[tuple[Entry, Path]], request: pytest.FixtureRequest) -> Iterator[Client]:
    name = "client"
    with Gentoo.create(home, name, settings={"FEATURES": getattr(request, "param", "")}) as gentoo:
        yield Client(gentoo, built)
    shutil.rmtree(home / name)


@pytest.mark.parametrize("client", ["binpkg-multi-instance", "-binpkg-multi-instance"], indirect=True)
def test_packages_and_what_they_need_come_through_the_fetchcommand(client: Client):
    client.serve(*client.entries)
    client.emerge("--usepkgonly", "app-misc/dice")
    wanted = [client.entry("dev-libs/libdice"), client.entry("app-misc/dice")]
    assert client.fetched == [entry.path for entry in wanted]
    assert client.gentoo.installed() == {entry.cpv for entry in wanted}
    assert all(client.cached(entry).stat().st_size == entry.size for entry in wanted)
    assert client.gentoo.binary_packages() == []


def test_a_cached_file_is_asked_for_again_when_its_entry_changed(client: Client):
    hello = client.entry("app-misc/hello")
    client.serve(hello)
    client.emerge("--usepkgonly", "app-misc/hello")
    client.emerge("--usepkgonly", "app-misc/hello")
    assert client.fetched == []
    client.serve(replace(hello, serial=SERIAL + 1))
    client.emerge("--usepkgonly", "app-misc/hello")
    assert client.fetched == [hello.path]


def test_a_file_that_is_not_listed_any_more_is_not_installed(client: Client):
    hello = client.entry("app-misc/hello")
    client.serve(hello)
    client.emerge("--usepkgonly", "app-misc/hello")
    client.serve()
    assert "no binary packages" in client.emerge("--usepkgonly", "app-misc/hello", expect=1)
    assert remove_unlisted(client.gentoo.outside(LOCATION), set()) == [hello.path]
    client.serve(hello)
    client.emerge("--usepkgonly", "app-misc/hello")
    assert client.fetched == [hello.path]


def test_under_an_empty_index_portage_compiles(client: Client):
    client.serve()
    assert "[ebuild  N     ] app-misc/hello-1.1" in client.emerge("--pretend", "app-misc/hello")


def test_an_index_is_read_only_when_its_timestamp_grew(client: Client):
    client.serve(client.entry("app-misc/hello"))
    client.emerge("--pretend", "app-misc/hello")
    client.serve_text(packages_text([], client.clock).decode())
    assert "[binary  N" in client.emerge("--pretend", "app-misc/hello")
    client.serve()
    assert "[ebuild  N" in client.emerge("--pretend", "app-misc/hello")


def test_a_package_with_other_use_flags_is_compiled(client: Client):
    hello = client.entry("app-misc/hello")
    listed = replace(hello, cpv=Cpv("app-admin/greeter-3.1"), metadata=GREETER)
    client.serve(listed, hello)
    arguments = ("--pretend", "--binpkg-respect-use=y", "app-admin/greeter")
    assert "[binary  N g   ] app-admin/greeter-3.1-1" in client.emerge(*arguments)
    client.gentoo.write("etc/portage/package.use", "app-admin/greeter -frame\n")
    assert "[ebuild  N     ] app-admin/greeter-3.1" in client.emerge(*arguments)


def test_a_new_subslot_rebuilds_what_is_bound_to_it(client: Client):
    client.serve(*client.entries)
    client.emerge("--usepkgonly", "app-misc/dice")
    library = client.entry("dev-libs/libdice")
    ebuilds = "var/db/repos/p2pbin-test/dev-libs/libdice"
    newer = client.gentoo.read(f"{ebuilds}/libdice-1.2.ebuild").replace('SLOT="0/1"', 'SLOT="0/2"')
    client.gentoo.write(f"{ebuilds}/libdice-1.3.ebuild", newer)
    client.serve(*client.entries, replace(library, cpv=Cpv("dev-libs/libdice-1.3"), metadata=dict(library.metadata, SLOT="0/2")))
    planned = client.emerge("--pretend", "--update", "--deep", "@world").splitlines()
    assert any(line.startswith("[binary") and "dev-libs/libdice-1.3-1" in line for line in planned)
    assert any(line.startswith("[ebuild  rR") and "app-misc/dice-0.9" in line for line in planned)


def test_a_package_for_another_machine_is_masked(client: Client):
    hello = client.entry("app-misc/hello")
    client.serve(replace(hello, metadata=dict(hello.metadata, CHOST="aarch64-unknown-linux-gnu")))
    assert "[ebuild  N" in client.emerge("--pretend", "app-misc/hello")


def test_a_file_with_another_sha1_is_not_installed(client: Client):
    hello = client.entry("app-misc/hello")
    client.serve(replace(hello, sha1=Sha1("0" * 40)))
    assert "Failed on SHA1 verification" in client.emerge("--usepkgonly", "app-misc/hello", expect=1)
    assert client.gentoo.installed() == set()


# What Portage would do with a text that somebody else writes.  The first half of each test shows that the trick works.


def test_a_name_that_crashes_emerge(client: Client):
    hello = client.entry("app-misc/hello")
    text = packages_text([hello], client.clock).decode()
    client.serve_text(text.replace("CPV: app-misc/hello-1.1", "CPV: app-misc/hello-1-1"))
    assert "InvalidData" in client.emerge("--pretend", "app-misc/hello", expect=1)
    client.serve(replace(hello, cpv=Cpv("app-misc/hello-1-1")))
    assert "[ebuild  N" in client.emerge("--pretend", "app-misc/hello")


def test_a_uri_header_goes_round_the_fetchcommand(client: Client):
    hello = client.entry("app-misc/hello")
    text = packages_text([hello], client.clock).decode()
    client.serve_text(text.replace("VERSION", f"URI: file://{client.gentoo.eprefix}/served\nVERSION", 1))
    client.emerge("--usepkgonly", "app-misc/hello")
    assert client.fetched == []
    assert client.gentoo.installed() == {hello.cpv}
    assert b"URI" not in packages_text([replace(hello, metadata=dict(hello.metadata, URI="file:///"))], client.clock)


def test_a_ttl_header_freezes_the_index(client: Client):
    text = packages_text([client.entry("app-misc/hello")], client.clock).decode()
    client.serve_text(text.replace("VERSION", "TTL: 1000000\nVERSION", 1))
    client.emerge("--pretend", "app-misc/hello")
    client.serve()
    assert "[binary  N" in client.emerge("--pretend", "app-misc/hello")
    assert b"TTL" not in packages_text([], client.clock)


def test_a_path_leads_out_of_the_location(client: Client):
    hello = client.entry("app-misc/hello")
    path = "../../../../etc/hello-1.1-1.gpkg.tar"
    client.serve_text(packages_text([hello], client.clock).decode().replace(f"PATH: {hello.path}", f"PATH: {path}"))
    client.emerge("--usepkgonly", "app-misc/hello", expect=None)
    assert client.fetched == [path]
    forged = dict(hello.metadata, PATH=path)
    assert f"PATH: {hello.path}\n".encode() in packages_text([replace(hello, metadata=forged)], client.clock)


def test_an_entry_without_mtime_crashes_emerge_once_the_file_is_cached(client: Client):
    hello = client.entry("app-misc/hello")
    client.serve(hello)
    client.emerge("--usepkgonly", "app-misc/hello")
    client.clock += 1
    text = packages_text([hello], client.clock).decode()
    client.serve_text(text.replace(f"MTIME: {hello.serial}\n", ""))
    assert "KeyError: '_mtime_'" in client.emerge("--usepkgonly", "app-misc/hello", expect=None)
    assert f"MTIME: {hello.serial}\n" in text
