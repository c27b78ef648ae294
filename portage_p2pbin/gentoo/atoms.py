"""Which packages a user means by an atom on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import portage
from portage.dep import Atom, match_from_list
from portage.exception import InvalidAtom

from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Cpv

_WRITE = "Write category/name or =category/name-version"


def matching(text: str, cpvs: Iterable[Cpv]) -> list[Cpv]:
    """Those of `cpvs` that the atom `text` means, each once, in their order.  Raises SettingsError if it is none."""
    wanted = _atom(text)
    return [cpv for cpv in dict.fromkeys(cpvs) if match_from_list(wanted, [str(cpv)])]


def in_repositories(text: str) -> list[Cpv]:
    """The versions in this machine's ebuild repositories that the atom `text` means, masked ones too.  Raises SettingsError."""
    ebuilds = portage.db[portage.settings["EROOT"]]["porttree"].dbapi
    return [Cpv(str(cpv)) for cpv in ebuilds.xmatch("match-all", _atom(text))]


def category(text: str) -> str:
    """The category that the atom `text` names.  Raises SettingsError."""
    return str(_atom(text).cp).partition("/")[0]


def _atom(text: str) -> Any:  # noqa: ANN401  (portage has no types)
    """An atom without slot, repository and USE; a whole version may be written without `=`."""
    try:
        found = Atom(f"={text}" if Cpv.pattern.fullmatch(text) else text, allow_repo=True)
    except InvalidAtom as error:
        raise SettingsError(f"{text!r} is no package", _WRITE) from error
    if found.blocker:
        raise SettingsError(f"{text!r} is no package but a blocker", _WRITE)
    return found.without_use.without_repo.without_slot
