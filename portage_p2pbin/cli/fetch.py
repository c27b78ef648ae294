"""p2pbin-fetch URI DEST: Portage's fetch command for the index and for each package.

Portage may start it a thousand times in one emerge, so it loads next to nothing, not even pathlib: it hands the call to p2pbind's
gatekeeper, or, where no daemon answers, to one of its own.  It makes the destination's temporary file itself, with the rights of
whoever called, and gives it its name only when the gatekeeper says that everything is as it should be; whatever ends it
before, DEST is as it was.
"""

# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH120
from __future__ import annotations

import os
import socket
import stat
import sys
from json import dumps, loads

USAGE = """\
usage: p2pbin-fetch URI DEST

Fetch a package, or the index of packages, that independent builders vouch for.
Portage calls it as the FETCHCOMMAND of a section in binrepos.conf:

    [p2pbin]
    sync-uri = p2pbin://packages.example.org/amd64-23.0
    fetchcommand = p2pbin-fetch "${URI}" "${DISTDIR}/${FILE}"
    resumecommand = p2pbin-fetch "${URI}" "${DISTDIR}/${FILE}"
    verify-signature = false

example:
    p2pbin-fetch p2pbin://packages.example.org/amd64-23.0/Packages /tmp/Packages

DEST appears only when everything was checked.  An index call always succeeds; if something is wrong, the index is
empty and the reason is on stderr.  Exit codes: 0 done, 1 a bug of ours, 2 mend your settings, 3 not available now,
4 refused: distrust what was sent.
"""

_ENVIRONMENT = ("FEATURES", "P2PBIN_TRUST", "PKGDIR", "PORTAGE_BINHOST", "PORTAGE_CONFIGROOT")
_MOST_PACKET = 128 * 1024
_INTERRUPTED = 130
_SETTINGS, _UNAVAILABLE = 2, 3
_COLOURS = {">>>": "\x1b[32;01m", " * ": "\x1b[32;01m"}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if len(arguments) != 2 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return _SETTINGS
    uri, destination = arguments
    temporary = _temporary(destination)
    try:
        return _fetch(uri, destination, temporary)
    except KeyboardInterrupt:
        _unlink(temporary)
        return _INTERRUPTED


def _fetch(uri: str, destination: str, temporary: str) -> int:
    """Have the call answered into `temporary`, and give that its name."""
    try:
        file = _create(temporary)
        code = _ask(uri, file)
        if code and uri.endswith(("/Packages", "/Packages.gz")):
            code = _answer_nothing(uri, file)
        os.close(file)
        if code:
            _unlink(temporary)
        else:
            _place(temporary, destination)
    except OSError as error:
        sys.stderr.write(f" * {error.filename or destination}: {error.strerror or error}\n")
        return _SETTINGS
    return code


def _temporary(destination: str) -> str:
    """A name beside the destination: always the same one, so that nothing piles up.

    In a folder that everybody may write to, such as /tmp, where Portage wants the index, it is one that nobody can guess: another
    user could have put a folder there.
    """
    folder, name = os.path.split(destination)
    try:
        secret = f".{os.urandom(8).hex()}" if os.stat(folder or ".").st_mode & stat.S_IWOTH else ""
    except OSError:
        secret = ""
    return os.path.join(folder, f".{name}{secret}.p2pbin")


def _create(temporary: str) -> int:
    """A new file beside the destination, in place of what an earlier call may have left there."""
    _unlink(temporary)
    return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _place(temporary: str, destination: str) -> None:
    """P9.9.  What is in the file was brought to disk by who wrote it."""
    os.replace(temporary, destination)
    folder = os.open(os.path.dirname(destination) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ask(uri: str, file: int) -> int:
    """Hand the call to the gatekeeper and show what it says; return its exit code."""
    eprefix = os.environ.get("PORTAGE_OVERRIDE_EPREFIX") or os.environ.get("EPREFIX") or "/"
    with _connect(eprefix) as connection:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        message = dumps({"do": "fetch", "environment": environment, "uri": uri}).encode("ascii")
        socket.send_fds(connection, [message], [file])
        while data := connection.recv(_MOST_PACKET):
            answer = loads(data)
            if "exit" in answer:
                return int(answer["exit"])
            _show(answer["say"])
    _show(" * p2pbind was ended before it gave an answer: run the command again")
    return _UNAVAILABLE


def _connect(eprefix: str) -> socket.socket:
    """A connection to p2pbind or, without it, to processes that are there for this call."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if connection.connect_ex(os.path.join(eprefix, "run/p2pbin/p2pbind.sock")) == 0:
        return connection
    connection.close()
    from portage_p2pbin.daemon import call_without_daemon  # takes a hundred times as long to load as all the rest

    return call_without_daemon(eprefix)


def _show(line: str) -> None:
    """A line on stderr, in emerge's look."""
    colour = _COLOURS.get(line[:3])
    if colour and sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("NOCOLOR", "").lower() not in ("yes", "true"):
        line = f"{colour}{line[:3]}\x1b[0m{line[3:]}"
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _answer_nothing(uri: str, file: int) -> int:
    """An empty index, since emerge crashes without one (P7.5), where the gatekeeper could not give any."""
    from portage_p2pbin.listing import write_empty

    write_empty(uri, file, os.environ)
    return 0


if __name__ == "__main__":
    sys.exit(main())
