"""The HTTP server of a feed, in the feed's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

BACKLOG = 256
MOST_CONNECTIONS = 1_024
MAX_SAID = 4_096
"""Bytes of a message by a consumer: none is asked for."""


class HttpServer(uvicorn.Server):
    """uvicorn without its own handling of signals, which would end the process early."""

    def __init__(self, app: Any) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                backlog=BACKLOG,
                timeout_graceful_shutdown=3,
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
