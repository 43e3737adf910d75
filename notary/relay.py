"""The relay: a raw TCP CONNECT listener that carries out what the gate decides.

One ``ClientLeg`` and one ``VenueLeg`` per connection, both ``asyncio.Protocol``
with TCP_NODELAY.  A refusal is an HTTP status with a problem document, before
any byte goes out to a venue.  A leg whose peer reads slowly stops the reading of
the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from attestation.errors import QuotaryError, RefusedError, UnavailableError
from notary import problems
from notary.connect import ESTABLISHED, MAX_HEAD, ConnectRequest, read_connect, refusal_response
from notary.connection import Connection
from notary.context import Context
from notary.crowd import Crowd, Guest, address_of
from notary.live import LiveWitness
from notary.resolve import Endpoint
from notary.sessions import Session
from notary.witness import Witness

MAX_EARLY = 64 * 1024
"""Bytes a client may send ahead of the answer to its CONNECT."""
LINGER_SECONDS = 5.0
"""How long a closing leg may take to write what it holds."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds of silence before the first probe, between probes, and how many."""

OWN_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""Errors of a connect that are not the venue's."""


class Desk(Protocol):
    """What the relay needs of the notary."""

    context: Context

    def claim_session(self, request: ConnectRequest) -> Session:
        """Returns the session of a CONNECT, once; raises RefusedError."""

    def is_known(self, session: str) -> bool:
        """Whether a session is a known prover's."""

    def connect_failed(self, session: Session, reason: str) -> None:
        """Ends a session whose venue could not be reached."""


class _Leg(asyncio.Protocol):
    """One socket; ``other`` is paused while this one's peer does not read."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Leg | None = None
        self._linger: asyncio.TimerHandle | None = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # Nagle with delayed acknowledgements costs 40 ms per small write.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self) -> None:
        other = self.other.transport if self.other is not None else None
        if other is not None and not other.is_closing():
            other.pause_reading()

    def resume_writing(self) -> None:
        other = self.other.transport if self.other is not None else None
        if other is not None and not other.is_closing():
            other.resume_reading()

    def write(self, data: bytes) -> None:
        """Writes, unless the socket is closing."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """Closes once what was written is out, at the latest after a while."""
        transport = self.transport
        if transport is not None:
            # Also where the peer's end began the close already: it may not read.
            transport.close()
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)

    def abort(self) -> None:
        """Closes at once."""
        if self.transport is not None:
            self.transport.abort()


class VenueLeg(_Leg):
    """The socket to the venue."""

    def __init__(self) -> None:
        super().__init__()
        self.witness: Connection | None = None

    def data_received(self, data: bytes) -> None:
        if self.witness is not None:
            self.witness.venue_bytes(data)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.witness is not None:
            self.witness.venue_ended()

    def eof_received(self) -> bool:
        if self.witness is not None:
            self.witness.venue_ended()
        return False


class ClientLeg(_Leg):
    """The socket of a client: a CONNECT, then the tunnel."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._witness: Connection | None = None
        self._venue: VenueLeg | None = None
        self._ended = False
        self.slow = False
        self._reads_on = False
        self._descriptor = -1
        self.guest: Guest
        self._alarm: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.guest = Guest(address_of(transport.get_extra_info("peername")), self._refuse)
        try:
            self._relay.enter(self)
        except RefusedError as error:
            self._refuse(error)
            return
        seconds = self._relay.context.deadlines.hello_us / 1_000_000
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._witness is not None:
            self._witness.client_bytes(data)
        elif not self._ended:
            self._buffer += data
            if self._task is None:
                self._read_head()
            elif len(self._buffer) > MAX_EARLY:
                self._refuse(
                    RefusedError("too many bytes before the tunnel", rule="W13", http_status=429)
                )

    def eof_received(self) -> bool:
        self._client_ended()
        # A half-closed client may still read the response.
        return self._witness is not None and self._witness.alive

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._relay.leave(self)
        self._stop_alarm()
        self._client_ended()

    def pause_writing(self) -> None:
        self.slow = True
        if not self._reads_on:
            super().pause_writing()

    # Legs, for the Witness

    def to_venue(self, data: bytes) -> None:
        if self._venue is not None:
            self._venue.write(data)

    def to_client(self, data: bytes) -> None:
        if self._reads_on:
            data = self._send_now(data)
        if data:
            self.write(data)

    def _send_now(self, data: bytes) -> bytes:
        """Sends what the socket takes at once; returns the rest.

        uvloop's transports write when the loop turns, after what else a callback does.
        """
        transport = self.transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return data
        try:
            sent = os.write(self._descriptor, data)
        except OSError:
            return data  # Full, or broken: the transport finds out.
        return data[sent:]

    @property
    def unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def read_on(self) -> None:
        # A stream may be silent for long: that its peer is gone must be found out.
        _keep_alive(self.transport)
        _keep_alive(None if self._venue is None else self._venue.transport)
        if self.transport is not None:
            self._descriptor = self.transport.get_extra_info("socket").fileno()
            self._reads_on = True
        self.resume_writing()

    def finish_venue(self) -> None:
        venue = self._venue.transport if self._venue is not None else None
        if venue is not None and not venue.is_closing() and venue.can_write_eof():
            venue.write_eof()

    def finish(self) -> None:
        self._ended = True
        self.close()
        if self._venue is not None:
            self._venue.close()

    def abort(self) -> None:
        self._ended = True
        super().abort()
        if self._venue is not None:
            self._venue.abort()

    # The CONNECT

    def _read_head(self) -> None:
        try:
            request = read_connect(bytes(self._buffer[: MAX_HEAD + 4]))
            if request is None:
                return
            session = self._relay.claim_session(request, self.guest)
        except QuotaryError as error:
            self._refuse(error)
            return
        del self._buffer[: self._buffer.find(b"\r\n\r\n") + 4]
        self._stop_alarm()
        self._task = asyncio.get_running_loop().create_task(self._connect(session))

    async def _connect(self, session: Session) -> None:
        try:
            endpoint, venue = await self._reach(session)
        except QuotaryError as error:
            overloaded = error.rule == "overload"
            reason = "overload" if overloaded else "venue_refused"
            self._relay.desk.connect_failed(session, reason)
            self._refuse(error)
            return
        if self._ended or session.ended is not None:
            venue.abort()
            self._relay.desk.connect_failed(session, "prover_closed")
            self.abort()
            return
        self._venue = venue
        self.other, venue.other = venue, self
        kind = LiveWitness if session.request.mode == "live" else Witness
        self._witness = venue.witness = kind(
            session, self._relay.context, self, f"{endpoint.address}"
        )
        self.write(ESTABLISHED)
        early, self._buffer = bytes(self._buffer), bytearray()
        if early:
            self._witness.client_bytes(early)

    async def _reach(self, session: Session) -> tuple[Endpoint, VenueLeg]:
        context = self._relay.context
        seconds = context.deadlines.connect_us / 1_000_000
        endpoint = await context.resolver.resolve(session.host, session.port)
        try:
            async with asyncio.timeout(seconds):
                return endpoint, await self._relay.dial(endpoint)
        except (OSError, TimeoutError) as error:
            if error.errno in OWN_FAULTS:
                raise UnavailableError("out of sockets or memory", rule="overload") from error
            raise UnavailableError(
                "the venue does not accept the connection", rule="connect", found=session.host
            ) from error

    def _too_slow(self) -> None:
        self._refuse(RefusedError("no CONNECT in time", rule="W13", http_status=408))

    def _refuse(self, error: QuotaryError) -> None:
        """Answers with the problem and closes; no byte has gone to a venue."""
        if self._ended:
            return
        self._ended = True
        self._stop_alarm()
        self._relay.context.metrics.refused.labels(kind=error.slug).inc()
        body = problems.encode(error)
        self.write(refusal_response(error.http_status, body, problems.CONTENT_TYPE))
        self.close()

    def _client_ended(self) -> None:
        if self._witness is not None:
            self._witness.client_ended()
        self._ended = True

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _keep_alive(transport: asyncio.Transport | None) -> None:
    """Has the system probe a peer that says nothing, and give it up within half a minute."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def dial(endpoint: Endpoint) -> VenueLeg:
    """Connects to an endpoint."""
    loop = asyncio.get_running_loop()
    _, leg = await loop.create_connection(VenueLeg, endpoint.address, endpoint.port)
    return leg


class Relay:
    """The listener, and the crowd of its client connections."""

    def __init__(
        self,
        desk: Desk,
        *,
        crowd: Crowd,
        dial: Callable[[Endpoint], Awaitable[VenueLeg]] = dial,
    ) -> None:
        self.desk = desk
        self.context = desk.context
        self.dial = dial
        self._crowd = crowd
        self._legs: set[ClientLeg] = set()
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Event | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Accepts connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientLeg(self), sock=listener)

    def enter(self, leg: ClientLeg) -> None:
        """Counts a connection; raises RefusedError if there are too many."""
        self._crowd.enter(leg.guest)
        self._legs.add(leg)
        self.context.metrics.connections.set(len(self._legs))

    def claim_session(self, request: ConnectRequest, guest: Guest) -> Session:
        """Returns the session of a CONNECT, once; strangers leave room for known provers."""
        known = self.desk.is_known(request.session)
        self._crowd.work(guest, known=known)
        try:
            return self.desk.claim_session(request)
        except QuotaryError:
            self._crowd.leave(guest)
            raise

    def leave(self, leg: ClientLeg) -> None:
        """Counts a connection off."""
        self._crowd.leave(leg.guest)
        self._legs.discard(leg)
        self.context.metrics.connections.set(len(self._legs))
        if self._emptied is not None and not self._legs:
            self._emptied.set()

    def stop_accepting(self) -> None:
        """Closes the listener; connections stay."""
        if self._server is not None:
            self._server.close()

    async def drain(self, seconds: float) -> None:
        """Waits until every connection is closed, then closes the rest at once."""
        self._emptied = asyncio.Event()
        if self._legs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()
        for leg in list(self._legs):
            leg.abort()
