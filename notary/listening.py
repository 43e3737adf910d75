"""Sockets, signals and HTTP servers of a process that serves day and night."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from attestation.errors import UnavailableError
from notary.config import split_address

BACKLOG = 1_024


class ControlServer(uvicorn.Server):
    """uvicorn without its own handling of signals, which would end the process early."""

    def __init__(self, app: Any) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=120,
                timeout_graceful_shutdown=3,
                backlog=BACKLOG,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    """Sets ``stop`` at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread's loop can take signals; elsewhere `stop` is set.
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def bind(address: str) -> socket.socket:
    """Listens on ``host:port``; raises UnavailableError with the system's words."""
    host, port = split_address(address)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The system's words alone: the error's own text names the address again.
        known = error.errno is not None and error.errno in errno.errorcode
        why = os.strerror(error.errno or 0) if known else str(error)
        raise UnavailableError(f"cannot listen on {address}: {why}", rule="listen") from error
    listener.setblocking(False)
    # Accepted connections inherit it.  asyncio sets it only where a socket names its protocol,
    # which these do not: an answer in two writes would wait for a delayed ACK, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
