"""One file of make.conf, as Portage reads it.

Whoever can write the file is root already.  What it sources is read with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from portage.exception import PortageException
from portage.util import getconfig

from portage_p2pbin.kernel.errors import SettingsError


def read_file(path: Path) -> Mapping[str, str]:
    """The variables that `path` sets, unexpanded.  Raises SettingsError if Portage cannot read it."""
    try:
        return getconfig(str(path), allow_sourcing=True, expand=False) or {}
    except (PortageException, OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "Mend it; emerge --info says the same") from error
