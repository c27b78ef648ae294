"""What people signed: registrations, votes and certificates."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sql

from p2pbin_server.store import tables as t
from p2pbin_server.store.queries import Queries, of_build, values_of
from p2pbin_server.store.rows import Build, Registered
from portage_p2pbin.kernel.model import BuildKey, ContentsDigest, PublicKey, Sha256
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote, read_certificate, read_vote


class Contributions(Queries):
    """Nothing here is ever changed but a registration, by its own key."""

    def contributor(self, key: PublicKey) -> Registered | None:
        """Who registered `key`."""
        return self._one(Registered, sql.select(t.CONTRIBUTORS).where(t.CONTRIBUTORS.c.key == key))

    def contributors(self) -> list[Registered]:
        """Everybody who ever registered, in the order of their registration."""
        return self._all(Registered, sql.select(t.CONTRIBUTORS).order_by(t.CONTRIBUTORS.c.registered, t.CONTRIBUTORS.c.key))

    def put_contributor(self, one: Registered) -> None:
        """Store a registration, in place of an earlier one of the same key."""
        values = values_of(one)
        self._put(t.CONTRIBUTORS, {"key": values.pop("key")}, values)

    def registrations_since(self, time: int) -> int:
        """How many keys were registered after `time`."""
        return self._count(t.CONTRIBUTORS, t.CONTRIBUTORS.c.registered > time)

    def vote(self, digest: Sha256) -> SignedVote | None:
        """The vote whose envelope has this digest."""
        found = self._connection.execute(sql.select(t.VOTES.c.envelope).where(t.VOTES.c.digest == digest)).scalar()
        return None if found is None else read_vote(found)

    def add_vote(self, signed: SignedVote, received: int) -> None:
        """Store a vote that is new."""
        vote = signed.vote
        values: dict[str, object] = {"digest": signed.envelope.digest, "channel": vote.channel, "build_key": vote.build_key}
        values |= {"contents": vote.contents, "cpv": vote.cpv, "signer": signed.signer}
        self._insert(t.VOTES, values | {"received": received, "envelope": signed.envelope.data})

    def votes_on(self, build: Build) -> list[SignedVote]:
        """All votes on a build key, oldest first."""
        query = sql.select(t.VOTES.c.envelope).where(*of_build(t.VOTES, build)).order_by(t.VOTES.c.position)
        return [read_vote(row["envelope"]) for row in self._rows(query)]

    def votes_since(self, signer: PublicKey, time: int) -> int:
        """How many votes of `signer` came in after `time`."""
        return self._count(t.VOTES, t.VOTES.c.signer == signer, t.VOTES.c.received > time)

    def has_certificate(self, digest: Sha256) -> bool:
        """Is this certificate stored?"""
        return self._count(t.CERTIFICATES, t.CERTIFICATES.c.digest == digest) > 0

    def add_certificate(self, signed: SignedCertificate, received: int) -> None:
        """Store a certificate that is new."""
        values: dict[str, object] = {"digest": signed.envelope.digest, "key": signed.certificate.key, "signer": signed.signer}
        self._insert(t.CERTIFICATES, values | {"received": received, "envelope": signed.envelope.data})

    def certificates_since(self, signer: PublicKey, time: int) -> int:
        """How many certificates of `signer` came in after `time`."""
        return self._count(t.CERTIFICATES, t.CERTIFICATES.c.signer == signer, t.CERTIFICATES.c.received > time)

    def certificates_for(self, keys: Iterable[PublicKey]) -> list[SignedCertificate]:
        """All certificates about any of `keys`."""
        table = t.CERTIFICATES
        query = sql.select(table.c.envelope).where(table.c.key.in_(sorted(keys))).order_by(table.c.position)
        return [read_certificate(row["envelope"]) for row in self._rows(query)]

    def has_voted(self, signer: PublicKey, build_key: BuildKey, contents: ContentsDigest) -> bool:
        """Has `signer` voted for these contents of this build key, in any channel?"""
        return self._count(t.VOTES, t.VOTES.c.signer == signer, t.VOTES.c.build_key == build_key, t.VOTES.c.contents == contents) > 0

    def builds_voted_by(self, signer: PublicKey) -> list[Build]:
        """The build keys that `signer` has voted on."""
        return self._builds(sql.select(t.VOTES.c.channel, t.VOTES.c.build_key).where(t.VOTES.c.signer == signer).distinct())

    def builds(self) -> list[Build]:
        """Every build key with a vote."""
        return self._builds(sql.select(t.VARIANTS.c.channel, t.VARIANTS.c.build_key).distinct())
