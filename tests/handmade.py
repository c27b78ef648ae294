"""Packages made by hand, byte by byte, so that a test can make one thing in them wrong.

:func:`tar_header` and :func:`archive` write what Portage's writer writes unless they are told otherwise; `tests/test_container.py`
shows that they do.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

USTAR, GNU = b"ustar\x0000", b"ustar  \0"
BLOCK = 512

ENVIRONMENT = b'declare -x PN="hello"\nsrc_install () \n{ \n    default\n}\n'
EBUILD = b'EAPI=8\nSLOT=0\nDESCRIPTION="Says hello"\n'
METADATA: Mapping[str, bytes] = {
    "BUILD_ID": b"1\n",
    "BUILD_TIME": b"1700000000\n",
    "CATEGORY": b"app-misc\n",
    "PF": b"hello-1\n",
    "SIZE": b"5\n",
    "SLOT": b"0\n",
    "environment.bz2": bz2.compress(ENVIRONMENT),
    "hello-1.ebuild": EBUILD,
}


@dataclass(frozen=True)
class Header:
    """The fields of a tar header as the bytes that are written; `checksum` is computed where it is empty."""

    name: bytes
    kind: bytes = b"0"
    mode: bytes = b"0000644\0"
    uid: bytes = b"0000000\0"
    gid: bytes = b"0000000\0"
    size: bytes = b"00000000000\0"
    mtime: bytes = b"14524330000\0"
    checksum: bytes = b""
    link: bytes = b""
    magic: bytes = USTAR
    uname: bytes = b"root"
    gname: bytes = b"root"
    devices: bytes = bytes(16)
    prefix: bytes = b""
    rest: bytes = bytes(12)

    def block(self) -> bytes:
        before = struct.pack("100s8s8s8s12s12s", self.name, self.mode, self.uid, self.gid, self.size, self.mtime)
        after = struct.pack(
            "1s100s8s32s32s16s155s12s", self.kind, self.link, self.magic, self.uname, self.gname, self.devices, self.prefix, self.rest
        )
        return before + (self.checksum or b"%06o\0 " % (sum(before) + 8 * 32 + sum(after))) + after


def member(name: str | bytes, content: bytes = b"", **fields: bytes) -> bytes:
    """Return a member of an archive: header, content, padding."""
    raw = name if isinstance(name, bytes) else name.encode()
    header = Header(raw, **({"size": b"%011o\0" % len(content)} | fields))  # type: ignore[arg-type]
    return header.block() + content + bytes(-len(content) % BLOCK)


def folder(name: str, **fields: bytes) -> bytes:
    return member(name + "/", kind=b"5", **({"mode": b"0000755\0"} | fields))


def symlink(name: str, target: str, **fields: bytes) -> bytes:
    return member(name, kind=b"2", link=target.encode(), **({"mode": b"0000777\0"} | fields))


def hard_link(name: str, target: str, **fields: bytes) -> bytes:
    return member(name, kind=b"1", link=target.encode(), **fields)


def long_text(kind: bytes, text: bytes) -> bytes:
    """Return the GNU member that comes before one with a long name (`kind` L) or a long link target (K)."""
    content = text + b"\0"
    fields = {"mode": b"0000000\0", "mtime": b"00000000000\0", "magic": GNU, "uname": b"", "gname": b""}
    return member("././@LongLink", content, kind=kind, **fields)


def archive(*members: bytes) -> bytes:
    """Return a whole archive: two blocks of zeros, then zeros to the end of a record of 10,240 bytes."""
    content = b"".join(members) + bytes(2 * BLOCK)
    return content + bytes(-len(content) % 10240)


IMAGE = (folder("image"), folder("image/usr"), member("image/usr/hello", b"hello"))


def nameless(name: str, content: bytes = b"", **fields: bytes) -> bytes:
    """Return a member without owner, as the container and the metadata hold them."""
    return member(name, content, **({"uname": b"", "gname": b""} | fields))


def metadata_archive(metadata: Mapping[str, bytes]) -> bytes:
    return archive(*(nameless(f"metadata/{key}", value) for key, value in metadata.items()))


def manifest_line(name: str, content: bytes) -> str:
    return f"DATA {name} {len(content)} BLAKE2B {hashlib.blake2b(content).hexdigest()} SHA512 {hashlib.sha512(content).hexdigest()}\n"


@dataclass(frozen=True)
class Gpkg:
    """A gpkg in its pieces; make the wrong one with :meth:`but`."""

    image: bytes = archive(*IMAGE)
    metadata: Mapping[str, bytes] | bytes = field(default_factory=lambda: METADATA)
    folder: str = "hello-1-1"
    image_name: str = "image.tar"
    metadata_name: str = "metadata.tar"
    manifest: str | None = None
    before: bytes = b""
    between: bytes = b""
    after: bytes = b""
    version: bytes = b""

    def but(self, **changes: object) -> Gpkg:
        return replace(self, **changes)  # type: ignore[arg-type]

    def parts(self) -> list[tuple[str, bytes]]:
        metadata = self.metadata if isinstance(self.metadata, bytes) else metadata_archive(self.metadata)
        return [("gpkg-1", self.version), (self.metadata_name, metadata), (self.image_name, self.image)]

    def manifest_text(self) -> str:
        return "".join(manifest_line(name, content) for name, content in self.parts())

    def bytes(self) -> bytes:
        version, metadata, image = (nameless(f"{self.folder}/{name}", content) for name, content in self.parts())
        text = self.manifest_text() if self.manifest is None else self.manifest
        manifest = nameless(f"{self.folder}/Manifest", text.encode())
        return archive(self.before, version, metadata, self.between, image, manifest, self.after)

    def file(self) -> io.BytesIO:
        return io.BytesIO(self.bytes())


PACKAGE = Gpkg()


def with_image(*members: bytes) -> Gpkg:
    """Return the package whose image has `members` after its usual ones."""
    return PACKAGE.but(image=archive(*IMAGE, *members))


def with_metadata(**changes: bytes) -> Gpkg:
    return PACKAGE.but(metadata={**METADATA, **changes})


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def xpak(image: bytes, metadata: Mapping[str, bytes] = METADATA) -> bytes:
    """Return an xpak package as `portage.xpak` writes it."""
    index, data = b"", b""
    for key, value in metadata.items():
        index += struct.pack(">I", len(key)) + key.encode() + struct.pack(">II", len(data), len(value))
        data += value
    segment = b"XPAKPACK" + struct.pack(">II", len(index), len(data)) + index + data + b"XPAKSTOP"
    return image + segment + struct.pack(">I", len(segment)) + b"STOP"
