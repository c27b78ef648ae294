"""Where a shell function ends: reserved words, brackets and here-documents, by the rules by which bash reads them.

Root's shell sources the functions of a package, and what it takes for the end of one makes the next line a command.  So an attacker
looks for a text whose end bash sees earlier than we do.  Therefore only what bash *prints* for a function (`declare -f`) is read,
which is far less than what it accepts: no comments, no line that goes on in the next, no word behind `done`, nothing on which
versions of bash disagree.
The functions are hashed as they stand, so a text that still slipped through would change the contents digest.

Not checked: whether bash accepts the text (it then stops before it), or what the commands do.

Source: bash 5.2 `parse.y` (read_token, reserved_word_acceptable), `print_cmd.c` and `make_cmd.c` (make_here_document).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from portage_p2pbin.binpkg.environment_words import WordReader

_OPERATOR = re.compile(rb";;&|;;|;&|;|&&|&>>|&>|&|\|\||\||<<<|<<-|<<|<&|<>|<(?!\()|>>|>&|>\||>(?!\()")
_OPERATOR_STARTS = frozenset((b";", b"&", b"|", b"<", b">"))
_REDIRECTIONS = frozenset((b"&>>", b"&>", b"<<<", b"<&", b"<>", b"<", b">>", b">&", b">|", b">"))
_CASE_ENDS = frozenset((b";;", b";&", b";;&"))
_DELIMITER = re.compile(rb"(?:'([^'\n]+)'|([A-Za-z0-9_.:+-]+))(?=[ \n|&;<>)])")
_FUNCTION_MARK = re.compile(rb" \(\) \n *(?=\{ \n)")
_DESCRIPTOR = re.compile(rb"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_CONDITION_OPERATOR = re.compile(rb"&&|\|\||\||[<>](?!\()")
_ODD_BACKSLASHES = re.compile(rb"(?<!\\)(?:\\\\)*\\\Z")

_OPENERS = {b"if": b"fi", b"while": b"done", b"until": b"done", b"{": b"}", b"for": b"done", b"select": b"done", b"case": b"esac"}
_INNER = {b"then": b"fi", b"else": b"fi", b"elif": b"fi", b"do": b"done"}
_CLOSERS = frozenset((b"fi", b"done", b"esac", b"}"))
_NEVER = frozenset((b"coproc", b"in", b"]]"))


class _State(Enum):
    """What may come next, as far as that decides which words are reserved."""

    COMMAND = auto()  # a command: reserved words count
    WORDS = auto()  # a simple command has begun: further words
    AFTER = auto()  # a compound command is read: only operators follow
    FOR = auto()  # a name, or `((`
    FOR_IN = auto()  # `in`, or the end of the command
    CASE = auto()  # the word to compare
    CASE_IN = auto()  # `in`
    PATTERN = auto()  # a pattern, or `esac`
    PATTERN_MORE = auto()  # a pattern
    PATTERN_END = auto()  # `|` or `)`


_ENDABLE = frozenset((_State.WORDS, _State.AFTER, _State.FOR_IN))
_PATTERNS = frozenset((_State.PATTERN, _State.PATTERN_MORE))


@dataclass(frozen=True, slots=True)
class _Document:
    """A here-document that is announced in a line and begins below it."""

    delimiter: bytes
    quoted: bool
    tabs: bool


def read_body(reader: WordReader) -> None:
    """Read commands up to and with the `}` that closes a function's body; see the module for what is refused (P2.4)."""
    _Commands(reader, b"}").read()


def read_substitution(reader: WordReader) -> None:
    """Read commands up to and with the `)` that closes a `$(…)`, `<(…)` or `>(…)`."""
    _Commands(reader, b")").read()


class _Commands:
    """The commands between a bracket and the one that closes it."""

    def __init__(self, reader: WordReader, closer: bytes) -> None:
        self.reader = reader
        self.closers = [closer]  # what has to close what is open, the innermost last
        self.is_body = closer == b"}"
        self.documents: list[_Document] = []
        self.state = _State.COMMAND

    def read(self) -> None:
        reader = self.reader
        while self.closers:
            reader.blanks()
            start = reader.text[reader.at : reader.at + 1]
            if start == b"\n":
                self.line_end()
            elif start in _OPERATOR_STARTS and (operator := _OPERATOR.match(reader.text, reader.at)):
                reader.at = operator.end()
                self.operator(operator[0])
            elif start == b"(":
                self.open_bracket()
            elif start == b")":
                self.close_bracket()
            else:
                self.word()

    def line_end(self) -> None:
        """A line ends: so does the command, and the announced here-documents follow."""
        if self.state in _ENDABLE:
            self.state = _State.COMMAND
        elif self.state not in (_State.COMMAND, _State.PATTERN):
            raise self.reader.error("a line ends too early")
        self.reader.at += 1
        for document in self.documents:
            self.read_document(document)
        self.documents.clear()
        if self.is_body and not self.reader.peek(b" ", b"\n", b"}"):
            raise self.reader.error("a line that is not indented")

    def read_document(self, document: _Document) -> None:
        reader = self.reader
        while True:
            end = reader.text.find(b"\n", reader.at)
            if end < 0:
                raise reader.error("a here-document without an end")
            line = reader.text[reader.at : end]
            text = line.lstrip(b"\t") if document.tabs else line
            if text == document.delimiter:
                reader.at = end + 1
                return
            if not self.is_body and text.startswith(document.delimiter):
                raise reader.error("a here-document that some versions of bash end here")
            if not document.quoted and _ODD_BACKSLASHES.search(line):
                raise reader.error("a line that goes on in the next")
            reader.at = end + 1

    def operator(self, operator: bytes) -> None:
        """An operator was read."""
        if operator in (b"<<", b"<<-"):
            self.reader.blanks()
            found = self.reader.take(_DELIMITER, "not a here-document's plain delimiter")
            self.documents.append(_Document(found[1] or found[2], found[1] is not None, operator == b"<<-"))
            self.redirected()
        elif operator in _REDIRECTIONS:
            self.reader.blanks()
            if not self.plain_word():
                raise self.reader.error("a redirection to nowhere")
            self.redirected()
        elif operator in _CASE_ENDS and self.closers[-1] == b"esac" and self.state in _ENDABLE | {_State.COMMAND}:
            self.state = _State.PATTERN
        elif operator == b"|" and self.state is _State.PATTERN_END:
            self.state = _State.PATTERN_MORE
        elif operator not in _CASE_ENDS and self.state in _ENDABLE:
            self.state = _State.COMMAND
        else:
            raise self.reader.error(f"out of place: {operator.decode('ascii')} before")

    def redirected(self) -> None:
        """A redirection was read: no reserved word may follow it."""
        if self.state is _State.COMMAND:
            self.state = _State.WORDS
        elif self.state not in _ENDABLE:
            raise self.reader.error("a redirection out of place")

    def open_bracket(self) -> None:
        reader = self.reader
        if self.state in (_State.COMMAND, _State.FOR) and reader.peek(b"(("):
            reader.at += 1
            reader.group(b"(", b")")
            if not reader.peek(b")"):
                raise reader.error("not an arithmetic command")
            reader.at += 1
            self.state = _State.AFTER
        elif self.state is _State.COMMAND:
            reader.at += 1
            self.closers.append(b")")
        else:
            raise reader.error("a bracket out of place")

    def close_bracket(self) -> None:
        self.reader.at += 1
        if self.state is _State.PATTERN_END:
            self.state = _State.COMMAND
        elif self.closers[-1] == b")" and self.state in _ENDABLE | {_State.COMMAND}:
            self.close()
        else:
            raise self.reader.error("a bracket that closes nothing, before")

    def close(self) -> None:
        """What was opened last is closed."""
        self.closers.pop()
        self.state = _State.AFTER
        if not self.closers and self.documents:
            raise self.reader.error("a here-document that never begins, before")

    def word(self) -> None:
        if self.state is _State.COMMAND:
            self.first_word()
        elif self.state in _PATTERNS:
            self.pattern()
        else:
            word = self.plain_word()
            if self.state is _State.AFTER:
                if not _DESCRIPTOR.fullmatch(word) or not self.reader.peek(b"<", b">"):
                    raise self.reader.error("a word behind a compound command, before")
            elif self.state in (_State.FOR_IN, _State.CASE_IN):
                if word != b"in":
                    raise self.reader.error("a loop or a choice without “in”, before")
                self.state = _State.WORDS if self.state is _State.FOR_IN else _State.PATTERN
            else:
                self.state = {_State.FOR: _State.FOR_IN, _State.CASE: _State.CASE_IN}.get(self.state, _State.WORDS)

    def plain_word(self, assigns: bool = True) -> bytes:
        """Read a word that is not reserved."""
        word = self.reader.word(assigns)
        if not word:
            raise self.reader.error("the end of the text, or out of place")
        if self.documents and b"\n" in word:
            raise self.reader.error("a here-document announced in a line that is no line, before")
        return word

    def pattern(self) -> None:
        word = self.plain_word(assigns=False)
        if word != b"esac":
            self.state = _State.PATTERN_END
        elif self.state is _State.PATTERN:
            self.close()
        else:
            raise self.reader.error("esac as a pattern, before")

    def first_word(self) -> None:
        """Read the word with which a command begins: the only one that may be reserved."""
        reader = self.reader
        if reader.peek(b"@(", b"?(", b"*(", b"+(", b"!("):
            raise reader.error("a command that is a pattern")
        word = self.plain_word()
        if word in _OPENERS:
            self.closers.append(_OPENERS[word])
            self.state = {b"for": _State.FOR, b"select": _State.FOR, b"case": _State.CASE}.get(word, _State.COMMAND)
        elif word in _INNER or word in _CLOSERS:
            self.inner_or_closer(word)
        elif word == b"function":
            reader.blanks()
            self.plain_word(assigns=False)
            reader.take(_FUNCTION_MARK, "not a function within a function")
        elif word == b"[[":
            self.condition()
        elif word in _NEVER or (word == b"time" and reader.peek(b" -")):
            raise reader.error(f"the word {word.decode('ascii')}, which bash does not print there, before")
        elif word not in (b"!", b"time"):
            self.state = _State.WORDS

    def inner_or_closer(self, word: bytes) -> None:
        if self.closers[-1] != _INNER.get(word, word):
            raise self.reader.error(f"{word.decode('ascii')} closes nothing, before")
        if word in _CLOSERS:
            self.close()

    def condition(self) -> None:
        """Read the rest of a `[[ … ]]`: one line, with brackets in pairs."""
        reader, depth = self.reader, 0
        while True:
            reader.blanks()
            if reader.peek(b"(", b")"):
                depth += 1 if reader.peek(b"(") else -1
                reader.at += 1
            elif operator := _CONDITION_OPERATOR.match(reader.text, reader.at):
                reader.at = operator.end()
            elif self.plain_word(assigns=False) == b"]]":
                break
        if depth:
            raise reader.error("brackets in a condition are not in pairs, before")
        self.state = _State.AFTER
