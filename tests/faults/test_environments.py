"""Hostile environments: what they do in an install by an unguarded Portage, and that the reader of environments stops each."""

from __future__ import annotations

import bz2
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from portage.xpak import tbz2, xpak_mem

from portage_p2pbin.binpkg.environment import parse
from portage_p2pbin.kernel.errors import RefusedError
from tests.throwaway import Gentoo

PACKAGE = "games-misc/riddles"

# Variables that reach pkg_postinst as they are; a value that does no harm here.
TAKEN_OVER = {
    "ANYTHING_UNKNOWN": "1",
    "GCONV_PATH": "/none",
    "GIT_SSH_COMMAND": "none",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=1",
    "GREP_OPTIONS": "--none",
    "LD_AUDIT": "/none.so",
    "LD_LIBRARY_PATH": "/none",
    "NODE_OPTIONS": "--none",
    "OPENSSL_CONF": "/none",
    "PERL5OPT": "-Mnone",
    "PYTHONPATH": "/none",
    "RUBYOPT": "-rnone",
    "TAR_OPTIONS": "--none",
}
POSTINST = 'pkg_postinst () \n{ \n    elog done;\n    env > "${EPREFIX}/seen";\n    none-of-this-name\n}\n'

# What runs a command while Portage reads the environment: lines before the functions, each one thing away from a valid line.
RUNNING_LINES = {
    "arithmetic": "declare -i NUMBER='a[$(touch %s)]'",
    "subscript": 'declare -a LIST=([$(touch %s)]="1")',
    "substitution": 'declare -- TEXT="$(touch %s)"',
    "backquotes": 'declare -- TEXT2="`touch %s`"',
    "second-statement": 'declare -- TEXT3="1"; touch %s',
    "second-line": 'declare -- TEXT4="1"\ntouch %s',
}

# Functions in the place of commands: each leaves its trace, and does what the command did.
RUNNING_FUNCTIONS = {
    "elog": ":",
    "has": 'local x;\n    for x in "${@:2}";\n    do\n        [[ ${x} == "$1" ]] && return 0;\n    done;\n    return 1',
    "source": 'builtin source "$@"',
    "unset": '[[ $1 == -f ]] || builtin unset "$@"',  # or Portage's filter would take out elog
    "command_not_found_handle": ":",
}


@dataclass(frozen=True, slots=True)
class Victim:
    """A Gentoo that has one binary package and installs it as Portage alone would."""

    gentoo: Gentoo
    package: Path
    metadata: Mapping[str, bytes]

    @property
    def saved(self) -> str:
        return bz2.decompress(self.metadata["environment.bz2"]).decode()

    @property
    def ebuild(self) -> bytes:
        return self.metadata["riddles-1.0.ebuild"]

    def trace(self, name: str) -> str:
        """The path, as seen inside, of the file that an attack leaves."""
        return f"{self.gentoo.eprefix}/ran-{name}"

    def install(self, environment: str) -> None:
        metadata = dict(self.metadata) | {"environment.bz2": bz2.compress(environment.encode())}
        tbz2(str(self.package)).recompose_mem(xpak_mem(metadata))
        self.gentoo.run(["emaint", "binhost", "--fix"])
        print(self.gentoo.emerge("--usepkgonly", "--oneshot", PACKAGE, expect=None).output)

    def ran(self, name: str) -> bool:
        return (self.gentoo.root / f"ran-{name}").exists()


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with (
        tempfile.TemporaryDirectory(prefix="p2pbin-") as home,
        Gentoo.create(Path(home), "v", settings={"BINPKG_FORMAT": "xpak"}) as gentoo,
    ):
        gentoo.emerge("--oneshot", "--buildpkgonly", PACKAGE)
        (package,) = (gentoo.root / "var/cache/binpkgs").rglob("*.xpak")
        yield Victim(gentoo, package, {key.decode(): value for key, value in tbz2(str(package)).get_data().items()})


def with_line(environment: str, line: str) -> str:
    """`environment` with one more line among its variables, where its name belongs."""
    name = re.sub(r"declare (-\S+ )?", "", line)
    variables, functions = re.split(r"(?m)^(?=\S+ \(\) $)", environment, maxsplit=1)
    lines = [*variables.splitlines(), line]
    lines.sort(key=lambda one: name if one == line else re.sub(r"declare (-\S+ )?", "", one).partition("=")[0])
    return "\n".join(lines) + "\n" + functions


def with_function(environment: str, name: str, body: str) -> str:
    return environment + f"{name} () \n{{ \n    {body}\n}}\n"


def is_stopped(victim: Victim, environment: str) -> bool:
    """Whether a package with `environment` cannot pass for the honest one: refused, not clean, or of another digest."""
    try:
        read = parse(environment.encode())
    except RefusedError as refused:
        return refused.rule == "P2.4"
    changed = read.hashed(victim.ebuild) != parse(victim.saved.encode()).hashed(victim.ebuild)
    return changed or read.cleaned(victim.ebuild) != environment.encode()


@pytest.fixture(scope="module")
def seen_by_postinst(victim: Victim) -> str:
    """The environment of the programs that pkg_postinst starts, when a package brings all of TAKEN_OVER."""
    environment = victim.saved
    for name, value in TAKEN_OVER.items():
        environment = with_line(environment, f'declare -x {name}="{value}"')
    environment = with_line(environment, 'declare -x SLIPS="1" PATH="/hijacked:/usr/bin:/bin"')
    victim.install(environment + POSTINST)
    return victim.gentoo.read("seen")


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_a_variable_that_survives_into_an_install_is_stopped(victim, seen_by_postinst, name):
    assert f"{name}={TAKEN_OVER[name]}\n" in seen_by_postinst
    assert is_stopped(victim, with_line(victim.saved, f'declare -x {name}="{TAKEN_OVER[name]}"'))
    assert is_stopped(victim, with_line(victim.saved, f'declare -- {name}="{TAKEN_OVER[name]}"'))


def test_a_second_variable_in_a_line_is_stopped(victim, seen_by_postinst):
    assert "/hijacked:" in seen_by_postinst  # Portage's filter takes PATH out, but does not see it here
    with pytest.raises(RefusedError, match="not a literal value"):
        parse(with_line(victim.saved, 'declare -x SLIPS="1" PATH="/hijacked:/usr/bin:/bin"').encode())


@pytest.fixture(scope="module")
def after_running_lines(victim: Victim) -> Victim:
    environment = victim.saved
    for name, line in RUNNING_LINES.items():
        environment = with_line(environment, line % victim.trace(name))
    victim.gentoo.write("hook", f"#!/bin/sh\ntouch {victim.trace('hook')}\n")
    victim.gentoo.outside("hook").chmod(0o755)
    victim.install(with_line(environment, f'declare -- EBUILD_SUCCESS_HOOKS="{victim.gentoo.eprefix}/hook"'))
    return victim


@pytest.mark.parametrize("name", RUNNING_LINES)
def test_a_line_that_runs_a_command_is_refused(after_running_lines, name):
    assert after_running_lines.ran(name)
    with pytest.raises(RefusedError, match=r"not a literal value|not one literal|not a function's definition"):
        parse(with_line(after_running_lines.saved, RUNNING_LINES[name] % "/none").encode())


def test_a_success_hook_is_refused(after_running_lines):
    assert after_running_lines.ran("hook")
    with pytest.raises(RefusedError, match="EBUILD_SUCCESS_HOOKS"):
        parse(with_line(after_running_lines.saved, 'declare -- EBUILD_SUCCESS_HOOKS="hook"').encode())


@pytest.fixture(scope="module")
def after_running_functions(victim: Victim) -> Victim:
    environment = victim.saved + POSTINST
    for name, body in RUNNING_FUNCTIONS.items():
        environment = with_function(environment, name, f"touch {victim.trace(name)};\n    {body}")
    victim.install(environment)
    return victim


@pytest.mark.parametrize("name", RUNNING_FUNCTIONS)
def test_a_function_that_takes_the_place_of_a_command_is_refused(after_running_functions, name):
    assert after_running_functions.ran(name)
    with pytest.raises(RefusedError, match="would take the place of a command"):
        parse(with_function(after_running_functions.saved, name, RUNNING_FUNCTIONS[name]).encode())


def test_the_honest_environment_is_read_and_installs_when_cleaned(victim):
    assert not is_stopped(victim, parse(victim.saved.encode()).cleaned(victim.ebuild).decode())
    victim.install(parse((victim.saved + POSTINST).encode()).cleaned(victim.ebuild).decode())
    seen = victim.gentoo.read("seen")
    assert "PF=riddles-1.0\n" in seen
    assert not any(f"{name}={value}\n" in seen for name, value in TAKEN_OVER.items())


@pytest.mark.parametrize(
    ("honest", "changed"),
    [
        ('declare DESCRIPTION="Riddles', 'declare DESCRIPTION="riddles'),
        ('declare -x SLOT="0"', 'declare -- SLOT="0"'),
        ("doins riddles.txt", "doins riddles.txt;\n    :"),
    ],
)
def test_every_change_that_is_read_changes_what_is_hashed(victim, honest, changed):
    assert honest in victim.saved
    before, after = (parse(text.encode()).hashed(victim.ebuild) for text in (victim.saved, victim.saved.replace(honest, changed)))
    assert before != after
