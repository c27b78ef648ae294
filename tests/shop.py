"""A little trust server in this process, for tests of the client: a real TUF repository behind a real HTTP server, a real origin, and
one real package with a vote by a trusted developer.  A test breaks what it is about.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.contents import Reading, read_package
from portage_p2pbin.kernel.index import METADATA_KEYS, Bundle, Entry, encode_page, file_name
from portage_p2pbin.kernel.model import ContentsDigest, Cpv, Level, Role, Sha1, Sha256
from portage_p2pbin.kernel.roster import MachineKey, Roster
from portage_p2pbin.kernel.statements import sign_vote
from portage_p2pbin.kernel.torrent import read_torrent
from portage_p2pbin.net.settings import SwarmSettings
from portage_p2pbin.net.swarm import Swarm, make_torrent
from tests.makers import REQUEST, VOTE, contributor, new_key, roster
from tests.site import CHANNEL, Site, now

DEVELOPER = 3
EBUILD = b'EAPI=8\nSLOT="0"\n'
CPV = REQUEST.cpv


def package_bytes(cpv: Cpv = CPV, program: bytes = b"#!/bin/sh\necho hello\n" * 4000, **changes: str) -> bytes:
    """A cleaned gpkg, as a publisher sends it; `changes` are metadata keys."""
    metadata = {
        "CATEGORY": cpv.category, "PF": cpv.pf, "repository": REQUEST.repository, "EAPI": "8", "SLOT": "0", "USE": "amd64 nls",
        "CHOST": REQUEST.chost, "CBUILD": REQUEST.cbuild, "CFLAGS": "-O2 -pipe", "RDEPEND": "dev-libs/ring", "BUILD_TIME": "1700000000",
    } | changes  # fmt: skip
    files = {name: f"{value}\n".encode() for name, value in metadata.items()}
    files["environment.bz2"] = bz2.compress(b'declare -x EAPI="8"\nsrc_install () \n{ \n    default\n}\n')
    files[f"{cpv.pf}.ebuild"] = EBUILD
    image = {"image": None, "image/usr": None, "image/usr/bin": None, "image/usr/bin/hello": program}
    parts = {
        "gpkg-1": b"",
        "metadata.tar.gz": gzip.compress(_tar({f"metadata/{name}": data for name, data in files.items()}), mtime=0),
        "image.tar.gz": gzip.compress(_tar(image), 1, mtime=0),
    }
    folder = f"{cpv.pf}-1"
    manifest = "".join(
        f"DATA {name} {len(data)} BLAKE2B {hashlib.blake2b(data).hexdigest()} SHA512 {hashlib.sha512(data).hexdigest()}\n"
        for name, data in parts.items()
    )
    outer = _tar({f"{folder}/{name}": data for name, data in (parts | {"Manifest": manifest.encode()}).items()})
    cleaned = io.BytesIO()
    clean_package(io.BytesIO(outer), cleaned, prefix=folder)
    return cleaned.getvalue()


def _tar(members: Mapping[str, bytes | None]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(mode="w", fileobj=archive, format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            if name.startswith("image"):
                header.uname = header.gname = "root"
                header.mode = 0o755
            if data is None:
                header.type = tarfile.DIRTYPE
            header.size = len(data or b"")
            tar.addfile(header, io.BytesIO(data or b""))
    return archive.getvalue()


@dataclass
class Shelf:
    """One package that the server lists, with everything that goes with it."""

    data: bytes
    entry: Entry
    bundle: bytes
    torrent: bytes
    file: Path


def stock(base: Path, data: bytes, *, eprefix: str = "", said: Mapping[str, object] | None = None, **changes: object) -> Shelf:
    """What belongs to the package `data`, kept below `base`; `said` changes the vote, `changes` the entry, once they were made to fit."""
    reading = read_package(io.BytesIO(data))
    file = Sha256(hashlib.sha256(data).hexdigest())
    cpv = Cpv(f"{reading.metadata['CATEGORY']}/{reading.metadata['PF']}")
    request = replace(REQUEST, cpv=cpv, eprefix=eprefix, sources={**REQUEST.sources, "ebuild": Sha256(reading.ebuild_sha256)})
    definition = replace(VOTE.definition, request=request)
    times = {"started": now() - timedelta(hours=1), "finished": now()}
    plain = replace(VOTE, channel=CHANNEL, definition=definition, contents=ContentsDigest(reading.digest), file=file, **times)
    vote = sign_vote(replace(plain, **(said or {})), new_key(DEVELOPER))
    bundle = Bundle((vote,), ()).encode()
    path = base / file
    path.write_bytes(data)
    torrent = make_torrent(path, file_name(cpv, file))
    entry = Entry(
        cpv=cpv, repository=request.repository, build_key=request.key, contents=plain.contents, level=Level.TRUSTED_ONE, file=file,
        sha1=Sha1(hashlib.sha1(data, usedforsecurity=False).hexdigest()), size=len(data), info_hash=torrent.info_hash,
        bundle=Sha256(hashlib.sha256(bundle).hexdigest()), serial=1_700_000_000, metadata=_listed(reading),
    )  # fmt: skip
    return Shelf(data, replace(entry, **changes), bundle, torrent.data, path)


def developers() -> Roster:
    """A roster with the one trusted developer who signs the votes."""
    one = contributor(DEVELOPER, Role.TRUSTED, "larry")
    key = MachineKey(one.keys[0].public, "desktop", now() - timedelta(days=9), now() + timedelta(days=9))
    return roster(replace(one, keys=(key,)))


@dataclass
class Shop:
    """The server below `base`.  `peers` is its answer to who has what; `answers` overrides paths; `asked` is what was asked."""

    base: Path
    peers: list[tuple[str, int]] = field(default_factory=list)
    answers: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    with_origin: bool = True
    eprefix: str = ""

    def __enter__(self) -> Self:
        self.site = Site(self.base / "site")
        self.site.put_roster(developers())
        self.origin = Swarm(self.base / "origin", SwarmSettings("127.0.0.1:0", stall=10))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"shop": self}))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.shelves: list[Shelf] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.origin.close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def shelve(self, data: bytes | None = None, *, said: Mapping[str, object] | None = None, **changes: object) -> Shelf:
        """List a package; see :func:`stock`."""
        shelf = stock(self.base, package_bytes() if data is None else data, eprefix=self.eprefix, said=said, **changes)
        self.shelves.append(shelf)
        if self.with_origin:
            self.origin.seed(read_torrent(shelf.torrent), shelf.file)
        self.publish()
        return shelf

    def publish(self) -> None:
        """Sign the index of what is on the shelves."""
        by_category: dict[str, list[Entry]] = {}
        for shelf in self.shelves:
            by_category.setdefault(shelf.entry.cpv.category, []).append(shelf.entry)
        pages = {category: encode_page(CHANNEL, tuple(entries)) for category, entries in by_category.items()}
        self.site.repository.publish_pages(CHANNEL, pages, now())

    def answer(self, path: str) -> bytes | None:
        """What the server has at `path`."""
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "tuf":
            return self.site.fetch(f"https://server.example/tuf/{name}", 1 << 30)
        for shelf in self.shelves:
            found = {
                f"bundles/{shelf.entry.bundle}": shelf.bundle,
                f"torrents/{shelf.entry.info_hash}": shelf.torrent,
                f"files/{shelf.entry.file}": shelf.data,
                f"peers/{shelf.entry.info_hash}": self._peers(),
            }.get(f"{kind}/{name}")
            if found is not None:
                return found
        return None

    def _peers(self) -> bytes:
        origin = ["127.0.0.1", self.origin.port] if self.with_origin else None
        return json.dumps({"origin": origin, "peers": [list(one) for one in self.peers]}).encode()


def _listed(reading: Reading) -> dict[str, str]:
    return {name: " ".join(reading.metadata[name].split()) for name in METADATA_KEYS if name in reading.metadata}


class _Handler(http.server.BaseHTTPRequestHandler):
    shop: Shop

    def do_GET(self) -> None:
        body = self.shop.answer(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
