"""The network between notary and venue: a loopback port that leads where a test says.

The notary's configuration names one address for the venue; the path connects it
to the server under test, and cuts or joins what the server sends if asked.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, Self, TypeAlias

Address: TypeAlias = "str | tuple[str, int]"
"""A Unix socket's path, or host and port."""

Arrival: TypeAlias = Literal["as sent", "byte by byte", "together"]
"""How a server's bytes reach the notary."""

CONNECT_SECONDS = 20.0
GATHER_SECONDS = 0.05
_READ = 1 << 16


def connect(address: Address) -> socket.socket:
    """Connects to a server."""
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
    else:
        connection = socket.create_connection(address, timeout=CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    return connection


def pump(source: socket.socket, sink: socket.socket, arrival: Arrival = "as sent") -> None:
    """Copies bytes, and then the end of the stream."""
    with suppress(OSError):
        while data := source.recv(_READ):
            if arrival == "together":
                data = _gather(source, data)
            size = 1 if arrival == "byte by byte" else len(data)
            for start in range(0, len(data), size):
                sink.sendall(data[start : start + size])
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    # The other direction uses both sockets still: they close with their last reference.


def _gather(source: socket.socket, data: bytes) -> bytes:
    """Adds what follows without a pause."""
    while select.select([source], [], [], GATHER_SECONDS)[0] and (more := source.recv(_READ)):
        data += more
    return data


def wake(listener: socket.socket) -> None:
    """Closes a listener and wakes the thread that accepts on it."""
    # Closing alone does not; nor does shutting down, everywhere.
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        socket.create_connection(listener.getsockname(), timeout=1).close()
    listener.close()


class Path:
    """Listens on ``port`` while it is entered."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._target: Address | None = None
        self._arrival: Arrival = "as sent"
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        wake(self._listener)
        for thread in self._threads:
            thread.join(20)

    @contextmanager
    def leads_to(self, address: Address, *, arrival: Arrival = "as sent") -> Iterator[None]:
        """Leads new connections to a server."""
        self._target, self._arrival = address, arrival
        try:
            yield
        finally:
            self._target = None

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [item for item in self._threads if item.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            target, arrival = self._target, self._arrival
            try:
                far = connect(target) if target is not None else None
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            self._start(pump, near, far)
            self._start(pump, far, near, arrival)
