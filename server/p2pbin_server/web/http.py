"""WSGI to small values and back: a request with a bounded body, an answer, a file with ranges, one table of errors.

Whoever sends a request chooses path, headers and body.  The path is matched against a fixed table before anything is done with
it, a body is never read beyond what its route allows, and an error shows a sentence of ours, never a stack trace.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from p2pbin_server.throttle import TooManyError
from portage_p2pbin.kernel.errors import DecodeError, P2pbinError, RefusedError, UnavailableError
from portage_p2pbin.kernel.wire import canonical

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PIECE = 256 * 1024
"""Bytes read from a file at once."""

FOREVER = "public, max-age=31536000, immutable"
"""Cache-Control of files named by their digest."""

_STATUS = {
    200: "200 OK", 201: "201 Created", 204: "204 No Content", 206: "206 Partial Content", 400: "400 Bad Request", 403: "403 Forbidden",
    404: "404 Not Found", 405: "405 Method Not Allowed", 413: "413 Content Too Large", 416: "416 Range Not Satisfiable",
    429: "429 Too Many Requests", 503: "503 Service Unavailable",
}  # fmt: skip

_NO_SUCH_FILE = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)

_LENGTH = re.compile(r"[0-9]{1,15}")
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")


class MissingError(UnavailableError):
    """There is no such thing here, or none that may be shown."""


class MethodError(RefusedError):
    """The path is there, but not for this method."""


class TooLargeError(RefusedError):
    """The body is larger than its route allows."""


class RangeError(RefusedError):
    """The range lies outside the file."""


_ERRORS: Sequence[tuple[type[P2pbinError], int]] = (
    (MissingError, 404),
    (TooManyError, 429),
    (UnavailableError, 503),
    (MethodError, 405),
    (TooLargeError, 413),
    (RangeError, 416),
    (DecodeError, 400),
    (RefusedError, 403),
)
"""The one table from errors to statuses; the first class that fits decides."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `names` are the parts of the path that the route's pattern names, `address` is who is connected."""

    names: Mapping[str, str]
    body: bytes
    address: str
    query: str = ""
    range: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; of `file`, where there is one, `size` bytes from its present position."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    file: BinaryIO | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """What answers `method` on paths of `pattern`, with a body of at most `most` bytes."""

    method: str
    pattern: re.Pattern[str]
    answer: Callable[[Request], Response]
    most: int = 0


def json_response(value: Mapping[str, object], status: int = 200, cache: str = "no-store") -> Response:
    """A JSON object."""
    return Response(status, canonical(value) + b"\n", {"Content-Type": "application/json", "Cache-Control": cache})


def file_response(path: Path, content_type: str, request: Request, cache: str) -> Response:
    """The file at `path`, or the part of it that the request asks for.  Raises MissingError and RangeError.

    `path` must be safe: this function opens whatever it names.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        if error.errno not in _NO_SUCH_FILE:
            raise
        raise MissingError(path.name, "there is no such file here") from error
    whole = file.seek(0, 2)
    headers = {"Content-Type": content_type, "Cache-Control": cache, "Accept-Ranges": "bytes"}
    start, end = _asked(request.range, whole, path.name, file)
    file.seek(start)
    if (start, end) == (0, whole):
        return Response(200, headers=headers, file=file, size=whole)
    return Response(206, headers=headers | {"Content-Range": f"bytes {start}-{end - 1}/{whole}"}, file=file, size=end - start)


def _asked(header: str, whole: int, name: str, file: BinaryIO) -> tuple[int, int]:
    """First byte and first byte after what is asked for; a header that is not one plain range asks for all (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(header)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        return 0, whole
    start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else whole, whole)
    if start >= whole:
        file.close()
        raise RangeError("", name, f"it has {whole} bytes")
    return start, end


def error_response(error: P2pbinError) -> Response:
    """The answer to a failure: its sentence and the rule that was broken."""
    status = next(status for kind, status in _ERRORS if isinstance(error, kind))
    rule = error.rule if isinstance(error, RefusedError) else ""
    return json_response({"error": str(error), "rule": rule}, status)


class Site:
    """The WSGI application: finds the route, reads the body, sends the answer."""

    def __init__(self, routes: Iterable[Route], admit: Callable[[str], None]) -> None:
        """`admit` is asked about the address of each request, and may raise."""
        self._routes = tuple(routes)
        self._admit = admit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            self._admit(environ["REMOTE_ADDR"])
            response = self._answer(environ)
        except (RefusedError, UnavailableError) as error:
            response = error_response(error)
        return _send(response, environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Response:
        path = environ["PATH_INFO"]
        found = [(route, match) for route in self._routes if (match := route.pattern.fullmatch(path)) is not None]
        if not found:
            raise MissingError("This page", "there is nothing at this path")
        method = "GET" if environ["REQUEST_METHOD"] == "HEAD" else environ["REQUEST_METHOD"]
        for route, match in found:
            if route.method == method:
                body = _body(environ, route.most)
                query, asked = environ.get("QUERY_STRING", ""), environ.get("HTTP_RANGE", "")
                return route.answer(Request(match.groupdict(), body, environ["REMOTE_ADDR"], query, asked))
        raise MethodError("", "This page", f"{found[0][0].method} is the method for it")


def _body(environ: WSGIEnvironment, most: int) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    if _LENGTH.fullmatch(length) is None or int(length) > most:
        raise TooLargeError("", "The body", f"this route takes at most {most} bytes")
    return environ["wsgi.input"].read(int(length)) if int(length) else b""


def _send(response: Response, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    size = response.size if response.file is not None else len(response.body)
    headers = {"X-Content-Type-Options": "nosniff", **response.headers}
    if response.status != 204:
        headers["Content-Length"] = str(size)
    start_response(_STATUS[response.status], list(headers.items()))
    if environ["REQUEST_METHOD"] == "HEAD":
        if response.file is not None:
            response.file.close()
        return []
    if response.file is not None:
        # The server sends at most Content-Length bytes of it, from its own loop, so that a slow reader holds no thread.
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](response.file, PIECE)
        return wrapped
    return [response.body] if response.body else []
