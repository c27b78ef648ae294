"""The saved shell environment of a package: code that root runs at install time.

`environment.bz2` holds the variables and functions that were there when the package was built.  Portage sources it as root
before `pkg_preinst`, so whoever writes it can do anything.  Three things keep that in check:

* a strict reader (P2.4): literal variable declarations, then function definitions, and nothing else;
* what the reader understood is written anew, one line a variable in byte order of the names, the functions verbatim.  That
  text is what enters the contents digest **and** what is shipped, so nothing in it is unhashed;
* cleaning (P2.5) first takes out what came from the builder's shell and not from the package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from portage_p2pbin.binpkg import environment_names as names
from portage_p2pbin.binpkg.environment_functions import Function, read_functions
from portage_p2pbin.binpkg.environment_variables import Variable, read_variable, refused, shown

LARGEST_ENVIRONMENT = 2 * 1024 * 1024
"""Bytes of one environment.  The largest of the real ones that were tried has 0.25 MiB; the slowest text of this size takes seconds."""

MOST_VARIABLES = 10_000
"""Variables of one environment; a real one has about 200."""

_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Environment:
    """A saved environment as it was read.  Made by :func:`parse`, which is where validity is proven."""

    variables: tuple[Variable, ...]
    functions: tuple[Function, ...]

    def cleaned(self, ebuild: bytes) -> bytes:
        """Return the environment text that is shipped (P2.5): it depends on nothing but this environment and `ebuild`, the
        package's own ebuild.  Reading and cleaning it again gives the same text.
        """
        dropped = self._dropped(ebuild)
        lines = (variable.line() + b"\n" for variable in self.variables if variable.name not in dropped)
        return b"".join(lines) + b"".join(function.text for function in self.functions)

    def hashed(self, ebuild: bytes) -> bytes:
        """Return the bytes that enter the contents digest: the cleaned text, so that nothing that is shipped is not hashed."""
        return self.cleaned(ebuild)

    def droppings(self, ebuild: bytes) -> tuple[str, ...]:
        """Return the names of the variables that cleaning removes, sorted."""
        return tuple(sorted(name.decode("ascii") for name in self._dropped(ebuild)))

    def _dropped(self, ebuild: bytes) -> frozenset[bytes]:
        named = frozenset(_WORD.findall(ebuild)).union(*(_WORD.findall(function.text) for function in self.functions))
        return frozenset(variable.name for variable in self.variables if _is_dropped(variable, named))


def _is_dropped(variable: Variable, named: frozenset[bytes]) -> bool:
    """Return whether cleaning removes `variable` from an environment whose functions and ebuild hold the words `named`."""
    if variable.name in names.PER_EVENT or variable.name in names.BUILD_ONLY:
        return True
    return variable.exported and variable.name not in names.KEPT and variable.name not in named


def parse(text: bytes) -> Environment:
    """Return the environment that `text`, the unpacked `environment.bz2`, holds.

    Raises :class:`~portage_p2pbin.kernel.errors.RefusedError` (P2.4) for whatever Portage and bash would not have written, for a
    function that takes the place of a command and for a variable that takes over programs.  Does not judge what the
    functions do: that is what the contents digest is for.
    """
    if len(text) > LARGEST_ENVIRONMENT:
        raise refused(f"{len(text)} bytes; at most {LARGEST_ENVIRONMENT} are allowed")
    if b"\0" in text:
        raise refused("a zero byte")
    variables, rest = _read_variables(text)
    functions = read_functions(rest)
    _check_names(variables, functions)
    return Environment(variables, functions)


def _read_variables(text: bytes) -> tuple[tuple[Variable, ...], bytes]:
    """Read the lines that begin with "declare ", and return the variables and the text after them."""
    variables: list[Variable] = []
    at = 0
    while text.startswith(b"declare ", at):
        end = text.find(b"\n", at)
        if end < 0 or len(variables) == MOST_VARIABLES:
            raise refused(f"a declaration without an end, or more than {MOST_VARIABLES} of them")
        variables.append(read_variable(text[at:end]))
        at = end + 1
    return tuple(variables), text[at:]


def _check_names(variables: tuple[Variable, ...], functions: tuple[Function, ...]) -> None:
    for earlier, later in pairwise(variables):
        if later.name <= earlier.name:
            raise refused(f"the variable {shown(later.name)} is there twice or out of order")
    for variable in variables:
        if variable.name in names.REFUSED_VARIABLES or variable.name.startswith(names.REFUSED_START):
            raise refused(f"the variable {shown(variable.name)} takes over programs at install time")
    for function in functions:
        if function.name in names.REFUSED_FUNCTIONS or function.name.startswith(names.REFUSED_START):
            raise refused(f"the function {shown(function.name)} would take the place of a command")
    if len({function.name for function in functions}) != len(functions):
        raise refused("a function is there twice")
