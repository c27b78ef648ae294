"""The trust server's HTTP API, as its contributors see it: one method for each question.

Whoever controls the server or the way to it chooses every answer.  Answers are read strictly and within bounds, and none of them
is trusted: what a machine installs is decided from signed votes alone (P9.4).  The worst that a false answer does here is to waste
work, to hide something, or to show a wrong line in `p2pbin explain`, which says where each line comes from.

What we ask for is signed with the machine key and names this server and the time, so that it is of no use elsewhere or later.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin.kernel.definition import BuildRequest, read_request
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.index import MOST_BUNDLE
from portage_p2pbin.kernel.model import (
    Address,
    BuildKey,
    ContentsDigest,
    Cpv,
    Fingerprint,
    InfoHash,
    Level,
    Operator,
    Role,
    Sha256,
    Token,
)
from portage_p2pbin.kernel.statements import SignedCertificate, SignedVote, moment, read_vote, sign_request
from portage_p2pbin.kernel.wire import Fields, decode

MOST_ANSWER = 64 * 1024
"""Bytes of a short answer."""

MOST_JOB = 2 * 1024 * 1024
"""Bytes of a job: a build request with 5,000 sources has about 500 kB."""

MOST_OPENPGP = 256 * 1024
"""Characters of a public key or of a certification; what is allowed exactly is checked with the rest of it."""

MOST_AUDITS = 100
MOST_AUDITS_ANSWER = 2 * MOST_AUDITS * (MOST_ENVELOPE + 2 * MOST_OPENPGP)
"""Bytes of an answer with as many audits as one job can bring, each quotation mark and line end in them escaped."""

MOST_PACKAGE = 4 * 1024 * 1024
MOST_BUILDS = 1000
MOST_VARIANTS = 1000
MOST_VOICES = 1000

_REQUESTS = 2**31
"""More requests or votes than anybody will ever count."""


class JobName(Token):
    """What the server calls a job; it may become part of a URL."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Http(Protocol):
    """What we need of HTTP.  Both raise UnavailableError when nobody answers in time, and RefusedError for a refusal."""

    def find(self, url: str, most: int) -> bytes | None:
        """The body at `url`, at most `most` bytes; None if there is none."""

    def post(self, url: str, body: bytes, most: int) -> bytes:
        """The body, at most `most` bytes, of the answer to `body`."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Who the server takes this machine for."""

    identity: Fingerprint
    role: Role


@dataclass(frozen=True, slots=True)
class VoteTaken:
    """What the server says after it has stored a vote: the level now, as far as the voter may know, and why."""

    digest: Sha256
    level: Level | None
    reason: str


@dataclass(frozen=True, slots=True)
class OfferTaken:
    """Whether the server wants the file, and where its origin waits for it."""

    wanted: bool
    origin: Address


class OfferState(Enum):
    """How far the origin is with an offered file."""

    WAITING = "waiting"
    CHECKING = "checking"
    STORED = "stored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class OfferProgress:
    """Where an offer stands; `reason` is the origin's sentence when it refused."""

    state: OfferState
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """One build that the server wants from this build server, until `expires`; `votes` others have done it."""

    identifier: JobName
    expires: datetime
    request: BuildRequest
    votes: int


@dataclass(frozen=True, slots=True)
class Audit:
    """An untrusted contributor's vote on a job that was done, its signature checked: does it match?

    `openpgp` and `certification` say whose it is, once :func:`portage_p2pbin.openpgp.check_certification` has checked them (P3.2);
    here nothing of them is.
    """

    openpgp: str
    certification: str
    vote: SignedVote


@dataclass(frozen=True, slots=True)
class SaidVoice:
    """A vote that counts, as the server says."""

    operator: Operator
    role: Role


@dataclass(frozen=True, slots=True)
class SaidVariant:
    """One result of a build, as the server says; `contents` is None while untrusted votes are blind (P5)."""

    contents: ContentsDigest | None
    level: Level | None
    listed: bool
    definition: Sha256
    voices: tuple[SaidVoice, ...]


@dataclass(frozen=True, slots=True)
class SaidBuild:
    """One build key of a package, as the server says; `requests` counts who asked for it."""

    build_key: BuildKey
    level: Level | None
    requests: int
    variants: tuple[SaidVariant, ...]


@dataclass(frozen=True, slots=True)
class TrustServer:
    """The server at `url` (without a slash at its end) that calls itself `name` (HOST or HOST:PORT)."""

    http: Http
    url: str
    name: str
    clock: Callable[[], datetime]

    def register(self, openpgp: str, certification: str, key: Ed25519PrivateKey) -> Registered:
        """Register a machine key with the armoured public key of its identity and the identity's certification (P3.2)."""
        fields: dict[str, object] = {"certification": certification, "openpgp": openpgp}
        answer = self._ask("contributors", "register", fields, key)
        with answer.reading():
            return Registered(answer.of("identity", Fingerprint), answer.of("role", Role))

    def vote(self, vote: SignedVote) -> VoteTaken:
        """Hand in a vote; handing it in twice is the same as once."""
        answer = self._post("votes", vote.envelope.data, MOST_ANSWER)
        with answer.reading():
            return VoteTaken(answer.of("vote", Sha256), _level(answer), answer.text("reason", 1000))

    def offer(self, vote: Sha256, size: int, torrent: bytes, port: int, key: Ed25519PrivateKey) -> OfferTaken:
        """Offer the file of `vote`, of `size` bytes, for which this machine listens on `port`."""
        fields: dict[str, object] = {"port": port, "size": size, "torrent": base64.b64encode(torrent).decode("ascii"), "vote": vote}
        answer = self._ask("offers", "offer", fields, key)
        with answer.reading():
            return OfferTaken(answer.flag("wanted"), answer.address("origin"))

    def offer_progress(self, info_hash: InfoHash) -> OfferProgress:
        """How far the origin is with the file of this torrent."""
        answer = self._find(f"offers/{info_hash}", MOST_ANSWER)
        if answer is None:
            raise UnavailableError(f"Offer {info_hash}", "the server does not know it any more; publish again")
        with answer.reading():
            return OfferProgress(answer.of("state", OfferState), answer.text("reason", 1000))

    def lease(self, key: Ed25519PrivateKey) -> Job | None:
        """The most wanted job, ours until it expires; None if there is nothing to do."""
        answer = self._ask("jobs", "lease", {}, key, MOST_JOB)
        with answer.reading():
            return None if answer.null("job") else _read_job(answer.fields("job"))

    def renew(self, job: JobName, key: Ed25519PrivateKey) -> datetime:
        """Say that we are still at `job`; until when it is ours now."""
        answer = self._ask(f"jobs/{job}/renew", "job-renew", {}, key)
        with answer.reading():
            return answer.of("expires", moment)

    def give_back(self, job: JobName, key: Ed25519PrivateKey) -> None:
        """Say that we cannot do `job`, so that another build server gets it before our lease ends."""
        self.http.post(f"{self.url}/jobs/{job}/return", self._signed("job-return", {}, key), MOST_ANSWER)

    def job_done(self, job: JobName, vote: Sha256, key: Ed25519PrivateKey) -> tuple[Audit, ...]:
        """Say that `vote` is the result of `job`; the answer is who of the untrusted can now be audited by it."""
        answer = self._ask(f"jobs/{job}/done", "job-done", {"vote": vote}, key, MOST_AUDITS_ANSWER)
        with answer.reading():
            return tuple(_read_audit(one) for one in answer.many("audits", MOST_AUDITS))

    def certify(self, certificate: SignedCertificate) -> None:
        """Hand in an audit certificate."""
        self.http.post(f"{self.url}/certificates", certificate.envelope.data, MOST_ANSWER)

    def bundle(self, name: Sha256) -> bytes:
        """The vote bundle of that name, whatever its bytes are."""
        data = self.http.find(f"{self.url}/bundles/{name}", MOST_BUNDLE)
        if data is None:
            raise UnavailableError(f"Vote bundle {name}", "the server has it no longer")
        return data

    def package(self, cpv: Cpv) -> tuple[SaidBuild, ...]:
        """What the server knows of all builds of `cpv`; nothing in it is proven.  Empty if nobody has voted on it."""
        answer = self._find(f"packages/{cpv}", MOST_PACKAGE)
        if answer is None:
            return ()
        with answer.reading():
            return tuple(_read_build(one) for one in answer.many("builds", MOST_BUILDS))

    def _ask(self, path: str, action: str, fields: dict[str, object], key: Ed25519PrivateKey, most: int = MOST_ANSWER) -> Fields:
        return self._post(path, self._signed(action, fields, key), most)

    def _signed(self, action: str, fields: dict[str, object], key: Ed25519PrivateKey) -> bytes:
        return sign_request(action, fields, self.name, self.clock(), key).data

    def _post(self, path: str, body: bytes, most: int) -> Fields:
        return decode(self.http.post(f"{self.url}/{path}", body, most), f"answer to {path}", most)

    def _find(self, path: str, most: int) -> Fields | None:
        found = self.http.find(f"{self.url}/{path}", most)
        return None if found is None else decode(found, f"answer to {path}", most)


def _level(fields: Fields) -> Level | None:
    return None if fields.null("level") else Level(fields.number("level", 1, 6))


def _read_job(fields: Fields) -> Job:
    with fields.reading():
        return Job(
            identifier=fields.of("id", JobName),
            expires=fields.of("expires", moment),
            request=read_request(fields.fields("request")),
            votes=fields.number("votes", 0, _REQUESTS),
        )


def _read_audit(fields: Fields) -> Audit:
    with fields.reading():
        return Audit(
            openpgp=fields.text("openpgp", MOST_OPENPGP),
            certification=fields.text("certification", MOST_OPENPGP),
            vote=fields.of("vote", lambda text: read_vote(text.encode()), MOST_ENVELOPE),
        )


def _read_build(fields: Fields) -> SaidBuild:
    with fields.reading():
        return SaidBuild(
            build_key=fields.of("buildKey", BuildKey),
            level=_level(fields),
            requests=fields.number("requests", 0, _REQUESTS),
            variants=tuple(_read_variant(one) for one in fields.many("variants", MOST_VARIANTS)),
        )


def _read_variant(fields: Fields) -> SaidVariant:
    with fields.reading():
        return SaidVariant(
            contents=fields.of("contents", ContentsDigest) if fields.has("contents") else None,
            level=_level(fields),
            listed=fields.flag("listed"),
            definition=fields.of("definition", Sha256),
            voices=tuple(_read_voice(one) for one in fields.many("voices", MOST_VOICES)),
        )


def _read_voice(fields: Fields) -> SaidVoice:
    with fields.reading():
        return SaidVoice(fields.of("operator", Operator), fields.of("role", Role))
