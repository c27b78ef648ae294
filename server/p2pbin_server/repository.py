"""The TUF repository that the server offers: who may change what in it (P7.1, P7.2).

Here lie the online keys `index`, `snapshot` and `timestamp`.  Who steals them can list what he likes, which clients refuse for
lack of votes, and withhold news until it expires.  The root, the delegations, the roster and the rulings are signed elsewhere
and only taken in here, after the same checks that clients make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from p2pbin_server.ceremonies import MOST_RULINGS_AGE, Beginning, Lifetimes, Signed, check_file, read_root, read_targets, verify
from p2pbin_server.editions import Editions
from p2pbin_server.keys import online_signers
from portage_p2pbin.kernel.errors import RefusedError, SettingsError
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.roster import Roster, Rulings, read_roster, read_rulings
from portage_p2pbin.kernel.targets import DELEGATIONS, page_file

CLOCK_SLACK = timedelta(hours=1)
"""How far the clock of the machine where the rulings are signed may be ahead of the server's."""

SignedElsewhere = Literal["roster", "rulings"]


class Repository:
    """The repository in `directory`, of which metadata/ and targets/ are to be served and nothing else.

    Several processes may use it at once.  Every method that changes it raises SettingsError if the keys in `online_keys` are
    not those that the root appoints.
    """

    def __init__(self, directory: Path, online_keys: Path, lifetimes: Lifetimes) -> None:
        """Raises SettingsError if there is no repository or a key is missing."""
        if not Editions(directory, {}, lifetimes).begun():
            raise SettingsError(f"No repository in {directory}", "Make one with `p2pbin-server init`.")
        self._signers = online_signers(online_keys)
        self._lifetimes = lifetimes
        self._editions = Editions(directory, self._signers, lifetimes)

    @classmethod
    def create(cls, directory: Path, online_keys: Path, beginning: Beginning, lifetimes: Lifetimes, now: datetime) -> Self:
        """Make a repository of what the offline keys signed, with an empty index.  SettingsError if there is one already."""
        signers = online_signers(online_keys)
        editions = Editions(directory, signers, lifetimes)
        with editions.changing():
            if editions.begun():
                raise SettingsError(f"There is a repository in {directory} already", "It is never overwritten.")
            editions.add_root(1, beginning.root)
            index = Metadata(Targets(version=1, expires=now + lifetimes.index))
            index.sign(signers["index"])
            roles = {"targets": beginning.targets, "index": index.to_bytes()}
            for role, signed in (("roster", beginning.roster), ("rulings", beginning.rulings)):
                editions.add_target(TargetFile.from_data(DELEGATIONS[role], signed.target, ["sha256"]), signed.target)
                roles[role] = signed.metadata
            editions.commit(roles, now)
        return cls(directory, online_keys, lifetimes)

    def root(self) -> bytes:
        """The newest root.json, for new clients."""
        return self._editions.root()

    def roster(self) -> Roster:
        """The roster in force."""
        return read_roster(self.current("roster").target)

    def rulings(self) -> Rulings:
        """The rulings in force."""
        return read_rulings(self.current("rulings").target)

    def current(self, role: SignedElsewhere) -> Signed:
        """What is in force of a role, as it was signed: the `previous` of the next signing."""
        metadata = self._editions.metadata(role)
        file = read_targets(role, metadata).signed.targets[DELEGATIONS[role]]
        signed = Signed(metadata, self._editions.target(file))
        check_file(role, signed)
        return signed

    def expiries(self) -> dict[str, datetime]:
        """When each role that people sign has to be signed again at the latest."""
        return {"root": read_root(self.root()).signed.expires} | {
            role: self._role(role).signed.expires for role in ("targets", "roster", "rulings")
        }

    def online_expiries(self) -> dict[str, datetime]:
        """When what this server signs by itself expires; a server that runs never lets it come to that."""
        head = self._editions.head()
        return {"index": self._role("index").signed.expires, "snapshot": head.snapshot_expires, "timestamp": head.timestamp_expires}

    def publish_pages(self, channel: Channel, pages: Mapping[str, bytes | None], now: datetime) -> None:
        """List these index pages, by category; None takes a category off the list.  Categories not named stay as they are.

        Pages that have not changed cost nothing, and if none has, nothing is signed.  What a page says is not checked: clients
        do that.
        """
        with self._changing():
            index = self._role("index")
            before = dict(index.signed.targets)
            for category, page in pages.items():
                path = page_file(channel, category)
                if page is None:
                    index.signed.targets.pop(path, None)
                elif before.get(path) != (file := TargetFile.from_data(path, page, ["sha256"])):
                    self._editions.add_target(file, page)
                    index.signed.targets[path] = file
            if index.signed.targets == before:
                return
            self._editions.commit({"index": self._sign_index(index, now)}, now)
            for path, file in before.items():
                if index.signed.targets.get(path) != file:
                    self._editions.retire_target(file, now)

    def refresh(self, now: datetime) -> None:
        """Sign anew what has passed half of its life, and delete what was replaced a day ago.  To be called every hour."""
        with self._changing():
            head = self._editions.head()
            index = self._role("index")
            if _half_over(index.signed.expires, self._lifetimes.index, now):
                self._editions.commit({"index": self._sign_index(index, now)}, now)
            elif _half_over(head.snapshot_expires, self._lifetimes.snapshot, now):
                self._editions.commit({}, now)
            elif _half_over(head.timestamp_expires, self._lifetimes.timestamp, now):
                self._editions.stamp(now)
            self._editions.prune(now)

    def import_signed(self, role: SignedElsewhere, signed: Signed, now: datetime) -> None:
        """Put a roster or rulings in force.  The same ones twice is success.  Raises RefusedError: P7.1, or P6.6 for rulings."""
        with self._changing():
            current = self.current(role)
            if signed.metadata == current.metadata:
                return
            # 1. Signed by a threshold of the keys that the offline targets role appoints.
            metadata = read_targets(role, signed.metadata)
            verify(self._role("targets").signed, role, metadata)
            # 2. It vouches for this one file, and hands nothing on.
            check_file(role, signed)
            # 3. Newer than what is in force, and not expired.
            version = read_targets(role, current.metadata).signed.version
            if metadata.signed.version <= version:
                raise RefusedError(
                    "P7.1", role, f"version {metadata.signed.version} is not newer than version {version}, which is in force"
                )
            _check_expiry(role, metadata, now)
            # 4. The file can be read, and no ruling was lost.
            if role == "roster":
                read_roster(signed.target)
            else:
                _check_rulings(metadata, read_rulings(signed.target), read_rulings(current.target), now)
            self._editions.add_target(metadata.signed.targets[DELEGATIONS[role]], signed.target)
            self._editions.commit({role: signed.metadata}, now)
            self._editions.retire_target(read_targets(role, current.metadata).signed.targets[DELEGATIONS[role]], now)

    def import_root(self, root: bytes, targets: bytes, now: datetime) -> None:
        """Put the root and targets that `ceremonies.renew` signed in force.  The same ones twice is success.

        Raises RefusedError (P7.1), and SettingsError if they appoint other online keys than lie here.  Where keys of the
        roster or of the rulings are replaced, the one in force must still hold under the new keys: add the new key, sign, and
        only then take the old one away.
        """
        with self._editions.changing():
            new_root, new_targets = read_root(root), read_targets("targets", targets)
            if root != self.root():
                # 1. The next version, signed by a threshold of the keys of before and of its own, and not expired.
                current = read_root(self.root()).signed
                if new_root.signed.version != current.version + 1:
                    raise RefusedError("P7.1", "root", f"version {new_root.signed.version} does not follow version {current.version}")
                verify(current, "root", new_root)
            verify(new_root.signed, "root", new_root)
            verify(new_root.signed, "targets", new_targets)
            _check_expiry("root", new_root, now)
            _check_expiry("targets", new_targets, now)
            if new_targets.signed.version < self._role("targets").signed.version:
                raise RefusedError("P7.1", "targets", "older than what is in force")
            # 2. Everything that is in force holds under it.
            self._check_appointed(new_root, new_targets)
            for role in ("roster", "rulings"):
                verify(new_targets.signed, role, self._role(role))
            self._editions.add_root(new_root.signed.version, root)
            self._editions.commit({"targets": targets, "index": self._sign_index(self._role("index"), now)}, now)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._editions.changing():
            self._check_appointed(read_root(self.root()), self._role("targets"))
            yield

    def _role(self, role: str) -> Metadata[Targets]:
        return read_targets(role, self._editions.metadata(role))

    def _sign_index(self, index: Metadata[Targets], now: datetime) -> bytes:
        index.signed.version += 1
        index.signed.expires = now + self._lifetimes.index
        index.sign(self._signers["index"])
        return index.to_bytes()

    def _check_appointed(self, root: Metadata[Root], targets: Metadata[Targets]) -> None:
        appointed = {role: root.signed.roles[role].keyids for role in ("snapshot", "timestamp")}
        appointed["index"] = targets.signed.get_delegated_role("index").keyids
        for role, signer in self._signers.items():
            if signer.public_key.keyid not in appointed[role]:
                raise SettingsError(f"The key {role}.pem is not the one that the root appoints", "Restore it, or have a new root signed.")


def _half_over(expires: datetime, lifetime: timedelta, now: datetime) -> bool:
    return now > expires - lifetime / 2


def _check_expiry(role: str, metadata: Metadata[Root] | Metadata[Targets], now: datetime) -> None:
    if metadata.signed.expires <= now:
        raise RefusedError("P7.1", role, f"expired at {metadata.signed.expires}")


def _check_rulings(metadata: Metadata[Targets], rulings: Rulings, earlier: Rulings, now: datetime) -> None:
    rulings.follows(earlier)
    if metadata.signed.expires > now + MOST_RULINGS_AGE + CLOCK_SLACK:
        raise RefusedError("P6.6", "rulings", f"good for more than {MOST_RULINGS_AGE.days} days")
