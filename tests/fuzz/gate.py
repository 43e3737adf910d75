"""Target: the notary's gate under any bytes and any order of events.

The laws of notary/gate.py, checked from outside: what passes is whole records of
what came, in order; nothing passes while both directions are held; in sealed mode
the client gets nothing after the handshake before the attestation is issued, in a live
session neither side gets anything before it is verified.
"""

from __future__ import annotations

from collections.abc import Iterable

from attestation.errors import MalformedError, RefusedError
from attestation.tls13.wire import Direction
from notary.gate import Gate, Passing
from notary.limits import SessionLimits
from notary.transitions import Event, State
from tests.fuzz.edits import Edits
from tests.fuzz.oracle import Target, demand
from tests.fuzz.tls import honest
from tests.tls13.certs import HOST

_EVENTS = tuple(Event)
_ITS_OWN = (Event.HELLO, Event.PROTECTED, Event.RELEASE)
"""What the gate itself makes of bytes, permission and commitment."""
_LIMITS = SessionLimits(sent_bytes=4_000, received_bytes=8_000, records=40)
_KINDS = (
    ("sealed", "full"),
    ("open", "full"),
    ("sealed", "template"),
    ("open", "template"),
    ("live", "full"),
)
_HELD = (State.HELD, State.SEALED, State.OPENED, State.VERIFIED)


class _Watched:
    """A gate and what went in and out of it."""

    def __init__(self, mode: str, binding: str) -> None:
        self.gate = Gate(mode, HOST, _LIMITS, binding)
        self.mode = mode
        self.now_us = 0
        self.given: dict[Direction, bytearray] = {"sent": bytearray(), "received": bytearray()}
        self.passed: dict[Direction, bytearray] = {"sent": bytearray(), "received": bytearray()}

    def take(self, passing: Passing) -> None:
        """Compares what passes with the laws."""
        gate = self.gate
        self.passed["sent"] += passing.to_venue
        self.passed["received"] += passing.to_client
        for direction in self.given:
            whole = self.given[direction].startswith(self.passed[direction])
            demand(whole, f"{direction}: what passed is not what came")
        demand(gate.sent.raw() == self.passed["sent"], "what was recorded is not what passed")
        demand(
            self.given["received"].startswith(gate.received.raw()), "the venue's record is another"
        )
        for stream in (gate.sent, gate.received):
            demand(stream.times == sorted(stream.times), "times run backwards")
            demand(len(stream.times) == len(stream.records), "a record without its time")
            bounded = self.mode != "live" or gate.times.released_us is None
            demand(not bounded or stream.size <= _LIMITS.received_bytes, "too many bytes")
        if gate.state is State.RELEASED:
            demand(gate.permitted and gate.committed, "released before its time")
        if gate.state in _HELD:
            demand(not passing.to_venue, f"to the venue in state {gate.state}")
        if self.mode == "live" and gate.state in _HELD:
            demand(not passing.to_client, f"to the client in state {gate.state}")
        if self.mode == "sealed" and gate.state in (State.HELD, State.RELEASED, *_HELD):
            demand(not passing.to_client, f"to the client in state {gate.state}")
        if gate.state is not State.HELLO and passing.to_venue and gate.path != "follow":
            demand(gate.times.hello_us is not None, "bytes before the ClientHello was judged")


def gate(data: bytes) -> None:
    """Bytes of both sides, true ones and others, and events of the control API, in any order."""
    edits = Edits(data)
    watched = _Watched(*_KINDS[edits.number(len(_KINDS))])
    streams = {name: honest().raw(name) for name in ("sent", "received")}  # type: ignore[arg-type]
    try:
        watched.take(watched.gate.move(Event.CONNECTED, 0))
        for _ in range(200):
            if not edits.left:
                break
            watched.now_us += 1
            _step(watched, streams, edits)
    except MalformedError:
        return  # the relay ends the connection; nothing was said to pass


def _step(watched: _Watched, streams: dict[str, bytes], edits: Edits) -> None:
    gate_ = watched.gate
    choice = edits.number(8)
    state, path = gate_.state, gate_.path
    before = (len(gate_.sent.records), len(gate_.received.records))
    try:
        if choice < 5:
            direction: Direction = "received" if edits.number(2) else "sent"
            size = edits.number(2_048)
            chunk, streams[direction] = streams[direction][:size], streams[direction][size:]
            if choice == 4:
                chunk = edits.some()
            if gate_.state not in (State.CONNECT, State.CLOSED):
                watched.given[direction] += chunk
            watched.take(gate_.receive(direction, chunk, watched.now_us))
        elif choice == 5:
            commits = gate_.permitted and not gate_.committed
            watched.take((gate_.commit if commits else gate_.permit)(watched.now_us))
        else:
            event = _EVENTS[edits.number(len(_EVENTS))]
            if event not in _ITS_OWN:
                watched.take(gate_.move(event, watched.now_us))
    except RefusedError as error:
        if error.rule == "W13":
            raise MalformedError("over a limit", rule="W13") from error
        demand(error.rule == "gate", "refused for another reason")
        after = (len(gate_.sent.records), len(gate_.received.records))
        demand((gate_.state, gate_.path, after) == (state, path, before), "something happened")


def gate_seeds() -> Iterable[bytes]:
    size = len(honest().pieces["received"][0].inner)
    hello = bytes((0, 0, *len(honest().pieces["sent"][0].inner).to_bytes(2, "big")))
    flight = bytes((0, 1, 4, 0))
    rest = bytes((0, 0, 7, 255))
    for mode in (0, 1):
        start = bytes((mode,)) + hello + flight + rest
        sealed = () if mode else (6, 4)
        yield start + bytes((5,)) + flight + bytes((*sealed, 6, 5, 6, 6, 6, 7, 6, 8, 6, 9))
        twice = bytes((mode + 2,)) + hello + flight + rest + bytes((5, 5, 5))
        yield twice + flight + bytes((*sealed, 6, 5, 6, 6, 6, 7))
        yield bytes((mode, 5)) + hello + bytes((5,)) + flight + rest + flight + bytes((7, 8))
        yield start + bytes((4, 0, 0, 5)) + b"\x17\x03\x03\x00\x10" + bytes((size % 256,))


TARGETS = (Target(name="gate", run=gate, seeds=gate_seeds, max_size=512),)
