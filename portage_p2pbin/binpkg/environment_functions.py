"""The functions of a saved environment: their definitions, and nothing else, may stand there.

Whoever writes this text has it sourced by root.  :mod:`.environment_commands` finds where each definition ends; here is what may
stand around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from portage_p2pbin.binpkg.environment_commands import read_body, read_substitution
from portage_p2pbin.binpkg.environment_variables import LONGEST_NAME, refused, shown
from portage_p2pbin.binpkg.environment_words import WordReader

MOST_FUNCTIONS = 10_000
"""Functions of one environment; a real one has some hundreds."""

_HEAD = re.compile(rb"([A-Za-z0-9_.+:-]+) \(\) \n\{(?= \n)")
_REDIRECTION = re.compile(rb" [0-9]*(?:>>|>&|>\||>|<&|<>|<)[ ]?(?=[^\s<>(])")
_EXPORT = re.compile(rb"declare -fx ([A-Za-z0-9_.+:-]+)\n")
_FORBIDDEN_BYTE = re.compile(rb"[\x00\x01\x7f]")


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its name, and its definition exactly as it stands, with the end of its last line.

    The line `declare -fx NAME`, which bash prints behind an exported function, belongs to it.
    """

    name: bytes
    text: bytes


def read_functions(text: bytes) -> tuple[Function, ...]:
    """Return the functions that `text`, the second part of a saved environment, defines, in order.

    Raises :class:`~portage_p2pbin.kernel.errors.RefusedError` (P2.4) when anything else stands there.  Does not judge names and
    commands.
    """
    if forbidden := _FORBIDDEN_BYTE.search(text):  # bash marks quoted bytes with 1 and 127 while it reads
        raise refused(f"the byte {forbidden[0][0]} in a function")
    functions: list[Function] = []
    at = 0
    while at < len(text):
        head = _HEAD.match(text, at)
        if head is None or len(head[1]) > LONGEST_NAME or len(functions) == MOST_FUNCTIONS:
            raise refused(f"not a function's definition, or one too many: {shown(text[at:])}")
        end = _definition_end(text, head)
        functions.append(Function(head[1], text[at:end]))
        at = end
    return tuple(functions)


def _definition_end(text: bytes, head: re.Match[bytes]) -> int:
    """Return where the line behind the definition with this `head` begins."""
    reader = WordReader(text, head.end(), read_substitution)
    read_body(reader)
    if text[reader.at - 2 : reader.at] != b"\n}":
        raise reader.error("a function that ends within a line, before")
    while not reader.peek(b"\n"):
        reader.take(_REDIRECTION, "something behind a function")
        if b"\n" in reader.word():
            raise reader.error("more than a line behind a function, before")
    reader.at += 1
    export = _EXPORT.match(text, reader.at)
    return export.end() if export and export[1] == head[1] else reader.at
