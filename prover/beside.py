"""Runs flows beside blocking callers, one after another, in a thread made when needed."""

from __future__ import annotations

import contextlib
import queue
import threading

from attestation.errors import QuotaryError
from prover.flow import Flow, Timeouts, run


class Beside:
    """A worker thread for flows whose failures somebody else will meet."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._queue: queue.SimpleQueue[Flow[None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="quotary-prover", daemon=True)
        self._thread.start()

    def run(self, flow: Flow[None]) -> None:
        """Runs a flow soon; QuotaryError is left to whoever needs its result."""
        self._queue.put(flow)

    def close(self) -> None:
        """Finishes what was given and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (flow := self._queue.get()) is not None:
            with contextlib.suppress(QuotaryError):
                run(flow, self._timeouts)
