"""What a Witness needs of its two sockets, and the timers it runs by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from notary.gate import Passing


class Legs(Protocol):
    """The two sockets, as far as a Witness needs them.

    ``slow`` is set where the client read so slowly that the venue was kept waiting.
    """

    slow: bool

    @property
    def unsent(self) -> int:
        """Bytes that wait until the client reads."""

    def read_on(self) -> None:
        """From now on the venue is read at full speed, however slowly the client reads."""

    def to_venue(self, data: bytes) -> None:
        """Writes to the venue."""

    def to_client(self, data: bytes) -> None:
        """Writes to the client."""

    def finish_venue(self) -> None:
        """Ends the direction to the venue after what was written."""

    def finish(self) -> None:
        """Closes both legs once everything written is out."""

    def abort(self) -> None:
        """Closes both legs at once."""


def write(legs: Legs, passing: Passing) -> None:
    """Writes what the gate lets pass."""
    if passing.to_venue:
        legs.to_venue(passing.to_venue)
    if passing.to_client:
        legs.to_client(passing.to_client)


class Watch:
    """Calls ``look`` after a time that mostly moves on before it comes.

    It is not put off then: ``look`` finds out, and tells the next.
    """

    __slots__ = ("_due_us", "_handle", "_look", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
        self._loop, self._look = loop, look
        self._handle: asyncio.TimerHandle | None = None
        self._due_us = 0

    def set(self, due_us: int | None, now_us: int) -> None:
        """Looks once ``due_us`` is over, or earlier if told so before; None changes nothing."""
        if due_us is None or (self._handle is not None and self._due_us <= due_us):
            return
        self.stop()
        self._due_us = due_us
        self._handle = self._loop.call_later(max(due_us + 1 - now_us, 0) / 1_000_000, self._fire)

    def stop(self) -> None:
        """Forgets it."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._look()


class Alarms:
    """One deadline at a time, and one quiet time beside it, in microseconds."""

    __slots__ = ("_deadline", "_loop", "_quiet")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadline: asyncio.TimerHandle | None = None
        self._quiet: asyncio.TimerHandle | None = None

    def set(self, after_us: int, action: Callable[[], None]) -> None:
        """Replaces the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(after_us / 1_000_000, action)

    def set_quiet(self, after_us: int, action: Callable[[], None]) -> None:
        """Starts the quiet time anew."""
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(after_us / 1_000_000, action)

    def stop_quiet(self) -> None:
        """Ends the quiet time: something came."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def stop(self) -> None:
        """Stops both."""
        for handle in (self._deadline, self._quiet):
            if handle is not None:
                handle.cancel()
        self._deadline = self._quiet = None
