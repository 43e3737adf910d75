"""A hostile venue: a TCP server on loopback whose every byte a test decides.

Each connection runs a *script* with the sans-IO server of ``tests.tls13``, which
does what it is told: it answers early, twice, in pieces, under other keys.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from tests.adversaries.certificates import Issuer
from tests.tls13.certs import Identity
from tests.tls13.tlspeer import Keys
from tests.tls13.tlsserver import Server

SECONDS = 60.0
BODY = b'{"price":"64000.5"}'


def response(body: bytes = BODY, *, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Frames an honest response that closes the connection."""
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%s" % (status, headers, len(body), body)
    )


class VenueConnection:
    """One connection of a client; methods block until done."""

    def __init__(self, connection: socket.socket, tls: Server) -> None:
        self.socket = connection
        self.socket.settimeout(SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = tls
        self.received = bytearray()
        """Raw bytes of the client."""
        self.done = threading.Event()
        self._pending = bytearray()

    def handshake(self) -> None:
        """Runs to the client's Finished and not a record further."""
        while not self.tls.established:
            self._take_record()
            self.flush()

    def request(self) -> bytes:
        """Waits for a head, and for as much body as it announces."""
        if not self.tls.established:
            self.handshake()
        text = self.tls.application
        while b"\r\n\r\n" not in text:
            self._take_record()
        head, _, _ = bytes(text).partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(text) < len(head) + 4 + length:
            self._take_record()
        return bytes(text)

    def hello(self, data: bytes = b"") -> None:
        """Takes the ClientHello and sends the server's flight, and data at its heels."""
        while not self.tls.outgoing:
            self._take_record()
        if data:
            self.tls.write(data)
        self.flush()

    def skip(self, records: int) -> bytes:
        """Takes so many records without opening them; returns their bytes."""
        return b"".join([self._next_record() for _ in range(records)])

    def send(self, data: bytes, *, size: int = 2**14, padding: int = 0) -> None:
        """Sends application data in records of at most ``size`` bytes."""
        self.tls.write(data, size=size, padding=padding)
        self.flush()

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def flush(self) -> None:
        """Sends what the TLS side has to send."""
        if data := self.tls.take():
            self.socket.sendall(data)

    def write_keys(self) -> Keys:
        """The keys the next record would be sealed with."""
        assert self.tls.write_keys is not None
        return self.tls.write_keys

    def close(self) -> None:
        """Sends close_notify and FIN."""
        self.tls.close()
        self.flush()
        self.cut()

    def cut(self) -> None:
        """Sends FIN, without close_notify."""
        self.socket.shutdown(socket.SHUT_WR)

    def drain(self) -> None:
        """Reads until the client is gone."""
        while data := self.socket.recv(65536):
            self.received += data

    def _take_record(self) -> None:
        self.tls.receive(self._next_record())

    def _next_record(self) -> bytes:
        while len(self._pending) < 5 or len(self._pending) < self._record_size():
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client is gone")
            self.received += data
            self._pending += data
        size = self._record_size()
        record = bytes(self._pending[:size])
        del self._pending[:size]
        return record

    def _record_size(self) -> int:
        return 5 + int.from_bytes(self._pending[3:5], "big")


Script: TypeAlias = Callable[[VenueConnection], None]


def answer(data: bytes, *, size: int = 2**14, padding: int = 0) -> Script:
    """Answers the request with ``data``, close_notify and FIN."""

    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(data, size=size, padding=padding)
        connection.close()

    return script


class HostileVenue:
    """Listens on loopback for ``hosts``; a context manager.

    ``connections`` keeps every connection since the last ``behave``; ``errors``
    what went wrong in a script other than the peer's going away.
    """

    def __init__(self, *hosts: str) -> None:
        self.issuer = Issuer()
        self.hosts = hosts
        self.identity = self.issuer.leaf(*hosts)
        self.connections: list[VenueConnection] = []
        self.errors: list[BaseException] = []
        self._script: Script = answer(response())
        self._options: dict[str, Any] = {}
        self._seed = 0
        self._made = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def behave(
        self, script: Script | None = None, *, identity: Identity | None = None, **options: Any
    ) -> None:
        """Sets what connections from now on meet; ``options`` are of the TLS server."""
        self.connections, self.errors = [], []
        self._script = script or answer(response())
        self._options = {"identity": identity or self.identity, **options}

    @property
    def last(self) -> VenueConnection:
        """The connection made last; waits for the first one."""
        with self._made:
            assert self._made.wait_for(lambda: self.connections, SECONDS), "nobody connected"
            return self.connections[-1]

    def heard(self) -> bytes:
        """All that the last connection got from its client, once it is over."""
        connection = self.last
        assert connection.done.wait(SECONDS)
        return bytes(connection.received)

    def __enter__(self) -> Self:
        self.behave()
        accepting = threading.Thread(target=self._accept, name="hostile", daemon=True)
        accepting.start()
        self._threads.append(accepting)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                accepted, _ = self._listener.accept()
                self._seed += 1
                tls = Server(**{"seed": self._seed, **self._options})
                connection = VenueConnection(accepted, tls)
                with self._made:
                    self.connections.append(connection)
                    self._made.notify_all()
                thread = threading.Thread(
                    target=self._serve, args=(connection, self._script), daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: VenueConnection, script: Script) -> None:
        try:
            script(connection)
            with contextlib.suppress(OSError):
                connection.cut()
            connection.drain()
        except OSError:
            pass  # the notary ended the connection, as it does on every attack
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.socket.close()
            connection.done.set()
