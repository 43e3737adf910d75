"""Live sessions for tests: two TLS peers that talk WebSocket, and a witness of their bytes.

The benchmark imports this module, too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from attestation.live import LiveMessage, LiveReader, LiveRules, exactly
from attestation.tls13.application import Plaintext
from attestation.tls13.certificates import ChainCache
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import Direction, RecordReader
from attestation.upgrade import accept_value
from attestation.venues.parts import Rate
from attestation.websocket import Kind, client_frame
from tests.tls13.capture import ServerSide
from tests.tls13.certs import HOST, NOW_US, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import roots

TARGET = b"/ws/v5"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SUBSCRIBE = (b'{"op":"subscribe","channel":"a"}', b'{"op":"subscribe","channel":"b"}')
PING = b"ping"
UPGRADE = (
    b"GET /ws/v5 HTTP/1.1\r\nHost: api.venue.example\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
    b"Sec-WebSocket-Version: 13\r\nUser-Agent: quotary\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_value(KEY) + b"\r\n\r\n"
)
RULES = LiveRules(
    host=HOST,
    port=443,
    target=exactly(TARGET),
    subscribe=tuple(exactly(text) for text in SUBSCRIBE),
    keep_alive=(exactly(PING),),
    answer_us=1_000_000,
    sends=Rate(requests=100, seconds=1),
)
_OPCODES: dict[Kind, int] = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}
MASK = bytes.fromhex("37fa213d")


def said(kind: Kind, payload: bytes = b"") -> bytes:
    """A client's frame."""
    return client_frame(kind, payload, MASK)


def pushed(kind: Kind, payload: bytes = b"", *, final: bool = True, first: bool = True) -> bytes:
    """A server's frame; a fragment where it is not final or not first."""
    size = len(payload)
    opcode = _OPCODES[kind] if first else 0
    if size < 126:
        length = bytes((size,))
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((0x80 * final | opcode,)) + length + payload


SUBSCRIBED = b"".join(said("text", text) for text in SUBSCRIBE)


@dataclass
class Connection:
    """Two TLS peers; ``events`` are their bytes in the order in which a notary sees them."""

    client: Client = field(default_factory=lambda: Client(HOST))
    server: ServerSide = field(default_factory=lambda: Server(server(), tickets=1))
    events: list[tuple[Direction, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pump()

    def pump(self) -> None:
        while True:
            forth = self.client.take()
            if forth:
                self.events.append(("sent", forth))
                self.server.receive(forth)
            back = self.server.take()
            if back:
                self.events.append(("received", back))
                self.client.receive(back)
            if not forth and not back:
                return

    def say(self, data: bytes, *, size: int = 2**14) -> None:
        """Sends from the client, in records of ``size`` bytes."""
        self.client.write(data, size=size)
        self.pump()

    def push(self, data: bytes, *, size: int = 2**14) -> None:
        """Sends from the server, in records of ``size`` bytes."""
        for start in range(0, len(data), size):
            self.server.write(data[start : start + size])
        self.pump()

    def upgrade(self, *, subscribe: bool = True) -> Connection:
        """Upgrades and subscribes."""
        self.say(UPGRADE)
        self.push(SWITCH)
        if subscribe:
            self.say(SUBSCRIBED)
        return self


class Witness:
    """What a notary does with a live session's bytes."""

    def __init__(
        self, private_key: bytes, rules: LiveRules = RULES, chains: ChainCache | None = None
    ) -> None:
        self.records = {one: RecordReader(one) for one in DIRECTIONS}
        self.verifier = TranscriptVerifier(
            host=HOST,
            opening=EphemeralOpening(private_key),
            roots=roots(),
            now_us=NOW_US,
            chain_cache=chains,
        )
        self.reader = LiveReader(rules)

    def feed(self, direction: Direction, data: bytes, at_us: int = 0) -> list[LiveMessage]:
        for record in self.records[direction].feed(data):
            self.verifier.feed(direction, record)
        return self.reader.feed(direction, self.verifier.take(direction), at_us=at_us)


DIRECTIONS: tuple[Direction, Direction] = ("sent", "received")


def witness(connection: Connection, rules: LiveRules = RULES) -> tuple[Witness, list[LiveMessage]]:
    """Witnesses a connection's bytes as they came; the number of the event is the time."""
    seen = Witness(connection.client.private_key, rules)
    messages = []
    for at_us, (direction, data) in enumerate(connection.events):
        messages += seen.feed(direction, data, at_us)
    return seen, messages


# A reader fed with plaintext, without TLS.


def piece(data: bytes, record: int = 0) -> Plaintext:
    return Plaintext(data=bytearray(data), spans=[(record, 0, len(data))] if data else [])


def feed(
    reader: LiveReader, direction: Direction, data: bytes, at_us: int = 0
) -> list[LiveMessage]:
    return reader.feed(direction, piece(data), at_us=at_us)


def upgraded(rules: LiveRules = RULES) -> LiveReader:
    reader = LiveReader(rules)
    feed(reader, "sent", UPGRADE)
    feed(reader, "received", SWITCH)
    return reader


def subscribed(rules: LiveRules = RULES) -> LiveReader:
    reader = upgraded(rules)
    feed(reader, "sent", SUBSCRIBED)
    return reader


def changed(**changes: object) -> LiveRules:
    return dataclasses.replace(RULES, **changes)  # type: ignore[arg-type]
