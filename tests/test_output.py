import io
import json

import pytest

from portage_p2pbin.cli.output import Output


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "NOCOLOR"):
        monkeypatch.delenv(name, raising=False)


def printed(stream):
    output = Output.on(stream)
    output.step("Publishing")
    output.good("done")
    return stream.getvalue()


def test_a_terminal_gets_emerges_colours():
    assert printed(Terminal()) == "\x1b[32;01m>>>\x1b[0m Publishing\n\x1b[32;01m *\x1b[0m done\n"


def test_a_file_gets_no_colours():
    assert printed(io.StringIO()) == ">>> Publishing\n * done\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("NOCOLOR", "true"), ("NOCOLOR", "yes")])
def test_who_wants_no_colours_gets_none(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert "\x1b" not in printed(Terminal())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", ""), ("NOCOLOR", "false")])
def test_who_forbids_nothing_gets_colours(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert "\x1b" in printed(Terminal())


def test_fields_and_tables_stand_in_columns():
    stream = io.StringIO()
    Output.on(stream).fields({"a": "1", "long name": "2"})
    Output.on(stream).table([("x", "y"), ("longer", "")], indent=0)
    Output.on(stream).table([])
    assert stream.getvalue() == "    a:         1\n    long name: 2\nx       y\nlonger\n"


def test_json_is_one_object():
    stream = io.StringIO()
    Output.on(stream).json({"b": [1], "a": None})
    assert json.loads(stream.getvalue()) == {"a": None, "b": [1]}


def test_lines_about_two_files_have_the_colours_of_diff():
    stream = io.StringIO()
    for line in ("-one", "+two", " three", ""):
        Output(stream, colours=True).compared(line, indent=2)
    assert stream.getvalue() == "  \x1b[31;01m-one\x1b[0m\n  \x1b[32;01m+two\x1b[0m\n   three\n  \n"
