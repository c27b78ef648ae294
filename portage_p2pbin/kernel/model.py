"""Values that prove themselves: digests, keys, names, roles and levels.

Every string that reaches a file name, a URL, a comparison of digests or a terminal passes through one of these types first.
Whoever writes the input can choose any value that the pattern of its type allows, and nothing else: the patterns are ASCII,
anchored at both ends, and bounded in length.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar, Self

from portage_p2pbin.kernel.errors import DecodeError


class Token(str):
    """A string of a fixed form.  A subclass names its `pattern`; a value that does not match it wholly cannot be made."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]

    def __new__(cls, text: str) -> Self:
        """Raises DecodeError if `text` is not of the form."""
        if cls.pattern.fullmatch(text) is None:
            raise DecodeError("P1", cls.__name__, f"not of its form: {text!r}")
        return super().__new__(cls, text)


class Sha256(Token):
    """SHA-256 of some bytes, 64 lower-case hexadecimal digits."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{64}")


class Sha1(Token):
    """SHA-1 of some bytes, 40 lower-case hexadecimal digits.  Nothing of ours rests on it; Portage wants one."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{40}")


class BuildKey(Sha256):
    """SHA-256 of the canonical JSON of what was asked for (P1.1)."""

    __slots__ = ()


class ContentsDigest(Token):
    """The hash of a package's internals, with its version (P2.1)."""

    __slots__ = ()
    pattern = re.compile(r"p2pbin-contents-1:[0-9a-f]{64}")


class InfoHash(Token):
    """SHA-1 of a v1 torrent's info dictionary, 40 lower-case hexadecimal digits."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{40}")


class PublicKey(Token):
    """A raw Ed25519 public key, 64 lower-case hexadecimal digits: the machine key that signs votes (P3.2)."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{64}")


class Fingerprint(Token):
    """The fingerprint of an OpenPGP primary key, version 4 (40) or 5 (64), upper-case hexadecimal digits."""

    __slots__ = ()
    pattern = re.compile(r"[0-9A-F]{40}(?:[0-9A-F]{24})?")


class Cpv(Token):
    """Category, package and version as PMS 3.1 spells them, such as `app-misc/hello-2.10-r1`.

    Never contains a `..` component, a leading dot or a second slash, so it may become part of a file name.
    """

    __slots__ = ()
    pattern = re.compile(
        r"(?=.{3,150}\Z)"
        r"[A-Za-z0-9_][A-Za-z0-9+_.-]*/"
        r"[A-Za-z0-9_][A-Za-z0-9+_-]*"
        r"-[0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*(?:-r[0-9]+)?"
    )

    @property
    def category(self) -> str:
        """The part before the slash."""
        return self.partition("/")[0]

    @property
    def pf(self) -> str:
        """Package, version and revision: the part behind the slash."""
        return self.partition("/")[2]

    @property
    def cp(self) -> str:
        """Category and package without the version."""
        return _VERSION.sub("", self)


_VERSION = re.compile(r"-[0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*(?:-r[0-9]+)?\Z")


class Channel(Token):
    """The name of a channel (P7.2): arch, profile, CHOST and flag baseline that its operator chose."""

    __slots__ = ()
    pattern = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


class Operator(Token):
    """The person or organisation who answers for a contributor (P4.1); one voice per build key, however many keys."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer listens: a numeric IPv4 or IPv6 address in its usual spelling, without a zone, and a TCP port.

    Never a name, so that using one asks no name server.  Whoever writes it can point at any host, this one included.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        try:
            usual: str | None = str(ipaddress.ip_address(self.host))
        except ValueError:
            usual = None
        if usual != self.host or "%" in self.host:
            raise DecodeError("P1", "Address", f"no numeric address: {self.host!r}")
        if not 0 < self.port < 65536:
            raise DecodeError("P1", "Address", f"no port: {self.port}")


class Role(Enum):
    """How far a contributor is trusted, best first (P4.1)."""

    BUILD_SERVER = "build-server"
    TRUSTED = "trusted"
    SEMI_TRUSTED = "semi-trusted"
    UNTRUSTED = "untrusted"
    SUSPENDED = "suspended"


class Level(IntEnum):
    """How well a package is vouched for (P5); 1 is best.  "No level" is written None."""

    BUILD_SERVER = 1
    TRUSTED_PAIR = 2
    TRUSTED_ONE = 3
    SEMI_TRUSTED_SOME = 4
    SEMI_TRUSTED_ONE = 5
    UNTRUSTED_SOME = 6

    def satisfies(self, threshold: Level) -> bool:
        """Is a package of this level good enough for somebody who set `threshold`?"""
        return self <= threshold
