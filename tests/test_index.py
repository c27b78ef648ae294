import json

import pytest

from portage_p2pbin.kernel.definition import RepositoryName
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.index import Bundle, Entry, encode_page, read_bundle, read_page
from portage_p2pbin.kernel.model import Channel, Cpv, InfoHash, Level, Sha1, Sha256
from portage_p2pbin.kernel.wire import canonical
from tests.makers import CHANNEL, CONTENTS, REQUEST, certificate, vote

ENTRY = Entry(
    cpv=Cpv("app-misc/hello-2.10-r1"),
    repository=RepositoryName("test"),
    build_key=REQUEST.key,
    contents=CONTENTS,
    level=Level(3),
    file=Sha256("f" * 64),
    sha1=Sha1("5" * 40),
    size=1234,
    info_hash=InfoHash("0" * 40),
    bundle=Sha256("c" * 64),
    serial=1_800_000_000,
    metadata={"EAPI": "8", "SLOT": "0", "USE": "nls"},
)


def test_a_page_survives_the_wire():
    assert read_page(encode_page(CHANNEL, (ENTRY,)), CHANNEL, "app-misc") == (ENTRY,)


def test_the_path_is_made_from_cpv_and_sha256_only():
    assert ENTRY.path == "app-misc/hello-2.10-r1-ffffffffffffffffffff.gpkg.tar"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e.update(cpv="../../etc/x-1"), "Cpv"),
        (lambda e: e.update(cpv="sys-libs/hello-2.10"), "lists sys-libs"),
        (lambda e: e.update(level=0), "between 1 and 6"),
        (lambda e: e.update(level=7), "between 1 and 6"),
        (lambda e: e.update(sha1="5" * 39), "Sha1"),
        (lambda e: e.update(size=0), "between 1"),
        (lambda e: e.update(size=2**40), "between 1"),
        (lambda e: e.update(serial=0), "between 1"),
        (lambda e: e.update(URI="file:///"), "unknown field 'URI'"),
        (lambda e: e["metadata"].update(FETCHCOMMAND="x"), "unknown metadata key"),
        (lambda e: e["metadata"].update(USE="a\nTTL: 9"), "not one printable line"),
        (lambda e: e["metadata"].update(USE="a\x1b[2J"), "not one printable line"),
    ],
)
def test_an_entry_that_is_valid_but_for_one_thing(change, reason):
    page = json.loads(encode_page(CHANNEL, (ENTRY,)))
    change(page["entries"][0])
    with pytest.raises(RefusedError, match=reason):
        read_page(canonical(page), CHANNEL, "app-misc")


def test_a_page_of_another_channel_is_refused():
    with pytest.raises(RefusedError, match="channel"):
        read_page(encode_page(Channel("arm64"), (ENTRY,)), CHANNEL, "app-misc")


def test_one_file_twice_is_refused():
    with pytest.raises(RefusedError, match="one file twice"):
        read_page(encode_page(CHANNEL, (ENTRY, ENTRY)), CHANNEL, "app-misc")


def test_a_bundle_survives_the_wire():
    bundle = Bundle((vote(1), vote(2)), (certificate(3, 1),))
    assert read_bundle(bundle.encode()) == bundle


def test_a_bundle_with_one_forged_signature_is_refused():
    bundle = json.loads(Bundle((vote(1),), ()).encode())
    bundle["votes"][0] = bundle["votes"][0].replace('"sig":"', '"sig":"AAAA')
    with pytest.raises(RefusedError, match="signature"):
        read_bundle(canonical(bundle))
