import pytest

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import Address, Channel, ContentsDigest, Cpv, Fingerprint, InfoHash, Level, Operator, PublicKey, Sha256

GOOD = [
    (Sha256, "0123456789abcdef" * 4),
    (ContentsDigest, "p2pbin-contents-1:" + "0" * 64),
    (InfoHash, "0" * 40),
    (PublicKey, "f" * 64),
    (Fingerprint, "A" * 40),
    (Fingerprint, "A" * 64),
    (Cpv, "app-misc/hello-2.10-r1"),
    (Cpv, "dev-libs/gtk+-3.0_pre20_p1"),
    (Cpv, "x11-libs/libX11-1.8.4b"),
    (Channel, "amd64-v3.23_0"),
    (Operator, "gentoo-infra"),
    (Operator, "larry@example.org"),
]

BAD = [
    (Sha256, "0" * 63),
    (Sha256, "A" * 64),
    (Sha256, "0" * 64 + "\n"),
    (Sha256, "٣" * 64),
    (ContentsDigest, "p2pbin-contents-2:" + "0" * 64),
    (ContentsDigest, "0" * 64),
    (InfoHash, "0" * 41),
    (Fingerprint, "a" * 40),
    (Fingerprint, "A" * 41),
    (Cpv, "app-misc/hello"),
    (Cpv, "../hello-1"),
    (Cpv, "app-misc/../hello-1"),
    (Cpv, "/hello-1"),
    (Cpv, "app-misc/hello-1/x"),
    (Cpv, ".app/hello-1"),
    (Cpv, "app-misc/hello-1\n"),
    (Cpv, "app-misc/héllo-1"),
    (Cpv, "app-misc/hello-1 TTL"),
    (Cpv, "a/" + "b" * 150 + "-1"),
    (Channel, "../amd64"),
    (Channel, "AMD64"),
    (Channel, ""),
    (Operator, "a b"),
    (Operator, "-a"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_a_value_of_the_form_is_kept(kind, text):
    assert kind(text) == text


@pytest.mark.parametrize(("kind", "text"), BAD)
def test_a_value_of_another_form_cannot_be_made(kind, text):
    with pytest.raises(DecodeError, match=kind.__name__):
        kind(text)


@pytest.mark.parametrize(
    ("cpv", "cp"),
    [("app-misc/hello-2.10-r1", "app-misc/hello"), ("a/b-2-1", "a/b-2"), ("x11-libs/libX11-1.8.4b_p1", "x11-libs/libX11")],
)
def test_parts_of_a_cpv(cpv, cp):
    assert Cpv(cpv).cp == cp
    assert f"{Cpv(cpv).category}/{Cpv(cpv).pf}" == cpv


def test_a_lower_number_is_the_better_level():
    assert Level(1).satisfies(Level(3))
    assert Level(3).satisfies(Level(3))
    assert not Level(4).satisfies(Level(3))


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("example.org", 1),
        ("192.0.2.01", 1),
        ("2001:DB8::1", 1),
        ("fe80::1%eth0", 1),
        ("٣.0.0.1", 1),
        ("", 1),
        ("192.0.2.1", 0),
        ("192.0.2.1", 65536),
    ],
)
def test_what_is_no_address_cannot_be_made(host, port):
    with pytest.raises(DecodeError, match="Address"):
        Address(host, port)
