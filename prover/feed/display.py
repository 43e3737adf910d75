"""Between a feed and its sinks: ticks are conflated for display, and no sink stops the feed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from prover.feed.metrics import Metrics
from prover.feed.records import Record, Sink, Tick

_log = logging.getLogger(__name__)


class Fanout:
    """Hands records to every sink; of the ticks only a venue's latest, each ``every_s``.

    What is attested is never conflated: only ticks are, which nobody attests.  At most one
    tick of each venue and notary waits.
    """

    def __init__(self, sinks: Sequence[Sink], *, every_s: float, metrics: Metrics) -> None:
        self._sinks, self._every_s, self._metrics = tuple(sinks), every_s, metrics
        self._latest: dict[tuple[str, str], Tick] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, record: Record) -> None:
        """Takes a record, on the event loop."""
        if not isinstance(record, Tick):
            self._hand(record)
            return
        self._latest[record.notary, record.venue] = record
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self.flush)

    def flush(self) -> None:
        """Hands on the latest ticks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        latest, self._latest = self._latest, {}
        for tick in latest.values():
            self._hand(tick)

    def _hand(self, record: Record) -> None:
        for sink in self._sinks:
            try:
                sink(record)
            except Exception:  # noqa: BLE001 - whatever a sink does, the feed goes on
                self._metrics.count("sink_failures_total", kind=type(record).__name__)
                _log.exception("a sink of the feed failed")
