"""The prover's side of ``benchmarks.floor``: an httpx transport with the fewest steps."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from typing import Any

import httpx
from nacl.signing import VerifyKey

from benchmarks.floor import ASK, CLAIM_BYTES, CPU, OPEN, SEAL, SIGNED_BYTES

READ_SIZE = 64 * 1024


class FloorTransport(httpx.BaseTransport):
    """Fetches through the floor's relay, by Python's own TLS.

    ``mode``: of a ``sealed`` one the response comes with its attestation checked; of an
    ``open`` one ``attested`` waits for that.  ``ready`` is what the relay printed.
    """

    def __init__(self, ready: dict[str, Any], mode: str, context: ssl.SSLContext) -> None:
        self._port: int = ready[mode]
        self._sealed = mode == "sealed"
        self._context = context
        self._key = VerifyKey(bytes.fromhex(ready["key"]))
        self._control = _connect(ready["control"])
        self._kept: ssl.SSLSocket | None = None
        self._name = 0
        self._opened = self._closes = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Fetches; a response that does not say ``Connection: close`` keeps the connection."""
        venue = self._kept or self._dial(request.url.host)
        lines = [b"%s: %s\r\n" % pair for pair in request.headers.raw]
        head = b"GET " + request.url.raw_path + b" HTTP/1.1\r\n"
        venue.sendall(head + b"".join(lines) + b"\r\n")
        if self._sealed:
            self._ask(SEAL)
            self._signature(SIGNED_BYTES)
            self._ask(OPEN)
            self.attested()
        data = venue.recv(READ_SIZE)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += venue.recv(READ_SIZE)
        found = [line.partition(b": ") for line in data[:end].split(b"\r\n")[1:]]
        headers = [(name, value) for name, _, value in found]
        size = next(int(value) for name, value in headers if name.lower() == b"content-length")
        while len(data) < end + 4 + size:
            data += venue.recv(READ_SIZE)
        self._kept = venue
        self._closes = (b"Connection", b"close") in request.headers.raw
        if self._sealed:
            self._end()
        return httpx.Response(int(data[9:12]), headers=headers, content=data[end + 4 :])

    def attested(self) -> None:
        """Waits for the attestation and checks its signature; asks for a connection's first."""
        if not self._sealed and not self._opened:
            self._opened = not self._closes
            self._ask(OPEN)
        self._signature(SIGNED_BYTES + CLAIM_BYTES)
        self._end()

    def _end(self) -> None:
        """Closes a connection that is not kept alive."""
        if self._closes and self._kept is not None:
            self._kept.close()
            self._kept = None

    def cpu_seconds(self) -> float:
        """The relay's CPU time."""
        self._ask(CPU)
        seconds: float = struct.unpack("!d", self._control.recv(READ_SIZE))[0]
        return seconds

    def close(self) -> None:
        """Closes all connections."""
        self._control.close()
        if self._kept is not None:
            self._kept.close()

    def _dial(self, host: str) -> ssl.SSLSocket:
        connection = _connect(self._port)
        self._name = connection.getsockname()[1]
        return self._context.wrap_socket(connection, server_hostname=host)

    def _ask(self, what: int) -> None:
        self._control.sendall(ASK.pack(what, self._name, os.urandom(32)))

    def _signature(self, size: int) -> None:
        data = self._control.recv(READ_SIZE)
        while len(data) < size:
            data += self._control.recv(READ_SIZE)
        self._key.verify(data[:SIGNED_BYTES])


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
