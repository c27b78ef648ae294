"""The functions of a saved environment: nothing but their definitions may stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portage_p2pbin.binpkg.environment_variables import LONGEST_NAME, refused, shown

_HEAD = re.compile(rb"(?:function )?([^\s()<>|&;$`\"'\\=]+) \(\) ")


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its name, and its definition exactly as it stands, with the end of its last line."""

    name: bytes
    text: bytes


def read_functions(text: bytes) -> tuple[Function, ...]:
    """Return the functions that `text`, the second part of a saved environment, defines, in order."""
    functions = []
    lines = text.split(b"\n")
    if lines.pop() != b"":
        raise refused("the last line has no end")
    at = 0
    while at < len(lines):
        head = _HEAD.fullmatch(lines[at])
        if head is None or lines[at + 1 : at + 2] != [b"{ "] or len(head[1]) > LONGEST_NAME:
            raise refused(f"not a function definition: {shown(lines[at])}")
        end = lines.index(b"}", at) if b"}" in lines[at:] else None
        if end is None:
            raise refused(f"the function {shown(head[1])} has no end")
        functions.append(Function(head[1], b"".join(line + b"\n" for line in lines[at : end + 1])))
        at = end + 1
    return tuple(functions)
