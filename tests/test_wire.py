import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import Address, Sha256
from portage_p2pbin.kernel.wire import canonical, decode

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=126), max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=126), max_size=5), PLAIN, max_size=5))
def test_canonical_has_one_spelling(value):
    shuffled = dict(reversed(value.items()))
    assert canonical(value) == canonical(shuffled)
    assert json.loads(canonical(value)) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":1.0}', "not a whole number"),
        (b'{"a":1e3}', "not a whole number"),
        (b'{"a":NaN}', "not a number"),
        (b'{"a":-Infinity}', "not a number"),
        (b'{"a":9007199254740992}', "53 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "53 bits"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        (b'{"a":1} x', "not JSON"),
        (b"[1]", "not an object"),
        (b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}", "not JSON"),
        (b'{"a":"' + b"x" * 50000 + b'"}', "more than the"),
    ],
)
def test_what_json_leaves_open_is_refused(data, reason):
    with pytest.raises(DecodeError, match=reason):
        decode(data, "thing", 45000)


def reading(data, take):
    fields = decode(json.dumps(data).encode(), "thing", 10**6)
    with fields.reading():
        return take(fields)


@pytest.mark.parametrize(
    ("data", "take", "reason"),
    [
        ({}, lambda f: f.text("a"), "missing"),
        ({"a": 1}, lambda f: f.text("a"), "type str"),
        ({"a": True}, lambda f: f.number("a"), "type int"),
        ({"a": "1"}, lambda f: f.number("a"), "type int"),
        ({"a": 7}, lambda f: f.number("a", 1, 6), "between 1 and 6"),
        ({"a": -1}, lambda f: f.number("a"), "between 0"),
        ({"a": "x" * 11}, lambda f: f.text("a", 10), "longer than 10"),
        ({"a": "x\0"}, lambda f: f.text("a"), "NUL"),
        ({"a": "\ud800"}, lambda f: f.text("a"), "half a character"),
        ({"a": "zz"}, lambda f: f.of("a", Sha256), "Sha256"),
        ({"a": ["x", "y"]}, lambda f: f.texts("a", str, 1), "more than 1"),
        ({"a": [1]}, lambda f: f.texts("a", str, 1), "not text"),
        ({"a": ["y", "x"]}, lambda f: f.sorted_texts("a", 9), "not sorted"),
        ({"a": ["x", "x"]}, lambda f: f.sorted_texts("a", 9), "not sorted"),
        ({"a": {"b": "x", "c": "y"}}, lambda f: f.mapping("a", str, 1), "more than 1"),
        ({"a": {"b": 1}}, lambda f: f.mapping("a", str, 1), "not text"),
        ({"a": [{}, {}]}, lambda f: f.many("a", 1), "more than 1"),
        ({"a": [1]}, lambda f: f.many("a", 1), "not an object"),
        ({"a": "v2"}, lambda f: f.exactly("a", "v1"), "reads 'v1'"),
        ({"a": 1}, lambda f: f.flag("a"), "type bool"),
        ({}, lambda f: f.null("a"), "missing"),
        ({"a": 0}, lambda f: f.null("a"), "unknown field 'a'"),
        ({"a": ["192.0.2.1"]}, lambda f: f.address("a"), "not an address and a port"),
        ({"a": [1, 1]}, lambda f: f.address("a"), "not an address and a port"),
        ({"a": ["192.0.2.1", "1"]}, lambda f: f.address("a"), "not an address and a port"),
        ({"a": ["192.0.2.1", True]}, lambda f: f.address("a"), "not an address and a port"),
        ({"a": ["example.org", 1]}, lambda f: f.address("a"), "no numeric address"),
        ({"a": ["192.0.2.1", 0]}, lambda f: f.address("a"), "no port"),
        ({"a": [["192.0.2.1", 1]] * 2}, lambda f: f.addresses("a", 1), "more than 1"),
        ({"a": [{}]}, lambda f: f.addresses("a", 1), "not an address and a port"),
        ({"a": "x", "b": "y"}, lambda f: f.text("a"), "unknown field 'b'"),
    ],
)
def test_a_field_of_another_form_is_refused(data, take, reason):
    with pytest.raises(DecodeError, match=reason):
        reading(data, take)


def test_a_mapping_comes_in_order_of_name():
    assert list(reading({"a": {"z": "1", "b": "2"}}, lambda f: f.mapping("a", str, 2))) == ["b", "z"]


def test_addresses_flags_and_nulls_are_read():
    data = {"a": [["192.0.2.1", 6881], ["2001:db8::1", 1]], "b": True, "c": None, "d": ["192.0.2.2", 65535]}
    read = reading(data, lambda f: (f.addresses("a", 2), f.flag("b"), f.null("c"), f.null("d"), f.address("d")))
    assert read == (
        (Address("192.0.2.1", 6881), Address("2001:db8::1", 1)),
        True,
        True,
        False,
        Address("192.0.2.2", 65535),
    )
