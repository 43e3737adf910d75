"""Long answers: server-sent events, and WebSocket messages, to consumers of any speed.

A consumer that reads too slowly holds back its own stream alone: nothing is queued for
it beyond what its connection buffers (docs/feeds.md, "Reading slots").
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeAlias

from fastapi import Response
from starlette.types import Receive, Scope, Send

from attestation.errors import RefusedError

Chunks: TypeAlias = AsyncGenerator[bytes, None]

STALL_SECONDS = 30.0
"""A consumer that takes nothing for so long is gone."""
MAX_STREAMS = 256
RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": \n\n"


def server_sent_event(name: str, data: bytes, identity: int | None = None) -> bytes:
    """Returns one event; ``data`` is one line.

    One without ``identity`` leaves the consumer's Last-Event-ID as it is (WHATWG HTML,
    section 9.2.6).
    """
    head = b"" if identity is None else b"id: %d\n" % identity
    return head + b"event: %s\ndata: %s\n\n" % (name.encode("ascii"), data)


class Streams:
    """How many streams are open, of those that may be."""

    def __init__(self, most: int = MAX_STREAMS) -> None:
        self._most = most
        self._sending: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()
        self._none.set()

    def check(self) -> None:
        """Raises RefusedError (429) if no more may be opened."""
        if self.open >= self._most:
            raise RefusedError(
                "too many streams are open", rule="streams", wanted=self._most, http_status=429
            )

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._sending)

    async def run(
        self, sending: Coroutine[Any, Any, None], leaving: Coroutine[Any, Any, None]
    ) -> None:
        """Counts a stream while it sends, until it has ended or the consumer has left."""
        task, left = asyncio.create_task(sending), asyncio.create_task(leaving)
        self._sending.add(task)
        self._none.clear()
        try:
            await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            left.cancel()
            await asyncio.gather(task, left, return_exceptions=True)
            self._sending.discard(task)
            if not self._sending:
                self._none.set()
        if not task.cancelled():
            task.result()

    async def end(self, seconds: float) -> None:
        """Waits until none is open, but not for longer than told: then they are given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()
        for task in self._sending:
            task.cancel()
        await self._none.wait()


class EventStream(Response):
    """Sends events as they come, until they end or the consumer is gone."""

    media_type = "text/event-stream"

    def __init__(self, chunks: Chunks, streams: Streams) -> None:
        # No proxy may keep or gather them.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._chunks = chunks
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._streams.run(self._send(send), _left(receive))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                except (TimeoutError, OSError):
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
