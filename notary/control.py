"""One connection to the control API: counted, bounded and timed before it is read.

uvicorn bounds none of it: connections, the time until a request is whole, the size of
its head, how many are sent ahead, and how long a client leaves its answers unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from attestation.errors import RefusedError
from notary import problems
from notary.connect import refusal_response
from notary.crowd import Crowd, Guest, address_of
from notary.metrics import Metrics

REQUEST_SECONDS = 10.0
"""From the connection, or the last answer, to a whole request that has begun."""
MAX_HEAD = 16 * 1024
"""Bytes of a request line with its headers."""
MAX_UNREAD = 1024 * 1024
"""Bytes of a body that are thrown away once it is answered."""
MAX_AHEAD = 32
"""Requests that may be sent before the answer to the first."""
STALL_SECONDS = 30.0
STALL_BYTES = 64 * 1024
"""A client that takes less of its answers than this in that time, while more waits, is gone."""


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's connection, in a crowd.  Each refusal is a whole response with a problem."""

    def __init__(self, crowd: Crowd, metrics: Metrics | None, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._crowd = crowd
        self._metrics = metrics
        self._guest: Guest | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._head = self._unread = 0
        self._whole = True
        self._headed = False
        self._descriptor = -1
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and transport.get_extra_info("sslcontext") is None:
            self._descriptor = connection.fileno()
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
        if len(self.pipeline) >= MAX_AHEAD:
            # What a callback raises ends the parsing, as wrong bytes do.
            raise ValueError(f"more than {MAX_AHEAD} requests at a time")
        super().on_message_begin()
        self._whole = self._headed = False
        # For the routes: where a request comes from, and whose it turns out to be.
        self.scope["state"].update(guest=self._guest, crowd=self._crowd)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._headed = True
        self.scope["state"]["answer"] = functools.partial(self._answer, self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_UNREAD:
                self._let_go()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._whole = True
        self._head = self._unread = 0
        self._stop_timer()
        if self.cycle.response_complete:
            # It was answered before it was whole: nothing is under way.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        if self._guest is None:
            return
        # Beyond the strangers' share it works all the same, but may have to make room.
        with contextlib.suppress(RefusedError):
            self._crowd.work(self._guest, known=self._guest.known)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole and self._timer is None:
            # Of the next request a part came while this one was answered.
            self._await_request()
        if self._guest is not None and not self._answering:
            self._crowd.rest(self._guest)
        if self.transport.is_closing():
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        self._let_go()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._stop_watching()
        self._stop_timer()
        if self._guest is not None:
            self._crowd.leave(self._guest)

    async def _answer(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        content: bytes,
    ) -> bool:
        """Answers a request in one piece; False if that is for ASGI's ``send`` to do.

        uvicorn writes head and body apart: two system calls, and for the client two reads.
        """
        if cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-length: %d\r\n" % len(content))
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        self._write_now(b"".join((*parts, b"\r\n", content)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _write_now(self, data: bytes) -> None:
        """Writes before what else this turn of the loop has to do; see ``Afterwards``."""
        transport = self.transport
        free = not transport.is_closing() and not transport.get_write_buffer_size()
        if self._descriptor >= 0 and free:
            # Full, or broken: the transport finds out.
            with contextlib.suppress(OSError):
                data = data[os.write(self._descriptor, data) :]
        if data:
            transport.write(data)

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    def _await_request(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """Refuses bytes that are no request."""
        self._refuse(RefusedError("not HTTP/1.1", rule="http", http_status=400))

    def _too_slow(self) -> None:
        if self._headed and not self._whole and self.cycle.response_complete:
            self._let_go()  # The rest of a request that was answered.
        else:
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
            self._let_go()

    def _let_go(self) -> None:
        """Closes once what was written is read, or after a while; reads nothing any more."""
        self._refused = True
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()
            self._watch()

    def _watch(self) -> None:
        """Sees to it that the client goes on reading what was written."""
        if self._stall is None:
            self._expect_less(self.transport.get_write_buffer_size())

    def _expect_less(self, unsent: int) -> None:
        self._stall = self.loop.call_later(STALL_SECONDS, self._check_less, unsent)

    def _check_less(self, before: int) -> None:
        unsent = self.transport.get_write_buffer_size()
        if before - unsent < STALL_BYTES:
            self.transport.abort()
        else:
            self._expect_less(unsent)

    def _stop_watching(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def control_protocol(crowd: Crowd, metrics: Metrics | None = None) -> Callable[..., Any]:
    """Returns what makes the protocol of each connection, for uvicorn's ``http``."""
    return functools.partial(ControlProtocol, crowd, metrics)
