"""The line on which orders go to the trades API: HTTP/1.1 over few connections that are kept.

An order passes through here while its player waits.  A general client takes a millisecond of
the event loop for each; h11 reads and writes, and these connections are what is left.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

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
    http: h11.Connection
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
        self._target = f"{parts.path.rstrip('/')}/v1/trades"
        self._fields = [("Host", parts.netloc), ("Content-Type", "application/json")]
        if token is not None:
            self._fields.append(("Authorization", f"Bearer {token}"))
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[_Connection] = []

    async def post(self, order: Mapping[str, Any]) -> Answer:
        """Posts an order, its nonce being the key; raises UnavailableError without an answer."""
        body = json.dumps(order).encode("ascii")
        fields = [
            *self._fields,
            ("Idempotency-Key", str(order["nonce"])),
            ("Content-Length", str(len(body))),
        ]
        try:
            request = h11.Request(method="POST", target=self._target, headers=fields)
            async with asyncio.timeout(ANSWER_SECONDS), self._room:
                return await self._post((request, h11.Data(data=body), h11.EndOfMessage()))
        except (TimeoutError, OSError, EOFError, h11.ProtocolError) as error:
            raise UnavailableError(f"the trades API does not answer: {error!r}") from error

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().writer.close()

    async def _post(self, request: Sequence[h11.Event]) -> Answer:
        while (known := self._take()) is not None:
            try:
                return await self._ask(known, request)
            except (ConnectionError, EOFError):
                # It was closed meanwhile; the same order again is the same trade.
                continue
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls or None
        )
        return await self._ask(_Connection(reader, writer, h11.Connection(h11.CLIENT)), request)

    def _take(self) -> _Connection | None:
        """Returns the idle connection that was used last; closes those that are too old."""
        since = time.monotonic() - KEPT_SECONDS
        while self._idle and self._idle[0].used < since:
            self._idle.pop(0).writer.close()
        return self._idle.pop() if self._idle else None

    async def _ask(self, connection: _Connection, request: Sequence[h11.Event]) -> Answer:
        http, kept = connection.http, False
        try:
            connection.writer.write(b"".join(http.send(event) or b"" for event in request))
            answer = await _read(connection)
            kept = http.our_state is h11.DONE and http.their_state is h11.DONE
            return answer
        finally:
            # One whose answer was not read to its end is of no use to the next order.
            if kept:
                http.start_next_cycle()
                connection.used = time.monotonic()
                self._idle.append(connection)
            else:
                connection.writer.close()


async def _read(connection: _Connection) -> Answer:
    status, body = 0, b""
    while True:
        event = connection.http.next_event()
        if event is h11.NEED_DATA:
            data = await connection.reader.read(MAX_ANSWER)
            if not data and not status:
                raise EOFError("closed without an answer")
            connection.http.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER:
                raise h11.RemoteProtocolError("the answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, body)
