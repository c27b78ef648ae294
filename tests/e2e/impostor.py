"""An impostor in the place of the trust server: it stands on the server's address, with a copy of its files and all its online keys.

What it says differs from what the server would say only where a test has it differ.
"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pbin_server.ceremonies import Lifetimes
from p2pbin_server.repository import Repository
from portage_p2pbin.kernel.index import Bundle, Entry, encode_page, read_bundle
from portage_p2pbin.kernel.model import Channel
from tests.world import CHANNEL, Server


@dataclass
class Impostor:
    """Stands there for the block; `answers` are bodies by path that it gives instead of the server's."""

    server: Server
    answers: dict[str, bytes] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """Its copy of the server's files."""
        return self.server.home / "impostor"

    def __enter__(self) -> Self:
        self.server.stop()
        shutil.copytree(self.server.state, self.state)
        self.entries = self.server.entries()
        self._http = ThreadingHTTPServer(("127.0.0.1", self.server.port), type("Handler", (_Handler,), {"impostor": self}))
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        shutil.rmtree(self.state)
        self.server.start()

    def bundle(self, entry: Entry) -> Bundle:
        """The true votes for a true entry."""
        return read_bundle((self.state / "bundles" / entry.bundle).read_bytes())

    def page(self, entry: Entry) -> bytes:
        """The page of its category, with `entry` instead of the one for the same package version."""
        others = [one for one in self.entries if one.cpv.category == entry.cpv.category and one.cpv != entry.cpv]
        return encode_page(Channel(CHANNEL), tuple(sorted([*others, entry], key=lambda one: one.path)))

    def list(self, entry: Entry, at: datetime | None = None) -> Entry:
        """Sign, at the time `at`, an index in which `entry` is the news."""
        news = replace(entry, serial=entry.serial + 1)
        repository = Repository(self.state / "tuf", self.state / "keys", Lifetimes())
        repository.publish_pages(Channel(CHANNEL), {news.cpv.category: self.page(news)}, at or datetime.now(UTC))
        return news

    def answer(self, path: str) -> bytes | None:
        """What it says at `path`."""
        if path in self.answers:
            return self.answers[path]
        if path.startswith("/peers/"):
            return json.dumps({"origin": None, "peers": []}).encode()
        file = self.state / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    impostor: Impostor

    def do_GET(self) -> None:  # the name that http.server calls
        body = self.impostor.answer(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
