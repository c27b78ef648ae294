"""What was asked for and with what it was built (P1): the two halves of a build definition.

Votes agree when their :class:`BuildRequest` is equal, that is, when their build keys are; they can accuse each other only when
the whole :class:`BuildDefinition` is.  A contributor writes its own definition and can lie in it: a lie moves its vote to
another build key or another environment, where nobody else's votes are, and there it gains nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from portage_p2pbin.kernel.model import BuildKey, Cpv, Sha256, Token
from portage_p2pbin.kernel.wire import Fields, canonical

MOST_USE = 2000
"""USE flags of one package; USE_EXPAND included, the largest in ::gentoo has about 600."""

MOST_SOURCES = 5000
"""Files that one build reads: ebuild, eclasses, files/ and distfiles.  Rust packages have about 1,000 distfiles."""

MOST_DEPENDENCIES = 5000
"""Installed packages that one build sees."""

MOST_PROGRAMS = 100
"""Programs outside the package database that one build uses."""

FLAG_VARIABLES = (
    "ADAFLAGS", "ASFLAGS", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS", "GOAMD64", "GOARM", "LDFLAGS", "RUSTFLAGS",
)  # fmt: skip
"""The compiler and linker flag variables of P1.1.  An unset one is left out, so a newer list does not change old keys."""


class Slot(Token):
    """SLOT with its sub-slot, `0` or `0/1.2` (PMS 3.1.3)."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,99}(?:/[A-Za-z0-9_][A-Za-z0-9+_.-]{0,99})?")


class RepositoryName(Token):
    """The name of an ebuild repository (PMS 3.1.5)."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What was asked for (P1.1): everything whose change may rightly change the result.

    `use` holds the enabled flags within IUSE_EFFECTIVE, sorted; `flags` those of :data:`FLAG_VARIABLES` that are set;
    `features` the FEATURES that change what is installed, sorted; `install_mask` INSTALL_MASK and PKG_INSTALL_MASK, one word
    each, in order; `build_path` PORTAGE_TMPDIR; `sources` the SHA-256 of each file read, by `ebuild`, `eclass/NAME`,
    `files/PATH` and `distfile/NAME`.
    """

    cpv: Cpv
    repository: RepositoryName
    eapi: str
    slot: Slot
    use: tuple[str, ...]
    chost: str
    cbuild: str
    elibc: str
    abi: str
    eprefix: str
    flags: Mapping[str, str]
    features: tuple[str, ...]
    install_mask: tuple[str, ...]
    build_path: str
    sources: Mapping[str, Sha256]

    def as_json(self) -> dict[str, object]:
        """The `externalParameters` of the vote."""
        return {
            "abi": self.abi,
            "buildPath": self.build_path,
            "cbuild": self.cbuild,
            "chost": self.chost,
            "cpv": self.cpv,
            "eapi": self.eapi,
            "elibc": self.elibc,
            "eprefix": self.eprefix,
            "features": list(self.features),
            "flags": dict(self.flags),
            "installMask": list(self.install_mask),
            "repository": self.repository,
            "slot": self.slot,
            "sources": dict(self.sources),
            "use": list(self.use),
        }

    @property
    def key(self) -> BuildKey:
        """The build key: SHA-256 of the canonical JSON of this request (P1.1)."""
        return BuildKey(hashlib.sha256(canonical(self.as_json())).hexdigest())


@dataclass(frozen=True, slots=True, order=True)
class Dependency:
    """One installed package that the build could see (P1.2).

    `installed` is the SHA-256 of what its package database entry says of its files: path, type, MD5 and link target, without
    times (docs/decisions/installed-digest.rst).
    """

    cpv: Cpv
    slot: Slot
    use: tuple[str, ...]
    installed: Sha256

    def as_json(self) -> dict[str, object]:
        """One of the `resolvedDependencies` of the vote."""
        return {
            "annotations": {"slot": self.slot, "use": list(self.use)},
            "digest": {"p2pbin-installed-1": self.installed},
            "name": self.cpv,
        }


@dataclass(frozen=True, slots=True)
class BuildDefinition:
    """Request and environment together (P1.3): the SLSA v1 `buildDefinition`.

    `dependencies` are sorted; `programs` holds the SHA-256 of each toolchain program outside the package database by its plain
    name (`cc`, `ld`, …; P1.2).
    """

    request: BuildRequest
    dependencies: tuple[Dependency, ...]
    programs: Mapping[str, Sha256]

    @property
    def digest(self) -> Sha256:
        """SHA-256 of the canonical JSON of the whole definition: equal digests are what an accusation needs (P1.4)."""
        whole = {"environment": self.environment_json(), "request": self.request.as_json()}
        return Sha256(hashlib.sha256(canonical(whole)).hexdigest())

    def environment_json(self) -> list[dict[str, object]]:
        """The `resolvedDependencies` of the vote: packages first, then programs."""
        programs: list[dict[str, object]] = [
            {"digest": {"sha256": digest}, "name": f"program:{name}"} for name, digest in self.programs.items()
        ]
        return [dependency.as_json() for dependency in self.dependencies] + programs


def read_request(fields: Fields) -> BuildRequest:
    """The request in the `externalParameters` of a vote."""
    with fields.reading():
        flags = fields.mapping("flags", str, len(FLAG_VARIABLES))
        for name in flags:
            if name not in FLAG_VARIABLES:
                fields.refuse(f"{name!r} is no flag variable")
        return BuildRequest(
            cpv=fields.of("cpv", Cpv),
            repository=fields.of("repository", RepositoryName),
            eapi=fields.text("eapi", 20),
            slot=fields.of("slot", Slot),
            use=fields.sorted_texts("use", MOST_USE),
            chost=fields.text("chost", 100),
            cbuild=fields.text("cbuild", 100),
            elibc=fields.text("elibc", 100),
            abi=fields.text("abi", 100),
            eprefix=fields.text("eprefix", 500),
            flags=flags,
            features=fields.sorted_texts("features", 100),
            install_mask=fields.texts("installMask", str, 1000),
            build_path=fields.text("buildPath", 500),
            sources=fields.mapping("sources", Sha256, MOST_SOURCES),
        )


def read_environment(found: list[Fields]) -> tuple[tuple[Dependency, ...], dict[str, Sha256]]:
    """The dependencies and programs in the `resolvedDependencies` of a vote; each name once, in their order."""
    dependencies: list[Dependency] = []
    programs: dict[str, Sha256] = {}
    for fields in found:
        with fields.reading():
            name = fields.text("name", 300)
            digest = fields.fields("digest")
            with digest.reading():
                if name.startswith("program:"):
                    programs[name.removeprefix("program:")] = digest.of("sha256", Sha256)
                else:
                    dependencies.append(_read_dependency(name, fields, digest.of("p2pbin-installed-1", Sha256)))
    if len(dependencies) + len(programs) != len(found) or dependencies != sorted(set(dependencies)) or list(programs) != sorted(programs):
        raise found[0].error("the environment is not sorted or names something twice")
    if len(programs) > MOST_PROGRAMS:
        raise found[0].error(f"more than {MOST_PROGRAMS} programs")
    return tuple(dependencies), programs


def _read_dependency(name: str, fields: Fields, installed: Sha256) -> Dependency:
    annotations = fields.fields("annotations")
    with annotations.reading():
        return Dependency(Cpv(name), annotations.of("slot", Slot), annotations.sorted_texts("use", MOST_USE), installed)
