"""Time that stands still while the process does, for tests whose parts share an event loop.

Where a loaded machine holds the process up, client, notary and venue are late together, and
a deadline of the notary's would end what it lets pass on a quiet machine.  By this time a
gap counts as one short step, however long it was, so that a deadline passes only while all
of them were free to act.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

STEP = 0.005
"""Seconds: the most that passes between two looks."""


class SteadyTime:
    """Seconds and nanoseconds that never run faster than the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._monotonic = time.monotonic
        self._now = self._seen = self._monotonic()

    def time(self) -> float:
        with self._lock:
            real = self._monotonic()
            self._now += min(real - self._seen, STEP)
            self._seen = real
            return self._now

    def ns(self) -> int:
        return int(self.time() * 1_000_000_000)

    def wall_from(self, start_ns: int) -> Callable[[], int]:
        """Returns a wall clock in nanoseconds that shows ``start_ns`` now."""
        offset = start_ns - self.ns()
        return lambda: self.ns() + offset


STEADY = SteadyTime()


def keep_steady() -> None:
    """Has the running event loop count by ``STEADY`` from now on; uvloop's keeps its own time."""
    loop: Any = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop) or loop.time == STEADY.time:
        return
    wait = loop._selector.select

    def select(timeout: float | None) -> Any:
        until = None if timeout is None else STEADY.time() + timeout
        while True:
            rest = STEP if until is None else min(until - STEADY.time(), STEP)
            found = wait(max(rest, 0.0))
            if found or rest <= 0:
                return found

    loop.time, loop._selector.select = STEADY.time, select
