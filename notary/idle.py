"""Reads a live session's messages while the event loop has nothing else to do.

Reading a quote takes longer than passing it on: few are read each time the loop turns, so
that what arrives meanwhile is relayed first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter

from attestation.live import LiveMessage
from notary.hops import Hops
from notary.observer import Observer

MAX_WAITING = 256
"""Messages that may wait; with more the loop has no idle time."""


class IdleReading:
    """Has ``observer`` read what it takes; ``hops`` are told when it was observed."""

    __slots__ = ("_arrivals", "_hops", "_loop", "_observer")

    def __init__(self, observer: Observer, hops: Hops) -> None:
        self._observer, self._hops = observer, hops
        self._loop = asyncio.get_running_loop()
        self._arrivals: deque[float] = deque()

    def take(self, messages: list[LiveMessage], arrived: float) -> None:
        """Takes messages that came at ``arrived``, by ``perf_counter``."""
        if not self._arrivals:
            self._loop.call_soon(self._read)
        self._arrivals.extend([arrived] * len(messages))
        if self._observer.take(messages) > MAX_WAITING:
            self._observer.catch_up()

    def _read(self) -> None:
        arrivals = self._arrivals
        # A turn of the loop costs a third of a message: more at once if many wait.
        left = self._observer.catch_up(1 + len(arrivals) // 8)
        # Who looked at the quote has read some, too.
        now, oldest = perf_counter(), arrivals[0]
        while len(arrivals) > left:
            arrivals.popleft()
        self._hops.note("observed", now - oldest)
        if left:
            self._loop.call_soon(self._read)
