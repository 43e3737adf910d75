"""The HTTP server of a feed, in the feed's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from attestation.errors import UnavailableError
from prover.serve.patience import PatientProtocol

BACKLOG = 256
MOST_CONNECTIONS = 1_024
SEND_BUFFER = 256 * 1024
"""Bytes that the system holds for a consumer that is slow; its own limit is many megabytes."""
MAX_SAID = 4_096
"""Bytes of a message by a consumer: none is asked for."""


def _is_about_the_server(record: logging.LogRecord) -> bool:
    """Leaves out what uvicorn says of consumers that were let go in the middle of a stream."""
    said = record.getMessage()
    return not ("without completing response" in said or "graceful shutdown exceeded" in said)


logging.getLogger("uvicorn.error").addFilter(_is_about_the_server)


class HttpServer(uvicorn.Server):
    """uvicorn without its own handling of signals, which would end the process early."""

    def __init__(self, app: Any) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                backlog=BACKLOG,
                timeout_graceful_shutdown=1,
                ws_max_size=MAX_SAID,
                # Slots are hashes and signatures for the most part: little is won by deflating
                # them once for each consumer.
                ws_per_message_deflate=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Listens; port 0 is the system's choice.  Raises UnavailableError in the system's words."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        known = error.errno is not None and error.errno in errno.errorcode
        why = os.strerror(error.errno or 0) if known else str(error)
        raise UnavailableError(
            f"cannot listen on {host} port {port}: {why}", rule="listen"
        ) from error
    listener.setblocking(False)
    # What is accepted inherits both.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return listener
