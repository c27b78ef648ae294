"""Where a shell word ends: quotes, substitutions, arrays.

Half of the reader of saved functions; :mod:`.environment_commands` is the other half and says what an attacker could do.  A word
that two versions or options of bash would end at different places is refused.

Source: bash 5.2 `parse.y`, read_token_word, parse_matched_pair, parse_comsub and parse_compound_assignment.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from portage_p2pbin.binpkg.environment_variables import refused, shown
from portage_p2pbin.kernel.errors import RefusedError

DEEPEST = 40
"""Quotes, substitutions and groups inside each other; each is a call of the reader within a call.  Real ones reach 5."""

_BLANKS = re.compile(rb"[ ]*")
_PLAIN = re.compile(rb"[^ \t\n|&;()<>{}\\'\"`$\[\]@?*+!=]+")
_IDENTIFIER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_ARRAY_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\+?=")
# Most words are plain ones with quotes, variables and `${name}` or `${name%x}` in them, so one match reads those; the rest is read piece
# by piece, and gives the same for these too.
_SIMPLE_DOLLAR = rb"\$(?:[A-Za-z0-9_@#?*!-]|\{[!#]?[A-Za-z0-9_@*]+(?:\[[A-Za-z0-9_@*]+\])?(?:[-:%#/^,+=?][^\\'\"`$(){}<>]*+)?\})"
_SIMPLE_QUOTED = rb"'[^']*+'|\"(?:[^\"\\`$]|\\[^\n]|" + _SIMPLE_DOLLAR + rb")*+\""
_SIMPLE_WORD = re.compile(
    rb"(?!#)(?:\[\[?(?=[ ])|(?:[^ \t\n|&;()<>\\'\"`$\[]|\\[^\n]|" + _SIMPLE_QUOTED + rb"|" + _SIMPLE_DOLLAR + rb")++(?=[ \n|&;)]))"
)
_SINGLE_QUOTED = re.compile(rb"'[^']*'")
_ANSI_QUOTED = re.compile(rb"\$'(?:[^'\\]|\\.)*+'", re.DOTALL)
_BACKQUOTED = re.compile(rb"`(?:[^`\\]|\\[^\n])*+`")
_RUN_BY_NEWER_BASH = re.compile(rb"\$\{[ \t\n|(]")


class WordReader:
    """Reads shell words in `text`, a part of a saved environment; `at` is where it is."""

    def __init__(self, text: bytes, at: int, commands: Callable[[WordReader], None]) -> None:
        """`commands` reads the commands of a substitution, up to and with the bracket that closes it."""
        self.text = text
        self.at = at
        self._commands = commands
        self._depth = 0

    def error(self, reason: str) -> RefusedError:
        """Return the error for what stands here."""
        return refused(f"{reason}: {shown(self.text[self.at :])}")

    def peek(self, *starts: bytes) -> bool:
        """Return whether one of `starts` stands here."""
        return self.text.startswith(starts, self.at)

    def take(self, pattern: re.Pattern[bytes], reason: str) -> re.Match[bytes]:
        """Read what `pattern` matches; where it does not, refuse for `reason`."""
        match = pattern.match(self.text, self.at)
        if match is None:
            raise self.error(reason)
        self.at = match.end()
        return match

    def blanks(self) -> None:
        """Read spaces, if any; bash prints no tabs between words."""
        self.take(_BLANKS, "")

    def word(self, assigns: bool = True) -> bytes:
        """Read one word and return it as it stands; empty where none begins.

        `assigns`: whether an array or a subscript may begin in it.
        """
        start = self.at
        if simple := _SIMPLE_WORD.match(self.text, start):
            self.at = simple.end()
            return simple[0]
        if self.peek(b"#"):
            raise self.error("a comment")
        subscript = assigns  # may the next bracket be one?  Only the first, or a long name would be looked at again and again
        while self.at < len(self.text) and not self._word_ends():
            if self.peek(b"("):
                if not assigns or not _ARRAY_NAME.fullmatch(self.text, start, self.at):
                    break
                self._inside(self._array)
            elif subscript and self.peek(b"["):
                subscript = False
                if _IDENTIFIER.fullmatch(self.text, start, self.at):
                    self._inside(self._subscript)
                else:
                    self.at += 1
            elif self.peek(b"@(", b"?(", b"*(", b"+(", b"!("):
                self._pattern()
            else:
                self._piece()
        return self.text[start : self.at]

    def group(self, opener: bytes, closer: bytes) -> None:
        """Read from `opener` to the `closer` that belongs to it, as bash pairs them without regard to commands."""
        self._inside(lambda: self._pair(opener, closer))

    def _word_ends(self) -> bool:
        return self.peek(b" ", b"\t", b"\n", b"|", b"&", b";", b")") or (self.peek(b"<", b">") and not self.peek(b"<(", b">("))

    def _inside(self, read: Callable[[], None]) -> None:
        if self._depth == DEEPEST:
            raise self.error(f"more than {DEEPEST} things inside each other")
        self._depth += 1
        read()
        self._depth -= 1

    def _piece(self) -> None:
        """Read an escaped byte, a quoted string, a substitution, or plain bytes."""
        if self.peek(b"\\"):
            self._escape()
        elif self.peek(b"'"):
            self.take(_SINGLE_QUOTED, "a quote without an end")
        elif self.peek(b"$'"):
            self.take(_ANSI_QUOTED, "a quote without an end")
        elif self.peek(b'"'):
            self._inside(self._double_quoted)
        elif self.peek(b"`"):
            self.take(_BACKQUOTED, "a backquote without an end, or a line that goes on in the next")
        elif self.peek(b"$", b"<(", b">("):
            self._substitution()
        else:
            plain = _PLAIN.match(self.text, self.at)
            self.at = plain.end() if plain else self.at + 1

    def _escape(self) -> None:
        if self.peek(b"\\\n"):
            raise self.error("a line that goes on in the next")
        self.at += 2

    def _substitution(self) -> None:
        """Read what begins with `$`, or a process substitution."""
        if self.peek(b"$(("):
            self.at += 1
            self.group(b"(", b")")
        elif self.peek(b"$(", b"<(", b">("):
            self.at += 2
            self._inside(lambda: self._commands(self))
        elif self.peek(b"${"):
            if _RUN_BY_NEWER_BASH.match(self.text, self.at):
                raise self.error("a substitution that newer versions of bash run")
            self.at += 1
            self.group(b"{", b"}")
        elif self.peek(b"$["):
            self.at += 1
            self.group(b"[", b"]")
        else:
            self.at += 2 if self.peek(b"$$") else 1

    def _double_quoted(self) -> None:
        self.at += 1
        while not self.peek(b'"'):
            if self.at >= len(self.text):
                raise self.error("a quote without an end")
            if self.peek(b"$'", b"'", b"<", b">"):
                self.at += 1
            else:
                self._piece()
        self.at += 1

    def _pair(self, opener: bytes, closer: bytes) -> None:
        """Within `${…}` the first `}` closes; brackets of the other groups are counted."""
        self.at += 1
        count = 1
        while count:
            if self.at >= len(self.text):
                raise self.error(f"no {shown(closer)}")
            if self.peek(closer):
                count -= 1
                self.at += 1
            elif self.peek(opener):
                count += opener != b"{"
                self.at += 1
            elif self.peek(b"<(", b">("):
                if opener != b"(":
                    raise self.error("a process substitution within a substitution")
                self.at += 1
            else:
                self._piece()

    def _pattern(self) -> None:
        """Read a pattern such as `@(a|b)`; without extglob bash calls it an error, but `@()` a function's head."""
        self.at += 1
        if self.peek(b"()"):
            raise self.error("an empty pattern")
        self.group(b"(", b")")

    def _subscript(self) -> None:
        """Read the `[…]` behind a name.  A blank in it may be the end of a word for bash; what else bash would end at it is refused."""
        self.at += 1
        while not self.peek(b"]"):
            if self.at >= len(self.text) or self.peek(b"\n", b";", b"|", b"&", b"<", b">", b"(", b")", b"[", b" #", b"\t#"):
                raise self.error("not a plain subscript")
            self._piece()
        self.at += 1

    def _array(self) -> None:
        """Read the `(…)` of an assignment: words on one line."""
        self.at += 1
        self.blanks()
        while not self.peek(b")"):
            before = self.at
            if self.peek(b"["):
                self._subscript()
            self.word(assigns=False)
            if self.at == before:
                raise self.error("not a plain array")
            self.blanks()
        self.at += 1
