"""The latest latencies of each hop, for percentiles on a screen; metrics keep them all."""

from __future__ import annotations

from collections import deque

from attestation.encoding import JsonObject

KEPT = 2_048
"""Latencies kept per hop."""
PERCENTILES = (50, 95, 99)


class HopWindow:
    """Latencies in microseconds, the newest of each hop."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[int]] = {}

    def add(self, hop: str, micros: int) -> None:
        """Keeps a latency instead of the oldest."""
        kept = self._kept.get(hop)
        if kept is None:
            kept = self._kept[hop] = deque(maxlen=KEPT)
        kept.append(micros)

    def percentiles(self) -> dict[str, dict[str, int]]:
        """Returns ``p50_us``, ``p95_us``, ``p99_us`` and ``count`` of each hop that was seen."""
        found = {}
        for hop, kept in self._kept.items():
            ordered = sorted(kept)
            found[hop] = {
                # The smallest value that so many percent do not exceed.
                f"p{percent}_us": ordered[-(-len(ordered) * percent // 100) - 1]
                for percent in PERCENTILES
            } | {"count": len(ordered)}
        return found

    def to_json(self) -> JsonObject:
        """Returns the same as a document."""
        return {hop: dict(values) for hop, values in self.percentiles().items()}
