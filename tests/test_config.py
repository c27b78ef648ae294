"""client.toml: every setting known, of its type, within its bounds; etc/client.toml shows them all."""

from dataclasses import fields
from pathlib import Path

import pytest
import tomli

from portage_p2pbin.config import MOST_SETTINGS, Config, Limits, Paths, PeerSettings, PublishSettings, ServerSettings, eprefix_of, load
from portage_p2pbin.kernel.errors import SettingsError

EXAMPLE = Path(__file__).parents[1] / "etc/client.toml"


@pytest.fixture
def read(tmp_path):
    paths = Paths(tmp_path)
    paths.client_toml.parent.mkdir(parents=True)

    def read(text):
        paths.client_toml.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(paths)

    return read


def test_without_a_file_everything_has_its_default(tmp_path):
    assert load(Paths(tmp_path)) == Config(Paths(tmp_path))


def test_what_is_set_is_taken(read):
    config = read('[swarm]\nlisten = "[::]:0"\ndisk = 5\norigin_after = 2\n[publish]\nexclude = ["games-*/*"]\n')
    assert (config.swarm.listen, config.swarm.disk, config.swarm.origin_after) == ("[::]:0", 5, 2.0)
    assert config.publish.exclude == ("games-*/*",)
    assert config.swarm.user == "p2pbin"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[swarms]\n", "no section"),
        ("swarm = 3\n", "not a section"),
        ("[swarm]\nportt = 1\n", "no setting 'portt'"),
        ("[swarm]\nupload = -1\n", "between"),
        ("[swarm]\nupload = true\n", "same kind"),
        ("[swarm]\nupload = 1.5\n", "same kind"),
        ("[swarm]\nseed = 1\n", "same kind"),
        ("[swarm]\norigin_after = 61.0\n", "between"),
        ("[swarm]\norigin_after = nan\n", "between"),
        ('[swarm]\nlisten = "6881"\n', "not like"),
        ('[swarm]\nlisten = "0.0.0.0:65536"\n', "not like"),
        ('[swarm]\nlisten = "0.0.0.999:1"\n', "999"),
        ('[swarm]\nuser = "a b"\n', "which no user"),
        ('[server]\nscheme = "ftp"\n', "neither"),
        ("[limits]\nstall = 0.5\n", "between"),
        ("[publish]\nexclude = [1]\n", "same kind"),
        ('[publish]\nexclude = "x"\n', "same kind"),
        ("[publish]\nexclude = [" + '"x",' * 1001 + "]\n", "more than 1000"),
        ("[swarm\n", "client.toml"),
        (b"\xff", "client.toml"),
        (b" " * (MOST_SETTINGS + 1), "larger"),
    ],
)
def test_what_is_wrong_is_named(read, text, reason):
    with pytest.raises(SettingsError, match=reason):
        read(text)


def test_the_example_shows_every_setting_with_its_default():
    shown = tomli.loads(EXAMPLE.read_text())
    sections = {"server": ServerSettings, "swarm": PeerSettings, "limits": Limits, "publish": PublishSettings}
    assert {name: set(values) for name, values in shown.items()} == {
        name: {one.name for one in fields(kind)} for name, kind in sections.items()
    }
    for name, kind in sections.items():
        for one in fields(kind):
            value = shown[name][one.name]
            assert (tuple(value) if isinstance(value, list) else value) == one.default, f"{name}.{one.name}"


@pytest.mark.parametrize(("listen", "source"), [("0.0.0.0:6881", ""), ("[::]:1", ""), ("127.0.0.3:1", "127.0.0.3"), ("[::1]:1", "::1")])
def test_who_listens_at_one_address_asks_from_there(read, listen, source):
    assert read(f'[swarm]\nlisten = "{listen}"\n').swarm.source == source


@pytest.mark.parametrize(
    ("environment", "path"),
    [({}, "/"), ({"EPREFIX": "/a"}, "/a"), ({"EPREFIX": "/a", "PORTAGE_OVERRIDE_EPREFIX": "/b"}, "/b"), ({"EPREFIX": ""}, "/")],
)
def test_which_gentoo_is_meant(environment, path):
    assert eprefix_of(environment) == Path(path)


@pytest.mark.parametrize("path", ["a", "/a/../b"])
def test_an_odd_prefix_is_an_error(path):
    with pytest.raises(SettingsError, match="absolute"):
        eprefix_of({"EPREFIX": path})


def test_the_first_call_makes_the_state_folder(tmp_path):
    assert Paths(tmp_path).may_write()
    assert Paths(tmp_path).state.is_dir()
