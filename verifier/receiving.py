"""Request bodies: declared as JSON, bounded in size, time and number before they are read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request

from attestation.errors import MalformedError, UnavailableError, UsageError

BODY_SECONDS = 10.0
"""How long a body may take to arrive, and wait until there is room for it."""
LARGE_BODY = 256 * 1024
"""A body beyond this, or of a length that is not declared, needs room."""
LARGE_BODIES = 8
"""How many of those are held at a time, from their first byte to their answer."""


class TooLargeError(MalformedError):
    """The body is larger than the route takes."""

    http_status = 413


class MediaTypeError(UsageError):
    """The body is not declared as JSON."""

    http_status = 415


class SlowBodyError(MalformedError):
    """The body did not arrive in time."""

    http_status = 408


class Receiver:
    """Reads the bodies of one application; its memory is bounded however many ask."""

    def __init__(self, *, room: int = LARGE_BODIES, seconds: float = BODY_SECONDS) -> None:
        self._room = asyncio.Semaphore(room)
        self._seconds = seconds

    @contextlib.asynccontextmanager
    async def body(self, request: Request, *, limit: int) -> AsyncIterator[bytes]:
        """Yields a JSON body, and reads no more of it than may be read.

        Raises MediaTypeError, TooLargeError, SlowBodyError, and UnavailableError where
        there is no room for a large one in time.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise MediaTypeError("send application/json", rule="content-type", found=kind)
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() and len(declared) <= 16 else None
        if (size is not None and size > limit) or len(declared) > 16:
            raise _too_large(limit)
        if size is not None and size <= LARGE_BODY:
            yield await self._read(request, limit)
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._room.acquire()
        except TimeoutError:
            raise UnavailableError("too many large questions at a time", rule="body") from None
        try:
            yield await self._read(request, limit)
        finally:
            self._room.release()

    async def _read(self, request: Request, limit: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            raise SlowBodyError("the body did not arrive in time", rule="body") from None
        return bytes(body)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"body is larger than {limit} bytes", rule="body")
