"""What one core takes to witness a live session's messages: records to numbered messages.

A TLS session between OpenSSL's two ends is recorded first; then its raw bytes are cut into
records, opened, read as frames and checked, as a notary does it, and each message is hashed.
CPU time of this process, so that other programs disturb little.
"""

from __future__ import annotations

import contextlib
import gc
import ssl
import statistics
import time

from attestation.live import LiveReader, LiveRules, exactly
from attestation.tls13.certificates import RootStore
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import Direction, RecordReader
from attestation.upgrade import accept_value
from attestation.venues.parts import Rate
from benchmarks.figures import Figure
from examples.venues.authority import Authority
from prover.libssl import ClientContext

MESSAGES = 20_000
RUNS = 5
SIZE = 200
"""Bytes of a message."""
_HOST = "stream.venue.example"
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: stream.venue.example\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + _KEY + b"\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_value(_KEY) + b"\r\n\r\n"
)


def measure() -> list[Figure]:
    """Witnesses the same messages in reads of many records and of one."""
    return [
        _figure("live message witnessed, busy", 64 * 1024, "reads of 64 KiB", bar=1e6 / 150_000),
        _figure("live message witnessed, alone", 0, "a read for each"),
    ]


def _figure(name: str, read: int, note: str, bar: float | None = None) -> Figure:
    times = [_run(read) / MESSAGES for _ in range(RUNS)]
    seconds = statistics.median(times)
    rate = f"{1e-3 / seconds:.0f} k/s on one core, {SIZE} B, hashed, {note}"
    return Figure(name=name, value=seconds * 1e6, unit="us", bar=bar, note=rate)


def _run(read: int) -> float:
    """Returns the CPU seconds of all messages; ``read`` 0 feeds a record at a time."""
    session = _Session()
    stream = session.push(MESSAGES)
    step = read or len(stream) // MESSAGES
    reads = [stream[start : start + step] for start in range(0, len(stream), step)]
    gc.collect()
    started, count = time.process_time(), 0
    for number, data in enumerate(reads):
        for record in session.records["received"].feed(data):
            session.verifier.feed("received", record)
        taken = session.verifier.take("received")
        for message in session.reader.feed("received", taken, at_us=number):
            count += bool(message.hash)
    seconds = time.process_time() - started
    if count != MESSAGES:
        raise AssertionError(f"{count} of {MESSAGES} messages were read")
    return seconds


class _Session:
    """A live session up to its subscription, and the witness that follows it."""

    def __init__(self) -> None:
        authority = Authority.create()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        authority.issue([_HOST]).load_into(context)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = context.wrap_bio(self._in, self._out, server_side=True)
        client_context = ClientContext(authority.certificate_pem)
        client = client_context.connect(_HOST, keep_raw=False)
        flights: list[tuple[Direction, bytes]] = []
        while not client.handshake():
            self._exchange(client.outgoing(), flights)
            client.feed(flights[-1][1])
        self._exchange(client.outgoing(), flights)
        key = client.ephemeral_key()
        self.records = {way: RecordReader(way) for way in _DIRECTIONS}
        self.verifier = TranscriptVerifier(
            host=_HOST,
            opening=EphemeralOpening(key.private_key),
            roots=RootStore.from_pem(authority.certificate_pem),
            now_us=time.time_ns() // 1_000,
        )
        self.reader = LiveReader(
            LiveRules(
                host=_HOST,
                port=443,
                target=exactly(b"/ws"),
                subscribe=(),
                answer_us=5_000_000,
                sends=Rate(requests=1, seconds=1),
            )
        )
        client.write(_UPGRADE)
        flights.append(("sent", client.outgoing()))
        self._server.write(_SWITCH)
        flights.append(("received", self._out.read()))
        client.close()
        client_context.close()
        for direction, data in flights:
            for record in self.records[direction].feed(data):
                self.verifier.feed(direction, record)
            self.reader.feed(direction, self.verifier.take(direction), at_us=0)
        if not self.reader.subscribed:
            raise AssertionError("the session was not upgraded")

    def push(self, count: int) -> bytes:
        """Returns the raw records of that many messages of the server, one in each."""
        frame = b"\x81\x7e" + SIZE.to_bytes(2, "big") + b'{"bid":"64000.10"}'.ljust(SIZE)
        for _ in range(count):
            self._server.write(frame)
        return self._out.read()

    def _exchange(self, sent: bytes, flights: list[tuple[Direction, bytes]]) -> None:
        flights.append(("sent", sent))
        self._in.write(sent)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._server.do_handshake()
        flights.append(("received", self._out.read()))


_DIRECTIONS: tuple[Direction, Direction] = ("sent", "received")
