"""Hostile packages under a trusted key: each does its work on a Portage that nobody guards, and p2pbin-fetch refuses it (P9.8).

One honest package is built by real emerge.  Each attack is a copy of it under a name of its own, right but for one thing: its
developer has a trusted key, votes that the file has the honest contents, and a real server with valid signatures lists it.  The same
bytes are then installed by `emerge --usepkgonly`, and what they do as root is looked at.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.gpkg import Gpkg as GpkgReader
from portage_p2pbin.kernel.definition import RepositoryName
from portage_p2pbin.kernel.index import Bundle, file_name, read_bundle
from portage_p2pbin.kernel.model import Cpv, Sha1, Sha256
from portage_p2pbin.kernel.statements import sign_vote
from portage_p2pbin.kernel.torrent import read_torrent
from portage_p2pbin.net.swarm import make_torrent
from tests.faults.test_environments import RUNNING_FUNCTIONS, RUNNING_LINES, TAKEN_OVER, with_function, with_line
from tests.faults.test_packages import pax, record
from tests.handmade import (
    GNU,
    Gpkg,
    archive,
    folder,
    gzipped,
    hard_link,
    manifest_line,
    member,
    metadata_archive,
    nameless,
)
from tests.machine import CLIENT
from tests.makers import REQUEST, VOTE, new_key
from tests.shop import CHANNEL, DEVELOPER, Shelf, Shop, stock
from tests.throwaway import Gentoo
from tests.world import eventually

TEMPLATE = "template"
EBUILD = """\
EAPI=8
DESCRIPTION="Made for a test"
HOMEPAGE="https://p2pbin.example.org/"
S="${WORKDIR}"
LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"
pkg_postinst() {
	elog "It is there now."
	[ -d "${EPREFIX}" ]
	nonfatal die -n "But nothing is wrong."
	cp /dev/null "${EPREFIX}/copied-${PN}"
	env > "${EPREFIX}/seen-${PN}"
	none-of-this-name
}
"""
HONEST, EVIL = b"honest", b"evil"


@dataclass(frozen=True, slots=True)
class Model:
    """The honest package, cleaned: its metadata, of which each attack has a copy under another name."""

    eprefix: str
    metadata: Mapping[str, bytes]

    def named(self, name: str) -> dict[str, bytes]:
        """The metadata of a package called `name` that is the same in all else."""
        one, other = TEMPLATE.encode(), name.encode()
        renamed = {key.replace(TEMPLATE, name): value.replace(one, other) for key, value in self.metadata.items()}
        text = bz2.decompress(self.metadata["environment.bz2"]).replace(one, other)
        return renamed | {"environment.bz2": bz2.compress(text)}

    def place(self, name: str) -> str:
        """The folder of the package `name`, as seen inside."""
        return f"{self.eprefix}/usr/share/{name}"

    def image(self, name: str) -> list[bytes]:
        """The members of its honest image."""
        parts = ("image" + self.place(name)).split("/")
        folders = [folder("/".join(parts[:depth])) for depth in range(1, len(parts) + 1)]
        return [*folders, member(f"image{self.place(name)}/file", HONEST)]

    def honest(self, name: str) -> Gpkg:
        return Gpkg(archive(*self.image(name)), self.named(name), folder=f"{name}-1-1")


@dataclass(frozen=True, slots=True)
class Target:
    """One attack under way: its name, what it is made of, and afterwards the Gentoo in which it was installed."""

    name: str
    model: Model
    gentoo: Gentoo

    @property
    def honest(self) -> Gpkg:
        return self.model.honest(self.name)

    def inner(self, path: str = "file") -> str:
        """The name of one of its files in its image."""
        return f"image{self.model.place(self.name)}/{path}"

    def with_image(self, *members: bytes) -> Gpkg:
        """The package with more members at the end of its image."""
        return self.honest.but(image=archive(*self.model.image(self.name), *members))

    def with_environment(self, change: Callable[[str], str]) -> Gpkg:
        metadata = self.model.named(self.name)
        text = change(bz2.decompress(metadata["environment.bz2"]).decode())
        return self.honest.but(metadata=metadata | {"environment.bz2": bz2.compress(text.encode())})

    def with_metadata(self, **changes: bytes) -> Gpkg:
        return self.honest.but(metadata=self.model.named(self.name) | changes)

    @property
    def trace(self) -> str:
        """The path, as seen inside, of the file that the attack leaves."""
        return f"{self.model.eprefix}/ran-{self.name}"

    def ran(self) -> bool:
        path = self.gentoo.outside(self.trace)
        return path.exists() and path.stat().st_uid == 0

    def installed(self, path: str = "file") -> Path:
        return self.gentoo.outside(f"{self.model.place(self.name)}/{path}")

    def recorded(self, key: str) -> str:
        """What the database of installed packages has for it."""
        return self.gentoo.read(f"var/db/pkg/app-misc/{self.name}-1/{key}")

    def seen(self) -> list[str]:
        """The environment of the programs that pkg_postinst started."""
        return self.gentoo.read(f"seen-{self.name}").splitlines()


def packed(package: Gpkg) -> Gpkg:
    """With gzip round what is not compressed: Portage would unpack that by the victim's BINPKG_COMPRESS, and fail."""
    if not isinstance(package.metadata, bytes):
        package = package.but(metadata=metadata_archive(package.metadata))
    if package.metadata_name == "metadata.tar":
        package = package.but(metadata=gzipped(package.metadata), metadata_name="metadata.tar.gz")
    if package.image_name == "image.tar":
        package = package.but(image=gzipped(package.image), image_name="image.tar.gz")
    return package


@dataclass(frozen=True, slots=True)
class Attack:
    """How a package is made hostile, what p2pbin-fetch says of it, and how it is seen that it works on an unguarded Portage."""

    made: Callable[[Target], Gpkg]
    refused: str
    works: Callable[[Target], bool]


# Environments ------------------------------------------------------------------------------------------------------------------


def line(text: str, refused: str, works: Callable[[Target], bool]) -> Attack:
    """One more line among the variables; %s is the attack's trace."""
    return Attack(lambda at: at.with_environment(lambda old: with_line(old, text.replace("%s", at.trace))), refused, works)


def function(name: str, body: str, refused: str = "would take the place of a command (P2.4)") -> Attack:
    """A function `name` that leaves a trace and does what the command did."""

    def changed(old: str, trace: str) -> str:
        if name in REMOVED_BY_PORTAGE:
            old = with_function(old, "unset", RUNNING_FUNCTIONS["unset"])
        return with_function(old, name, f"touch {trace};\n    {body}")

    return Attack(lambda at: at.with_environment(lambda old: changed(old, at.trace)), refused, Target.ran)


def exported(name: str, value: str, refused: str) -> Attack:
    return line(f'declare -x {name}="{value}"', refused, lambda at: f"{name}={value}" in at.seen())


def with_success_hook(at: Target) -> Gpkg:
    """The hook is a program of the package itself."""
    hooked = at.with_environment(lambda old: with_line(old, f'declare -- EBUILD_SUCCESS_HOOKS="{at.model.place(at.name)}/hook"'))
    script = f"#!/bin/sh\ntouch {at.trace}\n".encode()
    return hooked.but(image=archive(*at.model.image(at.name), member(at.inner("hook"), script, mode=b"0000755\0")))


def with_sitecustomize(at: Target) -> Gpkg:
    """Portage's own filter of environments is a Python program, and starts with a module of the package."""
    hooked = at.with_environment(lambda old: with_line(old, f'declare -x PYTHONPATH="{at.model.place(at.name)}"'))
    script = f"open({at.trace!r}, 'w')\n".encode()
    return hooked.but(image=archive(*at.model.image(at.name), member(at.inner("sitecustomize.py"), script)))


REMOVED_BY_PORTAGE = ("elog", "die")
"""Portage unsets its own functions in an environment before it sources it, unless there is a function called unset."""

REFUSED_FOR = {"LD_AUDIT": "takes over programs at install time (P2.4)"}
ENVIRONMENTS = {
    "success-hook": Attack(with_success_hook, "'EBUILD_SUCCESS_HOOKS' takes over programs at install time (P2.4)", Target.ran),
    "sitecustomize": Attack(with_sitecustomize, "was voted for", Target.ran),
    "second-variable": line(
        'declare -x SLIPS="1" PATH="/hijacked:/usr/bin:/bin"',
        "not a literal value: 'declare -x SLIPS",
        lambda at: any(one.startswith("PATH=") and "/hijacked:" in one for one in at.seen()),
    ),
    **{
        f"variable-{name.lower().replace('_', '-')}": exported(name, value, REFUSED_FOR.get(name, f"it is not cleaned: variable {name}"))
        for name, value in TAKEN_OVER.items()
    },
    **{f"line-{name}": line(text, "(P2.4)", Target.ran) for name, text in RUNNING_LINES.items()},
    **{f"function-{name.replace('_', '-')}": function(name, body) for name, body in RUNNING_FUNCTIONS.items()},
    "function-bracket": function("[", 'builtin [ "$@"', "not a function's definition, or one too many"),
    "function-cp": function("cp", 'command cp "$@"'),
    "function-die": function("die", ":"),
}

# Images ------------------------------------------------------------------------------------------------------------------------


def image(members: Callable[[Target], list[bytes]], refused: str, works: Callable[[Target], bool]) -> Attack:
    """More members at the end of the image."""
    return Attack(lambda at: at.with_image(*members(at)), refused, works)


def there(path: str, content: bytes = EVIL) -> Callable[[Target], bool]:
    """That a file has this content."""
    return lambda at: at.installed(path).is_file() and at.installed(path).read_bytes() == content


def is_setuid(path: str) -> Callable[[Target], bool]:
    return lambda at: at.installed(path).stat().st_mode & 0o7777 == 0o4755 and at.installed(path).stat().st_uid == 0


def _renamed_by_pax(at: Target) -> list[bytes]:
    return [pax(record("path", at.inner("evil")), magic=b"ustar\x0000"), member(at.inner("good"), EVIL)]


IMAGES = {
    "checksum": image(
        lambda at: [member(at.inner("lost"), HONEST, checksum=b"000001\0 "), member(at.inner("lost-too"), HONEST)],
        "a header whose checksum is wrong",
        lambda at: at.installed().exists() and not at.installed("lost").exists() and not at.installed("lost-too").exists(),
    ),
    "setuid-by-hard-link": image(
        lambda at: [hard_link(at.inner("link"), at.inner(), mode=b"0004755\0")], "another mode or owner than its file", is_setuid("file")
    ),
    "dot-slash": image(lambda at: [member("./" + at.inner(), EVIL)], "it is not below a folder that came before it", there("file")),
    "two-slashes": image(
        lambda at: [member(at.inner().replace("image/", "image//", 1), EVIL)], "it is not below a folder that came before it", there("file")
    ),
    "file-with-slash": image(lambda at: [member(at.inner() + "/", EVIL)], "it is not below a folder that came before it", there("file")),
    "prefix-under-gnu": image(
        lambda at: [member(b"evil", EVIL, magic=GNU, prefix=at.inner().rpartition("/")[0].encode())],
        "a name that is split at another slash than the writer's",
        there("evil"),
    ),
    "unknown-type": image(
        lambda at: [member(at.inner("evil"), EVIL, kind=b"Z")], "a member of type b'Z', which a package does not hold", there("evil")
    ),
    "contiguous-type": image(
        lambda at: [member(at.inner("evil"), EVIL, kind=b"7")], "a member of type b'7', which a package does not hold", there("evil")
    ),
    "pax-path": image(_renamed_by_pax, "a member of type b'x', which a package does not hold", there("evil")),
    "pax-size": image(
        lambda at: [pax(record("size", "4")), member(at.inner("evil"), b"", size=b"00000000000\0") + EVIL + bytes(508)],
        "a member of type b'x', which a package does not hold",
        there("evil"),
    ),
    "pax-owner": image(
        lambda at: [
            pax(record("uid", "0") + record("uname", "root")),
            member(at.inner("evil"), EVIL, uid=b"0177776\0", uname=b"nobody", mode=b"0004755\0"),
        ],
        "a member of type b'x', which a package does not hold",
        is_setuid("evil"),
    ),
    "global-pax": image(
        lambda at: [pax(record("path", at.inner("evil")), kind=b"g"), member(at.inner("good"), EVIL)],
        "a member of type b'g', which a package does not hold",
        there("evil"),
    ),
    "underscore-in-mode": image(
        lambda at: [member(at.inner("evil"), EVIL, mode=b"00_4755\0")], "a mode that the writer would not have written", is_setuid("evil")
    ),
    "underscore-in-size": image(
        lambda at: [member(at.inner("evil"), EVIL, size=b"000000000_4\0")],
        "a number that the writer would not have written, in the header of",
        there("evil"),
    ),
    "space-in-size": image(
        lambda at: [member(at.inner("evil"), EVIL, size=b"          4\0")],
        "a number that the writer would not have written, in the header of",
        there("evil"),
    ),
}

# The parts round the image -----------------------------------------------------------------------------------------------------


def with_data_after_the_end(at: Target) -> Gpkg:
    return at.honest.but(image=at.honest.image + archive(member(at.inner("unseen"), EVIL)))


def with_second_image(at: Target) -> Gpkg:
    """Portage takes the first image, and says nothing of the other."""
    evil, honest = packed(at.with_image(member(at.inner("evil"), EVIL))), bz2.compress(at.honest.image)
    manifest = evil.manifest_text() + manifest_line("image.tar.bz2", honest)
    return evil.but(manifest=manifest, after=nameless(f"{evil.folder}/image.tar.bz2", honest))


def packed_in_two(program: str, suffix: str) -> Callable[[Target], Gpkg]:
    """The image as two compressed streams: another reader may stop after the first."""

    def made(at: Target) -> Gpkg:
        whole = at.with_image(member(at.inner("evil"), EVIL)).image
        half = len(b"".join(at.model.image(at.name)))
        streams = [
            subprocess.run([program, "-c"], input=part, stdout=subprocess.PIPE, check=True).stdout for part in (whole[:half], whole[half:])
        ]
        return at.honest.but(image=b"".join(streams), image_name=f"image.tar.{suffix}")

    return made


def with_garbage(at: Target) -> Gpkg:
    return at.honest.but(image=bz2.compress(at.honest.image) + EVIL, image_name="image.tar.bz2")


def with_other_prefix(at: Target) -> Gpkg:
    """Portage moves what was built for another prefix, and rewrites that prefix in the files."""
    prefix = "/another/prefix"
    parts = f"image{prefix}".split("/")
    members = [folder("/".join(parts[:depth])) for depth in range(1, len(parts) + 1)]
    content = f"{prefix}/file\n".encode()
    return at.with_metadata(EPREFIX=f"{prefix}\n".encode()).but(image=archive(*members, member(f"image{prefix}/ran-{at.name}", content)))


def with_changed_ebuild(at: Target) -> Gpkg:
    return at.with_metadata(**{f"{at.name}-1.ebuild": EVIL})


PARTS = {
    "data-after-the-end": Attack(
        with_data_after_the_end, "something follows the end of the archive (P2.2)", lambda at: at.installed().exists()
    ),
    "second-image": Attack(with_second_image, "it does not list the parts of the package, each in its line (P2.2)", there("evil")),
    "two-zstd-frames": Attack(packed_in_two("zstd", "zst"), "something follows its stream (P2.2)", there("evil")),
    "two-gzip-members": Attack(packed_in_two("gzip", "gz"), "something follows its stream (P2.2)", there("evil")),
    "bzip2-garbage": Attack(with_garbage, "something follows its stream (P2.2)", there("file", HONEST)),
    "unknown-key": Attack(
        lambda at: at.with_metadata(UNKNOWN=EVIL),
        "was voted for",
        lambda at: at.recorded("UNKNOWN") == EVIL.decode(),
    ),
    "environment-key": Attack(
        lambda at: at.with_metadata(environment=EVIL),
        "was voted for",
        lambda at: at.recorded("environment") == EVIL.decode(),
    ),
    "other-prefix": Attack(with_other_prefix, "was voted for", lambda at: at.gentoo.read(f"ran-{at.name}") == f"{at.model.eprefix}/file\n"),
    "changed-ebuild": Attack(with_changed_ebuild, "was voted for", lambda at: at.recorded(f"{at.name}-1.ebuild") == EVIL.decode()),
}

ATTACKS = ENVIRONMENTS | IMAGES | PARTS


# The server and the victim -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """The victim, the server, what is listed under each attack's name, and what its file is."""

    gentoo: Gentoo
    shop: Shop
    targets: Mapping[str, Target]
    shelves: Mapping[str, Shelf]

    def fetch(self, name: str) -> tuple[int, str, list[str]]:
        """What p2pbin-fetch returned, what it said, and what is there afterwards."""
        destination = self.gentoo.outside(f"var/tmp/fetched/{name}")
        destination.mkdir(parents=True)
        inside = f"{self.gentoo.eprefix}/var/tmp/fetched/{name}/package"
        finished = self.gentoo.run(
            ["p2pbin-fetch", f"p2pbin://{self.shop.host}/{CHANNEL}/{self.shelves[name].entry.path}", inside], expect=None
        )
        return finished.code, finished.output, sorted(one.name for one in destination.iterdir())


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with (
        tempfile.TemporaryDirectory(prefix="p2pbin-") as home,
        tempfile.TemporaryDirectory(prefix="p2pbin-") as base,
        Gentoo.create(Path(home), "v", settings={"P2PBIN_TRUST": "3"}) as gentoo,
        Shop(Path(base), eprefix=str(gentoo.eprefix)) as shop,
    ):
        model = _model(gentoo)
        targets = {name: Target(name, model, gentoo) for name in ["honest", "by-emerge", *ATTACKS]}
        shelves = {name: _honest_shelf(shop, packed(target.honest).bytes()) for name, target in targets.items()}
        for name, attack in (ATTACKS | {"by-emerge": ATTACKS["success-hook"]}).items():
            shelves[name] = _smuggled(shop, shelves[name], packed(attack.made(targets[name])).bytes())
        for shelf in shelves.values():
            shop.origin.seed(read_torrent(shelf.torrent), shelf.file)
        shop.shelves.extend(shelves.values())
        shop.publish()
        _set_up(gentoo, shop)
        yield Scene(gentoo, shop, targets, shelves)


def _model(gentoo: Gentoo) -> Model:
    """The honest package, built by real emerge and cleaned as for publishing."""
    gentoo.write(f"var/db/repos/p2pbin-test/app-misc/{TEMPLATE}/{TEMPLATE}-1.ebuild", EBUILD)
    gentoo.emerge("--quiet", "--buildpkgonly", f"app-misc/{TEMPLATE}")
    (built,) = gentoo.binary_packages()
    cleaned = io.BytesIO()
    with built.open("rb") as file:
        clean_package(file, cleaned, prefix=f"{TEMPLATE}-1-1")
    built.unlink()
    cleaned.seek(0)
    return Model(str(gentoo.eprefix), GpkgReader(cleaned).metadata())


def _honest_shelf(shop: Shop, data: bytes) -> Shelf:
    """A developer's vote for a package, and the entry that lists it, as its own metadata say."""
    said = read_package(io.BytesIO(data))
    flags = {name: said.metadata[name] for name in ("CFLAGS", "CXXFLAGS", "LDFLAGS") if name in said.metadata}
    request = replace(
        REQUEST,
        cpv=Cpv(f"{said.metadata['CATEGORY']}/{said.metadata['PF']}"),
        repository=RepositoryName(said.metadata["repository"]),
        use=tuple(said.metadata["USE"].split()),
        flags=flags,
        eprefix=shop.eprefix,
        sources=REQUEST.sources | {"ebuild": Sha256(said.ebuild_sha256)},
    )
    definition = replace(VOTE.definition, request=request)
    return stock(shop.base, data, said={"definition": definition}, build_key=request.key, repository=request.repository)


def _smuggled(shop: Shop, honest: Shelf, data: bytes) -> Shelf:
    """The same vote and entry for other bytes: its developer lies about what is in them."""
    file = Sha256(hashlib.sha256(data).hexdigest())
    path = shop.base / file
    path.write_bytes(data)
    vote = sign_vote(replace(read_bundle(honest.bundle).votes[0].vote, file=file), new_key(DEVELOPER))
    bundle = Bundle((vote,), ()).encode()
    torrent = make_torrent(path, file_name(honest.entry.cpv, file))
    entry = replace(
        honest.entry,
        file=file,
        sha1=Sha1(hashlib.sha1(data, usedforsecurity=False).hexdigest()),
        size=len(data),
        info_hash=torrent.info_hash,
        bundle=Sha256(hashlib.sha256(bundle).hexdigest()),
    )
    return Shelf(data, entry, bundle, torrent.data, path)


def _set_up(gentoo: Gentoo, shop: Shop) -> None:
    """What a user does, as README.rst says, and a daemon."""
    section = [
        "[p2pbin]",
        f"sync-uri = p2pbin://{shop.host}/{CHANNEL}",
        *(f'{name} = p2pbin-fetch "${{URI}}" "${{DISTDIR}}/${{FILE}}"' for name in ("fetchcommand", "resumecommand")),
        "verify-signature = false",
    ]
    gentoo.write("etc/portage/binrepos.conf", "\n".join([*section, ""]))
    gentoo.write("etc/p2pbin/client.toml", CLIENT)
    gentoo.write("etc/p2pbin/root.json", shop.site.root_json.decode())
    gentoo.start(["p2pbind"])
    eventually("p2pbind is up", gentoo.outside("run/p2pbin/p2pbind.sock").exists)


@pytest.fixture(scope="module")
def unguarded(scene: Scene) -> Scene:
    """The victim after Portage alone has installed all attacks, whose files somebody has put into PKGDIR."""
    for name in ATTACKS:
        package = scene.gentoo.outside(f"var/cache/binpkgs/app-misc/{name}/{name}-1-1.gpkg.tar")
        package.parent.mkdir(parents=True)
        package.write_bytes(scene.shelves[name].data)
    scene.gentoo.run(["emaint", "binhost", "--fix"])
    print(scene.gentoo.emerge("--usepkgonly", "--oneshot", "--keep-going", *(f"app-misc/{name}" for name in ATTACKS), expect=None).output)
    return scene


@pytest.mark.parametrize("name", ATTACKS)
def test_p2pbin_fetch_refuses_it(scene, name):
    code, said, left = scene.fetch(name)
    assert (code, left) == (4, []), said
    assert f"app-misc/{name}-1 refused by P9.8: " in said
    assert ATTACKS[name].refused in said


@pytest.mark.parametrize("name", ATTACKS)
def test_it_works_on_an_unguarded_portage(unguarded, name):
    assert ATTACKS[name].works(unguarded.targets[name])


def test_emerge_installs_the_honest_package_and_not_the_hostile_one(scene):
    done = scene.gentoo.emerge("--getbinpkgonly", "--oneshot", "--keep-going", "app-misc/honest", "app-misc/by-emerge", expect=1)
    said = done.output + scene.gentoo.read("var/log/emerge-fetch.log")
    assert "app-misc/by-emerge-1 refused by P9.8: " in said
    assert scene.gentoo.installed() & {"app-misc/honest-1", "app-misc/by-emerge-1"} == {"app-misc/honest-1"}
    assert not scene.targets["by-emerge"].ran()


def test_the_honest_package_does_none_of_this(scene):
    scene.gentoo.emerge("--getbinpkgonly", "--oneshot", "app-misc/honest")
    honest = scene.targets["honest"]
    assert honest.installed().read_bytes() == HONEST
    assert honest.installed().stat().st_mode & 0o7777 == 0o644
    assert not any(attack.works(honest) for attack in ENVIRONMENTS.values())
