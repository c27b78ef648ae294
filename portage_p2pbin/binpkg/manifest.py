"""The contents manifest: what a package holds, as one text with one form (P2.1).

The text is an mtree(5) specification that ``bsdtar`` and ``mtree`` read: a ``#mtree`` line, then one line for each entry in
byte order of the raw path, its keywords in the order ``type mode uid uname gid gname xattr.* size sha256digest link``;
docs/contents-digest.rst specifies it.

:class:`Manifest` also holds the rules about trees, since it alone knows all names: whoever writes the package chooses them, and
a name that two readers resolve differently would install something else than what is hashed here.
"""

from __future__ import annotations

import re
import struct
from binascii import hexlify
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple, cast

from portage_p2pbin.binpkg.tar import FOLDER, HARD_LINK, MOST_NAME, SYMLINK, Attributes, Member
from portage_p2pbin.kernel.errors import RefusedError

HEADING = b"#mtree\n"

MOST_ENTRIES = 1_000_000
"""Five times the biggest package of ::gentoo (TeX Live); at some 350 bytes an entry it bounds the memory."""

MOST_COMPONENT = 255
"""Bytes between two slashes: NAME_MAX of every Linux file system."""

_RECORD = struct.Struct(">IQ32s")
"""What is kept of a file until the text is written: number of its attributes, size, SHA-256."""

_UNSAFE = re.compile(rb"[^!\"$-)+-<>@-Z\]-~]")
r"""What a path may not hold as it is: control characters, space, ``# * = ? [ \`` and everything beyond ASCII."""

_SAFE = bytes(byte for byte in range(256) if not _UNSAFE.match(bytes([byte])))
_NO_NAMES = frozenset((b"", b".", b".."))


Xattrs = tuple[tuple[bytes, bytes], ...]


class _Finished(NamedTuple):
    """An entry whose keywords are known already: everything but a file, and every name of a file but its first."""

    text: bytes


class Manifest:
    """Collects the entries of one package; :meth:`lines` gives the text.

    Raises :class:`RefusedError` ``P2.2`` for a name that is not normal, comes twice, or lies below anything but a folder that
    came before it, and for a hard link to anything but a file that came before it with equal mode and owner.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes | _Finished] = {}
        self._folders = {b"image"}
        self._numbers: dict[tuple[Attributes, Xattrs], int] = {}
        self._texts: list[bytes] = []
        self._groups: dict[bytes, list[bytes]] = {}

    def add_file(self, name: bytes, attributes: Attributes, size: int, digest: bytes, xattrs: Xattrs = ()) -> None:
        """Add a file of the image with the SHA-256 `digest` of its normalised content."""
        self._claim(name)
        self._entries[name] = _RECORD.pack(self._number(name, attributes, xattrs), size, digest)

    def add_other(self, member: Member) -> None:
        """Add a folder, symbolic link or hard link of the image."""
        if member.attributes.kind == HARD_LINK:
            self._add_hard_link(member)
            return
        self._claim(member.name, member.attributes.kind == FOLDER)
        text = self._texts[self._number(member.name, member.attributes, member.xattrs)]
        if member.attributes.kind == FOLDER:
            self._folders.add(member.name)
        else:
            text = b"%b link=%b" % (text, escape(_utf8(member.link)))
        self._entries[member.name] = _Finished(text)

    def add_metadata(self, key: str, value: bytes) -> None:
        """Add a metadata key with the value that is hashed.  The caller has checked the key."""
        text = f"type=file size={len(value)} sha256digest={sha256(value).hexdigest()}"
        self._entries[b"metadata/" + key.encode("ascii")] = _Finished(text.encode("ascii"))

    def lines(self) -> Iterator[bytes]:
        """Give the manifest line by line.  Entries are forgotten as they are given: call it once."""
        self._settle_hard_links()
        yield HEADING
        forget, texts = self._entries.pop, self._texts
        for path in sorted(self._entries):
            entry = forget(path)
            shown = escape(path) if path.translate(None, _SAFE) else path
            if isinstance(entry, bytes):
                number, size, digest = _RECORD.unpack(entry)
                yield b"./%b %b size=%d sha256digest=%b\n" % (shown, texts[number], size, hexlify(digest))
            else:
                yield b"./%b %b\n" % (shown, entry.text)

    def _claim(self, name: bytes, is_folder: bool = False) -> None:
        """P2.2: a normal name below ``image/``, once, in a folder that came before it.  ``image/`` itself need not be there."""
        parent, _, base = name.rpartition(b"/")
        if parent not in self._folders and not (is_folder and name == b"image"):
            raise _refused(name, "it is not below a folder that came before it")
        if name in self._entries:
            raise _refused(name, "it is there twice")
        if base in _NO_NAMES or len(base) > MOST_COMPONENT or len(name) > MOST_NAME:
            raise _refused(name, "its name is not a normal one")
        if not base.isascii():
            _utf8(name)
        if len(self._entries) >= MOST_ENTRIES:
            raise _refused(name, f"the package has more than {MOST_ENTRIES} entries")

    def _number(self, name: bytes, attributes: Attributes, xattrs: Xattrs) -> int:
        """Return the number of the text with `attributes` and `xattrs`, which the member `name` has."""
        number = self._numbers.get((attributes, xattrs))
        if number is None:
            number = self._numbers[attributes, xattrs] = len(self._texts)
            self._texts.append(_keywords(name, attributes, xattrs))
        return number

    def _add_hard_link(self, member: Member) -> None:
        own = self._number(member.name, member.attributes, member.xattrs)
        target = self._entries.get(member.link)
        if not isinstance(target, bytes):
            raise _refused(member.name, "it is a hard link to something that is not a file before it")
        if self._texts[_RECORD.unpack(target)[0]].partition(b" xattr.")[0] != self._texts[own]:
            raise _refused(member.name, "it is a hard link with another mode or owner than its file")
        self._claim(member.name)
        self._groups.setdefault(member.link, []).append(member.name)
        self._entries[member.name] = _Finished(b"")

    def _settle_hard_links(self) -> None:
        """P2.1: in each group the first name in byte order is the file and the others link to it, whatever the archive's
        order.
        """
        for given, others in self._groups.items():
            record = cast(bytes, self._entries[given])
            first, *rest = sorted([given, *others])
            text = b"%b link=./%b" % (self._texts[_RECORD.unpack(record)[0]], escape(first))
            self._entries.update(dict.fromkeys(rest, _Finished(text)))
            self._entries[first] = record


def escape(path: bytes) -> bytes:
    r"""Return `path` with everything that mtree(5) gives a meaning to, and all that is not visible ASCII, as ``\ooo``."""
    return _UNSAFE.sub(lambda match: b"\\%03o" % match[0][0], path)


def _keywords(name: bytes, attributes: Attributes, xattrs: Xattrs) -> bytes:
    """Return the keywords that tell who may do what with the member `name`.  A hard link is a file that has two names."""
    kind = {FOLDER: "dir", SYMLINK: "link"}.get(attributes.kind, "file")
    uid, uname, gid, gname = attributes.owner
    if (uid == 0) != (uname == "root") or (gid == 0) != (gname == "root"):
        raise _refused(name, "the number and the name of its owner or group disagree about root")
    user = f"uid={uid} uname={uname}" if uname else f"uid={uid}"
    group = f"gid={gid} gname={gname}" if gname else f"gid={gid}"
    rights = f"type={kind} mode={attributes.mode:04o} {user} {group}".encode("ascii")
    return rights + b"".join(b" xattr.%b=%b" % (escape(key), hexlify(value)) for key, value in xattrs)


def _utf8(text: bytes) -> bytes:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(text, "a name that is not UTF-8") from error
    return text


def _refused(name: bytes, reason: str) -> RefusedError:
    return RefusedError("P2.2", name.decode("utf-8", "backslashreplace"), reason)
