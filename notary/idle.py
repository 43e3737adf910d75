"""Reads a live session's messages while the event loop has nothing else to do.

Reading a quote takes longer than passing it on: few are read each time the loop turns, so
that what arrives meanwhile is relayed first.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from attestation.live import LiveMessage
from notary.hops import Hops
from notary.observer import Observer

MAX_WAITING = 256
"""Messages that may wait; with more the loop has no idle time."""


class IdleReading:
    """Has ``observer`` read what it takes; ``hops`` are told when it was observed."""

    __slots__ = ("_arrived", "_hops", "_loop", "_observer", "_waiting")

    def __init__(self, observer: Observer, hops: Hops) -> None:
        self._observer, self._hops = observer, hops
        self._loop = asyncio.get_running_loop()
        self._arrived: float | None = None
        self._waiting = 0

    def take(self, messages: list[LiveMessage], arrived: float) -> None:
        """Takes messages that came at ``arrived``, by ``perf_counter``."""
        self._waiting = self._observer.take(messages)
        if self._waiting > MAX_WAITING:
            self._waiting = self._observer.catch_up()
        if self._arrived is None:
            self._arrived = arrived
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        # A turn of the loop costs a third of a message: more at once if many wait.
        self._waiting = self._observer.catch_up(1 + self._waiting // 8)
        if self._waiting:
            self._loop.call_soon(self._read)
        elif self._arrived is not None:
            self._hops.note("observed", perf_counter() - self._arrived)
            self._arrived = None
