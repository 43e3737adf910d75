"""What is done about bytes once they are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Afterwards:
    """Runs ``step`` when the loop has turned: what was written before is out by then.

    uvloop's transports write once the callbacks of a turn are done, so that whatever a
    callback does after it wrote delays what it wrote.  ``settle`` is for who cannot wait.
    """

    __slots__ = ("_handle", "_loop", "_step")

    def __init__(self, loop: asyncio.AbstractEventLoop, step: Callable[[], None]) -> None:
        self._loop, self._step = loop, step
        self._handle: asyncio.Handle | None = None

    def plan(self) -> None:
        """Has the step run soon, once however often it is asked for."""
        if self._handle is None:
            self._handle = self._loop.call_soon(self._run)

    def settle(self) -> None:
        """Runs the step now, if it is planned."""
        if self._handle is not None:
            self._handle.cancel()
            self._run()

    def _run(self) -> None:
        self._handle = None
        self._step()
