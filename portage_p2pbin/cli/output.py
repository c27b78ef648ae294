"""What our commands print, in emerge's look: green ` * ` and `>>>`, red for errors, and plain text where nobody sees colours.

Everything that came from outside goes through :func:`~portage_p2pbin.kernel.errors.printable` before it is printed, since whoever
sends it could otherwise write to the terminal what they like.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

_GREEN, _YELLOW, _RED, _BOLD, _NORMAL = "\x1b[32;01m", "\x1b[33;01m", "\x1b[31;01m", "\x1b[01m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command prints, and whether in colours."""

    stream: TextIO
    colours: bool

    @classmethod
    def on(cls, stream: TextIO) -> Output:
        """Print on `stream`; in colours if it is a terminal and neither NO_COLOR (no-color.org) nor Portage's NOCOLOR forbids it."""
        forbidden = os.environ.get("NO_COLOR", "") != "" or os.environ.get("NOCOLOR", "").lower() in ("yes", "true")
        return cls(stream, stream.isatty() and not forbidden)

    def step(self, text: str) -> None:
        """Something that begins, as emerge says it: `>>> text`."""
        self._line(">>>", _GREEN, text)

    def good(self, text: str) -> None:
        """Something that is well: ` * text`, the star green."""
        self._line(" *", _GREEN, text)

    def warning(self, text: str) -> None:
        """Something to look at: the star yellow."""
        self._line(" *", _YELLOW, text)

    def error(self, text: str) -> None:
        """Something that went wrong: the star red."""
        self._line(" *", _RED, text)

    def heading(self, text: str) -> None:
        """The title of what follows."""
        self.text(self._coloured(_BOLD, text))

    def fields(self, values: Mapping[str, str], indent: int = 4) -> None:
        """Names and values in two columns."""
        width = max(map(len, values), default=0) + 1
        for name, value in values.items():
            self.text(f"{'':{indent}}{name + ':':{width}} {value}")

    def table(self, rows: Sequence[Sequence[str]], indent: int = 4) -> None:
        """Rows in columns as wide as their widest cell."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self.text((" " * indent + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))).rstrip())

    def compared(self, line: str, indent: int) -> None:
        """A line about two files, as diff says it: green if it is only in the second, red if only in the first."""
        colour = {"+": _GREEN, "-": _RED}.get(line[:1])
        self.text(" " * indent + (line if colour is None else self._coloured(colour, line)))

    def text(self, text: str) -> None:
        """A line as it is."""
        print(text, file=self.stream, flush=True)

    def json(self, value: Mapping[str, object]) -> None:
        """One JSON object for programs."""
        self.text(json.dumps(value, indent=2, sort_keys=True))

    def _line(self, mark: str, colour: str, text: str) -> None:
        self.text(f"{self._coloured(colour, mark)} {text}")

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_NORMAL}" if self.colours else text


def standard_output() -> Output:
    """Results: stdout."""
    return Output.on(sys.stdout)


def standard_error() -> Output:
    """What went wrong, and remarks that are not the result: stderr."""
    return Output.on(sys.stderr)
