"""The whole way of a vote over a socket, from the envelope to the page that a verifying client reads."""

import datetime
from types import SimpleNamespace

import pytest

from portage_p2pbin.kernel.index import read_bundle, read_page
from portage_p2pbin.kernel.model import Level
from tests.makers import CHANNEL, CONTENTS, NOW, vote
from tests.served import OTHER_TRUSTED, TRUSTED, Rig


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def tuf_time(monkeypatch):
    """Let python-tuf's client live at the time of the makers."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW.astimezone(tz)

    clock = SimpleNamespace(datetime=Then, timezone=datetime.timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", clock)


@pytest.mark.usefixtures("tuf_time")
def test_votes_over_a_socket_become_a_level_that_a_verifying_client_reads(rig):
    first, second = vote(TRUSTED), vote(OTHER_TRUSTED, file=None)
    with rig.serving() as http:
        assert http.post("/votes", first.envelope.data) == (201, {"vote": first.envelope.digest, "level": 3, "reason": "it counts"})
        assert http.post("/votes", second.envelope.data) == (201, {"vote": second.envelope.digest, "level": 2, "reason": "it counts"})
        assert http.post("/votes", first.envelope.data) == (200, {"vote": first.envelope.digest, "level": 2, "reason": "it counts"})
        stored = rig.keep(first)
        rig.publisher.round()
        client = rig.site.client()
        client.refresh()
        [entry] = read_page(client.page(CHANNEL, "app-misc"), CHANNEL, "app-misc")
        assert (entry.file, entry.level, entry.contents) == (first.vote.file, Level.TRUSTED_PAIR, CONTENTS)
        _, bundle, _ = http.raw("GET", f"/bundles/{entry.bundle}")
        assert {one.signer for one in read_bundle(bundle).votes} == {first.signer, second.signer}
        assert http.raw("GET", f"/files/{entry.file}")[0] == 404  # no origin in this process
        assert http.raw("GET", f"/torrents/{stored.info_hash}")[0] == 200
        assert http.raw("POST", f"/downloads/{entry.file}", b"")[0] == 204
        assert http.get(f"/packages/{entry.cpv}")[1]["builds"][0]["requests"] == 1
