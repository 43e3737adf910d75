"""Request bodies: declared as JSON, bounded in size and time before they are read."""

from __future__ import annotations

import asyncio

from fastapi import Request

from attestation.errors import MalformedError, UsageError

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""


class TooLargeError(MalformedError):
    """The body is larger than the route takes."""

    http_status = 413


class MediaTypeError(UsageError):
    """The body is not declared as JSON."""

    http_status = 415


class SlowBodyError(MalformedError):
    """The body did not arrive in time."""

    http_status = 408


async def read_body(request: Request, *, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """Reads a JSON body, and no more of it than may be read.

    Raises MediaTypeError, TooLargeError or SlowBodyError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeError("send application/json", rule="content-type", found=kind)
    declared = request.headers.get("content-length", "")
    if len(declared) > 16 or (declared.isdecimal() and int(declared) > limit):
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise SlowBodyError("the body did not arrive in time", rule="body") from None
    return bytes(body)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"body is larger than {limit} bytes", rule="body")
