import sqlite3
import threading
from dataclasses import replace

import pytest

from p2pbin_server.store import Store
from p2pbin_server.store.rows import Holder, Offer, OfferState, Registered
from portage_p2pbin.kernel.errors import DecodeError, UnavailableError
from portage_p2pbin.kernel.model import Fingerprint, InfoHash, PublicKey, Sha256
from tests.makers import CHANNEL, REQUEST, certificate, vote
from tests.served import BUILD_SERVER, TRUSTED, UNTRUSTED

KEY = PublicKey("a" * 64)
ONE = Registered(KEY, Fingerprint("A" * 40), "desktop", 1, 2, "openpgp", "text", 3)
OFFER = Offer(InfoHash("b" * 40), Sha256("c" * 64), b"\0torrent", 100, KEY, "127.0.0.1", 6881, OfferState.WAITING, "", 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "p2pbin.sqlite"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def test_rows_come_back_as_they_went_in(store):
    holder = Holder(KEY, "127.0.0.2", 6881, 1000, 7)
    with store.writing() as transaction:
        transaction.put_contributor(ONE)
        transaction.put_offer(OFFER)
        transaction.put_holder(holder)
    with store.reading() as transaction:
        assert (transaction.contributor(KEY), transaction.offer(OFFER.info_hash), transaction.holder(KEY)) == (ONE, OFFER, holder)
        assert type(transaction.contributor(KEY).identity) is Fingerprint


def test_votes_and_certificates_come_back_verified(store):
    with store.writing() as transaction:
        transaction.add_vote(vote(TRUSTED), 1)
        transaction.add_certificate(certificate(UNTRUSTED, BUILD_SERVER), 1)
    with store.reading() as transaction:
        assert transaction.vote(vote(TRUSTED).envelope.digest) == vote(TRUSTED)
        assert transaction.votes_on((CHANNEL, REQUEST.key)) == [vote(TRUSTED)]
        assert transaction.certificates_for([vote(UNTRUSTED).signer]) == [certificate(UNTRUSTED, BUILD_SERVER)]
        assert transaction.certificates_for([]) == []


def test_a_changed_vote_is_noticed(store, path):
    with store.writing() as transaction:
        transaction.add_vote(vote(TRUSTED), 1)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE votes SET envelope = CAST(replace(envelope, 'payload', 'PAYLOAD') AS BLOB)")
    database.close()
    with store.reading() as transaction, pytest.raises(DecodeError):
        transaction.votes_on((CHANNEL, REQUEST.key))


def test_a_damaged_row_is_noticed(store, path):
    with store.writing() as transaction:
        transaction.put_contributor(ONE)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE contributors SET identity = '../../etc'")
    database.close()
    with store.reading() as transaction, pytest.raises(DecodeError):
        transaction.contributor(KEY)


def test_a_block_that_raises_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.writing() as transaction:
        transaction.put_contributor(ONE)
        raise RuntimeError("in the middle")
    with store.reading() as transaction:
        assert transaction.contributor(KEY) is None


def test_what_was_written_is_there_for_another_process_at_once_and_after_a_crash(store, path):
    with store.writing() as transaction:
        transaction.put_contributor(ONE)
    other = Store(path)  # the first was never closed
    with other.reading() as transaction:
        assert transaction.contributor(KEY) == ONE
    other.close()


def test_every_commit_is_on_disk(store):
    with store.writing() as transaction:
        pragmas = [
            transaction._connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


def test_readers_see_one_state_while_somebody_writes(store):
    with store.reading() as transaction:
        assert transaction.contributors() == []
        writer = threading.Thread(target=put_one, args=(store,))
        writer.start()
        writer.join()
        assert transaction.contributors() == []
    with store.reading() as transaction:
        assert transaction.contributors() == [ONE]


def put_one(store):
    with store.writing() as transaction:
        transaction.put_contributor(ONE)


def test_writers_wait_for_each_other(store):
    def count():
        for _ in range(20):
            with store.writing() as transaction:
                transaction.count_download((CHANNEL, REQUEST.key), REQUEST.cpv)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as transaction:
        assert transaction.downloads((CHANNEL, REQUEST.key)) == 80


def test_a_database_that_another_process_holds_is_not_available_now(store, path, monkeypatch):
    monkeypatch.setattr("p2pbin_server.store.BUSY", 50)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = Store(path)
    try:
        with pytest.raises(UnavailableError, match="locked"), impatient.writing():
            pass
    finally:
        other.close()
        impatient.close()


def test_an_offer_is_changed_in_place(store):
    with store.writing() as transaction:
        transaction.put_offer(OFFER)
        transaction.set_offer(OFFER.info_hash, OfferState.REFUSED, "rubbish")
        assert transaction.offer(OFFER.info_hash) == replace(OFFER, state=OfferState.REFUSED, reason="rubbish")
        assert transaction.open_offers() == []
