"""A live connection at work: TLS and one venue's channel over a socket of the event loop.

What arrives is read as it arrives, a slice at a time; until all of it is read, no more is
taken from the socket.  So nothing is queued and nothing grows: a venue that sends more than
can be read fills its own socket, and takes no other venue's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, cast

from attestation.errors import MalformedError, QuotaryError, UnavailableError
from prover.feed.conversation import Conversation, Heard, Moment, Place
from prover.feed.records import Started
from prover.libssl import TlsClient

CLOSE_S = 2.0
"""How long the venue's answer to a close frame is waited for."""
SLICE = 16 * 1024
"""Bytes of plaintext that are read before another link has its turn."""
MAX_UNSENT = 64 * 1024
"""Bytes that wait to be sent: keep-alives of a path that takes none."""
MAX_HELD = 10_000
"""Messages that may come before the session's start is attested."""


class Tunnel(Protocol):
    """A connection to a venue whose TLS handshake is complete, and whoever witnesses it."""

    session: str
    tls: TlsClient
    socket: socket.socket

    async def started(self, conversation: Conversation) -> Started | None:
        """Returns the checked attestation of the session's start, once subscribed.

        None where nobody witnesses.  Raises what is wrong with it.
        """

    async def fault(self, error: QuotaryError) -> QuotaryError:
        """Returns what the witness says ended the connection, else the error itself."""

    def close(self) -> None:
        """Gives up what the tunnel holds beside socket and TLS; more than once is harmless."""


class Dial(Protocol):
    """Opens tunnels: through a notary's relay, or straight."""

    async def __call__(self, place: Place) -> Tunnel:
        """Connects, and completes the handshake."""


class End(NamedTuple):
    """How a link ended: a reason of the log where this side can tell, and the error."""

    reason: str | None
    detail: str
    error: QuotaryError | None = None


def system_moment() -> Moment:
    """Now, by the system's clocks."""
    return Moment(time.time_ns() // 1_000, time.monotonic_ns() // 1_000)


class Link(asyncio.Protocol):
    """One channel over one socket, from the upgrade to its end.

    ``on_heard`` takes each message and when it arrived (wall clock); until ``release``
    messages are held back.  ``ended`` completes once, whatever ends the link.
    """

    def __init__(
        self,
        tls: TlsClient,
        conversation: Conversation,
        *,
        session: str,
        on_heard: Callable[[Heard, int], None],
        moment: Callable[[], Moment] = system_moment,
    ) -> None:
        self.session = session
        self._tls = tls
        self.conversation = conversation
        self._on_heard = on_heard
        self._moment = moment
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held: list[tuple[Heard, int]] | None = []
        self._arrived = bytearray()
        self._paused = False
        self._slice: asyncio.Handle | None = None
        self._closing = False
        self.ended: asyncio.Future[End] = self._loop.create_future()
        self.subscribed: asyncio.Future[None] = self._loop.create_future()
        self.unwanted = asyncio.Event()
        """Set when another link should take over: the venue asked, or says nothing."""
        self.why_unwanted = ""
        self.quoted = asyncio.Event()
        """Set with the first quote: from then on the notary can attest one of this session."""

    @classmethod
    async def start(
        cls,
        tunnel: Tunnel,
        conversation: Conversation,
        *,
        on_heard: Callable[[Heard, int], None],
        moment: Callable[[], Moment] = system_moment,
    ) -> Link:
        """Asks for the upgrade over a tunnel."""
        link = cls(
            tunnel.tls,
            conversation,
            session=tunnel.session,
            on_heard=on_heard,
            moment=moment,
        )
        await link._loop.create_connection(lambda: link, sock=tunnel.socket)
        return link

    def release(self) -> None:
        """Hands over the messages that were held back, and all others as they come."""
        held, self._held = self._held or [], None
        for heard, at_us in held:
            self._on_heard(heard, at_us)

    def close(self) -> None:
        """Says goodbye and ends the link soon, by the venue's answer or without it."""
        if self._closing or self.ended.done():
            return
        self._closing = True
        self.conversation.close()
        self._flush()
        self._schedule(self._moment().steady_us + int(CLOSE_S * 1_000_000))

    def abort(self, detail: str) -> None:
        """Ends the link at once."""
        self._end(End("prover_closed", detail))

    # The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Plaintext that came with the handshake's last bytes is read, too.
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        with self._failing():
            self._tls.feed(data)
            self._arrived += self._tls.read()
            if self._slice is None:
                self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        while self._arrived and not self.ended.done():
            with self._failing():
                self._take_slice()
        self._over("the connection ended" if exc is None else f"the connection failed: {exc}")

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except QuotaryError as error:
            self._fail(error)
        except Exception as error:
            # A fault of this program must not reach another venue's link.
            self._fail(UnavailableError(f"internal: {error!r}"[:200], rule="internal"))
            raise

    def _continue(self) -> None:
        self._slice = None
        if not self.ended.done():
            with self._failing():
                self._read_on()

    def _read_on(self) -> None:
        """Reads a slice of what arrived; the rest when the other links had their turn."""
        assert self._transport is not None
        self._take_slice()
        if self.ended.done():
            return
        if self._arrived:
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._slice = self._loop.call_soon(self._continue)
            return
        if self._tls.close_notify:
            self._over("the venue ended TLS")
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _take_slice(self) -> None:
        piece = bytes(self._arrived[:SLICE])
        del self._arrived[:SLICE]
        self._take(piece)
        self._flush()

    def _take(self, data: bytes) -> None:
        conversation = self.conversation
        if not data:
            return
        now = self._moment()
        for heard in conversation.feed(data, now):
            if self._held is None:
                self._on_heard(heard, now.wall_us)
            elif len(self._held) < MAX_HELD:
                self._held.append((heard, now.wall_us))
            else:
                raise UnavailableError("the session's start is not attested", rule="start")
        if conversation.venue_closed:
            self._flush()
            self._over("the venue closed the channel")
            return
        if conversation.has_quoted:
            self.quoted.set()
        if conversation.reconnect:
            self._unwant("the venue asked for another connection")
        if conversation.subscribed and not self.subscribed.done():
            self.subscribed.set_result(None)
        if self._timer is None:
            self._tick()

    def _tick(self) -> None:
        """Says what is due, watches for silence, and comes back when it is next."""
        self._timer = None
        if self.ended.done():
            return
        if self._closing:
            self._over("closed")
            return
        now = self._moment()
        conversation = self.conversation
        due_us = conversation.tick(now)
        self._flush()
        if conversation.subscribed and not self.subscribed.done():
            self.subscribed.set_result(None)
        if due_us is None:
            return
        if now.steady_us >= conversation.silent_us:
            self._unwant("the venue is silent")
            due_us = now.steady_us + 1_000_000
        elif (broken_us := conversation.quoteless_us) is not None and now.steady_us >= broken_us:
            self._unwant("the venue quotes nothing")
        self._schedule(due_us)

    def _schedule(self, due_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Once a second is enough to see that a channel fell silent.
        wait_s = min(max(due_us - self._moment().steady_us, 1_000) / 1_000_000, 1.0)
        self._timer = self._loop.call_later(CLOSE_S if self._closing else wait_s, self._tick)

    def _flush(self) -> None:
        if self.ended.done():
            return
        data = self.conversation.outgoing()
        if data:
            self._tls.write(data)
        raw = self._tls.outgoing()
        if raw and self._transport is not None and not self._transport.is_closing():
            self._transport.write(raw)
            if self._transport.get_write_buffer_size() > MAX_UNSENT:
                raise UnavailableError("the path takes nothing any more", rule="network")

    def _unwant(self, why: str) -> None:
        if not self.unwanted.is_set():
            self.why_unwanted = why
            self.unwanted.set()

    def _over(self, detail: str) -> None:
        reason = None
        if self._closing:
            reason = "prover_closed"
        elif self.conversation.venue_closed:
            reason = "venue_closed"
        self._end(End(reason, detail))

    def _fail(self, error: QuotaryError) -> None:
        reason = "venue_malformed" if isinstance(error, MalformedError) else None
        self._end(End(reason, str(error), error))

    def _end(self, end: End) -> None:
        if self.ended.done():
            return
        self.ended.set_result(end)
        self.unwanted.set()
        if not self.subscribed.done():
            self.subscribed.set_exception(end.error or UnavailableError(end.detail, rule="network"))
            self.subscribed.exception()  # Retrieved: nobody may be waiting.
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            # What was said last, a close frame perhaps, still goes out.
            self._transport.close()
        self._tls.close()
