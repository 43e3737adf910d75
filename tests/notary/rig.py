"""A notary in one event loop with a scripted venue: what the relay's tests stand on.

The clock is the test certificates' time plus the steady one; the venue is
OpenSSL on real sockets, its answers and faults scripted; the client is the
sans-IO test client, so that a test can send any bytes at any moment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attestation.encoding import encode
from attestation.keys import SigningKey
from attestation.request import SessionRequest
from attestation.seal import SignedSeal
from attestation.tls13.certificates import RootStore
from attestation.venues import VenueFile, parse_venue
from notary.admission import Admission
from notary.clock import Clock
from notary.context import Context
from notary.crowd import Crowd
from notary.desk import Desk
from notary.limits import Deadlines, ProverLimits, SessionLimits
from notary.metrics import Metrics
from notary.relay import Relay, VenueLeg, dial
from notary.resolve import Endpoint, Resolver
from notary.sessions import SessionRegistry
from notary.signer import Signer
from notary.store import Store
from tests.steady import STEADY, keep_steady
from tests.tls13.capture import OpenSslServer
from tests.tls13.certs import HOST, NOW_US, roots_pem, server
from tests.tls13.tlsclient import Client

NOTARY = SigningKey(name="notary.test.example", algorithm="ed25519", seed=b"\x01" * 32)
STRANGER = SigningKey(name="stranger.example", algorithm="ed25519", seed=b"\x03" * 32)
PROVER = SigningKey(name="prover.test.example", algorithm="ed25519", seed=b"\x02" * 32)
VENUE_FILE = f"""
name = "testvenue"
hosts = ["{HOST}"]
port = 443
markets = [{{ market = "BTC/USD", instrument = "BTCUSDT", quote = "USDT" }}]
[rest]
method = "GET"
target = "/ticker?symbol={{instrument}}"
prices = "string"
bid = "/bid"
ask = "/ask"
instrument = "/symbol"
rate = {{ requests = 1, seconds = 1 }}
"""
BODY = b'{"symbol":"BTCUSDT","bid":"64000.10","ask":"64000.20"}'


def http_request(target: str = "/ticker?symbol=BTCUSDT", *, close: bool = True) -> bytes:
    """Returns a GET as the venue file wants it."""
    connection = "close" if close else "keep-alive"
    return f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: {connection}\r\n\r\n".encode()


def http_response(body: bytes = BODY, *, headers: str = "", close: bool = True) -> bytes:
    """Returns a 200 with a length."""
    connection = "close" if close else "keep-alive"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: {connection}\r\n"
    return (head + headers + "\r\n").encode() + body


class VenueConnection(asyncio.Protocol):
    """OpenSSL's server on a socket; ``answer`` is called with each chunk of requests."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.side = OpenSslServer(server())
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._venue.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._venue.raw_received += len(data)
        self.side.receive(data)
        self.flush()
        if self.side.application:
            request = bytes(self.side.application)
            self.side.application.clear()
            self._venue.requests.append(request)
            self._venue.answer(self, request)

    def write(self, data: bytes) -> None:
        """Encrypts and sends."""
        self.side.write(data)
        self.flush()

    def close(self) -> None:
        """Sends close_notify and closes."""
        self.side.close()
        self.flush()
        self.transport.close()

    def flush(self) -> None:
        """Sends what OpenSSL has ready."""
        self.transport.write(self.side.take())


def answer_and_close(connection: VenueConnection, request: bytes) -> None:
    """The well-behaved venue."""
    connection.write(http_response())
    connection.close()


def answer_and_keep(connection: VenueConnection, request: bytes) -> None:
    """The well-behaved venue of a kept-alive connection."""
    connection.write(http_response(close=False))


@dataclasses.dataclass
class Venue:
    """A scripted venue: what it saw, and how it answers."""

    answer: Callable[[VenueConnection, bytes], None] = answer_and_close
    connections: list[VenueConnection] = dataclasses.field(default_factory=list)
    requests: list[bytes] = dataclasses.field(default_factory=list)
    raw_received: int = 0


@dataclasses.dataclass
class Rig:
    """A running notary and venue."""

    desk: Desk
    context: Context
    venue: Venue
    relay: tuple[str, int]
    folder: Path

    def envelope(self, key: SigningKey = PROVER, **changes: Any) -> bytes:
        """Returns a session request as a body, signed by a prover."""
        members: dict[str, Any] = {
            "notary": NOTARY.name,
            "at_us": self.context.clock.now_us(),
            "nonce": os.urandom(16).hex(),
            "prover": key.verifying_key.vkey,
            "mode": "sealed",
            "binding": "full",
            "venue": "testvenue",
            "instrument": "BTCUSDT",
            "adhoc": "test",
        }
        request = SessionRequest(**{**members, **changes})
        signature = key.sign(request.encode()).hex()
        return encode({"request": request.to_json(), "signature": signature})

    def session(self, **changes: Any) -> dict[str, Any]:
        """Creates a session."""
        return self.desk.create_session(self.envelope(**changes))

    async def row(self, session: str) -> dict[str, Any]:
        """Returns a session's row once every write so far is durable."""
        await self.context.flush()
        row = await self.context.store.session(session)
        assert row is not None
        return row

    async def ended(self, session: str, reason: str) -> dict[str, Any]:
        """Waits until a session has ended for ``reason``; returns its row."""
        found = self.desk.registry.get(session)
        await until(lambda: found.ended is not None)
        assert found.ended == reason, found.ended
        return await self.row(session)

    def client(self, session: dict[str, Any], **options: Any) -> Tunnel:
        """Returns a client for a session, not yet connected."""
        return Tunnel(self, session, Client(HOST, **options))

    async def attest(self, session: dict[str, Any], client: Tunnel, **changes: Any) -> Any:
        """Opens and asks for the whole body and a quote."""
        body = {"opening": client.opening(), "request": attestation_request(session, **changes)}
        content = json.dumps(body).encode()
        issued = await self.desk.attest(session["id"], session["token"], content)
        return None if issued is None else issued.attestation

    async def seal(self, session: dict[str, Any]) -> SignedSeal:
        """Waits for the seal."""
        return await self.desk.seal(session["id"], session["token"])


async def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after twenty seconds."""
    deadline = STEADY.time() + 20
    while not condition():
        assert STEADY.time() < deadline, "the condition never held"
        await asyncio.sleep(0.001)


def bearer(session: dict[str, Any]) -> dict[str, str]:
    """Returns the header that shows a session's token."""
    return {"Authorization": f"Bearer {session['token']}"}


def attestation_request(session: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Returns a request for the body, hash and quote."""
    return {
        "type": "quotary/request/v1",
        "session": session["id"],
        "hash": "sha256",
        "signature": "ed25519",
        "sections": [
            {
                "name": "response.body",
                "direction": "received",
                "scheme": "tree",
                "salt": "ab" * 32,
                "split": "json",
            }
        ],
        "extensions": [{"id": "quote/v1"}],
        **changes,
    }


class Tunnel:
    """A test client on a socket to the relay."""

    def __init__(self, rig: Rig, session: dict[str, Any], tls: Client) -> None:
        self._rig = rig
        self._session = session
        self.tls = tls
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self, *, place: str | None = None, token: str | None = None) -> bytes:
        """Sends the CONNECT; returns the status line and what came with it."""
        self.reader, self.writer = await asyncio.open_connection(*self._rig.relay)
        target = place or f"{self._session['host']}:{self._session['port']}"
        secret = f"{self._session['id']}:{token or self._session['token']}"
        credentials = base64.b64encode(secret.encode()).decode()
        self.writer.write(
            f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
            f"Proxy-Authorization: Basic {credentials}\r\n\r\n".encode()
        )
        return await self.reader.readuntil(b"\r\n\r\n")

    async def handshake(self) -> None:
        """Connects and completes the handshake; the client's Finished is not sent yet."""
        answer = await self.connect()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        while not self.tls.established:
            self.flush()
            assert await self.receive(), "the relay hung up"

    async def fetch(self, request: bytes | None = None) -> None:
        """Handshakes and sends a request together with the client's Finished."""
        await self.handshake()
        self.send(request or http_request())

    def send(self, data: bytes, **options: int) -> None:
        """Sends application data, and what the handshake left to send."""
        self.tls.write(data, **options)
        self.flush()

    def flush(self) -> None:
        """Writes what the client has ready."""
        self.writer.write(self.tls.take())

    async def receive(self) -> bool:
        """Reads once; False at the end of the stream."""
        async with asyncio.timeout(20):
            data = await self.reader.read(65_536)
        if data:
            self.tls.receive(data)
        return bool(data)

    async def read_to_end(self) -> bytes:
        """Reads until the relay closes; returns the application data."""
        with contextlib.suppress(ConnectionError):
            while await self.receive():
                pass
        return bytes(self.tls.application)

    async def read_response(self, size: int) -> None:
        """Reads until so much application data is there."""
        while len(self.tls.application) < size:
            assert await self.receive(), "the connection ended early"

    def opening(self) -> dict[str, str]:
        """Returns the opening of the client's key."""
        return {"kind": "ephemeral", "private_key": self.tls.private_key.hex()}

    def close(self) -> None:
        """Closes the socket."""
        self.writer.close()


def make_clock() -> Clock:
    """Returns a clock that starts at the test certificates' time."""
    return Clock(STEADY.wall_from(NOW_US * 1000), STEADY.ns)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    venue: Venue | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
    limits: SessionLimits | None = None,
    deadlines: Deadlines | None = None,
    prover_limits: ProverLimits | None = None,
    unknown_limits: ProverLimits | None = None,
    resolver: Resolver | None = None,
    anonymous: bool = False,
    provers: frozenset[str] | None = None,
    connections: int = 100,
    address_connections: int = 1_000,
    admission: Mapping[str, Any] | None = None,
    dial: Callable[[Endpoint], Awaitable[VenueLeg]] = dial,
) -> AsyncIterator[Rig]:
    """Runs a notary and a venue on loopback until the end of the block."""
    keep_steady()
    loop = asyncio.get_running_loop()
    venue = venue or Venue()
    venue_server = await loop.create_server(
        lambda: VenueConnection(venue), "127.0.0.1", 0, backlog=100
    )
    port = venue_server.sockets[0].getsockname()[1]
    fixed = MappingProxyType({(HOST, 443): Endpoint(address="127.0.0.1", port=port)})
    file: VenueFile = parse_venue(VENUE_FILE.encode())
    context = Context(
        clock=clock or make_clock(),
        random=os.urandom,
        signer=Signer(NOTARY.name, [NOTARY]),
        store=store or Store(folder / "notary.db"),
        roots=RootStore.from_pem(roots_pem()),
        resolver=resolver or Resolver(connect_to=fixed),
        limits=limits or SessionLimits(),
        deadlines=deadlines or Deadlines(),
        extensions=("quote/v1",),
        software="quotary test",
        metrics=Metrics(),
    )
    rules = Admission(
        notary=NOTARY.name,
        venues={"testvenue": file},
        hosts=frozenset({(HOST, 443), ("intern.example", 443)}),
        provers=provers if provers is not None else frozenset({PROVER.verifying_key.vkey}),
        unknown_provers=provers is None or admission is not None,
        anonymous=anonymous,
        prover_limits=prover_limits or ProverLimits(),
        unknown_limits=unknown_limits or ProverLimits(sessions=1),
        **(admission or {}),
    )
    registry = SessionRegistry(rules, clock=context.clock, random=os.urandom)
    desk = Desk(context, registry, proxy="127.0.0.1:1")
    crowd = Crowd(most=connections, per_address=address_connections, strangers=connections // 2)
    relay = Relay(desk, crowd=crowd, dial=dial)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    await relay.listen(listener)
    try:
        yield Rig(desk, context, venue, listener.getsockname()[:2], folder)
    finally:
        relay.stop_accepting()
        await desk.stop()
        await relay.drain(0)
        venue_server.close()
        for connection in venue.connections:
            connection.transport.abort()
        context.store.close()
        await asyncio.sleep(0)
