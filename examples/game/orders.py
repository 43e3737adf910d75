"""The line on which orders go to the trades API: HTTP/1.1 over few connections that are kept.

An order passes through here while its player waits.  A general client takes a millisecond of
the event loop for each, thirty times as much as writing and reading these few bytes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from attestation.errors import UnavailableError, UsageError

CONNECTIONS = 16
"""More orders wait for one: the desk stores together what comes together."""
KEPT_SECONDS = 3.0
"""How long an idle connection is used; shorter than the server keeps it."""
ANSWER_SECONDS = 5.0
MAX_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the trades API said to an order: an HTTP status and the body's bytes."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: float = 0.0


class OrderLine:
    """Posts orders to ``prover serve`` at ``url``; ``token`` is that of who may place them."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.scheme not in ("http", "https"):
            raise UsageError("no HTTP address", rule="prover", found=url)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageError("a token is printable ASCII", rule="token")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._head = (
            f"POST {parts.path.rstrip('/')}/v1/trades HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            "content-type: application/json\r\n"
            + ("" if token is None else f"authorization: Bearer {token}\r\n")
        )
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[_Connection] = []

    async def post(self, order: Mapping[str, Any]) -> Answer:
        """Posts an order, its nonce being the key; raises UnavailableError without an answer."""
        body = json.dumps(order)
        data = (
            f"{self._head}idempotency-key: {order['nonce']}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode("ascii")
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._room:
                return await self._post(data)
        except (TimeoutError, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise UnavailableError(f"the trades API does not answer: {error!r}") from error

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().writer.close()

    async def _post(self, data: bytes) -> Answer:
        while (known := self._take()) is not None:
            try:
                return await self._ask(known, data)
            except (ConnectionError, EOFError):
                # It was closed meanwhile; the same order again is the same trade.
                continue
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls or None, limit=MAX_ANSWER
        )
        return await self._ask(_Connection(reader, writer), data)

    def _take(self) -> _Connection | None:
        """Returns the idle connection that was used last; closes those that are too old."""
        since = time.monotonic() - KEPT_SECONDS
        while self._idle and self._idle[0].used < since:
            self._idle.pop(0).writer.close()
        return self._idle.pop() if self._idle else None

    async def _ask(self, connection: _Connection, data: bytes) -> Answer:
        kept = False
        try:
            connection.writer.write(data)
            head = await connection.reader.readuntil(b"\r\n\r\n")
            status, fields = _read_head(head)
            size = int(fields["content-length"])
            if not 0 <= size <= MAX_ANSWER:
                raise ValueError("the answer is too long")
            answer = Answer(status, await connection.reader.readexactly(size))
            kept = fields.get("connection", "").lower() != "close"
            return answer
        finally:
            # One whose answer was not read to its end is of no use to the next order.
            if kept:
                connection.used = time.monotonic()
                self._idle.append(connection)
            else:
                connection.writer.close()


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Returns the status and the header fields of an answer; raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    version, status, *_ = first.split(" ")
    if version != "HTTP/1.1" or len(status) != 3:
        raise ValueError("this is not HTTP/1.1")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header field without a colon")
        fields[name.lower()] = value.strip()
    if "content-length" not in fields:
        raise ValueError("an answer without its length")
    return int(status), fields
