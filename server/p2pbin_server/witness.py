"""Witnesses of a log: asking them, and being one for somebody else's log (P8.5).

A witness signs a checkpoint only if its tree goes on from the last one that it signed, and so keeps a log from showing two histories to
two people.  A server asks each witness that its roster names; a witness that is silent, wrong or hostile only fails to count.  Whoever
runs a log that we witness can send anything; it gets a cosignature for one history and for no other, whatever is sent at once.

Protocol: https://c2sp.org/tlog-witness, `add-checkpoint`.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portage_p2pbin import durable
from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import MOST_NOTE, Head, VerifierKey, Witnesses, cosign, open_checkpoint
from portage_p2pbin.kernel.envelope import from_base64
from portage_p2pbin.kernel.errors import DecodeError, RefusedError, UnavailableError
from portage_p2pbin.kernel.tiles import Tree

MOST_PROOF = 63
"""Hashes in a request, as the protocol says."""

MOST_REQUEST = MOST_NOTE + 64 * 64
MOST_ANSWER = 4096
"""Bytes of the signature lines that one witness sends."""

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,15})\n")
_REQUEST = re.compile(rb"old (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/=]{44}\n){0,63})\n(.*)", re.DOTALL)

Post = Callable[[str, bytes, int], tuple[int, bytes]]
"""`post(url, body, most)` returns status and at most `most` bytes; raises UnavailableError where nobody answers."""


@dataclass(frozen=True, slots=True)
class Address:
    """A witness and where it takes checkpoints: its submission prefix."""

    key: VerifierKey
    url: str


class Cosigning:
    """Asks witnesses for the log `verifier`: what :meth:`~p2pbin_server.log.PublishedLog.publish` wants for its `cosign`."""

    def __init__(self, verifier: VerifierKey, witnesses: Sequence[Address], post: Post) -> None:
        self._verifier = verifier
        self._witnesses = witnesses
        self._post = post
        self._seen: dict[str, int] = {}

    def __call__(self, note: bytes, tree: Tree) -> bytes:
        """`note` with the lines of the witnesses that gave a right one.  Whether these are enough is for the caller to check."""
        signed = note
        for witness in self._witnesses:
            try:
                signed += self._ask(witness, note, tree)
            except (UnavailableError, RefusedError):
                continue
        return signed

    def _ask(self, witness: Address, note: bytes, tree: Tree) -> bytes:
        old = self._seen.get(witness.key.name, 0)
        status, answer = self._post(f"{witness.url}/add-checkpoint", _request(old, note, tree), MOST_ANSWER)
        if status == 409:
            # It says which checkpoint it has seen last; after a restart we do not know.
            status, answer = self._post(f"{witness.url}/add-checkpoint", _request(_read_size(answer), note, tree), MOST_ANSWER)
        if status != 200 or len(answer) > MOST_ANSWER:
            raise UnavailableError(f"witness {witness.key.name}", f"it answered {status}")
        open_checkpoint(note + answer, self._verifier, Witnesses((witness.key,), 1))
        self._seen[witness.key.name] = tree.size
        return answer


def _request(old: int, note: bytes, tree: Tree) -> bytes:
    if old > tree.size:
        raise RefusedError("P8.6", f"log of {tree.size} leaves", f"a witness has seen one of {old} leaves")
    proof = merkle.consistency_proof(old, tree.size, tree.node) if old else []
    return b"".join([b"old %d\n" % old, *(base64.b64encode(hash_) + b"\n" for hash_ in proof), b"\n", note])


def _read_size(answer: bytes) -> int:
    found = _SIZE.fullmatch(answer)
    if found is None:
        raise DecodeError("P8.5", "answer of a witness", "it does not say what it has seen")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the witness answers over HTTP."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """Cosigns the logs `logs` as `name`; remembers in `directory` what it has signed.  Several processes may answer at once."""

    def __init__(self, directory: Path, name: str, key: Ed25519PrivateKey, logs: Sequence[VerifierKey]) -> None:
        self._directory = directory
        self._name = name
        self._key = key
        self._logs = {log.name: log for log in logs}

    def add_checkpoint(self, request: bytes, time: int) -> Answer:
        """Answer a request at `time` (seconds since 1970).  Raises OSError if it cannot be remembered; then nothing is signed."""
        found = _REQUEST.fullmatch(request[: MOST_REQUEST + 1])
        if found is None or len(request) > MOST_REQUEST:
            return Answer(400)
        note = found[3]
        log = self._logs.get(note.partition(b"\n")[0].decode("utf-8", "replace"))
        if log is None:
            return Answer(404)
        try:
            head = open_checkpoint(note, log, Witnesses()).head
            proof = [from_base64(line.decode("ascii")) for line in found[2].split()]
        except (RefusedError, ValueError):
            return Answer(403)
        with self._changing(log):
            return self._cosign(log, int(found[1]), proof, head, note, time)

    def _cosign(self, log: VerifierKey, old: int, proof: Sequence[bytes], head: Head, note: bytes, time: int) -> Answer:
        last = self._last(log)
        if old > head.size:
            return Answer(400)
        if old != last.size:
            return Answer(409, b"%d\n" % last.size, "text/x.tlog.size")
        try:
            merkle.check_consistency(last.size, last.root, head.size, head.root, proof)
        except RefusedError:
            return Answer(422)
        if head.size == 0 and head.root != merkle.EMPTY:
            return Answer(422)
        durable.write(self._file(log), note)
        return Answer(200, cosign(note, self._name, self._key, time))

    def _last(self, log: VerifierKey) -> Head:
        try:
            return open_checkpoint(self._file(log).read_bytes(), log, Witnesses()).head
        except FileNotFoundError:
            return Head(0, merkle.EMPTY)

    def _file(self, log: VerifierKey) -> Path:
        return self._directory / hashlib.sha256(log.name.encode()).hexdigest()

    @contextmanager
    def _changing(self, log: VerifierKey) -> Iterator[None]:
        """Comparing and remembering are one step, or two requests at once would each get a signature."""
        durable.make_folder(self._directory)
        lock = os.open(self._file(log).with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
