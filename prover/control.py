"""HTTP/1.1 to a notary's control API over one kept-alive connection.

Requests may be submitted before earlier responses were collected (pipelining,
RFC 9112 section 9.3.2): what is not needed at once, such as the next session,
costs no round trip of its own.  Responses are read by the strict reader.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections import deque
from collections.abc import Sequence
from typing import Any

import orjson

from attestation.chunked import ChunkWalk
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
    QuotaryError,
    RefusedError,
    StaleError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.http1 import MAX_BODY, first_response
from prover.flow import Channel, Flow, connect, receive, send
from prover.tls import TlsClient, TlsContext

MAX_RESPONSE = 16 * 1024 * 1024

_ERRORS: dict[str, type[QuotaryError]] = {
    kind.slug: kind
    for kind in (
        UsageError,
        MalformedError,
        InvalidProofError,
        UntrustedError,
        StaleError,
        OutcomeMismatchError,
        IncompleteError,
        ExpectationError,
        RefusedError,
        UnavailableError,
    )
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a control API listens; ``base`` precedes every path."""

    secure: bool
    host: str
    port: int
    base: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads ``http(s)://host[:port][/base]``; raises UsageError."""
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            raise UsageError(
                "not a URL of a notary: http(s)://HOST:PORT", found=url[:200]
            ) from None
        plain = url.isascii() and parts.username is None and not parts.query and not parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise UsageError("not a URL of a notary: http(s)://HOST:PORT", found=url[:200])
        secure = parts.scheme == "https"
        return cls(
            secure=secure,
            host=parts.hostname,
            port=port or (443 if secure else 80),
            base=parts.path.rstrip("/"),
        )

    @property
    def authority(self) -> str:
        """The value of Host."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request to the control API; ``what`` names it in errors.

    ``token`` is that of the session it is about.
    """

    method: str
    path: str
    body: bytes | None
    what: str
    token: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """A submitted call; ``answer`` is set once its response was read."""

    call: Call
    answer: tuple[int, bytes] | None = None


class ControlConnection:
    """One connection to the control API; not for two flows at a time."""

    def __init__(self, channel: Channel, tls: TlsClient | None, address: Address) -> None:
        self._channel = channel
        self._tls = tls
        self._address = address
        self._buffer = bytearray()
        self._open: deque[Ticket] = deque()
        self._midway = False
        self._closing = False

    @classmethod
    def open(cls, address: Address, context: TlsContext | None) -> Flow[ControlConnection]:
        """Connects, over TLS if the address says so."""
        peer = f"notary {address.authority}"
        channel = yield from connect(address.host, address.port, peer)
        if not address.secure or context is None:
            return cls(channel, None, address)
        tls = context.connect(address.host, keep_raw=False)
        try:
            while not tls.handshake():
                yield from send(channel, tls.outgoing())
                data = yield from receive(channel)
                if not data:
                    raise UnavailableError(f"{peer} closed during the handshake", rule="network")
                tls.feed(data)
            yield from send(channel, tls.outgoing())
        except BaseException:
            channel.close()
            tls.close()
            raise
        return cls(channel, tls, address)

    def submit(self, call: Call) -> Flow[Ticket]:
        """Sends a request, without waiting for its answer."""
        (ticket,) = yield from self.submit_all((call,))
        return ticket

    def submit_all(self, calls: Sequence[Call]) -> Flow[list[Ticket]]:
        """Sends requests in one piece, to be answered in this order."""
        data = b"".join([self._render(call) for call in calls])
        if self._tls is not None:
            self._tls.write(data)
            data = self._tls.outgoing()
        tickets = [Ticket(call) for call in calls]
        if self._midway:
            raise UnavailableError(f"the {self._channel.peer} failed before", rule="network")
        self._midway = True
        yield from send(self._channel, data)
        self._midway = False
        self._open.extend(tickets)
        return tickets

    def collect(self, ticket: Ticket) -> Flow[Any]:
        """Waits for a ticket's response and returns its JSON, whatever came before it.

        Raises what the notary's problem document says, MalformedError for what
        is no answer of a control API, UnavailableError if the connection ends.
        """
        while ticket.answer is None:
            if self._midway:
                raise UnavailableError(f"the {self._channel.peer} failed before", rule="network")
            self._midway = True
            yield from self._read_one()
            self._midway = False
        return _json(ticket)

    def call(self, call: Call) -> Flow[Any]:
        """Submits and collects."""
        ticket = yield from self.submit(call)
        return (yield from self.collect(ticket))

    @property
    def unanswered(self) -> tuple[Ticket, ...]:
        """Calls whose answers were not read yet."""
        return tuple(self._open)

    @property
    def stale(self) -> bool:
        """Whether the connection can take no further request.

        It cannot once an operation failed midway or the notary announced or
        made its end.
        """
        return (
            self._midway or self._closing or (not self._open and self._channel.poll() is not None)
        )

    def close(self) -> None:
        """Closes the connection; open tickets are never answered."""
        self._closing = True
        self._channel.close()
        if self._tls is not None:
            self._tls.close()

    def _render(self, call: Call) -> bytes:
        head = (
            f"{call.method} {self._address.base}{call.path} HTTP/1.1\r\n"
            f"Host: {self._address.authority}\r\nAccept: application/json\r\n"
        )
        if call.token is not None:
            head += f"Authorization: Bearer {call.token}\r\n"
        if call.body is None:
            return f"{head}\r\n".encode("ascii")
        head += f"Content-Type: application/json\r\nContent-Length: {len(call.body)}\r\n\r\n"
        return head.encode("ascii") + call.body

    def read_waiting(self) -> None:
        """Reads answers that have come, without waiting for any; who collects one finds it."""
        if self._midway:
            return
        self._midway = True
        while True:
            # The last read may have brought more than the answer it was for.
            while self._open and self._parse(ChunkWalk(MAX_BODY)):
                pass
            if not self._open or not (data := self._channel.poll()):
                break
            self._feed(data)
        self._midway = False

    def _read_one(self) -> Flow[None]:
        chunks = ChunkWalk(MAX_BODY)
        while not self._parse(chunks):
            data = yield from receive(self._channel)
            if not data:
                raise UnavailableError(
                    f"{self._channel.peer} closed before it answered: {self._open[0].call.what}",
                    rule="network",
                )
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.feed(data)
            data = self._tls.read()
        self._buffer += data

    def _parse(self, chunks: ChunkWalk) -> bool:
        """Reads the answer to the oldest call, if all of it has come."""
        if not self._buffer:
            return False
        ticket = self._open[0]
        found = first_response(self._buffer, method=ticket.call.method, chunks=chunks)
        if found is None:
            if len(self._buffer) > MAX_RESPONSE:
                raise MalformedError(f"{ticket.call.what}: the answer is too long", rule="control")
            return False
        response, size = found
        del self._buffer[:size]
        self._open.popleft()
        ticket.answer = (response.status, response.body)
        self._closing = not response.keep_alive
        return True


def _json(ticket: Ticket) -> Any:
    assert ticket.answer is not None
    status, body = ticket.answer
    try:
        value = orjson.loads(body) if body else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        if status >= 500:
            raise UnavailableError(
                f"{ticket.call.what}: the notary answered {status}", rule="control"
            )
        raise MalformedError(f"{ticket.call.what}: the notary's answer is no JSON", rule="control")
    if status >= 300:
        raise problem(ticket.call.what, status, value)
    return value


def problem(what: str, status: int, document: dict[str, Any]) -> QuotaryError:
    """Maps an RFC 9457 problem document back to the error it was made from."""
    slug = str(document.get("type", "")).replace(":", "/").rsplit("/", 1)[-1].replace("-", "_")
    detail = str(document.get("detail") or document.get("title") or f"status {status}")[:500]
    rule = document.get("rule")
    rule = rule if isinstance(rule, str) else None
    found, wanted = document.get("found"), document.get("wanted")
    text = f"{what}: {detail}"
    kind = _ERRORS.get(slug)
    if kind is None:
        kind = UnavailableError if status >= 500 else RefusedError
    if kind is RefusedError:
        return RefusedError(text, rule=rule, found=found, wanted=wanted, http_status=status)
    return kind(text, rule=rule, found=found, wanted=wanted)
