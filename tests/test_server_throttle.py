import pytest

from p2pbin_server import throttle
from p2pbin_server.throttle import Throttle, TooManyError, sender


def test_so_many_within_a_window_and_then_again():
    counted = Throttle(2, 60)
    counted.count("192.0.2.1", 0.0)
    counted.count("192.0.2.1", 59.0)
    with pytest.raises(TooManyError, match="more than 2 such requests within 60 seconds"):
        counted.count("192.0.2.1", 59.9)
    counted.count("192.0.2.2", 59.9)
    counted.count("192.0.2.1", 60.0)


def test_an_ipv6_network_is_one_sender():
    assert sender("2001:db8:1:2:3:4:5:6") == sender("2001:db8:1:2::9") == "2001:db8:1:2::"
    assert sender("2001:db8:1:3::9") != sender("2001:db8:1:2::9")
    assert sender("192.0.2.1") == "192.0.2.1"


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(throttle, "MOST_SENDERS", 2)
    counted = Throttle(1, 60)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        counted.count(address, 0.0)
    assert len(counted._counts) <= 2
