"""Python's ``ssl`` as a sans-IO client that logs its keys; no pytest here.

Nothing is pinned: what it offers is what the OpenSSL at hand offers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
import tempfile
from pathlib import Path

from attestation.request import KeylogOpened
from tests.tls13.capture import ServerSide
from tests.tls13.certs import roots_pem

LABELS = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": "client_handshake",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET": "server_handshake",
    "CLIENT_TRAFFIC_SECRET_0": "client_application",
    "SERVER_TRAFFIC_SECRET_0": "server_application",
}


def read_keylog(text: str, client_random: str | None = None) -> KeylogOpened:
    """Returns the secrets of one connection, by default of the only one in the log."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    secrets = {
        LABELS[label]: secret
        for label, random, secret in lines
        if label in LABELS and client_random in (None, random)
    }
    return KeylogOpened(kind="keylog", client_random=client_random or lines[0][1], **secrets)


class StockClient:
    """An ``ssl.SSLObject`` with ``keylog_filename`` set."""

    def __init__(self, host: str, *, roots: bytes | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=(roots or roots_pem()).decode())
        # The test certificates are of a time of their own.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["http/1.1"])
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "keys"
        context.keylog_filename = str(self._log)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self.established = False
        self.closed = False
        self.application = bytearray()
        self._step()

    @property
    def opened(self) -> KeylogOpened:
        """What its key log says."""
        return read_keylog(self._log.read_text())

    def receive(self, data: bytes) -> None:
        self._in.write(data)
        self._step()

    def take(self) -> bytes:
        return self._out.read()

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()

    def _step(self) -> None:
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            while chunk := self._tls.read(65536):
                self.application += chunk
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True


@dataclasses.dataclass(frozen=True)
class StockCapture:
    """Raw bytes of both directions and the key log's secrets."""

    sent: bytes
    received: bytes
    opened: KeylogOpened


def stock_exchange(
    client: StockClient, side: ServerSide, *, request: bytes, response: bytes
) -> StockCapture:
    """Runs handshake, one request, one response and both close_notify."""
    sent, received = bytearray(), bytearray()

    def pump() -> None:
        while True:
            forth = client.take()
            sent.extend(forth)
            if forth:
                side.receive(forth)
            back = side.take()
            received.extend(back)
            if back:
                client.receive(back)
            if not forth and not back:
                return

    pump()
    client.write(request)
    pump()
    side.write(response)
    pump()
    side.close()
    client.close()
    pump()
    assert bytes(client.application) == response
    return StockCapture(bytes(sent), bytes(received), client.opened)
