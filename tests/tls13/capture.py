"""Captures whole TLS 1.3 sessions in memory: raw bytes of both directions and the opening.

``capture`` talks to a real server, Python's ``ssl`` (OpenSSL) on a MemoryBIO;
``exchange`` runs the test client against any sans-IO peer.  No pytest here:
other parts' tests import this module.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from dataclasses import dataclass
from typing import Protocol

from tests.tls13.certs import HOST, NOW_US, Identity, roots_pem, server
from tests.tls13.tlsclient import Client

REQUEST = (
    b"GET /api/v3/ticker/bookTicker?symbol=BTCUSDT HTTP/1.1\r\nHost: api.venue.example\r\n"
    b"Accept: application/json\r\nConnection: close\r\n\r\n"
)
_BODY = (
    b'{"symbol":"BTCUSDT","bidPrice":"64000.10","bidQty":"1.5","askPrice":"64000.20","askQty":"2"}'
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n" % len(_BODY)
) + _BODY


@dataclass(frozen=True)
class Capture:
    """A finished session as a notary recorded it, and what its prover opens."""

    sent: bytes
    received: bytes
    private_key: bytes
    host: str = HOST
    roots_pem: bytes = b""
    now_us: int = NOW_US
    request: bytes = REQUEST
    response: bytes = RESPONSE


class ServerSide(Protocol):
    """What ``exchange`` needs of the server."""

    established: bool

    def receive(self, data: bytes) -> None: ...
    def take(self) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class OpenSslServer:
    """Python's ``ssl`` as a sans-IO server."""

    def __init__(
        self, identity: Identity, *, curve: str | None = None, request_certificate: bool = False
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["http/1.1"])
        if curve:
            context.set_ecdh_curve(curve)
        with tempfile.NamedTemporaryFile() as file:
            file.write(identity.chain_pem + identity.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
        if request_certificate:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=roots_pem().decode())
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.established = False
        self.application = bytearray()

    def receive(self, data: bytes) -> None:
        self._in.write(data)
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            while chunk := self._tls.read(65536):
                self.application += chunk
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # nothing more, or the client's close_notify

    def take(self) -> bytes:
        return self._out.read()

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()


class Pipe:
    """Carries bytes between the test client and a server and records them."""

    def __init__(self, client: Client, server: ServerSide) -> None:
        self.client, self.server = client, server
        self.sent, self.received = bytearray(), bytearray()

    def pump(self) -> None:
        """Carries bytes until both sides are silent."""
        while True:
            forth = self.client.take()
            self.sent += forth
            if forth:
                self.server.receive(forth)
            back = self.server.take()
            self.received += back
            if back:
                self.client.receive(back)
            if not forth and not back:
                return

    def capture(self, **changes: object) -> Capture:
        """Returns what was recorded."""
        return Capture(
            sent=bytes(self.sent),
            received=bytes(self.received),
            private_key=self.client.private_key,
            roots_pem=roots_pem(),
            **changes,  # type: ignore[arg-type]
        )


def exchange(
    client: Client,
    server_side: ServerSide,
    *,
    request: bytes = REQUEST,
    response: bytes = RESPONSE,
) -> Capture:
    """Runs handshake, one request, one response and both close_notify."""
    pipe = Pipe(client, server_side)
    pipe.pump()
    if not (client.established and server_side.established):
        raise ConnectionError("the handshake did not complete")
    client.write(request)
    pipe.pump()
    server_side.write(response)
    pipe.pump()
    server_side.close()
    client.close()
    pipe.pump()
    if bytes(client.application) != response:
        raise ConnectionError("the client did not read the response")
    return pipe.capture(request=request, response=response)


def capture(
    *,
    identity: Identity | None = None,
    client: Client | None = None,
    curve: str | None = None,
    request_certificate: bool = False,
    request: bytes = REQUEST,
    response: bytes = RESPONSE,
) -> Capture:
    """Captures a session with a real OpenSSL server; ``curve`` restricts its groups."""
    side = OpenSslServer(identity or server(), curve=curve, request_certificate=request_certificate)
    return exchange(client or Client(HOST), side, request=request, response=response)
