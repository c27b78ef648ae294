"""A real server on loopback that behaves badly in one way at a time."""

import http.server
import io
import threading
import time

import pytest

from portage_p2pbin.kernel.errors import RefusedError, UnavailableError
from portage_p2pbin.net.http import Http, HttpSettings

BODY = b"0123456789"


class Handler(http.server.BaseHTTPRequestHandler):
    asked = ()

    def do_GET(self):
        type(self).asked += ((self.path, dict(self.headers)),)
        getattr(self, f"_{self.path.lstrip('/').replace('-', '_')}")()

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _send(self, status=200, body=BODY, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _good(self):
        self._send()

    def _endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(65536))
        except OSError:
            return

    def _drip(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def _silent(self):
        time.sleep(1.5)

    def _cut(self):
        self._send(Content_Length="20")

    def _elsewhere(self):
        self._send(302, Location="/good")

    def _missing(self):
        self._send(404)

    def _busy(self):
        self._send(503)

    def _too_many(self):
        self._send(429)

    def _refused(self):
        self._send(403, b'{"error":"This key is not registered","rule":"P3.2"}')

    def _refused_oddly(self):
        self._send(403, b"<html>")

    def _whence(self):
        self._send(body=self.client_address[0].encode())

    def _echo(self):
        self._send(body=self.body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def server():
    Handler.asked = ()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client():
    return Http(HttpSettings(stall=0.4, https=False))


def test_a_body_as_large_as_allowed_is_returned(server, client):
    assert client.get(f"{server}/good", 10) == BODY
    assert client.post(f"{server}/echo", b"{}", 2) == b"{}"


@pytest.mark.parametrize("path", ["good", "endless"])
def test_a_longer_body_is_refused(server, client, path):
    with pytest.raises(RefusedError, match="more than the 9 bytes") as caught:
        client.get(f"{server}/{path}", 9)
    assert caught.value.rule == "P9.2"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("drip", "bytes in 0 seconds"), ("silent", "timed out"), ("cut", "10 bytes read"), ("busy", "503"), ("too-many", "429")],
)
def test_what_comes_slowly_or_in_part_is_unavailable(server, client, path, reason):
    with pytest.raises(UnavailableError, match=reason):
        client.get(f"{server}/{path}", 1 << 20)


def test_nobody_there_is_unavailable(client):
    with pytest.raises(UnavailableError, match="refused"):
        client.get("http://127.0.0.1:1/good", 10)


def test_a_redirect_is_refused_and_not_followed(server, client):
    with pytest.raises(RefusedError, match="redirects"):
        client.get(f"{server}/elsewhere", 10)
    assert [path for path, _ in Handler.asked] == ["/elsewhere"]


def test_a_missing_file_is_none_to_find_and_unavailable_to_get(server, client):
    assert client.find(f"{server}/missing", 10) is None
    with pytest.raises(UnavailableError, match="no such file"):
        client.get(f"{server}/missing", 10)
    with pytest.raises(UnavailableError, match="no such file"):
        client.post(f"{server}/missing", b"", 10)


def test_a_refusal_carries_the_servers_rule_and_sentence(server, client):
    with pytest.raises(RefusedError, match="This key is not registered") as caught:
        client.post(f"{server}/refused", b"{}", 10)
    assert caught.value.rule == "P3.2"
    with pytest.raises(RefusedError, match=r"refused it \(403\)"):
        client.post(f"{server}/refused-oddly", b"{}", 10)


def test_saving_needs_exactly_the_size(server, client):
    target, seen = io.BytesIO(), []
    client.save(f"{server}/good", target, 10, seen.append)
    assert (target.getvalue(), seen) == (BODY, [10])
    with pytest.raises(UnavailableError, match="10 of 11"):
        client.save(f"{server}/good", io.BytesIO(), 11, seen.append)


def test_the_callers_environment_chooses_neither_proxy_nor_password(server, client, monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert client.get(f"{server}/good", 10) == BODY
    assert "Authorization" not in Handler.asked[0][1]


def test_a_proxy_that_is_set_is_used(server):
    client = Http(HttpSettings(stall=1, proxy=server, https=False))
    with pytest.raises((UnavailableError, RefusedError)):
        client.get("http://packages.example.org/good", 10)
    assert Handler.asked == () or Handler.asked[0][0].startswith("http://packages.example.org")


def test_requests_come_from_the_address_that_is_set(server):
    client = Http(HttpSettings(stall=1, source="127.0.0.6", https=False))
    assert client.get(f"{server}/whence", 20) == b"127.0.0.6"
