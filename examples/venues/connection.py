"""One connection: TLS over memory buffers, HTTP/1.1 or a live channel, and its faults.

TLS is driven here and not by asyncio, whose shutdown waits for the peer's
close_notify before it sends FIN: real venues send close_notify and FIN right
after the last byte, and a notary seals a response on that FIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

from attestation.errors import MalformedError
from examples.venues import channels, wire
from examples.venues.faults import Delivery, FaultBoard, deliver
from examples.venues.listings import BY_HOST, Listing, Venue
from examples.venues.live import LiveChannel, upgrade_of
from examples.venues.prices import Prices
from examples.venues.request import Request, take_request
from examples.venues.tls import Contexts

_READ_SIZE = 64 * 1024
# How long a client may keep its half of a connection that this side has ended.
_LINGER_S = 5.0


class Simulation:
    """What all connections share: prices, faults, the clock, and counts of requests.

    ``clock_us`` gives UTC microseconds; ``served`` counts requests by venue.  ``rate``
    and ``beat_s`` are a live channel's messages a second and interval of heartbeats.
    ``open`` holds the transports to end with the server; once it is ``closing``
    a connection accepted a moment before ends as it is made.
    """

    def __init__(
        self,
        prices: Prices,
        faults: FaultBoard,
        clock_us: Callable[[], int],
        *,
        rate: float = 10.0,
        beat_s: float | None = None,
    ) -> None:
        self.rate = rate
        self.beat_s = beat_s
        self.prices = prices
        self.faults = faults
        self.clock_us = clock_us
        self.served: Counter[str] = Counter()
        self.port = 0
        self.open: set[asyncio.Transport] = set()
        self.closing = False
        self._date = (-1, "")

    def date(self, now_us: int) -> str:
        """The Date header for an instant (RFC 9110 section 5.6.7), made once a second."""
        second = now_us // 1_000_000
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def opened(self, transport: asyncio.Transport) -> None:
        """Counts a new connection in, or ends it where the server ends."""
        if self.closing:
            transport.abort()
        self.open.add(transport)

    def close(self) -> None:
        """Ends every connection, now and from now on."""
        self.closing = True
        for transport in list(self.open):
            transport.abort()


class Connection(asyncio.Protocol):
    """Serves one client."""

    def __init__(self, simulation: Simulation, contexts: Contexts) -> None:
        self._simulation = simulation
        self._contexts = contexts
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = contexts.entry.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._host: str | None = None
        self._requests = bytearray()
        self._answered_early = False
        # Set while an answer goes out slowly, or never will: later requests wait.
        self._busy = False
        self._ended = False
        self._live: LiveChannel | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._simulation.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._simulation.open.discard(self._transport)
        if self._live is not None:
            self._live.stop()
        if self._delivering is not None:
            self._delivering.cancel()
        if self._linger is not None:
            self._linger.cancel()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._incoming.write(data)
        try:
            if self._host is None:
                self._tls.do_handshake()
                self._established(self._contexts.host_of(self._tls.context))
            while not self._ended:
                piece = self._tls.read(_READ_SIZE)
                if not piece:  # The client's close_notify.
                    self._end(close_notify=True)
                if self._live is not None:
                    self._live.received(piece)
                    continue
                self._requests += piece
                self._serve_pending()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            # The alert that says why is already in the outgoing buffer.
            self._end(close_notify=False)

    def eof_received(self) -> bool:
        return False

    def _established(self, host: str) -> None:
        self._host = host
        venue = BY_HOST[host]
        if self._simulation.faults.take(venue.name, "established") is not None:
            self._answered_early = True
            target = wire.quote_target(venue, venue.listings[0].market)
            self._start(self._quote(venue, target, close=True), close=True)

    def _serve_pending(self) -> None:
        """Answers complete requests in order, unless an answer is still going out."""
        while not self._busy and not self._ended and self._live is None:
            try:
                request = take_request(self._requests)
            except MalformedError as error:
                self._start(self._problem(400, "Bad Request", error.detail), close=True)
                return
            if request is None:
                return
            self._serve(request)

    def _serve(self, request: Request) -> None:
        assert self._host is not None
        venue = BY_HOST[self._host]
        self._simulation.served[venue.name] += 1
        asked = request.headers["host"]
        ports = (self._simulation.port, venue.stream_port)
        if asked != self._host and asked not in [f"{self._host}:{port}" for port in ports]:
            self._start(self._problem(421, "Misdirected Request", asked), close=True)
        elif upgrade := upgrade_of(venue, request) if self._host in venue.stream_hosts else None:
            self._upgrade(venue, *upgrade)
        elif self._host not in venue.hosts:
            self._start(self._problem(426, "Upgrade Required", request.target), close=True)
        elif (request.method, request.target) == ("POST", "/api/v1/bullet-public"):
            body = channels.bullet() if venue.name == "kucoin" else ""
            self._start(self._answer(venue, body), close=request.close)
        elif request.method != "GET":
            self._start(self._problem(405, "Method Not Allowed", request.method), close=True)
        else:
            close = request.close
            self._start(self._quote(venue, request.target, close=close), close=close)

    def _answer(self, venue: Venue, body: str) -> Delivery:
        response = wire.Response(
            status=200 if body else 404,
            reason="OK" if body else "Not Found",
            headers=(("Content-Type", venue.content_type), *venue.headers),
            body=body.encode(),
        )
        date = self._simulation.date(self._simulation.clock_us())
        return deliver(response, date, close=False, fault=None)

    def _upgrade(self, venue: Venue, head: str, listing: Listing | None) -> None:
        simulation = self._simulation
        fault = simulation.faults.now(venue.name, "request")
        if fault is not None and fault.kind == "status":
            simulation.faults.take(venue.name, "request")
            response = wire.Response(status=200, reason="OK", headers=(), body=b"")
            date = simulation.date(simulation.clock_us())
            self._start(deliver(response, date, close=True, fault=fault), close=True)
            return
        self._tls.write(head.encode("latin-1"))
        self._live = LiveChannel(
            venue,
            prices=simulation.prices,
            faults=simulation.faults,
            clock_us=simulation.clock_us,
            rate=simulation.rate,
            beat_s=simulation.beat_s,
            send=self._send_frames,
            end=lambda close_notify: self._end(close_notify=close_notify),
        )
        self._live.start(listing)
        early = bytes(self._requests)
        self._requests.clear()
        self._live.received(early)

    def _send_frames(self, frames: bytes) -> None:
        if not self._ended:
            self._tls.write(frames)
            self._flush()

    def _quote(self, venue: Venue, target: str, *, close: bool) -> Delivery:
        simulation = self._simulation
        now_us = simulation.clock_us()
        fault = None
        if not self._answered_early:
            fault = simulation.faults.take(venue.name, "request")
        if fault is not None and fault.kind == "wrong_instrument":
            target = wire.with_other_instrument(venue, target)
        shown_us, wick_bps = now_us, 0
        if fault is not None and fault.kind == "out_of_order":
            shown_us -= fault.number * 1_000
        elif fault is not None and fault.kind == "wick":
            wick_bps = fault.number
        response = wire.respond(venue, target, simulation.prices, shown_us, wick_bps=wick_bps)
        return deliver(response, simulation.date(now_us), close=close, fault=fault)

    def _problem(self, status: int, reason: str, detail: str) -> Delivery:
        response = wire.Response(
            status=status,
            reason=reason,
            headers=(("Content-Type", "text/plain; charset=utf-8"),),
            body=f"{detail}\n".encode(),
        )
        date = self._simulation.date(self._simulation.clock_us())
        return deliver(response, date, close=True, fault=None)

    def _start(self, delivery: Delivery, *, close: bool) -> None:
        if delivery.wait_s or delivery.pause_s:
            self._busy = True
            loop = asyncio.get_running_loop()
            self._delivering = loop.create_task(self._deliver_slowly(delivery, close=close))
            return
        for piece in delivery.pieces:
            self._tls.write(piece)
        self._finish(delivery, close=close)

    async def _deliver_slowly(self, delivery: Delivery, *, close: bool) -> None:
        await asyncio.sleep(delivery.wait_s)
        for piece in delivery.pieces:
            self._tls.write(piece)
            self._flush()
            await asyncio.sleep(delivery.pause_s)
        self._busy = False
        self._finish(delivery, close=close)
        self._serve_pending()
        self._flush()

    def _finish(self, delivery: Delivery, *, close: bool) -> None:
        if delivery.ending == "hang":
            self._busy = True
        elif delivery.ending == "cut":
            self._end(close_notify=False)
        elif delivery.ending == "close" or close:
            self._end(close_notify=True)

    def _end(self, *, close_notify: bool) -> None:
        """Sends what is left, close_notify if asked, and FIN; reads no more."""
        if self._ended:
            return
        self._ended = True
        if close_notify:
            # It raises once written: what is missing is the peer's, not waited for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # The peer has reset the connection already.
                self._transport.abort()
                return
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(_LINGER_S, self._transport.close)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._transport.is_closing():
            self._transport.write(data)
