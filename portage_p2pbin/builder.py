"""A build server: take the most wanted job, build it with real emerge, vote, publish, and audit who built it before (P11, P4.3).

A job comes from the server, and through it from any contributor's vote: package, version, repository and USE flags are theirs to
choose.  They can make this machine build any package of its own ebuild repositories, and nothing else; that runs upstream's code,
so emerge belongs into a container.  The machine key and the lease stay in this process.

What makes a vote is never what the server asked for, but what the hook has recorded of the build.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin import durable
from portage_p2pbin.gentoo.record import Record, find_record, recorded
from portage_p2pbin.kernel.definition import BuildRequest
from portage_p2pbin.kernel.difference import request_differences
from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, SettingsError, UnavailableError, printable
from portage_p2pbin.kernel.model import ContentsDigest
from portage_p2pbin.kernel.statements import AuditCertificate, Audited, SignedVote, sign_certificate
from portage_p2pbin.net.trust_server import Audit, Job, TrustServer
from portage_p2pbin.openpgp import Certification, check_certification
from portage_p2pbin.publish import Published

LEAST_WAIT = 1.0
"""Seconds between two renewals of a lease, at least."""

RETRY = 30.0
"""Seconds until a renewal is tried again that nobody answered."""

_USE_FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_@-]{0,99}")
"""PMS 3.1.4."""


@dataclass(frozen=True, slots=True)
class Emerge:
    """How a package is built: by `command`, to which the atom is added, as seen from this process.

    `package_use` is the file for the USE flags of the job; `eprefix` is where the hook leaves its records; a build that takes
    longer than `timeout` seconds is ended.
    """

    command: tuple[str, ...]
    package_use: Path
    eprefix: Path
    timeout: float

    def build(self, request: BuildRequest, keep: Callable[[], datetime], clock: Callable[[], datetime]) -> Record:
        """Build what `request` names and return the record of it, whatever it says.

        `keep` renews the lease and returns until when it holds.  Raises SettingsError, RefusedError (P11) for a request that
        no emerge can be given, and UnavailableError if the build fails.
        """
        before = set(recorded(self.eprefix))
        self._write_use(request)
        try:
            self._run([*self.command, f"={request.cpv}::{request.repository}"], keep, clock)
        finally:
            self.package_use.unlink()
        new = [find_record(self.eprefix, file) for file in recorded(self.eprefix) if file not in before]
        found = [record for record in new if record.definition.request.cpv == request.cpv]
        if not found:
            raise SettingsError(f"{request.cpv} was built and not recorded", "Put the hook into /etc/portage/bashrc; README.rst shows it")
        return found[-1]

    def _write_use(self, request: BuildRequest) -> None:
        """Let the package have the job's flags and no others."""
        for flag in request.use:
            if _USE_FLAG.fullmatch(flag) is None:
                raise RefusedError("P11", request.cpv, f"{flag!r} is no USE flag")
        if self.package_use.parent.is_file():
            raise SettingsError(f"{self.package_use.parent} is a file", "Make it a folder, or set package_use in builder.toml")
        self.package_use.parent.mkdir(parents=True, exist_ok=True)
        line = f"={request.cpv}::{request.repository} -* {' '.join(request.use)}\n"
        durable.write(self.package_use, line.encode("ascii"))

    def _run(self, command: list[str], keep: Callable[[], datetime], clock: Callable[[], datetime]) -> None:
        """Run emerge to its end, renewing the lease at half its time."""
        deadline = clock() + timedelta(seconds=self.timeout)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise SettingsError(f"{command[0]}: {error.strerror}", "Set command in builder.toml") from error
        try:
            while (code := _wait(process, _until_renewal(keep, clock))) is None:
                if clock() > deadline:
                    raise UnavailableError(command[-1], f"its build did not end within {self.timeout:.0f} seconds")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code != 0:
            raise UnavailableError(command[-1], f"emerge ended with {code}; see its build log")


def _until_renewal(keep: Callable[[], datetime], clock: Callable[[], datetime]) -> float:
    """Renew the lease; return in how many seconds again.  A server that does not answer for a while costs no build."""
    try:
        return max(LEAST_WAIT, (keep() - clock()).total_seconds() / 2)
    except UnavailableError:
        return RETRY


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


@dataclass(frozen=True, slots=True)
class Builder:
    """Works for one trust server.  `certificate` is how long an audit certificate holds; `tell` gets a sentence for each step."""

    server: TrustServer
    key: Ed25519PrivateKey
    emerge: Emerge
    publish: Callable[[Record], Published]
    certificate: timedelta
    tell: Callable[[str], None]

    def work(self) -> bool:
        """Do the most wanted job; False if there is none.

        Raises SettingsError, RefusedError and UnavailableError.  A job that failed is given back, for another build server.
        """
        # 1. The lease.
        job = self.server.lease(self.key)
        if job is None:
            return False
        self.tell(f"Building {job.request.cpv}, for which there are {job.votes} votes")
        try:
            vote = self._build(job)
        except (P2pbinError, KeyboardInterrupt):
            self._give_back(job)
            raise
        # 5. Done; who has built the same before?
        audits = self.server.job_done(job.identifier, vote.envelope.digest, self.key)
        # 6. Who was right can be believed to have built.
        for audit in audits:
            self._audit(audit, vote)
        return True

    def _build(self, job: Job) -> SignedVote:
        # 2. Real emerge.
        record = self.emerge.build(job.request, lambda: self.server.renew(job.identifier, self.key), self.server.clock)
        # 3. Was that what was wanted?  A vote on something else is of no use to who wants this.
        _check(job, record)
        # 4. Vote, and the file if it is wanted.
        return self.publish(record).vote

    def _give_back(self, job: Job) -> None:
        """If nobody hears it, the job goes back when its lease ends; what made it fail is the more important error."""
        try:
            self.server.give_back(job.identifier, self.key)
        except P2pbinError as error:
            self.tell(f"{job.request.cpv} was not given back: {error}")

    def _audit(self, audit: Audit, ours: SignedVote) -> None:
        """Certify an untrusted contributor whose vote agrees with ours (P4.3); say so if it does not."""
        now = self.server.clock()
        try:
            # Whose key it is, the identity itself has signed; the server's word is not enough (P3.2).
            certified = check_certification(audit.certification, audit.openpgp, now)
            _check_audit(certified, audit.vote, ours, now)
        except RefusedError as error:
            self.tell(f"Not certified: {error}")
            return
        key = certified.key
        until = min(key.not_after, now + self.certificate)
        audited = (Audited(ours.vote.build_key, ContentsDigest(ours.vote.contents)),)
        certificate = AuditCertificate(key.public, certified.identity, key.not_before, until, audited)
        self.server.certify(sign_certificate(certificate, self.key))
        self.tell(f"Certified: {certified.identity} had built the same")


def _check(job: Job, record: Record) -> None:
    """Refuse (P11) a build whose key is another than the job's, and say field by field why."""
    differences = request_differences(record.definition.request, job.request)
    if differences:
        said = "; ".join(f"{one.field} is {one.here or '-'} here, and {one.there or '-'} was wanted" for one in differences)
        raise RefusedError("P11", job.request.cpv, f"this machine builds something else: {printable(said)}")


def _check_audit(certified: Certification, theirs: SignedVote, ours: SignedVote, now: datetime) -> None:
    """Refuse (P4.3) a vote that is not by the certified key in its window (P3.3), or that does not agree with ours (P1.4)."""
    if theirs.signer != certified.key.public:
        reason = "the vote is signed by another key than the identity has certified"
    elif not (certified.key.covers(theirs.vote.finished) and certified.key.covers(now)):
        reason = "the vote or today is outside the window of its key"
    elif (theirs.vote.channel, theirs.vote.build_key) != (ours.vote.channel, ours.vote.build_key):
        reason = "the vote is about another build"
    elif theirs.vote.contents != ours.vote.contents:
        reason = f"the contents differ, {theirs.vote.contents} there and {ours.vote.contents} here"
    else:
        return
    raise RefusedError("P4.3", f"audit of {certified.identity}", reason)
