"""Every false acceptance that gpg or a library makes possible, with real gpg and real keys."""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from portage_p2pbin import openpgp
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Fingerprint
from portage_p2pbin.kernel.wire import canonical
from portage_p2pbin.openpgp import certify, check_certification
from tests.makers import machine_key

BEGINNING = datetime.now(UTC).replace(microsecond=0)
"""When the tests were collected, which may be long before they run."""


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


KEY = replace(machine_key(1), not_before=BEGINNING, not_after=BEGINNING + timedelta(days=365))


class Home:
    """A contributor's gpg home with keys without passphrases."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700)

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.path), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def make(self, name: str, algorithm: str = "ed25519", usage: str = "sign", *options: str, expires: str = "5y") -> Fingerprint:
        self.gpg(*options, "--quick-gen-key", f"{name} <{name}@example.org>", algorithm, usage, expires)
        return self.fingerprint(f"{name}@example.org")

    def fingerprint(self, name: str) -> Fingerprint:
        listing = self.gpg("--with-colons", "--list-keys", name).decode()
        return Fingerprint(re.findall(r"^fpr:+([0-9A-F]+):$", listing, re.MULTILINE)[0])

    def sign(self, identity: Fingerprint, *options: str, line: bytes | None = None) -> str:
        line = statement(identity) if line is None else line
        return self.gpg(*options, "--no-emit-version", "--local-user", identity, "--clear-sign", data=line).decode()

    def public_key(self, *identities: Fingerprint) -> str:
        return self.gpg("--no-emit-version", "--armor", "--export", *identities).decode()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("gpg") / "home")
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home.path), "--kill", "all"], check=True)


@pytest.fixture(scope="module")
def larry(home: Home) -> Fingerprint:
    return home.make("larry")


def statement(signer: Fingerprint, **changed: object) -> bytes:
    fields: dict[str, object] = {
        "_type": "p2pbin-machine-key-1",
        "identity": signer,
        "machine": KEY.machine,
        "notAfter": KEY.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "notBefore": KEY.not_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "public": KEY.public,
    }
    return canonical(fields | changed)


def refused(text: str, public_key: str) -> str:
    """The reason for which P3.2 refuses."""
    with pytest.raises(RefusedError) as caught:
        check_certification(text, public_key, now())
    assert caught.value.rule == "P3.2"
    return caught.value.reason


def test_a_certification_is_made_and_checked(home, larry):
    certified = certify(home.path, larry, KEY, now())
    certification = check_certification(certified.text, certified.public_key, now())
    assert certification == openpgp.Certification(larry, KEY)


def test_a_signature_by_a_subkey_is_that_of_its_identity(home):
    identity = home.make("subkey", usage="cert")
    home.gpg("--quick-add-key", identity, "ed25519", "sign", "1y")
    assert check_certification(home.sign(identity), home.public_key(identity), now()).identity == identity


@pytest.mark.parametrize("algorithm", ["rsa2048", "nistp256"])
def test_other_good_keys_are_taken(home, algorithm):
    identity = home.make(f"good-{algorithm}", algorithm)
    assert check_certification(home.sign(identity), home.public_key(identity), now()).identity == identity


def test_an_expired_subkey_beside_a_good_one_does_no_harm(home):
    identity = home.make("rotated", "ed25519", "cert", "--faked-system-time", "20250101T000000")
    home.gpg("--faked-system-time", "20250101T000000", "--quick-add-key", identity, "ed25519", "sign", "30d")
    home.gpg("--quick-add-key", identity, "ed25519", "sign", "1y")
    assert check_certification(home.sign(identity), home.public_key(identity), now()).identity == identity


def test_a_revoked_identity(home):
    identity = home.make("revoked")
    text = home.sign(identity)
    revocation = (home.path / "openpgp-revocs.d" / f"{identity}.rev").read_text().replace("\n:-----", "\n-----")
    home.gpg("--import", data=revocation.encode())
    assert refused(text, home.public_key(identity)) == "the key that signed was revoked"


def test_an_expired_identity(home):
    then = ("--faked-system-time", "20250101T000000")
    identity = home.make("expired", "ed25519", "sign", *then, expires="30d")
    assert refused(home.sign(identity, *then), home.public_key(identity)) == "the key that signed has expired"


def test_an_expired_subkey(home):
    then = ("--faked-system-time", "20250101T000000")
    identity = home.make("expired-subkey", "ed25519", "cert", *then)
    home.gpg(*then, "--quick-add-key", identity, "ed25519", "sign", "30d")
    assert refused(home.sign(identity, *then), home.public_key(identity)) == "the key that signed has expired"


def test_an_expired_signature(home):
    then = ("--faked-system-time", "20250101T000000")
    identity = home.make("expired-signature", "ed25519", "sign", *then)
    assert refused(home.sign(identity, *then, "--default-sig-expire", "30d"), home.public_key(identity)) == "the signature has expired"


def test_a_signature_that_expires_before_our_time(home, larry):
    text = home.sign(larry, "--default-sig-expire", "30d")
    with pytest.raises(RefusedError, match="the signature expired at"):
        check_certification(text, home.public_key(larry), now() + timedelta(days=31))


def test_a_signature_from_the_future(home, larry):
    later = (now() + timedelta(days=30)).strftime("%Y%m%dT%H%M%S")
    assert refused(home.sign(larry, "--faked-system-time", later), home.public_key(larry)).startswith("signed in the future")


def test_a_clock_that_is_a_little_ahead_is_forgiven(home, larry):
    later = (now() + timedelta(minutes=3)).strftime("%Y%m%dT%H%M%S")
    assert check_certification(home.sign(larry, "--faked-system-time", later), home.public_key(larry), now()).key == KEY


def test_sha1(home, larry):
    assert "too weak" in refused(home.sign(larry, "--digest-algo", "SHA1"), home.public_key(larry))


def test_a_digest_that_gpg_takes_and_we_do_not(home, larry):
    assert "digest algorithm, number 11" in refused(home.sign(larry, "--digest-algo", "SHA224"), home.public_key(larry))


@pytest.mark.parametrize("algorithm", ["rsa1024", "dsa2048", "secp256k1"])
def test_a_weak_or_unusual_key(home, algorithm):
    identity = home.make(f"weak-{algorithm}", algorithm)
    assert "is not RSA of 2048 bits or more" in refused(home.sign(identity), home.public_key(identity))


def test_a_weak_subkey_of_a_good_identity(home):
    identity = home.make("weak-subkey", usage="cert")
    home.gpg("--quick-add-key", identity, "rsa1024", "sign", "1y")
    assert "is not RSA of 2048 bits or more" in refused(home.sign(identity), home.public_key(identity))


def test_a_good_subkey_of_a_weak_identity(home):
    identity = home.make("weak-primary", "rsa1024", "cert")
    home.gpg("--quick-add-key", identity, "ed25519", "sign", "1y")
    assert f"key {identity} is not RSA" in refused(home.sign(identity), home.public_key(identity))


def test_a_subkey_that_is_bound_by_sha1_only(home):
    identity = home.make("weak-binding", "ed25519", "cert")
    home.gpg("--allow-weak-key-signatures", "--cert-digest-algo", "SHA1", "--quick-add-key", identity, "ed25519", "sign", "1y")
    assert "cannot check the signature" in refused(home.sign(identity), home.public_key(identity))


def test_another_signer(home, larry):
    other = home.make("mallory")
    text = home.sign(other, line=statement(larry))
    assert "another key made it" in refused(text, home.public_key(larry))
    assert "the public key is" in refused(text, home.public_key(other))


def test_two_identities_in_one_public_key_block(home, larry):
    other = home.make("second")
    assert " and " in refused(home.sign(larry), home.public_key(larry, other))


def test_a_changed_text(home, larry):
    text = home.sign(larry).replace(KEY.machine, "other-host")
    assert refused(text, home.public_key(larry)) == "the signature does not fit the text"


def signature_packet(text: str) -> bytes:
    armour = text.split("-----BEGIN PGP SIGNATURE-----\n\n")[1].split("\n-----END")[0]
    return base64.b64decode("".join(line for line in armour.splitlines() if not line.startswith("=")))


def test_two_good_signatures_by_one_key(home, larry):
    later = (now() + timedelta(minutes=1)).strftime("%Y%m%dT%H%M%S")
    one, two = home.sign(larry), home.sign(larry, "--faked-system-time", later)
    both = base64.b64encode(signature_packet(one) + signature_packet(two)).decode()
    lines = "\n".join(both[at : at + 64] for at in range(0, len(both), 64))
    text = one.split("-----BEGIN PGP SIGNATURE-----")[0] + f"-----BEGIN PGP SIGNATURE-----\n\n{lines}\n-----END PGP SIGNATURE-----\n"
    assert refused(text, home.public_key(larry)) == "gpg does not tell of exactly one good signature"


def test_a_second_signature_by_a_stranger(home, larry):
    text = home.sign(larry, "--local-user", home.make("cosigner"))
    assert "another key made it" in refused(text, home.public_key(larry))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "read this first\n" + text,
        lambda text: text + "and this\n",
        lambda text: text + text,
        lambda text: text.replace("\n\n{", "\nComment: hello\n\n{"),
        lambda text: text.replace("\n\n{", "\n\n\n{"),
        lambda text: text.replace("}\n", "} \n"),
        lambda text: text.replace("}\n", "}\nmore\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(KEY.machine, "hé"),
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace("\n-----END", "\n" + "A" * 70_000 + "\n-----END"),
        lambda text: "",
    ],
)
def test_anything_around_or_beside_the_one_line(home, larry, change):
    assert refused(change(home.sign(larry)), home.public_key(larry)).startswith("not exactly one clear-signed line")


def test_a_text_that_is_too_long(home, larry):
    text = home.sign(larry)
    signature = "\n".join(["A" * 64] * 1100)
    assert refused(text.replace("\n-----END", f"\n{signature}\n-----END"), home.public_key(larry)).startswith("not exactly one")


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: key + key,
        lambda key: "hello\n" + key,
        lambda key: key.replace("PUBLIC KEY", "PRIVATE KEY"),
        lambda key: key.replace("\n-----END", "\n" + "\n".join(["A" * 64] * 5000) + "\n-----END"),
    ],
)
def test_what_is_not_one_public_key_block(home, larry, change):
    assert refused(home.sign(larry), change(home.public_key(larry))).startswith("the public key is not exactly one")


def test_a_block_without_a_key(home, larry):
    block = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"
    assert refused(home.sign(larry), block).startswith("the public key is none that gpg takes")


def test_status_lines_in_a_user_id(home, larry):
    name = "x\u2028[GNUPG:] VALIDSIG 0\u2028fpr:::::::::" + larry + ":\u2028pub:-:255:22:0:0:::-:::sc:::::ed25519:::0:"
    home.gpg("--quick-gen-key", f"{name} <trick@example.org>", "ed25519", "sign", "1y")
    identity = home.fingerprint("trick@example.org")
    assert check_certification(home.sign(identity), home.public_key(identity), now()).identity == identity


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"_type": "p2pbin-machine-key-2"}, "this program reads 'p2pbin-machine-key-1'"),
        ({"identity": "larry"}, "'identity'"),
        ({"public": "00"}, "'public'"),
        ({"extra": "x"}, "unknown field 'extra'"),
        ({"notAfter": "tomorrow"}, "'notAfter'"),
    ],
)
def test_a_line_that_is_no_certification(home, larry, changed, reason):
    with pytest.raises(DecodeError) as caught:
        check_certification(home.sign(larry, line=statement(larry, **changed)), home.public_key(larry), now())
    assert reason in caught.value.reason


def test_another_spelling(home, larry):
    line = statement(larry).replace(b",", b", ")
    assert "canonical" in refused(home.sign(larry, line=line), home.public_key(larry))


@pytest.mark.parametrize("days", [0, -1, 732])
def test_a_window_that_is_none_or_too_long(home, larry, days):
    after = (KEY.not_before + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "window" in refused(home.sign(larry, line=statement(larry, notAfter=after)), home.public_key(larry))


def test_certify_without_the_secret_key_says_where_to_look(home):
    with pytest.raises(SettingsError, match="gpg did not sign with FFFF"):
        certify(home.path, Fingerprint("F" * 40), KEY, now())


def test_certify_with_a_weak_key_is_refused_at_once(home):
    identity = home.make("weak-certifier", "rsa1024")
    with pytest.raises(RefusedError, match="RSA of 2048"):
        certify(home.path, identity, KEY, now())


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("| sed 's/VALIDSIG .*/VALIDSIG 0/'", "gpg's VALIDSIG line is not of the form that we know"),
        ("| sed '/VALIDSIG/s/[0-9A-F]*$/FFFF/'", "signed by FFFF"),
        ("; echo hello", "gpg said something that is no status line"),
        ('; echo >"$verified"', "gpg reads another text in it"),
    ],
)
def test_a_gpg_that_says_something_else(home, larry, monkeypatch, tmp_path, after, reason):
    text, public_key = home.sign(larry), home.public_key(larry)
    script = f"""#!/bin/sh
    verified="$2/verified"
    case "$*" in *--verify*) {shutil.which("gpg")} "$@" {after};; *) exec {shutil.which("gpg")} "$@";; esac
    """
    (tmp_path / "gpg").write_text(script)
    (tmp_path / "gpg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert refused(text, public_key) == reason


def test_without_gpg(home, larry, monkeypatch, tmp_path):
    text, public_key = home.sign(larry), home.public_key(larry)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="gpg is missing"):
        check_certification(text, public_key, now())


def test_a_gpg_that_hangs(home, larry, monkeypatch, tmp_path):
    text, public_key = home.sign(larry), home.public_key(larry)
    (tmp_path / "gpg").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "gpg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(openpgp, "GPG_SECONDS", 0.1)
    with pytest.raises(UnavailableError, match="did not answer"):
        check_certification(text, public_key, now())


def test_a_check_leaves_no_agent_and_no_home_behind(home, larry, tmp_path, monkeypatch):
    text, public_key = home.sign(larry), home.public_key(larry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check_certification(text, public_key, now())
    assert list(tmp_path.iterdir()) == []
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in running if str(tmp_path).encode() in command]
