"""p2pbin-server as its operator uses it: every command, with real keys, real gpg and a real process."""

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from p2pbin_server import serve, signing
from p2pbin_server.app import State
from p2pbin_server.cli import main
from p2pbin_server.commands import FIRST_POLICY
from p2pbin_server.electorate import Voters
from p2pbin_server.keys import ONLINE
from p2pbin_server.ledger import Rules, cast
from p2pbin_server.repository import Repository
from p2pbin_server.settings import load
from p2pbin_server.store import Store
from portage_p2pbin.kernel.envelope import public_key
from portage_p2pbin.kernel.roster import MachineKey, RulingKind
from portage_p2pbin.kernel.statements import sign_request
from portage_p2pbin.openpgp import certify
from tests.makers import OTHER_CONTENTS, new_key, vote
from tests.served import free_port
from tests.test_openpgp import Home

COMMANDS = [
    ["init"], ["serve"], ["check-config"], ["contributor", "list"], ["contributor", "promote"],
    ["roster", "export"], ["roster", "sign"], ["roster", "import"], ["rulings", "export"], ["rulings", "sign"],
    ["rulings", "import"], ["clash", "list"], ["clash", "show"], ["root", "show"], ["root", "renew"], ["root", "import"],
    ["roster", "countersign"], ["rulings", "countersign"],
]  # fmt: skip

SETTINGS = """
[server]
name = "127.0.0.1:{port}"
listen = "127.0.0.1:{port}"
[channels.amd64-test]
chost = "x86_64-pc-linux-gnu"
flags = ["-O2", "-pipe"]
[origin]
listen = "127.0.0.1:{origin}"
"""


class Machine:
    """A server's machine: its files below `root`, the offline keys beside them."""

    def __init__(self, root):
        self.root = root
        self.port = free_port()
        self.config = root / "etc/p2pbin/server.toml"
        self.config.parent.mkdir(parents=True)
        self.config.write_text(SETTINGS.format(port=self.port, origin=free_port()))
        self.keys = root / "offline"

    def run(self, *arguments, expect=0):
        offline = arguments[1:2] in (("sign",), ("countersign",), ("renew",))
        configured = [] if offline else ["--eprefix", str(self.root)]
        assert main([*arguments, *configured]) == expect

    @property
    def settings(self):
        return load(self.config, self.root)

    def post(self, path, body):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=body, timeout=20) as answer:
            return json.load(answer)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "machine")


@pytest.fixture
def served(machine):
    """The machine with a server that runs as a process of its own."""
    machine.run("init", "--keys", str(machine.keys))
    command = [
        sys.executable,
        "-c",
        "import sys; from p2pbin_server.cli import main; sys.exit(main())",
        "serve",
        "--eprefix",
        str(machine.root),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == f"p2pbin-server: 127.0.0.1:{machine.port} answers on http://127.0.0.1:{machine.port}\n"
        yield machine
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout.read() == "p2pbin-server: ended\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def gpg(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("gpg") / "home")
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home.path), "--kill", "all"], check=True)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert (len(command) == 1 and "{" not in said and "COMMAND" in said) or "Example: p2pbin-server " + " ".join(command) in " ".join(
        said.split()
    )


def test_init_makes_everything_once(machine, capsys):
    machine.run("init", "--keys", str(machine.keys))
    said = capsys.readouterr().out
    root_json = machine.config.parent / "root.json"
    assert f"Clients start from {root_json}" in said
    state = State(machine.root / "var/lib/p2pbin-server")
    repository = Repository(state.tuf, state.keys, machine.settings.lifetimes)
    assert repository.root() == root_json.read_bytes()
    assert repository.roster().policy == FIRST_POLICY
    assert {path.stem for path in state.keys.iterdir()} == set(ONLINE)
    assert state.keys.parent.stat().st_mode & 0o777 == 0o700
    before = sorted(path.read_bytes() for path in machine.keys.iterdir())
    machine.run("init", "--keys", str(machine.keys), expect=2)
    assert "exists already" in capsys.readouterr().err
    assert sorted(path.read_bytes() for path in machine.keys.iterdir()) == before


def test_check_config(machine, capsys):
    machine.run("check-config")
    assert "is good: 127.0.0.1" in capsys.readouterr().out
    machine.config.write_text(machine.config.read_text() + "[limits]\nvoets = 3\n")
    machine.run("check-config", expect=2)
    assert "voets: no such setting" in capsys.readouterr().err


def test_serving_without_a_repository_says_what_to_do(machine, capsys):
    machine.run("serve", expect=2)
    assert "p2pbin-server init" in capsys.readouterr().err


def test_serving_on_a_taken_address_says_so(machine, capsys):
    machine.run("init", "--keys", str(machine.keys))
    with socket.create_server(("127.0.0.1", machine.port)):
        machine.run("serve", expect=2)
    assert "Cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_serving_packages_on_a_taken_address_says_so(machine, capsys):
    machine.run("init", "--keys", str(machine.keys))
    with socket.create_server(("127.0.0.1", machine.settings.origin.listen.port)):
        machine.run("serve", expect=2)
    assert "for BitTorrent" in capsys.readouterr().err


def test_from_a_registration_to_a_level_and_down_again(served, gpg, tmp_path, capsys):
    """A contributor registers, is put on the roster away from the server, votes, and is ruled out: the server never stops."""
    now = datetime.now(UTC).replace(microsecond=0)
    identity, key = gpg.make("larry"), new_key(77)
    certified = certify(gpg.path, identity, MachineKey(public_key(key), "desktop", now - timedelta(hours=1), now + timedelta(days=30)), now)
    fields = {"openpgp": certified.public_key, "certification": certified.text}
    served.post("/contributors", sign_request("register", fields, served.settings.name, now, key).data)
    served.run("contributor", "list")
    assert f"{identity}  untrusted  {public_key(key)}  desktop" in capsys.readouterr().out

    roster, before, after = tmp_path / "roster", tmp_path / "before", tmp_path / "after"
    served.run("contributor", "promote", identity, "--role", "trusted", "--operator", "larry", "--output", str(roster))
    served.run("roster", "export", "--output", str(before))
    served.run("roster", "sign", str(roster / "roster.toml"), "--keys", str(served.keys), "--previous", str(before), "--output", str(after))
    served.run("roster", "import", str(after))
    cast_vote = vote(77, started=now, finished=now)
    wait_for(lambda: served.post("/votes", cast_vote.envelope.data)["level"] == 3)

    ruled = tmp_path / "ruled"
    served.run("rulings", "export", "--output", str(before))
    options = ["--void", public_key(key), "--reason", "a stolen laptop", "--keys", str(served.keys)]
    served.run("rulings", "sign", *options, "--previous", str(before), "--output", str(ruled))
    served.run("rulings", "import", str(ruled))
    wait_for(lambda: served.post("/votes", cast_vote.envelope.data)["level"] is None)
    served.run("rulings", "sign", "--keys", str(served.keys), "--previous", str(ruled), "--output", str(before))
    served.run("rulings", "import", str(before))
    [ruling] = Repository(State(served.settings.state).tuf, State(served.settings.state).keys, served.settings.lifetimes).rulings().entries
    assert (ruling.kind, ruling.subject, ruling.reason) == (RulingKind.VOID, public_key(key), "a stolen laptop")


def wait_for(look):
    end = time.monotonic() + 20
    while not look():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture
def holders(machine, tmp_path):
    """Two people, each with a roster key of their own, and a folder with all keys that nobody has any more."""
    machine.run("init", "--keys", str(machine.keys))
    folders = []
    for number in (1, 2):
        folder = tmp_path / f"holder-{number}"
        folder.mkdir()
        for name in (f"root-{number}.pem", f"roster-{number}.pem", "rulings-1.pem", "root.json", "targets.json"):
            shutil.copy(machine.keys / name, folder)
        folders.append(str(folder))
    return folders


ROSTER = "[policy]\nsemi_trusted = {x}\nuntrusted = 2\n"


def test_a_roster_takes_two_holders_who_have_read_the_same(machine, holders, tmp_path, capsys):
    mine, his = tmp_path / "mine.toml", tmp_path / "his.toml"
    mine.write_text(ROSTER.format(x=5))
    his.write_text(ROSTER.format(x=4))
    before, after = str(tmp_path / "before"), tmp_path / "after"
    machine.run("roster", "export", "--output", before)
    machine.run("roster", "sign", str(mine), "--keys", holders[0], "--previous", before, "--output", str(after))
    assert "by fewer keys than must sign. Now let another holder run `p2pbin-server roster countersign`" in capsys.readouterr().out
    machine.run("roster", "import", str(after), expect=4)
    signed = (after / "metadata.json").read_bytes()
    machine.run("roster", "countersign", str(his), str(after), "--keys", holders[1], expect=4)
    assert "P4.2" in capsys.readouterr().err
    assert (after / "metadata.json").read_bytes() == signed
    machine.run("roster", "countersign", str(mine), str(after), "--keys", holders[1])
    assert "Now `p2pbin-server roster import" in capsys.readouterr().out
    machine.run("roster", "import", str(after))
    assert repository(machine).roster().policy.semi_trusted == 5


def test_a_roster_whose_metadata_vouches_for_another_file_is_not_countersigned(machine, holders, tmp_path):
    mine, other = tmp_path / "mine.toml", tmp_path / "other.toml"
    mine.write_text(ROSTER.format(x=5))
    other.write_text(ROSTER.format(x=4))
    before, after, wrong = (tmp_path / name for name in ("before", "after", "wrong"))
    machine.run("roster", "export", "--output", str(before))
    for roster, folder in ((mine, after), (other, wrong)):
        machine.run("roster", "sign", str(roster), "--keys", holders[0], "--previous", str(before), "--output", str(folder))
    shutil.copy(wrong / "metadata.json", after)
    machine.run("roster", "countersign", str(mine), str(after), "--keys", holders[1], expect=4)


def test_rulings_are_shown_to_who_countersigns_them(machine, holders, tmp_path, capsys):
    before, after = str(tmp_path / "before"), tmp_path / "after"
    machine.run("rulings", "export", "--output", before)
    ruling = ["--suspend", "mallory", "--reason", "a \x1b[2Jlie"]
    machine.run("rulings", "sign", *ruling, "--keys", holders[0], "--previous", before, "--output", str(after))
    capsys.readouterr()
    machine.run("rulings", "countersign", str(after), "--keys", holders[1])
    assert ">>> suspend mallory: a \\x1b[2Jlie" in capsys.readouterr().out
    shutil.copy(tmp_path / "before/target.json", after)
    machine.run("rulings", "countersign", str(after), "--keys", holders[1], expect=4)


def test_the_root_is_renewed(machine, tmp_path, capsys):
    machine.run("init", "--keys", str(machine.keys))
    after, root_json = str(tmp_path / "after"), tmp_path / "after/root.json"
    expires, first = repository(machine).expiries(), repository(machine).root()
    time.sleep(1)  # expiries are whole seconds
    machine.run("root", "renew", "--keys", str(machine.keys), "--output", after)
    machine.run("root", "import", after)
    assert f"Give new clients {root_json}" in capsys.readouterr().out
    assert repository(machine).expiries()["root"] > expires["root"]
    assert repository(machine).expiries()["targets"] > expires["targets"]
    assert root_json.read_bytes() == repository(machine).root() != first
    machine.run("root", "show")
    said = capsys.readouterr().out
    assert f"Root version 2, SHA-256 {hashlib.sha256(root_json.read_bytes()).hexdigest()}" in said
    roles = [line.split()[0] for line in said.splitlines()[2:]]
    assert roles == ["root", "targets", "roster", "rulings", "index", "snapshot", "timestamp"]


def test_showing_the_root_warns_of_what_expires(machine, monkeypatch, capsys):
    machine.run("init", "--keys", str(machine.keys))
    monkeypatch.setattr(signing, "now", lambda: serve.now() + timedelta(days=6))
    machine.run("root", "show")
    assert "renew it with `p2pbin-server rulings sign`" in capsys.readouterr().out.splitlines()[-1]


def test_stolen_online_keys_are_replaced(machine, tmp_path, capsys):
    machine.run("init", "--keys", str(machine.keys))
    fresh, after, state = tmp_path / "fresh", str(tmp_path / "after"), State(machine.settings.state)
    machine.run("root", "renew", "--keys", str(machine.keys), "--new-online-keys", str(fresh), "--output", after)
    machine.run("root", "import", after, expect=2)
    assert "not the one that the root appoints" in capsys.readouterr().err
    shutil.rmtree(state.keys)
    shutil.copytree(fresh, state.keys)
    machine.run("root", "import", after)
    repository(machine).refresh(serve.now() + timedelta(hours=13))


def repository(machine):
    state = State(machine.settings.state)
    return Repository(state.tuf, state.keys, machine.settings.lifetimes)


def test_clashes_are_listed_and_shown(machine, gpg, tmp_path, capsys):
    machine.run("init", "--keys", str(machine.keys))
    machine.run("clash", "list", expect=3)
    assert "nothing was served from here yet" in capsys.readouterr().err
    now = serve.now()
    entries = []
    for seed, operator in ((77, "larry"), (78, "mallory")):
        identity = gpg.make(operator)
        window = MachineKey(public_key(new_key(seed)), operator, now - timedelta(hours=1), now + timedelta(days=30))
        certified = certify(gpg.path, identity, window, now)
        (tmp_path / f"{operator}.asc").write_text(certified.public_key)
        (tmp_path / f"{operator}-machine.asc").write_text(certified.text)
        entries.append(
            f'[[contributor]]\noperator = "{operator}"\nrole = "semi-trusted"\nidentity = "{identity}"\n'
            f'openpgp = "{operator}.asc"\ncertifications = ["{operator}-machine.asc"]\n'
        )
    (tmp_path / "roster.toml").write_text("[policy]\nsemi_trusted = 2\nuntrusted = 2\n" + "".join(entries))
    before, after = str(tmp_path / "before"), str(tmp_path / "after")
    machine.run("roster", "export", "--output", before)
    machine.run("roster", "sign", str(tmp_path / "roster.toml"), "--keys", str(machine.keys), "--previous", before, "--output", after)
    machine.run("roster", "import", after)
    state = State(machine.settings.state)
    store = Store(state.database)
    electorate = Voters(Repository(state.tuf, state.keys, machine.settings.lifetimes)).at(now)
    with store.writing() as transaction:
        for signed in (vote(77, started=now, finished=now), vote(78, started=now, finished=now, contents=OTHER_CONTENTS)):
            cast(transaction, electorate, signed, Rules(machine.settings.channels, 10, 10))
    store.close()
    capsys.readouterr()
    machine.run("clash", "list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["NUMBER", "1"]
    machine.run("clash", "show", "1")
    said = capsys.readouterr().out
    assert f"{OTHER_CONTENTS}: level 5, withdrawn; mallory (semi-trusted)" in said
    assert "what differs is not known yet" in said
    machine.run("clash", "show", "2", expect=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["contributor", "promote", "ABC"], "'ABC' is not a Fingerprint"),
        (["contributor", "promote", "A" * 40, "--role", "cook"], "invalid Role value: 'cook'"),
        (["clash", "show", "x"], "invalid int value: 'x'"),
        (["rulings", "sign", "--void", "1"], "'1' is not a PublicKey"),
        (["rulings", "sign", "--recall", "a" * 64], "is not a ContentsDigest"),
        (["nothing"], "invalid choice: 'nothing'"),
        ([], "required: COMMAND"),
    ],
)
def test_arguments_that_are_wrong_are_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
