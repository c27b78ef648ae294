"""What people sign away from the server: root and targets, the roster, the rulings (P4.2, P6.6, P7.1).

Works in a folder of offline keys, which may lie on another machine or on a stick, and needs no network and no database.  Who
holds a threshold of root keys can do everything, who holds one of roster keys can trust anybody, the rulings key can recall
anything.  What comes back from the server, such as the roster that is in force, is checked against the delegation in this
folder before its version number is followed: a stolen server cannot drive the number up.

The folder holds root-1.pem …, roster-1.pem …, rulings-1.pem, and the root.json and targets.json that were signed last.  Where
several people hold the keys, each has a copy of the folder with the own keys alone, and passes on what was signed for the next
one to :func:`countersign`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from p2pbin_server.keys import OFFLINE, ONLINE, offline_signers
from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Sha256
from portage_p2pbin.kernel.roster import Policy, Roster, Rulings, read_rulings
from portage_p2pbin.kernel.targets import DELEGATIONS

T = TypeVar("T", Root, Targets)

MOST_RULINGS_AGE = timedelta(days=7)
"""No client may miss a recall for longer (P6.6)."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a signature of each role is good: the longest that a stolen server can hide news of that kind."""

    root: timedelta = timedelta(days=90)
    targets: timedelta = timedelta(days=90)
    roster: timedelta = timedelta(days=30)
    rulings: timedelta = MOST_RULINGS_AGE
    index: timedelta = timedelta(days=7)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        if self.rulings > MOST_RULINGS_AGE:
            raise SettingsError("Rulings would be good for more than 7 days", "Set a shorter lifetime for rulings.")


@dataclass(frozen=True, slots=True)
class Signed:
    """A file, and the TUF metadata of the role that vouches for it, on the way from offline keys to the server.

    Nothing is checked here; the server checks all of it when it imports it.
    """

    metadata: bytes
    target: bytes

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From the folder that :meth:`write` made.  Raises SettingsError if there is none."""
        return cls(read_file(folder / "metadata.json"), read_file(folder / "target.json"))

    def write(self, folder: Path) -> None:
        """Into `folder`, as metadata.json and target.json."""
        folder.mkdir(parents=True, exist_ok=True)
        durable.write(folder / "target.json", self.target)
        durable.write(folder / "metadata.json", self.metadata)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Everything that offline keys sign on a repository's first day."""

    root: bytes
    targets: bytes
    roster: Signed
    rulings: Signed


def begin(offline: Path, online: Mapping[str, Key], policy: Policy, lifetimes: Lifetimes, now: datetime, threshold: int = 2) -> Beginning:
    """The first root and targets, a roster of nobody, and no rulings, signed with all keys in `offline`.

    From now on `threshold` of the root keys and of the roster keys must sign.  Root and targets are kept in `offline` as well.
    Raises SettingsError if they are there already, or if there are fewer keys than `threshold`.
    """
    if (offline / "root.json").exists():
        raise SettingsError(f"{offline} belongs to a repository already", "Choose an empty folder.")
    root, targets = _appoint(offline, online, threshold, 1, lifetimes, now)
    _keep(offline, root, targets)
    return Beginning(
        root.to_bytes(),
        targets.to_bytes(),
        _sign("roster", 1, Roster((), policy).encode(), offline, now + lifetimes.roster),
        _sign("rulings", 1, Rulings().encode(), offline, now + lifetimes.rulings),
    )


def renew(offline: Path, online: Mapping[str, Key], lifetimes: Lifetimes, now: datetime) -> tuple[bytes, bytes]:
    """The next root and targets, which appoint the keys that now lie in `offline`, and those of `online` (all or none).

    Renewal and rotation are one act.  A key is taken away by taking its file away, and added by adding one; a threshold of the
    root keys of before must still be there.  Raises RefusedError (P7.1) if it is not.
    """
    before, delegator = _kept(offline)
    threshold = before.roles["root"].threshold
    root, targets = _appoint(offline, online or _appointed(before, delegator), threshold, before.version + 1, lifetimes, now)
    verify(before, "root", root)
    _keep(offline, root, targets)
    return root.to_bytes(), targets.to_bytes()


def sign_roster(roster: Roster, offline: Path, previous: bytes, lifetimes: Lifetimes, now: datetime) -> Signed:
    """Sign `roster` with the roster keys in `offline`, as the version after that of the metadata `previous`.

    Raises RefusedError (P7.1) if `previous` was not signed by a threshold of roster keys.
    """
    return _sign("roster", _next_version("roster", previous, offline), roster.encode(), offline, now + lifetimes.roster)


def sign_rulings(rulings: Rulings, offline: Path, previous: Signed, lifetimes: Lifetimes, now: datetime) -> Signed:
    """Sign `rulings`, which must hold all of `previous`, with the rulings keys in `offline`.

    The same rulings again are a renewal, due every few days.  Raises RefusedError: P7.1 if `previous` was not signed by a
    rulings key, P6.6 if an earlier ruling is missing.
    """
    version = _next_version("rulings", previous.metadata, offline)
    check_file("rulings", previous)
    rulings.follows(read_rulings(previous.target))
    return _sign("rulings", version, rulings.encode(), offline, now + lifetimes.rulings)


def countersign(role: str, metadata: bytes, offline: Path) -> bytes:
    """`metadata` of `role` with the signatures of the keys in `offline` added.

    Who calls this has read what he signs; nothing of it is checked here.  Raises RefusedError (P7.1) if it is no metadata.
    """
    signed = read_root(metadata) if role == "root" else read_targets(role, metadata)
    for signer in offline_signers(offline, _KEYS.get(role, role)):
        signed.sign(signer, append=True)
    return signed.to_bytes()


def is_complete(role: str, metadata: bytes, offline: Path) -> bool:
    """Have as many keys signed `metadata` of `role` as must, going by the delegations in `offline`?"""
    try:
        verify(_kept(offline)[1], role, read_targets(role, metadata))
    except RefusedError:
        return False
    return True


def fingerprint(root: bytes) -> Sha256:
    """What an operator shows beside root.json, so that a user can tell that it is the right one (P7.1)."""
    return Sha256(hashlib.sha256(root).hexdigest())


_KEYS = {"targets": "root"}
"""Whose keys sign a role, where they have another name."""


def read_root(data: bytes) -> Metadata[Root]:
    """Root metadata; no signature is checked.  Raises RefusedError (P7.1) if it is something else."""
    return _read_metadata("root", data, Root)


def read_targets(role: str, data: bytes) -> Metadata[Targets]:
    """Metadata of a role that signs files; no signature is checked.  Raises RefusedError (P7.1) if it is something else."""
    return _read_metadata(role, data, Targets)


def _read_metadata(role: str, data: bytes, kind: type[T]) -> Metadata[T]:
    try:
        metadata = Metadata[T].from_bytes(data)
    except RepositoryError as error:
        raise RefusedError("P7.1", role, f"no TUF metadata: {error}") from error
    if not isinstance(metadata.signed, kind):
        raise RefusedError("P7.1", role, f"metadata of type {metadata.signed.type}")
    return metadata


def verify(delegator: Root | Targets, role: str, metadata: Metadata[Root] | Metadata[Targets]) -> None:
    """Refuse (P7.1) `metadata` that a threshold of the keys that `delegator` appoints for `role` did not sign."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise RefusedError("P7.1", role, str(error)) from error


def check_file(role: str, signed: Signed) -> None:
    """Refuse (P7.1) metadata of `role` that does not vouch for its one file with these bytes, or that delegates on."""
    listed = read_targets(role, signed.metadata).signed
    if listed.targets != {DELEGATIONS[role]: TargetFile.from_data(DELEGATIONS[role], signed.target, ["sha256"])}:
        raise RefusedError("P7.1", role, f"its metadata does not vouch for exactly this {DELEGATIONS[role]}")
    if listed.delegations is not None:
        raise RefusedError("P7.1", role, "it hands its rights on to others")


def _appoint(
    offline: Path, online: Mapping[str, Key], threshold: int, version: int, lifetimes: Lifetimes, now: datetime
) -> tuple[Metadata[Root], Metadata[Targets]]:
    """Root and targets of one version, which appoint these keys, signed with all root keys of the folder."""
    signers = {role: offline_signers(offline, role) for role in OFFLINE}
    if min(len(signers["root"]), len(signers["roster"])) < threshold:
        raise SettingsError(f"Fewer keys in {offline} than the {threshold} that must sign", "Add the missing keys.")
    keys = {role: [signer.public_key for signer in signers[role]] for role in OFFLINE} | {role: [online[role]] for role in ONLINE}
    root = Metadata(Root(version=version, expires=now + lifetimes.root, consistent_snapshot=True))
    for role, holder in (("root", "root"), ("targets", "root"), ("snapshot", "snapshot"), ("timestamp", "timestamp")):
        for key in keys[holder]:
            root.signed.add_key(key, role)
        root.signed.roles[role].threshold = threshold if holder == "root" else 1
    delegations = Delegations(
        {key.keyid: key for role in DELEGATIONS for key in keys[role]},
        {
            role: DelegatedRole(role, [key.keyid for key in keys[role]], threshold if role == "roster" else 1, True, [pattern])
            for role, pattern in DELEGATIONS.items()
        },
    )
    targets = Metadata(Targets(version=version, expires=now + lifetimes.targets, delegations=delegations))
    for signer in signers["root"]:
        root.sign(signer, append=True)
        targets.sign(signer, append=True)
    return root, targets


def _appointed(root: Root, targets: Targets) -> dict[str, Key]:
    """The online keys that root and targets have appointed."""
    return {
        "index": targets.get_key(targets.get_delegated_role("index").keyids[0]),
        "snapshot": root.get_key(root.roles["snapshot"].keyids[0]),
        "timestamp": root.get_key(root.roles["timestamp"].keyids[0]),
    }


def _sign(role: str, version: int, data: bytes, offline: Path, expires: datetime) -> Signed:
    file = TargetFile.from_data(DELEGATIONS[role], data, ["sha256"])
    metadata = Metadata(Targets(version=version, expires=expires, targets={file.path: file}))
    for signer in offline_signers(offline, role):
        metadata.sign(signer, append=True)
    return Signed(metadata.to_bytes(), data)


def _next_version(role: str, previous: bytes, offline: Path) -> int:
    metadata = read_targets(role, previous)
    verify(_kept(offline)[1], role, metadata)
    return metadata.signed.version + 1


def _keep(offline: Path, root: Metadata[Root], targets: Metadata[Targets]) -> None:
    durable.write(offline / "targets.json", targets.to_bytes())
    durable.write(offline / "root.json", root.to_bytes())


def _kept(offline: Path) -> tuple[Root, Targets]:
    return read_root(read_file(offline / "root.json")).signed, read_targets("targets", read_file(offline / "targets.json")).signed


def read_file(path: Path) -> bytes:
    """A file that came out of a ceremony.  Raises SettingsError if it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "Name the folder that was written when it was signed.") from error
