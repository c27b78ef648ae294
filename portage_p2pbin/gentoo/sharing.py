"""May a package be shared? (P10.2)

Two looks.  The first, when the package has just been built, asks Portage about licence and restrictions.  The second, before it is
published, looks at the names of its files and at what its definition says of its builder.  What stands inside files is not read
here: no parser of packages runs with rights.  Both looks protect whoever publishes; others judge the package by other rules.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from portage.dep import Atom, match_from_list, use_reduce
from portage.exception import InvalidAtom, InvalidDependString
from portage.versions import _pkg_str

from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.kernel.definition import BuildDefinition
from portage_p2pbin.kernel.errors import RefusedError, SettingsError

RULE = "P10.2"
REDISTRIBUTABLE = "@BINARY-REDISTRIBUTABLE"

_LIVE_VERSION = re.compile(r"[-.]9{4,}(?:-r[0-9]+)?$")

_SECRET_NAME = re.compile(
    r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|ssh_host_[a-z0-9_]+_key|.*\.(?:key|keytab|p12|pfx|jks|kdbx|ppk)|(?:.*[-_.])?(?:priv)?key\.pem"
    r"|\.(?:netrc|pgpass|git-credentials|my\.cnf|npmrc|pypirc|bash_history|Xauthority)|secring\.gpg|wallet\.dat"
    r"|g?shadow-?|authorized_keys|known_hosts|machine-id|random-seed|krb5\.conf\.d",
    re.IGNORECASE,
)
"""Names of files that hold a key, a password or what tells one machine from another."""

_SECRET_FOLDERS = {".ssh", ".gnupg", ".aws", ".kube", "private-keys-v1.d"}

_IDENTIFYING = {"etc/hostname", "etc/conf.d/hostname", "etc/hostid", "etc/mailname"}

_HOME = re.compile(r"(?:^|[^A-Za-z0-9._-])/(?:home/[^/]|root/|Users/)")

_COMMON_HOSTS = {"localhost", "gentoo", "debian", "portage", "livecd", "linux", "build", "builder"}
"""Names that so many machines have that they identify none."""


def reasons_to_withhold(build: FinishedBuild) -> Iterator[str]:
    """What Portage knows against sharing this build."""
    restrict, properties = build.info("RESTRICT").split(), build.info("PROPERTIES").split()
    if "bindist" in restrict:
        yield "its ebuild says RESTRICT=bindist"
    if "fetch" in restrict:
        yield "its sources may not be downloaded by everybody (RESTRICT=fetch)"
    if "live" in properties or _LIVE_VERSION.search(build.cpv):
        yield "it is built from whatever its developers wrote last (a live ebuild), so nobody can build the same"
    unfit = _unfit_licences(build)
    if unfit:
        yield f"its licence {unfit[0]} is not in {REDISTRIBUTABLE}"
    if shutil.which("scanelf", path=build.environment["PATH"]) is None:
        yield "there is no scanelf on this machine, so its programs are not stripped: emerge app-misc/pax-utils"


def _unfit_licences(build: FinishedBuild) -> list[str]:
    """The licences that keep it from being redistributed, as Portage decides on ACCEPT_LICENSE; none if there is nothing against it."""
    licences = build.portage.settings._license_manager
    acceptable = set(licences.expandLicenseTokens([REDISTRIBUTABLE]))
    try:
        asked = use_reduce(build.info("LICENSE"), uselist=build.info("USE").split(), opconvert=True)
    except InvalidDependString as error:
        return [str(error)]
    return list(licences._getMaskedLicenses(asked, acceptable))


def check_name(definition: BuildDefinition, excluded: Iterable[str]) -> None:
    """Refuse a package that matches one of the atoms in `excluded` ([publish] exclude).  Raises RefusedError and SettingsError."""
    request = definition.request
    package = _pkg_str(str(request.cpv), slot=request.slot, repo=request.repository)
    for word in excluded:
        try:
            atom = Atom(word, allow_wildcard=True, allow_repo=True)
        except InvalidAtom as error:
            raise SettingsError(f"[publish] exclude: {word!r} is no package atom", 'Write atoms such as "games-*/*"') from error
        if match_from_list(atom, [package]):
            raise RefusedError(RULE, str(request.cpv), f"you keep {word} to yourself ([publish] exclude)")


def check_identity(definition: BuildDefinition, host: str) -> None:
    """Refuse a definition that tells whose machine it is from: the name `host`, or a path in a home.

    The EPREFIX is left out: all who share a channel have the same.
    """
    request = definition.request
    for name, text in [("build path", request.build_path), *request.flags.items(), *(("INSTALL_MASK", w) for w in request.install_mask)]:
        said = text.replace(request.eprefix, "") if request.eprefix else text
        if _HOME.search(said):
            raise RefusedError(RULE, str(request.cpv), f"its {name} names a home, {text}")
        if host.lower() not in _COMMON_HOSTS and host.lower() in re.split(r"[^a-z0-9-]+", said.lower()):
            raise RefusedError(RULE, str(request.cpv), f"its {name} names this machine, {text}")


def check_files(definition: BuildDefinition, paths: Iterable[str]) -> None:
    """Refuse a package with a file that by its name holds a secret, identifies a machine, or lies in a home.

    `paths` are those of its image, with or without a leading slash.
    """
    request = definition.request
    for path in paths:
        inside = PurePosixPath(path.lstrip("/"))
        eprefix = request.eprefix.lstrip("/")
        if eprefix and inside.is_relative_to(eprefix):
            inside = inside.relative_to(eprefix)
        reason = _suspicion(inside)
        if reason:
            raise RefusedError(RULE, str(request.cpv), f"{path} {reason}")


def _suspicion(path: PurePosixPath) -> str:
    if _SECRET_NAME.fullmatch(path.name) or _SECRET_FOLDERS & set(path.parts):
        return "looks like a secret or a machine's own key"
    if str(path) in _IDENTIFYING:
        return "tells which machine it is from"
    if len(path.parts) > 1 and path.parts[0] in ("home", "root"):
        return "lies in somebody's home"
    return ""
