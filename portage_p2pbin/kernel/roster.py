"""Who may say what: the roster with its policy, and the rulings (P4, P6.6).

Both are TUF targets whose signatures are checked before they come here: the roster's by offline keys, the rulings' away from
the api host.  Whoever holds a threshold of those keys can write anything the types allow; the api process cannot write either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import ContentsDigest, Fingerprint, Operator, PublicKey, Role
from portage_p2pbin.kernel.statements import moment, spelt
from portage_p2pbin.kernel.wire import Fields, canonical, decode

ROSTER = "p2pbin-roster-1"
RULINGS = "p2pbin-rulings-1"

MOST_ROSTER = 8 * 1024 * 1024
MOST_CONTRIBUTORS = 20_000
MOST_KEYS = 100
MOST_RULINGS = 100_000


@dataclass(frozen=True, slots=True)
class MachineKey:
    """A key for one machine and a limited time (P3.2)."""

    public: PublicKey
    machine: str
    not_before: datetime
    not_after: datetime

    def covers(self, time: datetime) -> bool:
        """Is `time` inside the window, both ends allowed?"""
        return self.not_before <= time <= self.not_after


@dataclass(frozen=True, slots=True)
class Contributor:
    """One identity on the roster, who answers for it, what it is trusted with, and its machine keys."""

    operator: Operator
    role: Role
    identity: Fingerprint
    keys: tuple[MachineKey, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Every number that levels depend on (P4.2): X semi-trusted operators make level 4, Y untrusted ones level 6."""

    semi_trusted: int
    untrusted: int

    def __post_init__(self) -> None:
        if self.semi_trusted < 2 or self.untrusted < 2:
            raise RefusedError("P4.2", "policy", "X and Y are both at least 2")


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody who is more than untrusted, and the policy."""

    contributors: tuple[Contributor, ...]
    policy: Policy

    def __post_init__(self) -> None:
        keys = [key.public for contributor in self.contributors for key in contributor.keys]
        if len(keys) != len(set(keys)):
            raise RefusedError("P4.2", "roster", "one machine key stands at two contributors")

    def by_key(self) -> Mapping[PublicKey, tuple[Contributor, MachineKey]]:
        """Each machine key with its contributor."""
        return {key.public: (contributor, key) for contributor in self.contributors for key in contributor.keys}

    def encode(self) -> bytes:
        """The canonical roster.json."""
        return canonical(
            {
                "_type": ROSTER,
                "contributors": [
                    {
                        "identity": one.identity,
                        "keys": [
                            {
                                "machine": key.machine,
                                "notAfter": spelt(key.not_after),
                                "notBefore": spelt(key.not_before),
                                "public": key.public,
                            }
                            for key in one.keys
                        ],
                        "operator": one.operator,
                        "role": one.role.value,
                    }
                    for one in self.contributors
                ],
                "policy": {"semiTrusted": self.policy.semi_trusted, "untrusted": self.policy.untrusted},
            }
        )


def read_roster(data: bytes) -> Roster:
    """Read roster.json.  Raises DecodeError or RefusedError (P4.2)."""
    fields = decode(data, "roster", MOST_ROSTER)
    with fields.reading():
        fields.exactly("_type", ROSTER)
        contributors = tuple(_read_contributor(one) for one in fields.many("contributors", MOST_CONTRIBUTORS))
        policy = fields.fields("policy")
        with policy.reading():
            return Roster(contributors, Policy(policy.number("semiTrusted", 2, 1000), policy.number("untrusted", 2, 1000)))


def _read_contributor(fields: Fields) -> Contributor:
    with fields.reading():
        return Contributor(
            operator=fields.of("operator", Operator),
            role=fields.of("role", Role),
            identity=fields.of("identity", Fingerprint),
            keys=tuple(read_machine_key(one) for one in fields.many("keys", MOST_KEYS)),
        )


def read_machine_key(fields: Fields) -> MachineKey:
    """A machine key with its window, as it stands in the roster and in a registration."""
    with fields.reading():
        return MachineKey(
            public=fields.of("public", PublicKey),
            machine=fields.text("machine", 100),
            not_before=fields.of("notBefore", moment),
            not_after=fields.of("notAfter", moment),
        )


class RulingKind(Enum):
    """What a ruling takes away (P6.4, P6.6)."""

    VOID = "void"
    """All votes and certificates of one machine key; `subject` is the key."""
    SUSPEND = "suspend"
    """All votes and certificates of one operator; `subject` is its name."""
    RECALL = "recall"
    """One contents digest, at every level; `subject` is the digest."""


_SUBJECT = {RulingKind.VOID: PublicKey, RulingKind.SUSPEND: Operator, RulingKind.RECALL: ContentsDigest}


@dataclass(frozen=True, slots=True)
class Ruling:
    """One decision against a key, an operator or a digest, and why."""

    kind: RulingKind
    subject: str
    reason: str
    time: datetime

    def __post_init__(self) -> None:
        _SUBJECT[self.kind](self.subject)


@dataclass(frozen=True, slots=True)
class Rulings:
    """All rulings there ever were, oldest first (P6.6)."""

    entries: tuple[Ruling, ...] = ()

    def subjects(self, kind: RulingKind) -> frozenset[str]:
        """What rulings of this kind name."""
        return frozenset(one.subject for one in self.entries if one.kind is kind)

    def follows(self, earlier: Rulings) -> None:
        """Refuse (P6.6) if an entry of `earlier` is missing here or was changed."""
        if self.entries[: len(earlier.entries)] != earlier.entries:
            raise RefusedError("P6.6", "rulings", "an earlier ruling is missing or was changed")

    def encode(self) -> bytes:
        """The canonical rulings.json."""
        return canonical(
            {
                "_type": RULINGS,
                "rulings": [
                    {"kind": one.kind.value, "reason": one.reason, "subject": one.subject, "time": spelt(one.time)} for one in self.entries
                ],
            }
        )


def read_rulings(data: bytes) -> Rulings:
    """Read rulings.json.  Raises DecodeError."""
    fields = decode(data, "rulings", MOST_ROSTER)
    with fields.reading():
        fields.exactly("_type", RULINGS)
        return Rulings(tuple(_read_ruling(one) for one in fields.many("rulings", MOST_RULINGS)))


def _read_ruling(fields: Fields) -> Ruling:
    with fields.reading():
        return Ruling(
            kind=fields.of("kind", RulingKind), subject=fields.text("subject", 200), reason=fields.text("reason", 1000),
            time=fields.of("time", moment),
        )  # fmt: skip
