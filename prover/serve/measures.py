"""Where a feed's measurements go: into the metrics, and onto the screen."""

from __future__ import annotations

from collections.abc import Callable

from attestation.log.entry import SlotEntry
from prover.feed.records import Record, Slot
from prover.serve.metrics import FeedMetrics
from prover.serve.status import FeedStatus

FRESH_US = 200_000
"""A notary's slots are caught up with until one is no older when it arrives,"""
CATCHING_UP_US = 10_000_000
"""or until one is from so long after the start."""


class Measures:
    """A ``prover.feed.metrics.Metrics``, and a sink that reads latencies from records.

    What a notary states of its own slot - when it signed and logged it - is of one clock,
    the notary's; ``published`` compares that with this machine's.
    """

    def __init__(self, metrics: FeedMetrics, status: FeedStatus, now_us: Callable[[], int]) -> None:
        self.metrics = metrics
        self.status = status
        self._now_us = now_us
        self._began_us = now_us()
        self._caught_up: set[str] = set()

    def count(self, name: str, /, **labels: str) -> None:
        """Adds to a counter."""
        self.metrics.count(name, **labels)
        self.status.count(name, **labels)

    def value(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge."""
        self.metrics.value(name, value, **labels)
        self.status.value(name, value, **labels)

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        """Records how long a hop took."""
        self.metrics.hop(hop, seconds, **labels)
        self.status.hop(hop, seconds, **labels)

    def stored(self, seconds: float) -> None:
        """Takes the time a record took to be stored; called in the store's thread."""
        self.hop("stored", seconds)

    def take(self, record: Record) -> None:
        """Counts what a record tells; comes last of the sinks, when it was published."""
        self.metrics.take(record)
        self.status.take(record)
        if not isinstance(record, Slot):
            return
        slot_us, now_us = record.slot_us, self._now_us()
        if now_us - slot_us <= FRESH_US or slot_us > self._began_us + CATCHING_UP_US:
            self._caught_up.add(record.notary)
        if record.notary not in self._caught_up:
            # Its age says how long this process was away, and nothing of a latency.
            return
        self.hop("signed", (record.attestation.header.issued_us - slot_us) / 1e6)
        if record.log is not None and "logged_us" in record.log.entry:
            logged_us = SlotEntry.from_json(record.log.entry).logged_us
            self.hop("logged", (logged_us - slot_us) / 1e6)
        self.hop("published", (now_us - slot_us) / 1e6)
