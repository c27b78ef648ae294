"""The commands of p2pbin, from their arguments to their exit codes; what they do has tests of its own."""

import importlib
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from portage_p2pbin.binpkg.contents import Reading, read_package
from portage_p2pbin.binpkg.diff import Difference, Kind
from portage_p2pbin.checks import FileDigests
from portage_p2pbin.cli.output import Output
from portage_p2pbin.cli.p2pbin import main
from portage_p2pbin.cli.site import Site, now
from portage_p2pbin.gentoo.record import FOLDER
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.index import Bundle
from portage_p2pbin.kernel.model import Cpv, Level, Role, Sha256
from portage_p2pbin.machine_key import create_machine_key
from portage_p2pbin.net.trust_server import Registered
from portage_p2pbin.publish import Outcome, Published, publication
from portage_p2pbin.refusals import Refusal, Refusals
from portage_p2pbin.register import Registration
from portage_p2pbin.verify import Seen
from tests.handmade import METADATA, PACKAGE, Gpkg, archive, folder, member, metadata_archive, with_metadata
from tests.http_seam import RecordedHttp
from tests.makers import CHANNEL, REQUEST, contributor, fingerprint, machine_key, roster, vote
from tests.shop import developers, package_bytes, stock
from tests.test_builder import NEW
from tests.test_explain import FakeRepository, entry

COMMANDS = ("contents", "verify", "publish", "explain", "status", "register", "config", "forget")
HOST = "packages.example.org"


@pytest.fixture
def gentoo(tmp_path, monkeypatch):
    """A Gentoo in a folder, with a threshold and one section of binrepos.conf."""
    monkeypatch.setenv("PORTAGE_OVERRIDE_EPREFIX", str(tmp_path))
    monkeypatch.delenv("P2PBIN_TRUST", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    etc = tmp_path / "etc/portage"
    etc.mkdir(parents=True)
    (etc / "make.conf").write_text('P2PBIN_TRUST="3"\n')
    (etc / "binrepos.conf").write_text(f"[p2pbin]\nsync-uri = p2pbin://{HOST}/{CHANNEL}\n")
    (tmp_path / "var/lib/p2pbin").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def http(monkeypatch):
    """A server in memory, in the place of the real one."""
    http = RecordedHttp()

    @contextmanager
    def trust_server(_site):
        yield http.server()

    monkeypatch.setattr(Site, "trust_server", trust_server)
    return http


def command(name):
    return importlib.import_module(f"portage_p2pbin.cli.commands.{name}")


@pytest.mark.parametrize("name", [(), *[(name,) for name in COMMANDS], ("config", "show"), ("config", "set")])
def test_help_has_an_example(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([*name, "--help"])
    assert ended.value.code == 0
    assert "Example: p2pbin" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["config"], ["register"], ["explain"], ["verify"], ["contents", "--manifest", "--diff", "a", "b"]]
)
def test_wrong_arguments_are_the_users_to_mend(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_the_program_is_installed():
    done = subprocess.run([Path(sys.executable).with_name("p2pbin"), "--help"], capture_output=True, text=True, check=True)
    assert "contents" in done.stdout


class TestContents:
    @pytest.fixture
    def package(self, tmp_path):
        path = tmp_path / "hello-1-1.gpkg.tar"
        path.write_bytes(with_metadata(FEATURES=b"sandbox\n").bytes())
        return path

    def test_the_digest_goes_to_stdout_and_the_droppings_to_stderr(self, capsys, package):
        assert main(["contents", str(package)]) == 0
        said = capsys.readouterr()
        assert said.out.startswith("p2pbin-contents-1:")
        assert "Cleaning would remove: key FEATURES" in said.err

    def test_a_clean_package_says_nothing_on_stderr(self, capsys, package):
        package.write_bytes(PACKAGE.bytes())
        assert main(["contents", str(package)]) == 0
        assert capsys.readouterr().err == ""

    def test_the_manifest(self, capfdbinary, package):
        assert main(["contents", "--manifest", str(package)]) == 0
        assert capfdbinary.readouterr().out.startswith(b"#mtree\n./image ")

    def test_json(self, capsys, package):
        assert main(["contents", "--json", str(package)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["droppings"] == ["key FEATURES"]
        assert found["metadata"]["PF"] == "hello-1"

    def test_manifest_and_digest_as_json(self, capsys, package):
        assert main(["contents", "--manifest", "--json", str(package)]) == 0
        assert json.loads(capsys.readouterr().out)["manifest"].startswith("#mtree\n./image ")

    def test_a_reading_half_that_was_taken_over_cannot_write_to_the_terminal(self, capsys, package, monkeypatch):
        taken_over = Reading("p2pbin-contents-1:" + "0" * 64, b"#mtree\n\x1b[2J", {}, "0" * 64, ("\x1b[2J",))
        monkeypatch.setattr(command("contents"), "read_sandboxed", lambda file: taken_over)
        assert main(["contents", str(package)]) == 0
        assert "\x1b" not in capsys.readouterr().err
        assert main(["contents", "--manifest", str(package)]) == 4
        said = capsys.readouterr()
        assert (said.out, "P9.8" in said.err) == ("", True)

    def test_what_differs_is_shown_the_gravest_first(self, capsys, package, tmp_path):
        other = tmp_path / "other.gpkg.tar"
        image = (folder("image"), folder("image/usr"), member("image/usr/hello", b"hello\nworld\n"))
        changed = Gpkg(image=archive(*image), metadata=metadata_archive(METADATA | {"SLOT": b"1\n"}))
        other.write_bytes(changed.bytes())
        assert main(["contents", "--diff", str(package), str(other)]) == 0
        assert capsys.readouterr().out.split("\n")[:3] == [
            " * data       ./image/usr/hello",
            "              sha256digest 2cf24dba5fb0… or 4a1e67f2fe1d…, size 5 or 12",
            "              @@ -1 +1,2 @@",
        ]
        assert main(["contents", "--json", "--diff", str(package), str(other)]) == 0
        found = json.loads(capsys.readouterr().out)["differences"]
        assert [(one["path"], one["kind"]) for one in found] == [("./image/usr/hello", "data"), ("./metadata/SLOT", "metadata")]
        assert found[0]["lines"] == ["@@ -1 +1,2 @@", " hello", "+world"]

    @pytest.mark.parametrize(
        ("kind", "colour"),
        [(Kind.BENIGN, 32), (Kind.METADATA, 33), (Kind.DATA, 33), (Kind.CODE, 31), (Kind.PERMISSION, 31)],
    )
    def test_kinds_have_colours_and_what_is_in_the_packages_has_none(self, capsys, package, monkeypatch, kind, colour):
        found = (Difference("./image/a\x1b[2J", kind, "\x1b[2J", ("+\x1b[2J", " \x1b[2J")),)
        monkeypatch.setattr(command("contents"), "explain_sandboxed", lambda a, b: found)
        monkeypatch.setattr(command("contents"), "standard_output", lambda: Output(sys.stdout, colours=True))
        assert main(["contents", "--diff", str(package), str(package)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"\x1b[{colour};01m *\x1b[0m {kind.name.lower()} ")
        assert "\x1b[2J" not in out
        assert "\x1b[32;01m+\\x1b[2J\x1b[0m" in out
        assert ("No difference that counts" in out) == (kind is Kind.BENIGN)

    def test_the_gravest_kind_comes_first_and_then_the_path(self, capsys, package, monkeypatch):
        found = tuple(Difference(f"./image/{name}", kind, "") for name, kind in (("a", Kind.DATA), ("c", Kind.CODE), ("b", Kind.CODE)))
        monkeypatch.setattr(command("contents"), "explain_sandboxed", lambda a, b: found)
        assert main(["contents", "--json", "--diff", str(package), str(package)]) == 0
        assert [one["path"][-1] for one in json.loads(capsys.readouterr().out)["differences"]] == ["b", "c", "a"]

    def test_equal_packages_do_not_differ(self, capsys, package):
        assert main(["contents", "--diff", str(package), str(package)]) == 0
        assert "No difference that counts" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [["/nonexistent.gpkg.tar"], ["/"], ["/dev/null"], ["/dev/null/x"], [], ["a", "--diff", "b", "c"], ["--diff", "/", "/"]],
    )
    def test_no_file_is_the_users_to_mend(self, capsys, arguments):
        assert main(["contents", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_what_is_no_package_is_refused(self, capsys, package):
        package.write_bytes(b"x" * 10240)
        assert main(["contents", str(package)]) == 4
        assert "P2.2" in capsys.readouterr().err

    def test_a_reader_that_goes_away_is_no_error(self, package):
        program = Path(sys.executable).with_name("p2pbin")
        done = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$0" contents --manifest "$1" | true', program, package],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)


class TestVerify:
    @pytest.fixture
    def shelf(self, gentoo, http, monkeypatch):
        """A package of a trusted developer is listed, and the file is here."""
        shelf = stock(gentoo, package_bytes(), eprefix=str(gentoo))
        http.answer(f"/bundles/{shelf.entry.bundle}", shelf.bundle)

        @contextmanager
        def verified(_site, _server):
            yield FakeRepository((shelf.entry,), developers())

        monkeypatch.setattr(Site, "verified", verified)
        return shelf

    def test_a_file_that_holds(self, shelf, capsys):
        assert main(["verify", str(shelf.file)]) == 0
        said = capsys.readouterr()
        assert said.out.startswith(f">>> {shelf.entry.cpv}: {shelf.file}\n * P9.2 the votes are the listed ones\n")
        assert said.out.endswith(" * level 3; larry (trusted)\n")
        assert said.err == ""

    def test_a_file_that_does_not_is_refused_by_the_first_rule(self, shelf, capsys):
        shelf.file.write_bytes(package_bytes(RDEPEND="dev-libs/evil"))
        assert main(["verify", str(shelf.file)]) == 4
        said = capsys.readouterr()
        assert " * P9.7 not so: its size and hashes are the listed ones: the file has" in said.out
        assert " * P9.8 not so: its contents digest is the one that was voted for" in said.out
        assert said.err == f" * {shelf.entry.cpv} refused by P9.7: no vote that counts names this file\n"

    def test_json(self, shelf, gentoo, capsys):
        (gentoo / "etc/portage/make.conf").write_text('P2PBIN_TRUST="2"\n')
        assert main(["verify", "--json", str(shelf.file)]) == 4
        found = json.loads(capsys.readouterr().out)
        assert (found["holds"], found["level"], found["threshold"], found["cpv"]) == (False, 3, 2, shelf.entry.cpv)
        assert found["voices"] == [{"operator": "larry", "role": "trusted"}]
        assert [check["rule"] for check in found["checks"] if check["objection"]] == ["P9.4"]

    def test_what_is_in_the_package_cannot_write_to_the_terminal(self, shelf, gentoo, monkeypatch, capsys):
        file = shelf.file.rename(gentoo / "\x1b[2J")

        def look(_file, _read):
            reading = replace(read_package(io.BytesIO(shelf.data)), droppings=("\x1b[2J",))
            return Seen(FileDigests.of([shelf.data]), reading)

        monkeypatch.setattr(command("verify"), "look", look)
        assert main(["verify", str(file)]) == 4
        said = capsys.readouterr()
        assert "it is not cleaned: \\x1b[2J" in said.out
        assert "\x1b" not in said.out + said.err

    def test_a_file_that_nobody_lists(self, shelf, gentoo, capsys):
        other = gentoo / "other"
        other.write_bytes(package_bytes(Cpv("app-misc/other-1")))
        assert main(["verify", str(other)]) == 3
        assert "app-misc/other-1 is not available now" in capsys.readouterr().err

    def test_no_file(self, gentoo, capsys):
        assert main(["verify", "/nonexistent"]) == 2


class TestConfig:
    def test_set_and_show(self, gentoo, capsys):
        assert main(["config", "set", "2"]) == 0
        assert (gentoo / "etc/portage/make.conf").read_text() == 'P2PBIN_TRUST="2"\n'
        assert main(["config", "show"]) == 0
        assert "P2PBIN_TRUST=2: two or more trusted developers have" in capsys.readouterr().out

    def test_show_names_rules_and_servers(self, gentoo, capsys):
        (gentoo / "etc/portage/package.p2pbin").write_text("sys-libs/* 1\n")
        assert main(["config", "show"]) == 0
        out = capsys.readouterr().out
        assert "sys-libs/* 1" in out
        assert f"[p2pbin] channel {CHANNEL} of {HOST}" in out

    @pytest.mark.parametrize(("text", "out"), [('P2PBIN_TRUST="4"\n', "4\n"), ("", "")])
    def test_the_level_alone(self, gentoo, capsys, text, out):
        (gentoo / "etc/portage/make.conf").write_text(text)
        assert main(["config", "show", "--level"]) == 0
        assert capsys.readouterr().out == out

    @pytest.mark.parametrize("level", ["7", "abc", "0", ""])
    def test_what_is_no_level_changes_nothing(self, gentoo, capsys, level):
        assert main(["config", "set", level]) == 2
        assert (gentoo / "etc/portage/make.conf").read_text() == 'P2PBIN_TRUST="3"\n'
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize("text", ['P2PBIN_TRUST="7"\n', 'P2PBIN_TRUST="abc"\n', ""])
    def test_a_threshold_that_is_none_says_what_to_do(self, gentoo, capsys, text):
        (gentoo / "etc/portage/make.conf").write_text(text)
        assert main(["config", "show"]) == 2
        assert "Set P2PBIN_TRUST in make.conf to a number from 1" in capsys.readouterr().err


class TestSite:
    def test_no_section_of_ours(self, gentoo, capsys):
        (gentoo / "etc/portage/binrepos.conf").write_text("[other]\nsync-uri = https://example.org\n")
        assert main(["publish"]) == 2
        assert "No section of binrepos.conf is ours" in capsys.readouterr().err

    def test_several_sections_need_a_name(self, gentoo, capsys):
        other = f"[p2pbin]\nsync-uri = p2pbin://{HOST}/{CHANNEL}\n[second]\nsync-uri = p2pbin://two.example.org/x\n"
        (gentoo / "etc/portage/binrepos.conf").write_text(other)
        assert main(["publish", "--pretend"]) == 2
        assert "--repository p2pbin" in capsys.readouterr().err
        assert Site.named("second").repository.host == "two.example.org"
        assert main(["publish", "--pretend", "--repository", "third"]) == 2

    def test_an_eprefix_that_is_not_absolute(self, monkeypatch, capsys):
        monkeypatch.setenv("PORTAGE_OVERRIDE_EPREFIX", "here")
        assert main(["status"]) == 2

    def test_a_server_that_does_not_answer_leaves_what_was_verified(self, gentoo, http, monkeypatch, capsys):
        def unavailable(*_):
            raise UnavailableError("server", "nobody answers")

        @contextmanager
        def cached(_config):
            yield "cached"

        monkeypatch.setattr("portage_p2pbin.cli.site.current_repository", unavailable)
        monkeypatch.setattr("portage_p2pbin.cli.site.cached_repository", cached)
        with Site.named(None).verified(http.server()) as found:
            assert found == "cached"
        assert "What follows was verified earlier" in capsys.readouterr().err

    def test_who_may_write_our_state_gets_what_is_current(self, gentoo, http, monkeypatch):
        monkeypatch.setattr("portage_p2pbin.cli.site.current_repository", lambda *_: "current")
        with Site.named(None).verified(http.server()) as found:
            assert found == "current"


class TestRegister:
    @pytest.fixture
    def registered(self, gentoo, http, monkeypatch):
        calls = []

        def register(paths, server, identity, **options):
            calls.append((identity, options))
            paths.machine_json.write_bytes(Registration(identity, machine_key(1), server.name).encode())
            return Registered(identity, Role.UNTRUSTED)

        monkeypatch.setattr(command("register"), "register", register)
        return calls

    def test_it_says_what_comes_next(self, registered, capsys):
        assert main(["register", "--identity", "0x" + fingerprint(1).lower(), "--days", "30", "--machine", "attic"]) == 0
        ((identity, options),) = registered
        assert identity == fingerprint(1)
        assert (options["window"], options["machine"], options["gpg_home"]) == (timedelta(days=30), "attic", None)
        out = capsys.readouterr().out
        assert f"registered at {HOST} as untrusted" in out
        assert f"send your fingerprint to the operators of {HOST}: {fingerprint(1)}" in out

    def test_the_gpg_home_of_client_toml(self, registered, gentoo):
        (gentoo / "etc/p2pbin").mkdir()
        (gentoo / "etc/p2pbin/client.toml").write_text('[publish]\ngpg_home = "/home/alice/.gnupg"\n')
        assert main(["register", "--identity", fingerprint(1)]) == 0
        assert registered[0][1]["gpg_home"] == Path("/home/alice/.gnupg")

    @pytest.mark.parametrize("arguments", [["--identity", "ABCD1234"], ["--identity", fingerprint(1), "--days", "0"],
                                           ["--identity", fingerprint(1), "--days", "732"]])  # fmt: skip
    def test_what_cannot_be_registered(self, registered, capsys, arguments):
        assert main(["register", *arguments]) == 2
        assert registered == []


class TestPublish:
    @pytest.fixture
    def builds(self, gentoo, http, monkeypatch):
        """Two recorded builds, one of which may not be shared."""
        riddles = replace(NEW.definition, request=replace(REQUEST, cpv=Cpv("games-misc/riddles-1.0")))
        withheld = replace(NEW, file=Sha256("a" * 64), definition=riddles, withheld=("its ebuild says RESTRICT=bindist",))
        (gentoo / FOLDER).mkdir(parents=True)
        for record in (NEW, withheld):
            (gentoo / FOLDER / f"{record.file}.json").write_bytes(record.encode())
        create_machine_key(gentoo / "var/lib/p2pbin/machine.key")

        @contextmanager
        def sharing(_config):
            yield None

        monkeypatch.setattr(command("publish"), "sharing", sharing)
        return NEW, withheld

    @pytest.fixture
    def answers(self, monkeypatch):
        """What becomes of a publication, by package; each is asked for by its rules first."""
        found = {REQUEST.cpv: Published(Outcome.STORED, vote(7), Level.TRUSTED_ONE, "it counts")}

        def publish(self, record):
            self.rules.check(record)
            answer = found[record.definition.request.cpv]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(command("publish").Publisher, "publish", publish)
        return found

    def test_all_that_was_built_is_published_and_what_may_not_be_is_no_error(self, builds, answers, capsys):
        assert main(["publish"]) == 0
        out = capsys.readouterr().out
        assert "Publishing (1 of 2)" in out
        assert "app-misc/hello-2.10-r1: the server has taken the file" in out
        assert "level 3; it counts" in out
        assert " * games-misc/riddles-1.0 refused by P10.2: its ebuild says RESTRICT=bindist\n" in out

    def test_what_may_not_be_shared_is_an_error_for_who_asks_for_it(self, builds, answers, capsys):
        assert main(["publish", "games-misc/riddles"]) == 4

    def test_a_refusal_by_the_server_does_not_stop_the_others(self, builds, answers, capsys):
        answers[REQUEST.cpv] = RefusedError("P3.2", "vote", "its key is not known here")
        assert main(["publish"]) == 4
        assert "games-misc/riddles" in capsys.readouterr().out

    def test_a_server_that_does_not_answer_stops_all(self, builds, answers, capsys):
        answers[REQUEST.cpv] = UnavailableError("server", "nobody answers")
        assert main(["publish", "app-misc/hello"]) == 3

    def test_a_package_that_was_not_built_here(self, builds, capsys):
        assert main(["publish", "app-misc/other"]) == 2
        assert "No build of app-misc/other is recorded" in capsys.readouterr().err

    def test_a_machine_without_a_key(self, builds, gentoo, capsys):
        (gentoo / "var/lib/p2pbin/machine.key").unlink()
        assert main(["publish"]) == 2
        assert "p2pbin register" in capsys.readouterr().err

    def test_pretend_says_what_would_be_shared_and_asks_nobody(self, builds, http, capsys):
        assert main(["publish", "--pretend"]) == 0
        out = capsys.readouterr().out
        assert " * app-misc/hello-2.10-r1\n" in out
        assert "games-misc/riddles-1.0 stays here: P10.2, its ebuild says RESTRICT=bindist" in out
        assert http.asked == []

    def test_what_is_published_already_is_left_out_unless_named(self, builds, gentoo, capsys):
        site = Site.named(None)
        done = publication(site.config.paths.publishing, HOST, CHANNEL, NEW)
        done.mkdir(parents=True)
        (done / "done").touch()
        assert main(["publish", "--pretend"]) == 0
        assert "app-misc/hello" not in capsys.readouterr().out
        assert main(["publish", "--pretend", "app-misc/hello"]) == 0
        assert "app-misc/hello-2.10-r1 (published before)" in capsys.readouterr().out

    def test_only_the_newest_build_of_a_build_key_is_published(self, builds, gentoo, capsys):
        older = replace(NEW, file=Sha256("b" * 64))
        path = gentoo / FOLDER / f"{older.file}.json"
        path.write_bytes(older.encode())
        os.utime(path, (1, 1))
        assert main(["publish", "--pretend"]) == 0
        assert capsys.readouterr().out.count("app-misc/hello") == 1

    def test_nothing_to_publish(self, gentoo, http, builds, monkeypatch, capsys):
        for file in (gentoo / FOLDER).iterdir():
            file.unlink()
        assert main(["publish"]) == 0
        assert "Nothing to publish" in capsys.readouterr().out


class TestExplain:
    @pytest.fixture
    def repository(self, gentoo, http, monkeypatch):
        """The package of the makers is listed with a vote of a trusted developer; no ebuild repository has it."""
        bundle = Bundle((vote(1), vote(9)), ()).encode()
        listed = entry(bundle)
        http.answer(f"/bundles/{listed.bundle}", bundle)
        said = {"contents": listed.contents, "level": 3, "listed": True, "definition": "c" * 64, "voices": []}
        http.answer("/packages/app-misc/*", {"builds": [{"buildKey": listed.build_key, "level": 3, "requests": 4, "variants": [said]}]})

        @contextmanager
        def verified(_site, _server):
            yield FakeRepository((listed,), roster(contributor(1, Role.TRUSTED)))

        monkeypatch.setattr(Site, "verified", verified)
        monkeypatch.setattr(command("explain"), "in_repositories", lambda atom: [])
        monkeypatch.setattr(command("explain"), "now", lambda: vote(1).vote.finished)
        return listed

    def test_what_is_offered(self, repository, capsys):
        assert main(["explain", "app-misc/hello"]) == 0
        out = capsys.readouterr().out
        assert ">>> app-misc/hello-2.10-r1\n * offered: level 3, and your threshold for it is 3\n" in out
        assert "operator-1 (trusted)" in out
        assert "neither on the roster nor audited" in out
        assert "asked for 4 times" in out

    def test_what_is_not_offered(self, repository, gentoo, capsys):
        (gentoo / "etc/portage/package.p2pbin").write_text("app-misc/* 1\n")
        assert main(["explain", "app-misc/hello"]) == 0
        assert "not offered: it is listed at level 3, and your threshold for it is 1" in capsys.readouterr().out

    def test_the_field_that_differs(self, repository, gentoo, capsys):
        (gentoo / FOLDER).mkdir(parents=True)
        here = replace(NEW, definition=replace(NEW.definition, request=replace(REQUEST, use=("doc",))))
        (gentoo / FOLDER / f"{here.file}.json").write_bytes(here.encode())
        assert main(["explain", "app-misc/hello"]) == 0
        assert "use: here doc; there nls" in capsys.readouterr().out

    def test_json(self, repository, capsys):
        assert main(["explain", "--json", "=app-misc/hello-2.10-r1"]) == 0
        (package,) = json.loads(capsys.readouterr().out)["packages"]
        (listed,) = package["listed"]
        assert (listed["offered"], listed["threshold"], listed["judged"]["level"]) == (True, 3, 3)
        assert listed["judged"]["voices"] == [{"operator": "operator-1", "role": "trusted"}]
        assert package["server"]["builds"][0]["requests"] == 4

    def test_what_nobody_knows(self, repository, capsys):
        assert main(["explain", "app-misc/other"]) == 3
        assert "nobody has built or voted on it" in capsys.readouterr().err

    def test_what_is_no_package(self, repository, capsys):
        assert main(["explain", "hello"]) == 2

    def test_a_server_that_is_silent_hides_nothing_that_is_verified(self, repository, http, capsys):
        http.answer("/packages/app-misc/*", UnavailableError("server", "nobody answers"))
        assert main(["explain", "app-misc/hello"]) == 0
        out = capsys.readouterr().out
        assert "The server says nothing" in out
        assert " * offered: level 3" in out


class TestForget:
    @pytest.fixture
    def refusals(self, gentoo):
        refusals = Refusals(gentoo / "var/lib/p2pbin/refused.json")
        for digit, cpv in (("1", "app-misc/hello-1.0"), ("2", "app-misc/hello-1.1"), ("3", "sys-libs/other-1")):
            refusals.add(Refusal(Sha256(digit * 64), Cpv(cpv), "P9.8", "other bytes", None), now())
        return refusals

    @pytest.mark.parametrize(
        ("arguments", "left"), [(["app-misc/hello"], 1), (["=app-misc/hello-1.0"], 2), (["--all"], 0), (["app-misc/strange"], 3)]
    )
    def test_only_what_is_meant_is_forgotten(self, refusals, capsys, arguments, left):
        assert main(["forget", *arguments]) == 0
        assert len(refusals.read(now())) == left
        assert capsys.readouterr().out.count("may be offered again") == 3 - left

    @pytest.mark.parametrize("arguments", [[], ["app-misc/hello", "--all"]])
    def test_it_must_be_said_what(self, refusals, arguments):
        assert main(["forget", *arguments]) == 2
        assert len(refusals.read(now())) == 3

    def test_nothing_to_forget_needs_no_folder(self, gentoo, capsys):
        (gentoo / "var/lib/p2pbin").rmdir()
        assert main(["forget", "--all"]) == 0
        assert "Nothing to forget" in capsys.readouterr().out


class TestStatus:
    def test_in_words(self, gentoo, capsys):
        Refusals(gentoo / "var/lib/p2pbin/refused.json").add(Refusal(Sha256("1" * 64), REQUEST.cpv, "P9.8", "other bytes", None), now())
        assert main(["status"]) == 0
        out = capsys.readouterr().out
        for part in (
            "Threshold 3: a trusted developer has",
            "p2pbind does not answer",
            "not registered",
            "is left out until it is forgotten",
        ):
            assert part in out

    def test_json(self, gentoo, capsys):
        assert main(["status", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["threshold"], found["daemon"], found["registration"], found["troubles"]) == (3, None, None, [])
        assert found["repositories"] == [{"name": "p2pbin", "host": HOST, "channel": CHANNEL}]

    def test_a_wrong_threshold_is_shown_and_is_no_failure_of_status(self, gentoo, capsys):
        (gentoo / "etc/portage/make.conf").write_text('P2PBIN_TRUST="7"\n')
        assert main(["status"]) == 0
        assert "'7'" in capsys.readouterr().out

    def test_expired_metadata_is_a_warning(self, gentoo, monkeypatch, capsys):
        past = {"timestamp": now() - timedelta(days=1), "root": now() + timedelta(days=1)}
        monkeypatch.setattr("portage_p2pbin.status.expiries", lambda cache: past)
        assert main(["status"]) == 0
        out = capsys.readouterr().out
        assert "The signature of timestamp has expired" in out
        assert "(root)" in out
