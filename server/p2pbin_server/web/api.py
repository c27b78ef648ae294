"""What contributors, build servers and clients ask and send: each route reads its input strictly and calls one rule.

Every signed request names this server and the time, so it is of no use elsewhere or later.  Within the five minutes for which it
is fresh it may arrive twice; each of these requests may be repeated without harm.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from p2pbin_server import contributors, jobs, ledger, offers, placement
from p2pbin_server.electorate import Voters
from p2pbin_server.ledger import Rules, seconds
from p2pbin_server.settings import Settings
from p2pbin_server.store import Store
from p2pbin_server.store.rows import Holder, Lease, Registered
from p2pbin_server.throttle import Throttle
from p2pbin_server.tracker import Swarms
from p2pbin_server.web.http import MissingError, Request, Response, json_response
from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.kernel.model import Address, InfoHash, PublicKey, Sha256
from portage_p2pbin.kernel.statements import SignedVote, read_certificate, read_request_fields, read_vote, spelt
from portage_p2pbin.kernel.torrent import MOST_TORRENT, read_torrent
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.kernel.wire import Fields
from portage_p2pbin.openpgp import MOST_PUBLIC_KEY, check_certification

MOST_PEERS = 50
MOST_BYTES_HELD = 1024**5

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work on.  `changed` wakes whoever publishes the index, `offered` the origin."""

    settings: Settings
    store: Store
    voters: Voters
    swarms: Swarms
    clock: Callable[[], datetime]
    changed: threading.Event
    offered: threading.Event

    @property
    def rules(self) -> Rules:
        """What is set for votes."""
        return Rules(self.settings.channels, self.settings.limits.votes, self.settings.most_open_clashes)


class Api:
    """One method for each route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        limits = service.settings.limits
        self._registrations = Throttle(limits.registrations, _DAY)
        self._downloads = Throttle(limits.downloads, _HOUR)

    def register(self, request: Request) -> Response:
        """POST /contributors: register a machine key (P3.2)."""
        now = self._service.clock()
        signer, fields = self._signed(request, "register")
        with fields.reading():
            openpgp = fields.text("openpgp", MOST_PUBLIC_KEY)
            text = fields.text("certification")
        self._registrations.count(request.address, now.timestamp())
        certification = check_certification(text, openpgp, now)
        most = self._service.settings.limits.all_registrations
        with self._service.store.writing() as transaction:
            contributors.register(transaction, certification, (openpgp, text), signer, now, most)
        role = contributors.role(self._electorate(), signer)
        return json_response({"identity": certification.identity, "role": role.value}, 201)

    def vote(self, request: Request) -> Response:
        """POST /votes: hand in a vote (P3)."""
        signed = read_vote(request.body)
        with self._service.store.writing() as transaction:
            answer = ledger.cast(transaction, self._electorate(), signed, self._service.rules)
        self._service.changed.set()
        value = {"vote": signed.envelope.digest, "level": answer.level, "reason": answer.reason}
        return json_response(value, 201 if answer.is_new else 200)

    def certificate(self, request: Request) -> Response:
        """POST /certificates: hand in an audit certificate (P4.3)."""
        signed = read_certificate(request.body)
        with self._service.store.writing() as transaction:
            is_new = ledger.certify(transaction, self._electorate(), signed, self._service.rules)
        self._service.changed.set()
        return json_response({"certificate": signed.envelope.digest}, 201 if is_new else 200)

    def offer(self, request: Request) -> Response:
        """POST /offers: offer the file of a vote (P10.5)."""
        settings = self._service.settings
        if "origin" not in settings.roles:
            raise UnavailableError("The origin", "this server takes in no packages now")
        provider, fields = self._signed(request, "offer")
        with fields.reading():
            vote, size, port = fields.of("vote", Sha256), fields.number("size", 1), fields.number("port", 1, 65535)
            torrent = read_torrent(fields.of("torrent", _base64, 2 * MOST_TORRENT))
        if torrent.size != size:
            fields.refuse(f"its torrent is of {torrent.size} bytes, not of {size}")
        bounds = offers.Bounds(settings.origin, settings.limits)
        where = Address(request.address, port)
        with self._service.store.writing() as transaction:
            wanted = offers.offer(transaction, self._electorate(), provider, vote, torrent, where, self._service.rules, bounds)
        if wanted:
            self._service.swarms.admit(torrent.info_hash)
        self._service.offered.set()
        self._service.changed.set()
        return json_response({"wanted": wanted, "origin": _pair(settings.origin.address)})

    def offer_state(self, request: Request) -> Response:
        """GET /offers/<info-hash>: how far the intake has come."""
        with self._service.store.reading() as transaction:
            offer = transaction.offer(InfoHash(request.names["infohash"]))
        if offer is None:
            raise MissingError("This offer", "nobody has made it here")
        return json_response({"state": offer.state.value, "reason": offer.reason})

    def lease(self, request: Request) -> Response:
        """POST /jobs: the next job for a build server (P11)."""
        builder, fields = self._signed(request, "lease")
        with fields.reading():
            pass
        with self._service.store.writing() as transaction:
            leased = jobs.lease(transaction, self._electorate(), builder, self._lease_length())
            votes = [] if leased is None else transaction.votes_on((leased.channel, leased.build_key))
        return json_response({"job": None if leased is None else _job(leased, votes, self._service.clock())})

    def renew(self, request: Request) -> Response:
        """POST /jobs/<id>/renew: the builder is still at it."""
        builder, fields = self._signed(request, "job-renew")
        with fields.reading():
            pass
        with self._service.store.writing() as transaction:
            expires = jobs.renew(transaction, request.names["job"], builder, self._service.clock(), self._lease_length())
        return json_response({"expires": spelt(datetime.fromtimestamp(expires, self._service.clock().tzinfo))})

    def give_back(self, request: Request) -> Response:
        """POST /jobs/<id>/return: the builder cannot do it."""
        builder, fields = self._signed(request, "job-return")
        with fields.reading():
            pass
        with self._service.store.writing() as transaction:
            jobs.give_back(transaction, request.names["job"], builder, self._service.clock())
        return Response(204)

    def done(self, request: Request) -> Response:
        """POST /jobs/<id>/done: the builder has voted; whom can it audit now?"""
        builder, fields = self._signed(request, "job-done")
        with fields.reading():
            vote = fields.of("vote", Sha256)
        with self._service.store.reading() as transaction:
            audits = jobs.done(transaction, self._electorate(), request.names["job"], builder, vote)
        return json_response({"audits": [_audit(registered, signed) for registered, signed in audits]})

    def hold(self, request: Request) -> Response:
        """POST /holders: a machine offers disk space, and asks what to hold (P12)."""
        key, fields = self._signed(request, "hold")
        with fields.reading():
            port, room = fields.number("port", 1, 65535), fields.number("bytes", 0, MOST_BYTES_HELD)
        limits = self._service.settings.limits
        holder = Holder(key, request.address, port, room, seconds(self._service.clock()))
        with self._service.store.writing() as transaction:
            held = placement.hold(transaction, holder, self._service.settings.silence, limits.holders, limits.holders_per_address)
        return json_response({"hold": [{"infoHash": one.info_hash, "size": one.size} for one in held]})

    def peers(self, request: Request) -> Response:
        """GET /peers/<info-hash>: who has a listed package (P9.2)."""
        info_hash = InfoHash(request.names["infohash"])
        with self._service.store.reading() as transaction:
            if transaction.listing_by(info_hash=info_hash) is None:
                raise MissingError("This torrent", "it is not listed")
            copies = [Address(one.address, one.port) for one in transaction.copies_of(info_hash)]
        found = dict.fromkeys([*self._service.swarms.peers(info_hash), *copies])
        settings = self._service.settings
        origin = _pair(settings.origin.address) if "origin" in settings.roles else None
        return json_response({"peers": [_pair(one) for one in list(found)[:MOST_PEERS]], "origin": origin})

    def download(self, request: Request) -> Response:
        """POST /downloads/<file>: one more machine has it (P9.10)."""
        self._downloads.count(request.address, self._service.clock().timestamp())
        with self._service.store.writing() as transaction:
            listing = transaction.listing_by(file=Sha256(request.names["file"]))
            if listing is None:
                raise MissingError("This file", "it is not listed")
            transaction.count_download((listing.channel, listing.build_key), listing.cpv)
        return Response(204)

    def _electorate(self) -> Electorate:
        return self._service.voters.at(self._service.clock())

    def _lease_length(self) -> timedelta:
        return timedelta(seconds=self._service.settings.lease)

    def _signed(self, request: Request, action: str) -> tuple[PublicKey, Fields]:
        now = self._service.clock()
        return read_request_fields(request.body, action, self._service.settings.name, lambda time: abs(now - time) <= ledger.SKEW)


def _job(leased: Lease, votes: list[SignedVote], now: datetime) -> dict[str, object]:
    return {
        "id": leased.id,
        "expires": spelt(datetime.fromtimestamp(leased.expires, now.tzinfo)),
        "request": votes[0].vote.definition.request.as_json(),
        "votes": len(votes),
    }


def _audit(registered: Registered, signed: SignedVote) -> dict[str, object]:
    """The builder does not believe us who somebody is: it gets what the identity signed (P3.2)."""
    return {"openpgp": registered.openpgp, "certification": registered.certification, "vote": signed.envelope.data.decode("ascii")}


def _pair(address: Address) -> list[object]:
    return [address.host, address.port]


def _base64(text: str) -> bytes:
    """Strict base64.  Raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64") from error
