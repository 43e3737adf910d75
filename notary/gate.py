"""The gate: which bytes of a witnessed connection may pass now.  Sans-IO.

Laws of this module:

1. Everything that decides whether a byte passes lives here and in ``transitions``: its
   ``TABLE`` and the two sets ``TO_VENUE`` and ``TO_CLIENT``; the relay only carries it out.
2. An illegal transition raises RefusedError (``gate``) and nothing happens.
3. Whole records pass, never parts: what was recorded is what passed.
4. Both directions are held from the client's first protected record after the
   ServerHello (without keys, Finished and data look alike) until the session's
   ``opened`` row is durable and, before a key log, its commitment is here; of a live
   session, until its handshake is opened and verified.
5. ``sent`` records are stamped when forwarded, ``received`` ones when they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from attestation.errors import MalformedError, RefusedError
from attestation.tls13.application import check_alert
from attestation.tls13.hello import HelloReader
from attestation.tls13.registry import HELLO_RETRY_RANDOM
from attestation.tls13.wire import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    Direction,
    Record,
    RecordReader,
)
from notary.limits import SessionLimits
from notary.recorded import GateTimes, Stream
from notary.transitions import (
    PATH_OF,
    RELEASED_FROM,
    TABLE,
    TO_CLIENT,
    TO_VENUE,
    Event,
    Path,
    State,
)


class Passing(NamedTuple):
    """Bytes that may be written now."""

    to_venue: bytes = b""
    to_client: bytes = b""


_NOTHING = Passing()
_STAMPS: Mapping[Event, str] = MappingProxyType(
    {
        Event.CONNECTED: "connected_us",
        Event.RELEASE: "released_us",
        Event.SEAL: "sealed_us",
        Event.OPEN: "opened_us",
    }
)


class Gate:
    """One connection's gate; see the laws above.

    ``permitted`` and ``committed`` are what a release waits for: the durable row of
    the session whose turn it is, and, under the binding ``template``, the
    commitment to the connection's key log.  Raises MalformedError (W1, W2),
    RefusedError (W13, ``gate``).
    """

    __slots__ = (
        "_hello",
        "_held",
        "_held_bytes",
        "_limits",
        "_outbox",
        "_readers",
        "_retry",
        "_streams",
        "answered",
        "committed",
        "path",
        "permitted",
        "received",
        "sent",
        "state",
        "times",
    )

    def __init__(self, mode: str, host: str, limits: SessionLimits, binding: str = "full") -> None:
        self.state = State.CONNECT
        self.path: Path = PATH_OF[mode]
        self.times = GateTimes()
        self.sent = Stream("sent")
        self.received = Stream("received")
        self._limits = limits
        self._hello = HelloReader(host)
        self._readers = {name: RecordReader(name) for name in ("sent", "received")}
        self._held: list[Record] = []
        self._held_bytes = 0
        self._outbox: list[bytes] = []
        self._retry = False
        self._streams = False
        self.answered = False
        """Whether the venue answered the last ClientHello."""
        self.permitted = False
        self.committed = binding != "template"

    def move(self, event: Event, now_us: int) -> Passing:
        """Makes a transition and returns what it lets pass."""
        self._advance(event, now_us)
        self._release(now_us)
        return self._drain(now_us)

    def permit(self, now_us: int) -> Passing:
        """Tells that the ``opened`` row is durable: releases, now or once a record waits."""
        before = (State.FLIGHT, State.HELD, State.OPENED, State.VERIFIED)
        if self.permitted or self.state not in before:
            raise _illegal(self.state, "permit")
        self.permitted = True
        self._release(now_us)
        return self._drain(now_us)

    def commit(self, now_us: int) -> Passing:
        """Tells that the commitment came: once, after the ServerHello, before the release."""
        if self.committed or not self.answered or self.state not in (State.FLIGHT, State.HELD):
            raise _illegal(self.state, "commit")
        self.committed = True
        self._release(now_us)
        return self._drain(now_us)

    def receive(self, direction: Direction, data: bytes, now_us: int) -> Passing:
        """Takes bytes off the wire and returns what may pass."""
        if self._streams and direction == "received":
            return self._stream(data, now_us)
        if self.state in (State.CONNECT, State.CLOSED):
            raise _illegal(self.state, "bytes")
        for record in self._readers[direction].feed(data):
            if direction == "sent":
                self._client_record(record, now_us)
            else:
                self._venue_record(record, now_us)
        return self._drain(now_us)

    def _stream(self, data: bytes, now_us: int) -> Passing:
        """Passes on what a live venue sends, which lasts for days.

        Its Finished was protected, so that the reader lets nothing in plaintext through,
        and its rate bounds it: nothing else is for the gate to judge.
        """
        records = self._readers["received"].feed(data)
        if not records:
            return _NOTHING
        stream = self.received
        for record in records:
            stream.add(record, now_us)
        if len(records) == 1:
            return Passing(b"", records[0].raw)
        return Passing(b"", b"".join([record.raw for record in records]))

    def check_whole(self, direction: Direction) -> None:
        """Raises MalformedError (W1) if a direction ends within a record."""
        if self._readers[direction].pending_bytes:
            raise MalformedError(f"{direction}: a record is cut short", rule="W1")

    def forget(self) -> None:
        """Drops what was recorded, once nothing more is made of it; sizes stay."""
        for stream in (self.sent, self.received):
            stream.records.clear()
            stream.times.clear()
        self._held.clear()
        self._outbox.clear()

    @property
    def half_used(self) -> bool:
        """Whether a direction has used up half of a limit."""
        limits, sent, received = self._limits, self.sent, self.received
        return (
            2 * max(len(sent.records), len(received.records)) > limits.records
            or 2 * received.size > limits.received_bytes
            or 2 * sent.size > limits.sent_bytes
        )

    @property
    def held(self) -> tuple[Record, ...]:
        """The client's records that wait."""
        return tuple(self._held)

    def _advance(self, event: Event, now_us: int) -> None:
        target = TABLE[self.path].get(self.state, {}).get(event)
        if target is None:
            raise _illegal(self.state, event)
        self.state = target
        self._streams = self.path == "live" and target in (State.RELEASED, State.ISSUED)
        stamp = _STAMPS.get(event)
        if stamp is not None:
            setattr(self.times, stamp, now_us)
        if event is Event.HELLO and self.times.hello_us is None:
            self.times.hello_us = now_us
        elif event is Event.NEXT:
            self.path = "follow"
            self.permitted = False
            self.times.released_us = None

    def _client_record(self, record: Record, now_us: int) -> None:
        self._bound(self.sent, record, self._limits.sent_bytes)
        _refuse_alert("sent", record)
        if self.state is State.HELLO or (
            self.state is State.FLIGHT and record.content_type == HANDSHAKE
        ):
            self._hello_record(record, now_us)
            return
        if self.state is State.FLIGHT and record.content_type == APPLICATION_DATA:
            if not self.answered or self._hello.mid_message:
                raise MalformedError(
                    "protected record of the client before the ServerHello", rule="W2"
                )
            self._advance(Event.PROTECTED, now_us)
        self._hold(record)
        self._release(now_us)

    def _release(self, now_us: int) -> None:
        ready = self.state is RELEASED_FROM[self.path] and self._held
        if ready and self.permitted and self.committed:
            self._advance(Event.RELEASE, now_us)

    def _hello_record(self, record: Record, now_us: int) -> None:
        if self.state is State.FLIGHT and not self._retry:
            raise MalformedError("a second ClientHello that was not asked for", rule="W2")
        before = len(self._hello.hellos)
        self._hello.feed(record)
        self._hold(record)
        if len(self._hello.hellos) > before:
            self.answered = self._retry = False
            self._advance(Event.HELLO, now_us)

    def _hold(self, record: Record) -> None:
        self._held.append(record)
        self._held_bytes += len(record.raw)

    def _venue_record(self, record: Record, now_us: int) -> None:
        self._bound(self.received, record, self._limits.received_bytes)
        _refuse_alert("received", record)
        if self.state is State.HELLO:
            raise MalformedError("the venue spoke before the ClientHello", rule="W2")
        if record.content_type == HANDSHAKE:
            self.answered = True
            # ServerHello and HelloRetryRequest differ by their random (RFC 8446 section 4.1.3).
            self._retry = record.payload[6:38] == HELLO_RETRY_RANDOM
        self.received.add(record, now_us)
        self._outbox.append(record.raw)

    def _drain(self, now_us: int) -> Passing:
        to_venue = to_client = b""
        # A ClientHello in fragments waits until all of it passed W2.
        if (
            self._held
            and self.state in TO_VENUE[self.path]
            and self.state is not State.HELLO
            and not self._hello.mid_message
        ):
            for record in self._held:
                self.sent.add(record, now_us)
            to_venue = b"".join([record.raw for record in self._held])
            self._held.clear()
            self._held_bytes = 0
        if self._outbox and self.state in TO_CLIENT[self.path]:
            to_client = b"".join(self._outbox)
            self._outbox.clear()
        return Passing(to_venue, to_client)

    def _bound(self, stream: Stream, record: Record, most: int) -> None:
        if self.path == "live" and self.times.released_us is not None:
            return  # What lasts for days is metered by its rate.
        records, size = len(stream.records), stream.size
        if stream is self.sent:
            records, size = records + len(self._held), size + self._held_bytes
        if records >= self._limits.records:
            raise _over(stream.direction, "records", self._limits.records)
        if size + len(record.raw) > most:
            raise _over(stream.direction, "bytes", most)


def _refuse_alert(direction: Direction, record: Record) -> None:
    """Raises MalformedError (W6): an alert in plaintext ends a handshake, whoever sent it."""
    if record.content_type == ALERT:
        check_alert(direction, record.payload)
        raise MalformedError(f"{direction}: closed before the handshake", rule="W6")


def _illegal(state: State, what: str) -> RefusedError:
    return RefusedError(
        f"{what!r} is not possible in state {state}", rule="gate", found=state, http_status=409
    )


def _over(direction: str, what: str, limit: int) -> RefusedError:
    return RefusedError(
        f"{direction}: more {what} than a session may have",
        rule="W13",
        wanted=limit,
        http_status=429,
    )
