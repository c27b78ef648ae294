"""One saved shell variable: the line bash prints for it, its decoded value, and the one line we ship for it.

`declare -p` writes one line a variable, and root's shell reads that line again when the package is installed.  Whoever
controls such a line could make it run a command (`declare -i N='a[$(id)]'`), set a second variable (`declare -x A="1"
PATH=…`) or mean two things to two readers.  So the reader below knows the handful of forms that bash prints for plain values,
and nothing else; and what is shipped is written anew from the decoded value, in ASCII, so that it reads the same in any locale.

Source of the forms: bash 5.2, `variables.c` (print_assignment), `arrayfunc.c` and `assoc.c` (…_to_assign), `lib/sh/strtrans.c`
(ansic_quote) and `lib/sh/shquote.c` (sh_double_quote, sh_contains_shell_metas).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from portage_p2pbin.kernel.errors import RefusedError

LONGEST_NAME = 255
"""Bytes in a variable's or function's name.  The longest in the real environments that were tried has 39."""

LARGEST_INDEX = 10**6
"""Largest index of an indexed array: nobody numbers a package's array elements higher, and bash takes ever more memory."""

Value = bytes | tuple[tuple[int, bytes], ...] | tuple[tuple[bytes, bytes], ...] | None
"""A scalar's bytes, an indexed array's (index, bytes) in rising order, an associative array's (key, bytes) in byte order
of the key; None for a variable that is declared and has no value."""

_NAME = rb"[A-Za-z_][A-Za-z0-9_]*"
_PLAIN = rb'"(?:[^\x00-\x1f\x7f"$`\\]|\\["$`\\])*+"'
_ANSI = rb"\$'(?:[^\x00-\x1f\x7f'\\]|\\(?:[abfnrtvE'\\]|[0-3][0-7]{2}))*+'"
_QUOTED = rb"(?:" + _PLAIN + rb"|" + _ANSI + rb")"
_BARE_KEY = rb"(?:[A-Za-z0-9_%+,./:=@\x80-\xff-]|(?<!\[)#|(?<![\[:=])~)+"
_INDEXED = rb"\[(0|[1-9][0-9]{0,6})\]=(" + _QUOTED + rb")"
_KEYED = rb"\[(" + _QUOTED + rb"|" + _BARE_KEY + rb")\]=(" + _QUOTED + rb")"
_INDEXED_ARRAY = re.compile(rb"\((?:%b(?: %b)*+)?\)" % (_INDEXED, _INDEXED))
_KEYED_ARRAY = re.compile(rb"\((?:%b(?: %b)*+ ?)?\)" % (_KEYED, _KEYED))  # bash ends it with a space, our own line does not
_LINE = re.compile(rb"declare (?:-([-xaA]) )?(" + _NAME + rb")(?:=(.+))?")
_SCALAR = re.compile(_QUOTED)

_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_SPECIAL = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"E": b"\x1b"}
_NEEDS_ESCAPE = re.compile(rb"[^\x20-\x7e]|['\\]")
_NEEDS_BACKSLASH = re.compile(rb'["$`\\]')
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its name, its `flag` as `declare` prints it (`-`, `x`, `a` or `A`), and its decoded value.

    Made by :func:`read_variable`, which is where validity is proven.
    """

    name: bytes
    flag: bytes
    value: Value

    @property
    def exported(self) -> bool:
        """Whether programs that the shell starts see the variable."""
        return self.flag == b"x"

    def line(self) -> bytes:
        """Return the one line, without its end, that stands for this variable in a cleaned environment."""
        start = b"declare -" + self.flag + b" " + self.name
        if self.value is None:
            return start
        if isinstance(self.value, bytes):
            return start + b"=" + quote(self.value)
        return start + b"=(" + b" ".join(b"[" + _key_text(key) + b"]=" + quote(value) for key, value in self.value) + b")"


def read_variable(line: bytes) -> Variable:
    """Return the variable that `line`, one line of `declare -p` without its end, declares.

    Raises :class:`RefusedError` (P2.4) for anything but one plain literal declaration.  Does not judge the name.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise refused(f"not one literal declaration: {shown(line)}")
    flag, name, text = match[1] or b"-", match[2], match[3]
    if len(name) > LONGEST_NAME:
        raise refused(f"a variable's name has {len(name)} bytes; at most {LONGEST_NAME} are allowed")
    return Variable(name, flag, None if text is None else _value(flag, text, line))


def quote(value: bytes) -> bytes:
    r"""Return `value` quoted for bash, in printable ASCII on one line.

    A value that ends in a backslash is written as `$'…'`: Portage's own filter (filter-bash-environment.py) takes the `\\"` at
    the end of the other form for an escaped quote, and would read the next lines as part of this value.
    """
    if _PRINTABLE.fullmatch(value) and not value.endswith(b"\\"):
        return b'"' + _NEEDS_BACKSLASH.sub(rb"\\\g<0>", value) + b'"'
    return b"$'" + _NEEDS_ESCAPE.sub(_escaped, value) + b"'"


def refused(reason: str) -> RefusedError:
    """Return the error for an environment that breaks P2.4, to be raised."""
    return RefusedError("P2.4", "environment", reason)


def shown(text: bytes) -> str:
    """Return the beginning of `text` for a message."""
    return repr(text[:80].decode("ascii", "backslashreplace"))


def _value(flag: bytes, text: bytes, line: bytes) -> Value:
    form = {b"a": _INDEXED_ARRAY, b"A": _KEYED_ARRAY}.get(flag, _SCALAR)
    if not form.fullmatch(text):
        raise refused(f"not a literal value: {shown(line)}")
    if flag == b"a":
        return _indexed(text, line)
    return _keyed(text, line) if flag == b"A" else unquote(text)


def _indexed(text: bytes, line: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read `([0]="a" [1]="b")`: decimal indexes in rising order."""
    elements = tuple((int(index), unquote(value)) for index, value in re.findall(_INDEXED, text))
    indexes = [index for index, _ in elements]
    if any(later <= earlier for earlier, later in pairwise(indexes)) or (indexes and indexes[-1] > LARGEST_INDEX):
        raise refused(f"array indexes must rise, to at most {LARGEST_INDEX}: {shown(line)}")
    return elements


def _keyed(text: bytes, line: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Read `([one]="a" ["two three"]="b" )`: each key once."""
    elements = {}
    for written, value in re.findall(_KEYED, text):
        key = unquote(written) if written[:1] in b'"$' else written
        if not key or key in elements or written == b"@":
            raise refused(f"a key that is empty, unquoted or there twice: {shown(line)}")
        elements[key] = unquote(value)
    return tuple(sorted(elements.items()))


def unquote(text: bytes) -> bytes:
    """Return what bash reads from `text`, one `"…"` or `$'…'` of the forms that this module accepts."""
    if text[:1] == b'"':
        return re.sub(rb"\\(.)", rb"\1", text[1:-1])
    return _ESCAPE.sub(_unescaped, text[2:-1])


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes([int(code, 8)])
    return _SPECIAL.get(code, code)


def _escaped(match: re.Match[bytes]) -> bytes:
    char = match[0]
    return b"\\" + char if char in (b"'", b"\\") else b"\\%03o" % char[0]


def _key_text(key: int | bytes) -> bytes:
    return b"%d" % key if isinstance(key, int) else quote(key)
