"""What a feed measures, to be recorded by whoever runs it.

Names are those of the metrics without ``quotary_``; ``hop`` is the one vocabulary of the
latency: received, relayed, verified, observed, signed, logged, stored, published.
"""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    """Counts, values and latencies; every method returns at once."""

    def count(self, name: str, /, **labels: str) -> None:
        """Adds one to a counter."""

    def value(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge."""

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        """Records how long a hop took."""


class NoMetrics:
    """Records nothing."""

    def count(self, name: str, /, **labels: str) -> None:
        """Does nothing."""

    def value(self, name: str, value: float, /, **labels: str) -> None:
        """Does nothing."""

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        """Does nothing."""
