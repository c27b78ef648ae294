"""A Gentoo's settings for our commands, without a Gentoo round them, and the commands themselves as a user calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.shop import CHANNEL, Shop

PATIENCE = 60.0

_PASSED_ON = ("PATH", "PYTHONPATH")


@dataclass
class Machine:
    """The folder below which everything lies, and the server that it uses."""

    root: Path
    shop: Shop

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    @property
    def uri(self) -> str:
        return f"p2pbin://{self.shop.host}/{CHANNEL}"

    def write(self, path: str, text: str | bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())

    def popen(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start one of our commands."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name(command)), *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"EPREFIX": str(self.root)} | environment,
        )  # fmt: skip

    def fetch(self, path: str, name: str = "answer", **environment: str) -> tuple[int, str]:
        """p2pbin-fetch; its exit code and stderr."""
        with self.popen("p2pbin-fetch", f"{self.uri}/{path}", str(self.dest / name), **environment) as process:
            _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[str]]:
        """p2pbind, for the block."""
        with self.popen("p2pbind") as process:
            deadline = time.monotonic() + PATIENCE
            while not (self.root / "run/p2pbin/p2pbind.sock").exists():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            try:
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)


@contextmanager
def machine(shop: Shop, trust: str = 'P2PBIN_TRUST="3"\n') -> Iterator[Machine]:
    """A machine of a user who trusts level 3; one package for its prefix is on the shelf."""
    with tempfile.TemporaryDirectory() as path:
        one = Machine(Path(path), shop)
        one.root.chmod(0o755)
        one.dest.mkdir()
        one.write("etc/portage/make.conf", trust)
        one.write("etc/portage/binrepos.conf", f"[p2pbin]\nsync-uri = {one.uri}\n")
        one.write("etc/p2pbin/client.toml", CLIENT)
        one.write("etc/p2pbin/root.json", shop.site.root_json)
        shop.shelves.clear()
        shop.answers.clear()
        shop.eprefix = path
        shop.shelve()
        yield one


CLIENT = '[server]\nscheme = "http"\n[swarm]\nlisten = "127.0.0.2:0"\nuser = "nobody"\nlan_discovery = false\n[limits]\nstall = 5\n'
