"""Small valid values for tests: each test changes the one thing that it is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin.kernel.definition import BuildDefinition, BuildRequest, Dependency, RepositoryName, Slot
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.model import Channel, ContentsDigest, Cpv, Fingerprint, Operator, Role, Sha256
from portage_p2pbin.kernel.roster import Contributor, MachineKey, Policy, Roster
from portage_p2pbin.kernel.statements import AuditCertificate, Audited, SignedCertificate, SignedVote, Vote, sign_certificate, sign_vote

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
YEAR = timedelta(days=365)

REQUEST = BuildRequest(
    cpv=Cpv("app-misc/hello-2.10-r1"),
    repository=RepositoryName("test"),
    eapi="8",
    slot=Slot("0"),
    use=("nls",),
    chost="x86_64-pc-linux-gnu",
    cbuild="x86_64-pc-linux-gnu",
    elibc="glibc",
    abi="amd64",
    eprefix="",
    flags={"CFLAGS": "-O2 -pipe"},
    features=("splitdebug",),
    install_mask=(),
    build_path="/var/tmp",
    sources={"distfile/hello-2.10.tar.gz": Sha256("d" * 64), "ebuild": Sha256("e" * 64)},
)
DEFINITION = BuildDefinition(
    REQUEST,
    (Dependency(Cpv("dev-libs/ring-1.2"), Slot("0/1"), ("static",), Sha256("1" * 64)),),
    {"cc": Sha256("2" * 64)},
)
CONTENTS = ContentsDigest("p2pbin-contents-1:" + "a" * 64)
OTHER_CONTENTS = ContentsDigest("p2pbin-contents-1:" + "b" * 64)
CHANNEL = Channel("amd64-test")

VOTE = Vote(CHANNEL, DEFINITION, CONTENTS, Sha256("f" * 64), NOW - timedelta(minutes=5), NOW)


def new_key(seed: int) -> Ed25519PrivateKey:
    """A machine key that is the same at every call."""
    return Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))


def fingerprint(seed: int) -> Fingerprint:
    return Fingerprint(f"{seed:040X}")


def machine_key(seed: int) -> MachineKey:
    return MachineKey(public_key(new_key(seed)), f"machine-{seed}", NOW - YEAR, NOW + YEAR)


def contributor(seed: int, role: Role, operator: str = "") -> Contributor:
    return Contributor(Operator(operator or f"operator-{seed}"), role, fingerprint(seed), (machine_key(seed),))


def roster(*contributors: Contributor, semi_trusted: int = 2, untrusted: int = 2) -> Roster:
    return Roster(contributors, Policy(semi_trusted, untrusted))


def vote(seed: int, **changes: object) -> SignedVote:
    return sign_vote(replace(VOTE, **changes), new_key(seed))


def certificate(seed: int, auditor: int, **changes: object) -> SignedCertificate:
    plain = AuditCertificate(
        key=public_key(new_key(seed)),
        identity=fingerprint(seed),
        not_before=NOW - YEAR,
        not_after=NOW + YEAR,
        audited=(Audited(REQUEST.key, CONTENTS),),
    )
    return sign_certificate(replace(plain, **changes), new_key(auditor))
