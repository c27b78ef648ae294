"""What the user set where a Gentoo user sets things: make.conf, package.p2pbin and binrepos.conf.

Read anew for every call, through Portage's own readers, but without building a whole `portage.config`, which takes longer than
all the rest of an index call.  The environment goes before make.conf, as in Portage.  Not seen: what a profile sets, and
package.env.

Whoever can write below /etc/portage decides here how far packages are trusted; such a user is root already.  Whoever chooses
the environment of a call (root's shell, or another local user who asks the daemon) chooses the thresholds of that call only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portage.binrepo.config import BinRepoConfigLoader
from portage.const import GLOBAL_CONFIG_PATH
from portage.dep import Atom, extended_cp_match, match_from_list
from portage.exception import InvalidAtom, InvalidData, PortageException
from portage.util import _recursive_file_list, getconfig
from portage.versions import _pkg_str

from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Channel, Cpv, Level

SCHEME = "p2pbin"
PACKAGE_P2PBIN = "etc/portage/package.p2pbin"

_SET_TRUST = 'Set P2PBIN_TRUST in make.conf to a number from 1 (only what a build server built) to 6, such as P2PBIN_TRUST="3"'
_SYNC_URI = re.compile(
    rf"{SCHEME}://"
    r"(?P<host>(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]{2,39}\])(?::[0-9]{1,5})?)"
    rf"/(?P<channel>{Channel.pattern.pattern})/*"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of package.p2pbin: for packages that `atom` (a `portage.dep.Atom`) matches, `level` is the threshold."""

    atom: Any
    level: Level

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sorts rules so that the first that matches a package is the most specific.

        A whole name goes before a pattern, and of patterns the one with more letters; then `=` before `~` before `=…*` before
        a comparison; then a rule with a slot; then one with a repository.  Of two that are equally specific the stricter wins.
        """
        operators = ("=", "~", "=*", ">=", "<=", ">", "<", None)
        comparison = min(operators.index(self.atom.operator), 3) if self.atom.operator else 4
        name = self.atom.cp
        return ("*" in name, -len(name.replace("*", "")), comparison, self.atom.slot is None, self.atom.repo is None, self.level)

    def speaks_of(self, name: str) -> bool:
        """Is it about the package `name`, or about all packages whose names match its pattern?"""
        pattern = self.atom.cp
        return pattern == name or ("*" in pattern and extended_cp_match(pattern, name))

    @property
    def by_name_only(self) -> bool:
        """Does the name alone decide whether it matches?"""
        return not (self.atom.operator or self.atom.slot or self.atom.repo)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How well a package must be vouched for before this user installs it (P7.4)."""

    default: Level
    rules: tuple[Rule, ...] = ()
    _by_name: dict[str, tuple[Rule, ...]] = field(default_factory=dict, compare=False, repr=False)

    def for_(self, cpv: Cpv, slot: str, repository: str) -> Level:
        """The threshold for one package: that of the most specific rule that matches it, else P2PBIN_TRUST."""
        package = None
        for rule in self._rules_for(cpv.cp):
            if rule.by_name_only:
                return rule.level
            try:
                package = package or _pkg_str(cpv, slot=slot, repo=repository)
            except InvalidData:
                # Cpv allows `a/b-1-2`, Portage does not: no rule can be about it, and packages.py does not list it.
                return Level.BUILD_SERVER
            if match_from_list(rule.atom, [package]):
                return rule.level
        return self.default

    def _rules_for(self, name: str) -> tuple[Rule, ...]:
        """The rules that speak of the package `name`, most specific first.  Kept, since an index has tens of thousands of entries."""
        if name not in self._by_name:
            self._by_name[name] = tuple(rule for rule in self.rules if rule.speaks_of(name))
        return self._by_name[name]


@dataclass(frozen=True, slots=True)
class BinaryRepository:
    """A section of binrepos.conf with a sync-uri of `p2pbin://HOST/CHANNEL`; `location` is where Portage keeps its packages."""

    name: str
    host: str
    channel: Channel
    location: Path


@dataclass(frozen=True, slots=True)
class PortageSettings:
    """What a call needs to know of the user's Portage.  `features` are those of make.globals, make.conf and the environment."""

    thresholds: Thresholds
    features: frozenset[str]
    pkgdir: Path
    repositories: tuple[BinaryRepository, ...]
    portage_binhost: str

    def repository(self, host: str, channel: Channel) -> BinaryRepository:
        """The section that a call for `host` and `channel` comes from.

        Raises SettingsError if there is none, or if Portage would not ask us for every file that it installs, or could not
        install what we give it (P7.5).
        """
        if "binpkg-request-signature" in self.features:
            raise SettingsError(
                "FEATURES=binpkg-request-signature makes Portage refuse packages from p2pbin, which carry votes instead of a signature",
                'Take it out of FEATURES in make.conf, or add "-binpkg-request-signature" at its end',
            )
        if self.portage_binhost:
            raise SettingsError(
                "With PORTAGE_BINHOST set, Portage keeps packages in PKGDIR and installs them from there without asking again",
                "Take PORTAGE_BINHOST out of make.conf and name that host in binrepos.conf instead",
            )
        for found in self.repositories:
            if (found.host, found.channel) == (host, channel):
                return self._outside_pkgdir(found)
        raise SettingsError(
            f"No section of binrepos.conf has sync-uri = {SCHEME}://{host}/{channel}",
            "Add one to /etc/portage/binrepos.conf, or mend its sync-uri",
        )

    def _outside_pkgdir(self, found: BinaryRepository) -> BinaryRepository:
        location, pkgdir = found.location.resolve(), self.pkgdir.resolve()
        if location == pkgdir or pkgdir in location.parents or location in pkgdir.parents:
            raise SettingsError(
                f"The location of [{found.name}] in binrepos.conf, {found.location}, and PKGDIR lie in each other",
                "Take the location line out of that section; Portage's own choice is right",
            )
        return found


def read_settings(eprefix: Path, environment: Mapping[str, str]) -> PortageSettings:
    """Read the settings of the Portage in `eprefix` (`/` where there is no prefix), as of now.

    `environment` is that of the call: for a package Portage puts all its settings there, for the index only the caller's.
    Raises SettingsError.
    """
    root = config_root(eprefix, environment)
    conf = _read_all(eprefix, root)
    values = {**conf, **environment}
    default = read_trust(values.get("P2PBIN_TRUST"))
    return PortageSettings(
        thresholds=Thresholds(default, read_rules(root / PACKAGE_P2PBIN)),
        features=_stack([conf.get("FEATURES", ""), environment.get("FEATURES", "")]),
        pkgdir=Path(values.get("PKGDIR") or eprefix / "var/cache/binpkgs"),
        repositories=read_repositories(eprefix, environment),
        portage_binhost=values.get("PORTAGE_BINHOST", "").strip(),
    )


def config_root(eprefix: Path, environment: Mapping[str, str]) -> Path:
    """The folder with Portage's own settings in `etc/portage`."""
    return Path(environment.get("PORTAGE_CONFIGROOT") or eprefix)


def read_trust(text: str | None) -> Level:
    """P2PBIN_TRUST as a level.  Raises SettingsError unless it is one digit from 1 to 6."""
    if not text:
        raise SettingsError("P2PBIN_TRUST is not set, so no package is trusted", _SET_TRUST)
    if re.fullmatch("[1-6]", text) is None:
        raise SettingsError(f"P2PBIN_TRUST is {text!r}, which is no level", _SET_TRUST)
    return Level(int(text))


def _read_all(eprefix: Path, root: Path) -> dict[str, str]:
    """make.globals and both places of make.conf, the last one winning; FEATURES joined."""
    prefix = str(eprefix).rstrip("/")
    values = {"EPREFIX": prefix, "EROOT": f"{prefix}/", "ROOT": "/", "PORTAGE_CONFIGROOT": f"{str(root).rstrip('/')}/"}
    features = []
    for file in (eprefix / GLOBAL_CONFIG_PATH.lstrip("/") / "make.globals", root / "etc/make.conf", root / "etc/portage/make.conf"):
        found = read_make_conf(file, values)
        values.update(found)
        features.append(found.get("FEATURES", ""))
    return values | {"FEATURES": " ".join(features)}


def read_make_conf(file: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that one make.conf (or a folder of files), and what it sources, sets; none where it does not exist.

    `known` are variables that it may refer to.  Raises SettingsError.
    """
    try:
        return getconfig(str(file), allow_sourcing=True, expand=dict(known or {}), recursive=True) or {}
    except (PortageException, OSError, ValueError) as error:
        raise SettingsError(f"{file} cannot be read: {error}", "Mend it; emerge --info says the same") from error


def _stack(settings: Iterable[str]) -> frozenset[str]:
    """An incremental variable: `-x` takes away x, `-*` all."""
    on: set[str] = set()
    for word in " ".join(settings).split():
        if word == "-*":
            on.clear()
        elif word.startswith("-"):
            on.discard(word[1:])
        else:
            on.add(word)
    return frozenset(on)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in package.p2pbin, a file or a folder of files, most specific first.  Raises SettingsError."""
    try:
        files = {file: Path(file).read_text(encoding="utf-8", errors="replace") for file in _recursive_file_list(str(path))}
    except (PortageException, OSError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "Make it readable for everybody") from error
    rules = [
        _read_rule(line, f"{file}, line {number}")
        for file, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.partition("#")[0].strip()
    ]
    return tuple(sorted(rules, key=lambda rule: rule.precedence))


def _read_rule(line: str, where: str) -> Rule:
    remedy = 'Write an atom and a level from 1 to 6, such as "sys-libs/* 1"'
    words = line.partition("#")[0].split()
    if len(words) != 2 or re.fullmatch("[1-6]", words[1]) is None:
        raise SettingsError(f"{where}: {line.strip()!r} is no rule", remedy)
    try:
        atom = Atom(words[0], allow_wildcard=True, allow_repo=True)
    except InvalidAtom as error:
        raise SettingsError(f"{where}: {words[0]!r} is no package atom", remedy) from error
    if atom.blocker or atom.use:
        raise SettingsError(f"{where}: {words[0]!r} is a blocker or asks for USE flags", remedy)
    return Rule(atom, Level(int(words[1])))


def read_repositories(eprefix: Path, environment: Mapping[str, str]) -> tuple[BinaryRepository, ...]:
    """Our sections of binrepos.conf, with the location that Portage chose where a section has none.  Raises SettingsError."""
    root = config_root(eprefix, environment)
    prefix = str(eprefix).rstrip("/")
    settings = {"EPREFIX": prefix, "EROOT": f"{prefix}/", "ROOT": "/", "PORTAGE_CONFIGROOT": str(root)}
    paths = [str(eprefix / GLOBAL_CONFIG_PATH.lstrip("/") / "binrepos.conf"), str(root / "etc/portage/binrepos.conf")]
    sections = BinRepoConfigLoader(paths, settings).values()
    return tuple(
        BinaryRepository(section.name, *split_uri(section.sync_uri), Path(section.location))
        for section in sections
        if section.sync_uri.startswith(f"{SCHEME}:")
    )


def split_uri(uri: str) -> tuple[str, Channel]:
    """Host (with port) and channel of a sync-uri.  Raises SettingsError."""
    parts = _SYNC_URI.fullmatch(uri)
    if parts is None:
        raise SettingsError(f"binrepos.conf: {uri!r} is no sync-uri of ours", f"Write {SCHEME}://HOST/CHANNEL")
    return parts["host"], Channel(parts["channel"])
