"""What contributors sign: votes, audit certificates and the requests that they send (P3, P4.3).

Votes and certificates are in-toto Statements v1 in a DSSE envelope.  A contributor chooses every field of what it signs; the
types here make sure that each field is of its form, and nothing more: whether a vote counts is decided in
:mod:`portage_p2pbin.kernel.trust` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin.kernel.definition import MOST_DEPENDENCIES, MOST_PROGRAMS, BuildDefinition, read_environment, read_request
from portage_p2pbin.kernel.envelope import Envelope, open_envelope, seal
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import BuildKey, Channel, ContentsDigest, Cpv, Fingerprint, Operator, PublicKey, Sha256
from portage_p2pbin.kernel.wire import Fields, canonical, decode

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:p2pbin:build:1"
AUDIT = "urn:p2pbin:audit:1"

MOST_STATEMENT = 1536 * 1024
"""Bytes of one statement, so that its envelope stays below MOST_ENVELOPE in base64."""

MOST_AUDITED = 100
"""Packages named in one audit certificate; a few are enough to show that the auditor has looked."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def moment(text: str) -> datetime:
    """A time in UTC with whole seconds, in its one spelling: `2026-01-31T23:59:59Z`.  Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError("not a time like 2026-01-31T23:59:59Z")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def spelt(time: datetime) -> str:
    """The one spelling of a time: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Vote:
    """The statement: I built this, and its contents digest was that (P3.1).

    `file` is the SHA-256 of the cleaned package file and is there only in the vote of the one who provides it.  `started` and
    `finished` are what the builder says.
    """

    channel: Channel
    definition: BuildDefinition
    contents: ContentsDigest
    file: Sha256 | None
    started: datetime
    finished: datetime

    @property
    def cpv(self) -> Cpv:
        """Category, package and version that were built."""
        return self.definition.request.cpv

    @property
    def build_key(self) -> BuildKey:
        """The build key that this vote is about."""
        return self.definition.request.key


@dataclass(frozen=True, slots=True)
class SignedVote:
    """A vote, the key that signed it, and its envelope, signature checked."""

    vote: Vote
    envelope: Envelope

    @property
    def signer(self) -> PublicKey:
        """The machine key that signed."""
        return self.envelope.signer


def sign_vote(vote: Vote, key: Ed25519PrivateKey) -> SignedVote:
    """Sign `vote` with a machine key."""
    algorithm, _, digest = vote.contents.partition(":")
    subject: dict[str, object] = {algorithm: digest}
    if vote.file is not None:
        subject["sha256"] = vote.file
    statement = _statement(
        vote.cpv,
        subject,
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": vote.definition.request.as_json(),
                "internalParameters": {"channel": vote.channel},
                "resolvedDependencies": vote.definition.environment_json(),
            },
            "runDetails": {
                "builder": {"id": "urn:p2pbin:machine"},
                "metadata": {"finishedOn": spelt(vote.finished), "startedOn": spelt(vote.started)},
            },
        },
    )
    return SignedVote(vote, seal(statement, PAYLOAD_TYPE, key))


def read_vote(data: bytes) -> SignedVote:
    """Read a vote from its envelope.

    Raises DecodeError or RefusedError (P3.1).  Not checked: whether the key belongs to anybody, and whether the vote is true.
    """
    envelope = open_envelope(data, PAYLOAD_TYPE, "vote")
    fields = decode(envelope.payload, "vote", MOST_STATEMENT)
    with fields.reading():
        name, digest, predicate = _open_statement(fields, PROVENANCE)
        with digest.reading():
            contents = digest.of("p2pbin-contents-1", lambda text: ContentsDigest(f"p2pbin-contents-1:{text}"))
            file = digest.of("sha256", Sha256) if digest.has("sha256") else None
        with predicate.reading():
            channel, definition = _read_definition(predicate.fields("buildDefinition"))
            started, finished = _read_run(predicate.fields("runDetails"))
    if name != definition.request.cpv:
        raise RefusedError("P3.1", f"vote on {name}", f"its definition is of {definition.request.cpv}")
    if finished < started:
        raise RefusedError("P3.1", f"vote on {name}", "it was finished before it was started")
    return SignedVote(Vote(channel, definition, contents, file, started, finished), envelope)


def _read_definition(fields: Fields) -> tuple[Channel, BuildDefinition]:
    with fields.reading():
        fields.exactly("buildType", BUILD_TYPE)
        request = read_request(fields.fields("externalParameters"))
        internal = fields.fields("internalParameters")
        with internal.reading():
            channel = internal.of("channel", Channel)
        dependencies, programs = read_environment(fields.many("resolvedDependencies", MOST_DEPENDENCIES + MOST_PROGRAMS))
    return channel, BuildDefinition(request, dependencies, programs)


def _read_run(fields: Fields) -> tuple[datetime, datetime]:
    with fields.reading():
        builder = fields.fields("builder")
        with builder.reading():
            builder.exactly("id", "urn:p2pbin:machine")
        metadata = fields.fields("metadata")
        with metadata.reading():
            return metadata.of("startedOn", moment), metadata.of("finishedOn", moment)


@dataclass(frozen=True, slots=True)
class Audited:
    """One build that an auditor has done again and found equal."""

    build_key: BuildKey
    contents: ContentsDigest


@dataclass(frozen=True, slots=True)
class AuditCertificate:
    """The statement: I have rebuilt some of this key's packages, and they matched (P4.3), signed by a build server.

    Lets the votes of an untrusted `key` count as one voice of its `identity`, from `not_before` to `not_after`.
    """

    key: PublicKey
    identity: Fingerprint
    not_before: datetime
    not_after: datetime
    audited: tuple[Audited, ...]

    @property
    def operator(self) -> Operator:
        """Who answers for the key: nobody but its identity (P4.1)."""
        return Operator(f"identity-{self.identity}")


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate, the key that signed it, and its envelope, signature checked."""

    certificate: AuditCertificate
    envelope: Envelope

    @property
    def signer(self) -> PublicKey:
        """The machine key of the build server."""
        return self.envelope.signer


def sign_certificate(certificate: AuditCertificate, key: Ed25519PrivateKey) -> SignedCertificate:
    """Sign an audit certificate with a build server's machine key."""
    statement = _statement(
        certificate.identity,
        {"ed25519": certificate.key},
        AUDIT,
        {
            "audited": [{"buildKey": one.build_key, "contents": one.contents} for one in certificate.audited],
            "notAfter": spelt(certificate.not_after),
            "notBefore": spelt(certificate.not_before),
        },
    )
    return SignedCertificate(certificate, seal(statement, PAYLOAD_TYPE, key))


def read_certificate(data: bytes) -> SignedCertificate:
    """Read an audit certificate from its envelope.  Raises as :func:`read_vote`; whether the signer may audit is not checked."""
    envelope = open_envelope(data, PAYLOAD_TYPE, "audit certificate")
    fields = decode(envelope.payload, "audit certificate", MOST_STATEMENT)
    with fields.reading():
        identity, digest, predicate = _open_statement(fields, AUDIT)
        with digest.reading():
            key = digest.of("ed25519", PublicKey)
        with predicate.reading():
            audited = tuple(_read_audited(one) for one in predicate.many("audited", MOST_AUDITED))
            certificate = AuditCertificate(
                key=key,
                identity=Fingerprint(identity),
                not_before=predicate.of("notBefore", moment),
                not_after=predicate.of("notAfter", moment),
                audited=audited,
            )
    if not audited:
        raise RefusedError("P4.3", "audit certificate", "it names no package that was rebuilt")
    return SignedCertificate(certificate, envelope)


def _read_audited(fields: Fields) -> Audited:
    with fields.reading():
        return Audited(fields.of("buildKey", BuildKey), fields.of("contents", ContentsDigest))


def _statement(name: str, digest: dict[str, object], predicate_type: str, predicate: dict[str, object]) -> bytes:
    return canonical(
        {"_type": STATEMENT, "predicate": predicate, "predicateType": predicate_type, "subject": [{"digest": digest, "name": name}]}
    )


def _open_statement(fields: Fields, predicate_type: str) -> tuple[str, Fields, Fields]:
    """Subject name, subject digest and predicate of a statement that speaks of one subject."""
    fields.exactly("_type", STATEMENT)
    fields.exactly("predicateType", predicate_type)
    subjects = fields.many("subject", 1)
    if not subjects:
        fields.refuse("it speaks of nothing")
    with subjects[0].reading():
        return subjects[0].text("name", 300), subjects[0].fields("digest"), fields.fields("predicate")


REQUEST_TYPE = "application/vnd.p2pbin.request+json"
MOST_REQUEST = 512 * 1024
"""Bytes of one signed request: a registration carries an OpenPGP public key, an offer a torrent."""


def sign_request(action: str, fields: dict[str, object], server: str, time: datetime, key: Ed25519PrivateKey) -> Envelope:
    """Sign a request to the server: "do `action` for me".

    `server` is the name of the server it is meant for and `time` when it was made, so that it cannot be used again elsewhere
    or much later.
    """
    payload = canonical({"action": action, "fields": fields, "server": server, "time": spelt(time)})
    return seal(payload, REQUEST_TYPE, key)


def read_request_fields(data: bytes, action: str, server: str, fresh: Callable[[datetime], bool]) -> tuple[PublicKey, Fields]:
    """The signer and the fields of a request to do `action`, meant for `server`, whose time `fresh` accepts.

    Raises DecodeError or RefusedError (P3.1).  Not checked: whether the signer may do it, and whether it was sent twice.
    """
    envelope = open_envelope(data, REQUEST_TYPE, f"{action} request")
    fields = decode(envelope.payload, f"{action} request", MOST_REQUEST)
    with fields.reading():
        fields.exactly("action", action)
        fields.exactly("server", server)
        if not fresh(fields.of("time", moment)):
            fields.refuse("it is too old or from the future; compare the clocks")
        return envelope.signer, fields.fields("fields")
