"""One process of the server: api, tracker and origin, as its settings say."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

import waitress

from p2pbin_server.app import State, application
from p2pbin_server.electorate import Voters
from p2pbin_server.origin import Origin
from p2pbin_server.publishing import Publisher
from p2pbin_server.reader import Reader, reader
from p2pbin_server.repository import Repository
from p2pbin_server.settings import Settings, spelt
from p2pbin_server.store import Store
from p2pbin_server.tracker import Swarms
from p2pbin_server.web.api import Service
from portage_p2pbin.kernel.envelope import MOST_ENVELOPE
from portage_p2pbin.kernel.errors import SettingsError, UnavailableError

CONNECTIONS = 1000
"""Open connections; a slow client holds one of them, and no thread."""

IDLE = 60
"""Seconds after which a silent connection is closed."""


def now() -> datetime:
    """The time, in UTC and whole seconds, as votes have it."""
    return datetime.now(UTC).replace(microsecond=0)


def serve_until_ended(settings: Settings) -> None:
    """Answer until SIGTERM or Ctrl-C.  Raises SettingsError if there is no repository, or if the address is taken."""
    signal.signal(signal.SIGTERM, _end)
    with running(settings) as server:
        print(f"p2pbin-server: {settings.name} answers on http://{spelt(settings.listen)}", flush=True)
        server.run()
    print("p2pbin-server: ended", flush=True)


@contextmanager
def running(settings: Settings) -> Iterator[waitress.server.BaseWSGIServer]:
    """Everything but the loop that answers requests: that is the `run` of what is yielded."""
    state = State(settings.state)
    repository = Repository(state.tuf, state.keys, settings.lifetimes)
    state.make()
    with ExitStack() as stack:
        reading = stack.enter_context(reader()) if "origin" in settings.roles else None
        store = Store(state.database)
        stack.callback(store.close)
        swarms = Swarms(settings.tracker, time.monotonic)
        service = Service(settings, store, Voters(repository), swarms, now, threading.Event(), threading.Event())
        publisher = Publisher(service, repository, state.bundles)
        publisher.tell()
        server = listen(service, state)
        stack.callback(server.close)
        publisher.start()
        stack.callback(publisher.stop)
        if reading is not None:
            origin = _origin(service, state, reading)
            origin.start()
            stack.callback(origin.stop)
        yield server


def _origin(service: Service, state: State, reading: Reader) -> Origin:
    try:
        return Origin(service, state, reading)
    except UnavailableError as error:
        what = f"Cannot listen on {spelt(service.settings.origin.listen)} for BitTorrent"
        raise SettingsError(what, "Stop what listens there, or set another [origin] listen.") from error


def listen(service: Service, state: State) -> waitress.server.BaseWSGIServer:
    """The web server, bound to its address; its `run` answers until it is closed.  Raises SettingsError if the address is taken."""
    settings = service.settings
    options: dict[str, object] = {"trusted_proxy": settings.proxy, "trusted_proxy_headers": {"x-forwarded-for"}} if settings.proxy else {}
    try:
        return waitress.create_server(
            application(service, state), listen=spelt(settings.listen), threads=settings.threads, ident=None, connection_limit=CONNECTIONS,
            channel_timeout=IDLE, max_request_body_size=2 * MOST_ENVELOPE, asyncore_use_poll=True, clear_untrusted_proxy_headers=True,
            **options,
        )  # fmt: skip
    except OSError as error:
        what = f"Cannot listen on {spelt(settings.listen)}: {error.strerror}"
        raise SettingsError(what, "Stop what listens there, or set another [server] listen.") from error


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
