"""The server's side of a connection: a client may be slow, but not for ever.

uvicorn waits for the end of a request's head as long as it takes, and keeps whatever
comes.  Here a connection whose head does not come is closed, a head too large is refused,
and so are requests far ahead of their answers; of a body that nobody reads any more little
is thrown away before the connection is, and who does not read its answers is let go.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""How long a request's head may take, from the connection or its first byte on."""
MAX_HEAD = 64 * 1024
MAX_UNREAD = 1024 * 1024
"""Bytes of a body that are thrown away once it is answered."""
MAX_AHEAD = 32
"""Requests that may be sent before the answer to the first."""
STALL_SECONDS = 30.0
STALL_BYTES = 64 * 1024
"""A client that takes less of its answers than this in that time, while more waits, is gone."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to its patience."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._in_head = True
        self._size = self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._size += len(data)
        super().data_received(data)
        if self._in_head and self._size > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")
        if self.transport.is_closing():
            self._watch()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_AHEAD:
            # What a callback raises ends the parsing, as wrong bytes do.
            raise ValueError(f"more than {MAX_AHEAD} requests at a time")
        super().on_message_begin()
        self._in_head = True
        self._unread = 0
        self._wait()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._size = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            self._wait()
            if self._unread > MAX_UNREAD:
                self._close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_waiting()
        # A WebSocket's request has no answer of its own.
        upgrades = self.parser.should_upgrade() and self._should_upgrade()
        if not upgrades and self.cycle.response_complete:
            # It was answered before it was whole, and what came since has ended that wait.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        """Closes once what was written is read, or after a while."""
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
