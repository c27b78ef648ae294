"""Bytes from outside to plain values, strictly; and plain values to one canonical spelling.

One funnel for everything that arrives as JSON: votes, certificates, rosters, rulings, index pages, requests.  An attacker
chooses every byte.  Two readers must never understand the same bytes differently, so whatever JSON leaves open is refused:
duplicate keys, floating point, NaN, numbers beyond 53 bits, unknown keys, wrong types, and anything longer than its reader
expects.  :class:`~portage_p2pbin.kernel.errors.DecodeError` is the only exception that leaves this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import Address

MOST_NUMBER = 2**53 - 1
"""The largest whole number that every JSON reader understands alike (RFC 8259, section 6)."""

MOST_TEXT = 65536
"""Characters in one string, unless its reader says less.  The longest RDEPEND in ::gentoo has about 20,000."""

Json = dict[str, "Json"] | list["Json"] | str | int | bool | None
T = TypeVar("T")


def canonical(value: Mapping[str, object]) -> bytes:
    """The one spelling of `value`: sorted keys, no white space, UTF-8, no floating point.

    This is RFC 8785 for the values that we allow: strings, whole numbers up to 53 bits, booleans, null, lists and objects
    whose keys are ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def decode(data: bytes, what: str, most: int) -> Fields:
    """Read `data`, at most `most` bytes of JSON whose outermost value is an object.  `what` names it in errors."""

    def refuse(reason: str) -> NoReturn:
        raise DecodeError("P3.1", what, reason)

    def pairs(items: list[tuple[str, Json]]) -> Json:
        found = dict(items)
        if len(found) != len(items):
            refuse("a key stands twice in one object")
        return found

    def whole(digits: str) -> int:
        if len(digits) > 17 or abs(int(digits)) > MOST_NUMBER:
            refuse("a number beyond 53 bits")
        return int(digits)

    if len(data) > most:
        refuse(f"{len(data)} bytes, more than the {most} allowed")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=whole,
            parse_float=lambda digits: refuse(f"{digits[:20]} is not a whole number"),
            parse_constant=lambda name: refuse(f"{name} is not a number"),
        )
    except (ValueError, RecursionError) as error:
        raise DecodeError("P3.1", what, f"not JSON: {error}") from error
    return Fields(value, what)


class Fields:
    """One JSON object being read: each field is taken once, by name and type, and what is left over is refused.

    Use it as ``with fields.reading():`` so that forgetting to refuse leftovers is impossible.
    """

    def __init__(self, value: Json, what: str) -> None:
        self.what = what
        if not isinstance(value, dict):
            self.refuse("is not an object")
        self._left = dict(value)

    def error(self, reason: str) -> DecodeError:
        """The error that says why this object cannot be read."""
        return DecodeError("P3.1", self.what, reason)

    def refuse(self, reason: str) -> NoReturn:
        """Raise that error."""
        raise self.error(reason)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the fields inside; afterwards none may be left."""
        yield
        if self._left:
            self.refuse(f"unknown field {min(self._left)!r}")

    def has(self, name: str) -> bool:
        """Is there a field of this name that has not been taken?  For optional fields only."""
        return name in self._left

    def _take(self, name: str, kind: type[T]) -> T:
        if name not in self._left:
            self.refuse(f"field {name!r} is missing")
        value = self._left.pop(name)
        if type(value) is not kind:
            self.refuse(f"field {name!r} is not of type {kind.__name__}")
        return value

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """A string of at most `most` characters, without surrogates or NUL."""
        return self._checked(self._take(name, str), name, most)

    def _checked(self, value: object, name: str, most: int) -> str:
        if not isinstance(value, str):
            self.refuse(f"field {name!r} holds something that is not text")
        if len(value) > most:
            self.refuse(f"field {name!r} is longer than {most} characters")
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            self.refuse(f"field {name!r} holds a NUL or half a character")
        return value

    def exactly(self, name: str, expected: str) -> None:
        """Take a string that can have one value only, such as a format's name and version."""
        found = self.text(name)
        if found != expected:
            self.refuse(f"field {name!r} is {found!r}; this program reads {expected!r}")

    def of(self, name: str, make: Callable[[str], T], most: int = MOST_TEXT) -> T:
        """A string that `make`, usually a type of :mod:`portage_p2pbin.kernel.model`, accepts."""
        return self._made(self.text(name, most), name, make)

    def _made(self, value: str, name: str, make: Callable[[str], T]) -> T:
        try:
            return make(value)
        except (DecodeError, ValueError) as error:
            raise DecodeError("P3.1", self.what, f"field {name!r}: {error}") from error

    def number(self, name: str, least: int = 0, most: int = MOST_NUMBER) -> int:
        """A whole number between `least` and `most`, both allowed."""
        value = self._take(name, int)
        if not least <= value <= most:
            self.refuse(f"field {name!r} is not between {least} and {most}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._take(name, bool)

    def null(self, name: str) -> bool:
        """Is the field null?  If so it is taken, else it waits to be taken as what it is."""
        if name not in self._left:
            self.refuse(f"field {name!r} is missing")
        if self._left[name] is not None:
            return False
        del self._left[name]
        return True

    def address(self, name: str) -> Address:
        """A list of a numeric address and a port."""
        return self._address(self._take(name, list), name)

    def addresses(self, name: str, most: int) -> tuple[Address, ...]:
        """A list of at most `most` addresses."""
        return tuple(self._address(value, name) for value in self._many(name, most))

    def _address(self, value: Json, name: str) -> Address:
        host, port = value if isinstance(value, list) and len(value) == 2 else (None, None)
        if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
            self.refuse(f"field {name!r} holds something that is not an address and a port")
        try:
            return Address(host, port)
        except DecodeError as error:
            raise DecodeError("P3.1", self.what, f"field {name!r}: {error}") from error

    def texts(self, name: str, make: Callable[[str], T], most: int, longest: int = MOST_TEXT) -> tuple[T, ...]:
        """A list of at most `most` strings of at most `longest` characters, each accepted by `make`."""
        return tuple(self._made(self._checked(value, name, longest), name, make) for value in self._many(name, most))

    def sorted_texts(self, name: str, most: int) -> tuple[str, ...]:
        """A list of at most `most` strings, in order and each once: a set with one spelling."""
        found = self.texts(name, str, most)
        if list(found) != sorted(set(found)):
            self.refuse(f"field {name!r} is not sorted or holds something twice")
        return found

    def mapping(self, name: str, make: Callable[[str], T], most: int) -> dict[str, T]:
        """An object of at most `most` strings by name, each value accepted by `make`; in order of name."""
        value: dict[str, Json] = self._take(name, dict)
        if len(value) > most:
            self.refuse(f"field {name!r} holds more than {most} names")
        names = sorted(self._checked(key, name, 300) for key in value)
        return {key: self._made(self._checked(value[key], name, MOST_TEXT), name, make) for key in names}

    def fields(self, name: str) -> Fields:
        """An object inside this one."""
        value: dict[str, Json] = self._take(name, dict)
        return Fields(value, f"{self.what}.{name}")

    def many(self, name: str, most: int) -> list[Fields]:
        """A list of at most `most` objects."""
        return [Fields(value, f"{self.what}.{name}[{at}]") for at, value in enumerate(self._many(name, most))]

    def _many(self, name: str, most: int) -> list[Json]:
        value: list[Json] = self._take(name, list)
        if len(value) > most:
            self.refuse(f"field {name!r} holds more than {most} entries")
        return value
