"""One connection to the control API: counted, bounded and timed before it is read.

uvicorn bounds none of it: connections, the time until a request is whole, and
the size of its head.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from attestation.errors import RefusedError
from notary import problems
from notary.connect import refusal_response
from notary.crowd import Crowd, Guest, address_of
from notary.metrics import Metrics

REQUEST_SECONDS = 10.0
"""From the connection, or the last answer, to a whole request that has begun."""
MAX_HEAD = 16 * 1024
"""Bytes of a request line with its headers."""


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's connection, in a crowd.  Each refusal is a whole response with a problem."""

    def __init__(self, crowd: Crowd, metrics: Metrics | None, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._crowd = crowd
        self._metrics = metrics
        self._guest: Guest | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        guest = Guest(address_of(self.client), self._refuse)
        try:
            self._crowd.enter(guest)
        except RefusedError as error:
            self._refuse(error)
            return
        self._guest = guest
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._timer is None and not self._answering:
            self._await_request()
        self._head += len(data)
        super().data_received(data)
        if self._head > MAX_HEAD and not self._refused:
            self._refuse(
                RefusedError("the head is too large", rule="http", wanted=MAX_HEAD, http_status=431)
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # For the routes: where a request comes from, and whose it turns out to be.
        self.scope["state"].update(guest=self._guest, crowd=self._crowd)

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0
        self._stop_timer()
        if self._guest is None:
            return
        # Beyond the strangers' share it works all the same, but may have to make room.
        with contextlib.suppress(RefusedError):
            self._crowd.work(self._guest, known=self._guest.known)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._guest is not None and not self._answering:
            self._crowd.rest(self._guest)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._stop_timer()
        if self._guest is not None:
            self._crowd.leave(self._guest)

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    def _await_request(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._refuse(RefusedError("no request in time", rule="http", http_status=408))

    def _refuse(self, error: RefusedError) -> None:
        """Answers with the problem and closes; a client that does not read is cut off."""
        self._refused = True
        self._stop_timer()
        if self._metrics is not None:
            self._metrics.refused.labels(kind=error.slug).inc()
        if not self.transport.is_closing():
            body = problems.encode(error)
            self.transport.write(refusal_response(error.http_status, body, problems.CONTENT_TYPE))
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def control_protocol(crowd: Crowd, metrics: Metrics | None = None) -> Callable[..., Any]:
    """Returns what makes the protocol of each connection, for uvicorn's ``http``."""
    return functools.partial(ControlProtocol, crowd, metrics)
