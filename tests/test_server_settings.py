import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import tomli

from p2pbin_server.settings import Settings, load, parse, read_address, spelt
from portage_p2pbin.kernel.errors import P2pbinError, SettingsError
from portage_p2pbin.kernel.model import Address, Channel

DOCUMENTED = Path(__file__).parents[1] / "etc/server.toml"
LEAST = '[server]\nname = "trust.example.org"\n[channels.amd64]\nchost = "x86_64-pc-linux-gnu"\nflags = ["-O2"]\n'
ORIGIN = '[origin]\naddress = "192.0.2.1:6880"\n'
EPREFIX = Path("/")


def settings(more=""):
    return parse((LEAST + (more if "[origin]" in more else more + "\n" + ORIGIN)).encode(), "server.toml", EPREFIX)


def test_the_documented_file_is_good_and_has_every_default():
    documented, least = load(DOCUMENTED, EPREFIX), settings()
    for field in fields(Settings):
        if field.name in ("name", "channels", "origin"):
            continue
        assert getattr(documented, field.name) == getattr(least, field.name), field.name
    for field in fields(least.origin):
        if field.name != "address":
            assert getattr(documented.origin, field.name) == getattr(least.origin, field.name), field.name


def test_every_setting_is_documented_with_a_sentence():
    text = DOCUMENTED.read_text()
    found = tomli.loads(text)
    for table in ("origin", "tracker", "limits"):
        assert set(found[table]) == {field.name for field in fields(getattr(settings(), table))}
    for number, line in enumerate(lines := text.splitlines()):
        if re.match(r"[a-z_]+ = ", line) and not line.startswith(("targets", "roster", "rulings", "index", "snapshot", "timestamp")):
            assert lines[number - 1].startswith("# ") and lines[number - 1].endswith("."), line


def test_settings_are_frozen_through_and_through():
    assert is_dataclass(settings())
    with pytest.raises(AttributeError):
        settings().threads = 9


def test_the_state_lies_below_eprefix_unless_set():
    assert parse((LEAST + ORIGIN).encode(), "server.toml", Path("/gentoo")).state == Path("/gentoo/var/lib/p2pbin-server")
    assert settings().state == Path("/var/lib/p2pbin-server")


def test_channels_have_their_baseline():
    [(name, baseline)] = settings().channels.items()
    assert (name, baseline.chost, baseline.flags) == (Channel("amd64"), "x86_64-pc-linux-gnu", frozenset({"-O2"}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[tracker]\nintervall = 3\n", "intervall: no such setting"),
        ("[trakcer]\ninterval = 30\n", "trakcer: no such setting"),
        ("[channels.x]\nchost = 'a'\nflags = []\nmarch = 'b'\n", "march: no such setting"),
        ("[tracker]\ninterval = '30'\n", "interval: must be set, and be of type int"),
        ("[tracker]\ninterval = true\n", "interval: must be set, and be of type int"),
        ("[tracker]\ninterval = 9\n", "interval: is 9, not between 10 and 86400"),
        ("[tracker]\ninterval = 86401\n", "interval: is 86401, not between 10 and 86400"),
        ("[channels.Big]\nchost = 'a'\nflags = []\n", "Big: Big refused"),
        ("[channels.x]\nflags = []\n", "chost: must be set"),
        ("[channels.x]\nchost = 'a'\nflags = [1]\n", "flags: 1 is not text"),
        ("[origin]\nlisten = 'localhost:6880'\n", "listen: not an address and port"),
        ("[origin]\nlisten = '127.0.0.1:65536'\n", "no port"),
        ("[origin]\nlisten = '127.0.0.300:80'\n", "no numeric address"),
        ("[lifetimes]\nrulings = 8\n", "rulings: is 8, not between 1 and 7"),
        ("[tracker]\ninterval = 30\ninterval = 31\n", "Cannot overwrite a value"),
        ("tracker = 3\n[", "Correct the file"),
    ],
)
def test_what_is_wrong_is_named(more, said):
    with pytest.raises(SettingsError) as caught:
        settings(more)
    assert said.replace("Big: Big refused", "Big") in str(caught.value)


@pytest.mark.parametrize("roles", ['["api", "cook"]', "[3]"])
def test_roles_are_known_ones(roles):
    with pytest.raises(SettingsError, match="is not one of api, tracker, origin"):
        parse(LEAST.replace("[channels", f"roles = {roles}\n[channels").encode(), "server.toml", EPREFIX)


@pytest.mark.parametrize("name", ["", "Trust.example.org", "http://trust.example.org", "trust example", "trust:99999999", "-trust"])
def test_a_name_is_host_and_port(name):
    with pytest.raises(SettingsError, match="not HOST or HOST:PORT"):
        parse(LEAST.replace("trust.example.org", name).encode(), "server.toml", EPREFIX)


def test_a_name_must_be_set():
    with pytest.raises(SettingsError, match="name: must be set"):
        parse(LEAST.replace('name = "trust.example.org"', "").encode(), "server.toml", EPREFIX)


def test_an_origin_that_listens_everywhere_must_say_where_it_is():
    with pytest.raises(SettingsError, match="address: must be set"):
        parse(LEAST.encode(), "server.toml", EPREFIX)
    parse(LEAST.replace("[channels", 'roles = ["api"]\n[channels').encode(), "server.toml", EPREFIX)


def test_at_least_one_channel():
    with pytest.raises(SettingsError, match="no channel is set"):
        parse(b'[server]\nname = "trust.example.org"\n', "server.toml", EPREFIX)


def test_a_file_that_is_not_there_names_itself(tmp_path):
    with pytest.raises(SettingsError, match=r"server\.toml: No such file"):
        load(tmp_path / "server.toml", EPREFIX)


def test_a_huge_file_is_not_read():
    with pytest.raises(SettingsError, match="is larger than"):
        parse(b"#" * (1024 * 1024 + 1), "server.toml", EPREFIX)


@pytest.mark.parametrize("text", ["192.0.2.1:80", "[2001:db8::1]:80"])
def test_addresses_are_spelt_as_they_are_read(text):
    assert spelt(read_address(text)) == text


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:", "192.0.2.1:080", "2001:db8::1:80", "192.0.2.1:80\n", "192.0.2.1:0", "[::1]"])
def test_other_spellings_of_addresses_are_refused(text):
    with pytest.raises((ValueError, P2pbinError)):
        read_address(text)


def test_an_address_knows_its_parts():
    assert read_address("[2001:db8::1]:80") == Address("2001:db8::1", 80)
