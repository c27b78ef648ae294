"""OpenPGP identities: certify a machine key, and check such a certification, through gpg (P3.2).  The only caller of gpg.

A contributor's OpenPGP identity signs one line of text that names a machine key; from then on the machine signs votes by itself.
Whoever registers chooses every byte of the text and of the public key.  gpg exits with 0 for signatures of revoked and expired
keys and for keys of any length, so neither its exit code nor the word of a library is asked: the decision rests on its
status lines and its key listing, each compared with a list of what is allowed.  A hole in gpg's parsers would run as whoever
calls this; a false certification that was accepted would put a stranger's votes under somebody's name.

Status lines: doc/DETAILS in the source of GnuPG.  Clear-signed text: RFC 9580, section 7.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Fingerprint
from portage_p2pbin.kernel.roster import MachineKey, read_machine_key
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.kernel.wire import canonical, decode

CERTIFICATION = "p2pbin-machine-key-1"

MOST_TEXT = 64 * 1024
"""Characters of one certification; a signature by a 16384-bit RSA key makes it about 4,000."""

MOST_PUBLIC_KEY = 256 * 1024
"""Characters of one armoured public key.  Exported minimally, as `certify` does, a key with 20 subkeys has 40,000."""

LONGEST_WINDOW = timedelta(days=731)
"""A machine key is for a limited time (P3.2): two years, so that a machine that was given away stops counting by itself."""

CLOCK_SLACK = timedelta(minutes=5)
"""How far a signature's time may lie ahead of ours."""

GPG_SECONDS = 20
"""A check takes milliseconds; a key made to be slow must not hold up a server."""

PASSPHRASE_SECONDS = 600
"""How long the contributor may look for a passphrase or a smart card."""

LEAST_RSA_BITS = 2048
"""NIST SP 800-131A: less is disallowed since 2014."""

_DIGESTS = {"8": "SHA256", "9": "SHA384", "10": "SHA512"}
_RSA = "1"
_CURVES = {
    "19": {"nistp256", "nistp384", "nistp521", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"},
    "22": {"ed25519", "ed448"},
}
"""Curves by OpenPGP algorithm number: ECDSA and EdDSA.  DSA, Elgamal and everything else is not allowed."""

_HARMLESS = {"NEWSIG", "KEY_CONSIDERED", "KEYEXPIRED", "SIG_ID", "GOODSIG", "VALIDSIG", "PLAINTEXT", "PLAINTEXT_LENGTH"}
"""Status lines that a good signature can have.  KEYEXPIRED may speak of another subkey; if it speaks of the one that signed,
EXPKEYSIG stands in the place of GOODSIG."""

_BAD = {
    "BADSIG": "the signature does not fit the text",
    "ERRSIG": "gpg cannot check the signature: another key made it, or its algorithm is too weak",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key that signed has expired",
    "REVKEYSIG": "the key that signed was revoked",
}
_SECONDS = re.compile(r"[0-9]{1,11}")

_CLEAR_SIGNED = re.compile(
    r"-----BEGIN PGP SIGNED MESSAGE-----\n"
    r"Hash: [A-Z0-9-]{1,20}\n"
    r"\n"
    r"(?P<line>\{[^\r\n]*\})\n"
    r"-----BEGIN PGP SIGNATURE-----\n"
    r"\n"
    r"(?:[A-Za-z0-9+/=]{1,76}\n)+"
    r"-----END PGP SIGNATURE-----\n"
)
"""One signed line and one signature, and nothing that another reader might take for either."""

_PUBLIC_KEY = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    r"(?:[A-Za-z]+: [ -~]*\n)*"
    r"\n"
    r"(?:[A-Za-z0-9+/=]{1,76}\n)+"
    r"-----END PGP PUBLIC KEY BLOCK-----\n?"
)


@dataclass(frozen=True, slots=True)
class Certification:
    """What was certified: `identity`, an OpenPGP primary key, answers for the machine key `key`."""

    identity: Fingerprint
    key: MachineKey


@dataclass(frozen=True, slots=True)
class Certified:
    """What a registration carries: the clear-signed certification and the identity's armoured public key."""

    text: str
    public_key: str


def certify(home: Path | None, identity: Fingerprint, key: MachineKey, now: datetime) -> Certified:
    """Let `identity`, whose secret key lies in the gpg home `home` (None: gpg's default), certify `key`.

    gpg may ask its user for a passphrase.  The result has passed :func:`check_certification`.  Raises SettingsError if gpg or
    the secret key is missing or gpg does not sign, and RefusedError (P3.2) if the identity's key is not good enough.
    """
    gpg = ["gpg", *([] if home is None else ["--homedir", str(home)]), "--batch", "--no-emit-version", "--no-comments"]
    text = _run([*gpg, "--digest-algo", "SHA512", "--local-user", identity, "--clear-sign"], _encode(identity, key), PASSPHRASE_SECONDS)
    if text.returncode != 0:
        said = text.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        remedy = "`gpg --list-secret-keys` must show it, neither expired nor revoked; gpg_home in client.toml says where gpg looks"
        raise SettingsError(f"gpg did not sign with {identity}: {said}", remedy)
    public_key = _run([*gpg, "--armor", "--export-options", "export-minimal", "--export", identity], b"", GPG_SECONDS)
    certified = Certified(text.stdout.decode("ascii", "replace"), public_key.stdout.decode("ascii", "replace"))
    check_certification(certified.text, certified.public_key, now)
    return certified


def check_certification(text: str, public_key: str, now: datetime) -> Certification:
    """Check a clear-signed certification against the armoured public key of the identity that it names (P3.2).

    Raises RefusedError (P3.2, or P3.1 for a line that is no certification), SettingsError if gpg is missing, and
    UnavailableError if gpg does not come to an end.  Not checked: whether the machine key's window covers `now`, whether its
    holder sent this, and whether the identity is anybody we know.
    """
    # 1. Bounded, and one reading only: one line, one signature, nothing around them.
    found = _CLEAR_SIGNED.fullmatch(text) if len(text) <= MOST_TEXT else None
    if found is None or not text.isascii():
        _refuse("not exactly one clear-signed line of ASCII with one signature")
    if len(public_key) > MOST_PUBLIC_KEY or _PUBLIC_KEY.fullmatch(public_key) is None:
        _refuse(f"the public key is not exactly one armoured public key block of at most {MOST_PUBLIC_KEY} characters")
    # 2. What it says, in its one spelling.
    signed = found["line"].encode("ascii")
    certification = _decode(signed)
    with TemporaryDirectory(prefix="gpg-") as name:
        home = _Home(Path(name))
        # 3. The key is that of the identity, alone, and it and its subkeys are known by algorithm and length.
        keys = home.take_in(public_key, certification.identity)
        # 4. One good signature, over exactly this line.
        valid = home.verify(text, signed)
    # 5. Made by that identity, with an allowed digest, by an allowed key, and neither expired nor from the future.
    _check_signature(valid, keys, certification.identity, now)
    return certification


def _encode(identity: Fingerprint, key: MachineKey) -> bytes:
    return canonical(
        {
            "_type": CERTIFICATION,
            "identity": identity,
            "machine": key.machine,
            "notAfter": spelt(key.not_after),
            "notBefore": spelt(key.not_before),
            "public": key.public,
        }
    )


def _decode(signed: bytes) -> Certification:
    fields = decode(signed, "certification", MOST_TEXT)
    fields.exactly("_type", CERTIFICATION)
    identity = fields.of("identity", Fingerprint)
    key = read_machine_key(fields)
    if _encode(identity, key) != signed:
        _refuse("it is not spelt as its canonical JSON is")
    if not timedelta(0) < key.not_after - key.not_before <= LONGEST_WINDOW:
        _refuse(f"the machine key's window is not between nothing and {LONGEST_WINDOW.days} days")
    return Certification(identity, key)


@dataclass(frozen=True, slots=True)
class _Key:
    """A primary key or subkey as `gpg --with-colons` lists it."""

    primary: bool
    bits: int
    algorithm: str
    curve: str

    def allowed(self) -> bool:
        if self.algorithm == _RSA:
            return self.bits >= LEAST_RSA_BITS
        return self.curve in _CURVES.get(self.algorithm, ())


class _Home:
    """A private gpg home for one check.  No agent is started, no network is asked, no trust database decides."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gpg = ["gpg", "--homedir", str(path), "--no-options", "--no-autostart", "--batch", "--no-tty", "--no-auto-key-retrieve"]
        # SHA-1 is weak in self-signatures too: it would let somebody else's subkey be bound to the identity.
        self._gpg += ["--trust-model", "always", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160"]

    def take_in(self, public_key: str, identity: Fingerprint) -> dict[Fingerprint, _Key]:
        """Import the key, which must be that of `identity` and no other; it and its subkeys by fingerprint."""
        _run([*self._gpg, "--import"], public_key.encode("ascii"), GPG_SECONDS)
        listing = _run([*self._gpg, "--with-colons", "--list-keys"], b"", GPG_SECONDS)
        keys = dict(_listed(listing.stdout))
        primaries = [fingerprint for fingerprint, key in keys.items() if key.primary]
        if primaries != [identity]:
            _refuse(f"the public key is {' and '.join(primaries) or 'none that gpg takes'}, and not the {identity} that it names")
        return keys

    def verify(self, text: str, signed: bytes) -> list[str]:
        """The arguments of VALIDSIG, if gpg's status lines tell of one good signature over exactly `signed` and of nothing else."""
        verified = self._path / "verified"
        answer = _run([*self._gpg, "--status-fd", "1", "--output", str(verified), "--verify"], text.encode("ascii"), GPG_SECONDS)
        statuses = [_status(line) for line in _lines(answer.stdout)]
        words = [status[0] for status in statuses]
        for word in words:
            if word not in _HARMLESS:
                _refuse(_BAD.get(word, f"gpg says {word}"))
        if [words.count(word) for word in ("NEWSIG", "GOODSIG", "VALIDSIG")] != [1, 1, 1]:
            _refuse("gpg does not tell of exactly one good signature")
        if verified.read_bytes() != signed + b"\n":
            _refuse("gpg reads another text in it")
        return statuses[words.index("VALIDSIG")][1:]


def _check_signature(valid: Sequence[str], keys: Mapping[Fingerprint, _Key], identity: Fingerprint, now: datetime) -> None:
    """Step 5, from VALIDSIG: fingerprint, date, made, expires, version, reserved, key algorithm, digest, class, primary key."""
    if len(valid) != 10 or not all(_SECONDS.fullmatch(time) for time in valid[2:4]):
        _refuse("gpg's VALIDSIG line is not of the form that we know")
    made, expires = (datetime.fromtimestamp(int(seconds), UTC) for seconds in valid[2:4])
    if valid[9] != identity:
        _refuse(f"signed by {valid[9]}")
    if valid[7] not in _DIGESTS:
        _refuse(f"the signature's digest algorithm, number {valid[7]}, is none of {', '.join(_DIGESTS.values())}")
    for fingerprint in (Fingerprint(valid[0]), identity):
        key = keys.get(fingerprint)
        if key is None or not key.allowed():
            _refuse(f"key {fingerprint} is not RSA of {LEAST_RSA_BITS} bits or more, Ed25519, Ed448, or ECDSA on a NIST or Brainpool curve")
    if made > now + CLOCK_SLACK:
        _refuse(f"signed in the future, at {spelt(made)}; compare the clocks")
    if valid[3] != "0" and expires <= now:
        _refuse(f"the signature expired at {spelt(expires)}")


def _listed(listing: bytes) -> Iterator[tuple[Fingerprint, _Key]]:
    """Every primary key and subkey of `gpg --with-colons --list-keys`: its line, then the line with its fingerprint."""
    key = None
    for line in _lines(listing):
        field = line.split(":")
        if field[0] in ("pub", "sub"):
            key = _Key(field[0] == "pub", int(field[2]), field[3], field[16])
        elif field[0] == "fpr" and key is not None:
            yield Fingerprint(field[9]), key
            key = None


def _lines(output: bytes) -> list[str]:
    """The lines that gpg wrote.  Not str.splitlines(), which would also break a line where a user id has a U+2028."""
    return output.decode("ascii", "replace").removesuffix("\n").split("\n") if output else []


def _status(line: str) -> list[str]:
    """The keyword and arguments of one status line."""
    words = line.split(" ")
    if len(words) < 2 or words[0] != "[GNUPG:]":
        _refuse("gpg said something that is no status line")
    return words[1:]


def _run(command: list[str], data: bytes, seconds: int) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise SettingsError("The program gpg is missing", "Install app-crypt/gnupg.") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("gpg", f"it did not answer within {seconds} seconds") from error


def _refuse(reason: str) -> NoReturn:
    raise RefusedError("P3.2", "certification", reason)
