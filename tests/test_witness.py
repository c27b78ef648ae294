"""A log and its witnesses, with nothing between them but the requests."""

import base64
import hashlib

import pytest

from p2pbin_server.log import PublishedLog, append
from p2pbin_server.witness import MOST_REQUEST, Address, Cosigning, Witness
from portage_p2pbin.kernel import merkle
from portage_p2pbin.kernel.checkpoint import Head, KeyKind, VerifierKey, Witnesses, cosign, open_checkpoint, sign_checkpoint
from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.kernel.leaf import Kind
from portage_p2pbin.kernel.model import Sha256
from tests.leaf_rows import LeafRows
from tests.makers import NOW, new_key

ALL = 10**9
ORIGIN = "server.example/log/1"
LOG = VerifierKey.of(ORIGIN, KeyKind.LOG, new_key(1))
KEY = VerifierKey.of("witness.example", KeyKind.WITNESS, new_key(9))
ONE = Witnesses((KEY,), 1)


def witness(folder):
    return Witness(folder / "witness", KEY.name, new_key(9), [LOG])


class Site:
    """A log that asks one witness; `answer` may be replaced."""

    def __init__(self, folder, log="log"):
        self.rows = LeafRows()
        self.published = PublishedLog(folder / log, 1, ORIGIN, new_key(1), ONE)
        self.answers = []
        self.requests = []
        self.answer = lambda body: witness(folder).add_checkpoint(body, 1_700_000_000)

    def post(self, url, body, most):
        assert url == "https://witness.example/add-checkpoint"
        answer = self.answer(body)
        self.requests.append(body)
        self.answers.append(answer.status)
        return answer.status, answer.body[: most + 1]

    def log(self, count, text="vote"):
        for number in range(count):
            body = Sha256(hashlib.sha256(f"{text} {len(self.rows.rows)} {number}".encode()).hexdigest())
            append(self.rows, 1, Kind.VOTE, body, NOW)
        cosigning = Cosigning(LOG, [Address(KEY, "https://witness.example")], self.post)
        return self.published.publish(self.rows, ALL, cosigning)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_log_that_grows_is_cosigned(site):
    for count in (1, 3, 300):
        site.log(count)
        open_checkpoint(site.published.file("checkpoint").read_bytes(), LOG, ONE)
    # After a restart the log does not know what the witness has seen, and is told.
    assert site.answers == [200, 409, 200, 409, 200]


def test_a_log_that_remembers_is_not_told(tmp_path, site):
    cosigning = Cosigning(LOG, [Address(KEY, "https://witness.example")], site.post)
    for number in (1, 2):
        append(site.rows, 1, Kind.VOTE, Sha256(f"{number:064x}"), NOW)
        site.published.publish(site.rows, ALL, cosigning)
    assert site.answers == [200, 200]


@pytest.mark.parametrize(("ours", "theirs"), [(5, 5), (5, 9), (256, 300)])
def test_no_second_history_is_cosigned(tmp_path, site, ours, theirs):
    site.log(ours)
    other = Site(tmp_path, "other")
    with pytest.raises(RefusedError, match=r"P8\.5.*0 of the 1 witnesses"):
        other.log(theirs, "other")
    assert other.answers == [409, 422]


def test_no_smaller_history_is_asked_for(tmp_path, site):
    site.log(9)
    other = Site(tmp_path, "other")
    with pytest.raises(RefusedError, match=r"P8\.5"):
        other.log(5, "other")
    assert other.answers == [409]


@pytest.mark.parametrize(
    "answer",
    [
        lambda note: (200, b""),
        lambda note: (200, cosign(note, KEY.name, new_key(8), 1)),
        lambda note: (200, cosign(sign_checkpoint(ORIGIN, Head(9, bytes(32)), new_key(1)), KEY.name, new_key(9), 1)),
        lambda note: (200, cosign(note, KEY.name, new_key(9), 1) + bytes(5000)),
        lambda note: (500, cosign(note, KEY.name, new_key(9), 1)),
        lambda note: (409, b"one\n"),
        lambda note: (409, b"99\n"),
    ],
    ids=["nothing", "another key", "another checkpoint", "too much", "an error", "no number", "a size beyond ours"],
)
def test_a_wrong_answer_does_not_count(site, answer):
    class Fixed:
        def __init__(self, request):
            self.status, self.body = answer(request.partition(b"\n\n")[2])

    site.answer = Fixed
    with pytest.raises(RefusedError, match=r"P8\.5.*0 of the 1 witnesses"):
        site.log(3)
    assert site.published.head().size == 0


def test_a_silent_witness_does_not_count(site):
    def silent(body):
        raise UnavailableError("witness.example", "nobody answers")

    site.answer = silent
    with pytest.raises(RefusedError, match=r"P8\.5"):
        site.log(3)


# What the witness answers to anybody


def request(head=Head(1, bytes(32)), old=0, proof=(), key=1, origin=ORIGIN):  # noqa: B008
    lines = b"".join(base64.b64encode(hash_) + b"\n" for hash_ in proof)
    return b"old %d\n" % old + lines + b"\n" + sign_checkpoint(origin, head, new_key(key))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(), 200),
        (b"", 400),
        (request().replace(b"old 0", b"old 00"), 400),
        (request().replace(b"old 0", b"old -1"), 400),
        (request(old=2), 400),
        (request(proof=[bytes(32)] * 64), 400),
        (request() + b"\n" * MOST_REQUEST, 400),
        (request(origin="other.example"), 404),
        (request(key=2), 403),
        (request() + b"x", 403),
        (request(proof=[bytes(33)]), 422),
        (request(old=1), 409),
        (request(proof=[bytes(32)]), 422),
        (request(Head(0, bytes(32))), 422),
        (request(Head(0, merkle.EMPTY)), 200),
    ],
)
def test_the_statuses_of_the_protocol(tmp_path, data, status):
    answer = witness(tmp_path).add_checkpoint(data, 1)
    assert answer.status == status
    assert bool(answer.body) is (status in (200, 409))


def test_what_was_signed_is_on_disk_before_it_is_answered(tmp_path, monkeypatch):
    from portage_p2pbin import durable

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(OSError, match="No space"):
        witness(tmp_path).add_checkpoint(request(), 1)
