"""Does a package say of itself what its entry and its votes say of it? (P9.8)

The contents digest already binds the package's metadata; this check stops an entry or a definition that speaks of another
package than the one whose digest it carries: an older version under a newer name, other USE flags, another ebuild.  The server
runs it before it lists a package, the client before it places one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from portage_p2pbin.kernel.definition import FLAG_VARIABLES, BuildDefinition, BuildRequest
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.index import METADATA_KEYS
from portage_p2pbin.kernel.model import Cpv, Sha256


def check_definition(definition: BuildDefinition, metadata: Mapping[str, str], ebuild: Sha256) -> None:
    """Refuse (P9.8) a package whose own `metadata` and `.ebuild` digest are not what `definition` says was built.

    `metadata` are the package's own keys as text.  Not checked: keys that the definition does not speak of; they are bound by
    the contents digest alone.  Of compiler flags only the words that choose the machine are.
    """
    request = definition.request
    said = {
        "CATEGORY": request.cpv.category,
        "PF": request.cpv.pf,
        "repository": request.repository,
        "EAPI": request.eapi,
        "SLOT": request.slot,
        "CHOST": request.chost,
        "CBUILD": request.cbuild,
        **{name: value for name, value in request.flags.items() if name not in _LISTS_OF_WORDS},
    }
    for name, value in said.items():
        if name in metadata or name in _ALWAYS:
            _compare(request.cpv, name, value, metadata.get(name, ""))
    _check_machine(request, metadata)
    missing = set(request.use) - set(metadata.get("USE", "").split())
    if missing:
        _refuse(request.cpv, "USE", f"built with {min(missing)}", "without it")
    _compare(request.cpv, ".ebuild", request.sources.get("ebuild", ""), ebuild)


_ALWAYS = ("CATEGORY", "PF", "repository", "EAPI", "SLOT")
"""Keys that Portage always writes; the others are left out where the builder had them unset."""

_LISTS_OF_WORDS = tuple(name for name in FLAG_VARIABLES if name.endswith("FLAGS"))
"""Flag variables that ebuilds add to and take from, before Portage saves them (docs/decisions/flags-in-packages.rst)."""

_CHOOSES_MACHINE = re.compile(r"-(march|mcpu|mtune|mabi|mfpu|mfloat-abi)=.*", re.DOTALL).fullmatch
"""A word by which GCC and Clang choose for which machine they compile."""


def _check_machine(request: BuildRequest, metadata: Mapping[str, str]) -> None:
    """The package was compiled for no other machine than was asked for; an ebuild may ask for less, or move a word elsewhere."""
    asked = set(_machine_words(request.flags.values()))
    for name in _LISTS_OF_WORDS:
        for word in _machine_words([metadata.get(name, "")]):
            if word not in asked:
                _refuse(request.cpv, name, "without it", f"with {word}")


def _machine_words(flags: Iterable[str]) -> list[str]:
    return [word for value in flags for word in value.split() if _CHOOSES_MACHINE(word)]


def check_entry(cpv: Cpv, listed: Mapping[str, str], metadata: Mapping[str, str]) -> None:
    """Refuse (P9.8) a package whose own `metadata` differs from what its index entry has `listed`.

    A key that was left out counts as empty: Portage would have resolved without a dependency, a USE flag or a SLOT that the package
    has, and a threshold for that SLOT would not have been applied.
    """
    for name in METADATA_KEYS:
        _compare(cpv, name, listed.get(name, ""), " ".join(metadata.get(name, "").split()))


def _compare(cpv: Cpv, name: str, said: str, found: str) -> None:
    if said != found:
        _refuse(cpv, name, said, found)


def _refuse(cpv: Cpv, name: str, said: str, found: str) -> NoReturn:
    raise RefusedError("P9.8", str(cpv), f"{name} is {found!r} in the package, but {said!r} was announced")
