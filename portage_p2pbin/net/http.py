"""Bounded HTTP: nothing that a server or the way to it does can take more than a set number of bytes and seconds.

Whoever answers chooses status, headers and body.  Bodies are cut off at a size that the caller names, a server that sends next
to nothing is left, redirects are refused (the address is the operator's choice, not the server's), and proxies, passwords and
certificates from the caller's environment are not used.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import HTTPError

from portage_p2pbin.kernel.errors import P2pbinError, RefusedError, UnavailableError, printable
from portage_p2pbin.kernel.wire import decode
from portage_p2pbin.net.settings import HttpSettings as HttpSettings

USER_AGENT = "portage-p2pbin"

_PIECE = 64 * 1024
LEAST_PROGRESS = 4096
"""Bytes that must come in each `stall`, or the server counts as one that sends nothing."""

MOST_REASON = 16 * 1024
"""Bytes of an error's explanation."""


class _Adapter(HTTPAdapter):
    """Connects from the address in the settings, and checks certificates against authorities that are read when it is made: later
    this process may not read them any more.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._options: dict[str, Any] = {"source_address": (settings.source, 0)} if settings.source else {}
        if settings.https:
            self._options["ssl_context"] = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(connections, maxsize, block, **options, **self._options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401
        return super().proxy_manager_for(proxy, **options, **self._options)

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leave it to the context, which demands a certificate; requests would look for the authorities' file again."""


class Http:
    """A client.  Each thread may use it."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._adapter = _Adapter(settings)

    def get(self, url: str, most: int) -> bytes:
        """The body at `url`, at most `most` bytes.

        Raises UnavailableError if nobody answers, the server cannot answer now or has no such file, and RefusedError (P9.2) for
        a body that is too large or a redirect.
        """
        found = self.find(url, most)
        if found is None:
            raise UnavailableError(url, "the server has no such file")
        return found

    def find(self, url: str, most: int) -> bytes | None:
        """As :meth:`get`, but None if the server says that there is no such file."""
        with self._answer("GET", url, None) as answer:
            if answer.status_code in (404, 410):
                return None
            _check_status(answer, url)
            return b"".join(self._body(answer, url, most))

    def post(self, url: str, body: bytes, most: int) -> bytes:
        """The body, at most `most` bytes, of the answer to `body`.  Raises as :meth:`get`, and RefusedError as the server says."""
        with self._answer("POST", url, body) as answer:
            _check_status(answer, url)
            return b"".join(self._body(answer, url, most))

    def save(self, url: str, target: BinaryIO, size: int, on_progress: Callable[[int], None]) -> None:
        """Write the body, which must have `size` bytes, to `target`.  `on_progress` is called with the bytes so far."""
        done = 0
        with self._answer("GET", url, None) as answer:
            _check_status(answer, url)
            for piece in self._body(answer, url, size):
                target.write(piece)
                done += len(piece)
                on_progress(done)
        if done != size:
            raise UnavailableError(url, f"it ended after {done} of {size} bytes")

    def _answer(self, method: str, url: str, body: bytes | None) -> requests.Response:
        """The answer up to its headers."""
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", self._adapter)
        if self._settings.https:
            session.mount("https://", self._adapter)
        if self._settings.proxy:
            session.proxies = {"http": self._settings.proxy, "https": self._settings.proxy}
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return session.request(
                method, url, data=body, headers=headers, stream=True, allow_redirects=False, timeout=self._settings.stall
            )  # fmt: skip
        except (requests.RequestException, HTTPError, UnicodeError) as error:
            raise UnavailableError(url, _root_cause(error)) from error

    def _body(self, answer: requests.Response, url: str, most: int) -> Iterator[bytes]:
        """The body in pieces; refused as soon as it is longer than `most`, or too slow."""
        got, window, since = 0, 0, time.monotonic()
        while True:
            try:
                piece = answer.raw.read1(_PIECE, decode_content=False)
            except (HTTPError, OSError) as error:
                raise UnavailableError(url, _root_cause(error)) from error
            if not piece:
                return
            got, window = got + len(piece), window + len(piece)
            if got > most:
                raise RefusedError("P9.2", url, f"it has more than the {most} bytes allowed")
            yield piece
            if time.monotonic() - since > self._settings.stall:
                if window < LEAST_PROGRESS:
                    raise UnavailableError(url, f"it sent {window} bytes in {self._settings.stall:.0f} seconds")
                window, since = 0, time.monotonic()


def _check_status(answer: requests.Response, url: str) -> None:
    """Sort an answer that is not 2xx by what to do next."""
    status = answer.status_code
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise RefusedError("P9.2", url, f"it redirects ({status}); set the right host in the sync-uri")
    if status in (404, 410):
        raise UnavailableError(url, "the server has no such file")
    if status == 429 or status >= 500:
        raise UnavailableError(url, f"the server cannot answer now ({status})")
    rule, reason = _explanation(answer)
    raise RefusedError(rule or "P3.1", url, reason or f"the server refused it ({status})")


def _explanation(answer: requests.Response) -> tuple[str, str]:
    """Rule and sentence of the server's error, both empty if it is none of ours."""
    try:
        fields = decode(answer.raw.read(MOST_REASON, decode_content=False), "error", MOST_REASON)
        with fields.reading():
            return fields.text("rule", 20), printable(fields.text("error", 2000))
    except (P2pbinError, HTTPError, OSError):
        return "", ""


def _root_cause(error: BaseException) -> str:
    """The innermost sentence of a chain of errors, which is the one that a human understands."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return printable(str(error) or type(error).__name__)
