"""roster.toml: the roster as people write it, made into the roster that the offline keys sign (P3.2, P4.2).

Whoever holds the roster keys writes the file.  The public keys and certifications that it names came from contributors; they
are checked here, through gpg, before a machine key enters the roster.  A machine key whose identity has since expired or was
revoked therefore leaves the roster at the next signing, unless the contributor sends a prolonged public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tomli

from portage_p2pbin.kernel.errors import DecodeError, RefusedError, SettingsError
from portage_p2pbin.kernel.model import Fingerprint, Operator, Role
from portage_p2pbin.kernel.roster import MOST_CONTRIBUTORS, MOST_KEYS, Contributor, MachineKey, Policy, Roster
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.openpgp import check_certification

MOST_VOICES = 1000
"""The largest X or Y that makes sense: nobody will find more operators who build the same."""


def read_roster_file(path: Path, now: datetime) -> Roster:
    """Read roster.toml; paths in it are relative to its folder.

    Raises SettingsError if the file or one that it names cannot be read, and RefusedError (P3.2) for a certification that does
    not hold, or that is of another identity.
    """
    try:
        fields = Fields(tomli.loads(path.read_text(encoding="utf-8")), path.name)
        with fields.reading():
            policy = fields.fields("policy")
            with policy.reading():
                numbers = Policy(policy.number("semi_trusted", 2, MOST_VOICES), policy.number("untrusted", 2, MOST_VOICES))
            listed = fields.many("contributor", MOST_CONTRIBUTORS) if fields.has("contributor") else []
            entries = [_read_entry(one, path.parent) for one in listed]
    except (OSError, ValueError, DecodeError) as error:
        raise SettingsError(f"{path} cannot be used: {error}", "Mend it; etc/roster.toml shows every field.") from error
    return Roster(tuple(entry.check(now) for entry in entries), numbers)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One [[contributor]] with the texts of the files that it names, by file name."""

    operator: Operator
    role: Role
    identity: Fingerprint
    openpgp: str
    certifications: dict[str, str]

    def check(self, now: datetime) -> Contributor:
        keys = tuple(self._machine_key(name, text, now) for name, text in self.certifications.items())
        return Contributor(self.operator, self.role, self.identity, keys)

    def _machine_key(self, name: str, text: str, now: datetime) -> MachineKey:
        certification = check_certification(text, self.openpgp, now)
        if certification.identity != self.identity:
            raise RefusedError("P3.2", name, f"it is of {certification.identity}, and stands at {self.identity}")
        return certification.key


def _read_entry(fields: Fields, folder: Path) -> _Entry:
    with fields.reading():
        return _Entry(
            operator=fields.of("operator", Operator),
            role=fields.of("role", Role),
            identity=fields.of("identity", Fingerprint),
            openpgp=(folder / fields.text("openpgp")).read_text(encoding="ascii"),
            certifications={name: (folder / name).read_text(encoding="ascii") for name in fields.texts("certifications", str, MOST_KEYS)},
        )
