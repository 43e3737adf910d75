"""How long a message takes from hop to hop, counted cheaply and shown to Prometheus.

A stream notes three times for each read: a histogram of the client library costs a
microsecond each, a list and a bisection a fifth of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

HOPS = ("relayed", "verified", "observed", "signed", "logged", "stored", "published")
"""The first three from a message's arrival, the others from its slot's end."""
BOUNDS = (
    *(0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
"""Upper ends of the buckets, in seconds."""


class Hops(Collector):
    """The histogram ``quotary_hop_seconds`` by hop; for one thread to write."""

    def __init__(self) -> None:
        self._counts = {hop: [0] * (len(BOUNDS) + 1) for hop in HOPS}
        self._sums = dict.fromkeys(HOPS, 0.0)

    def note(self, hop: str, seconds: float) -> None:
        """Counts one; KeyError for a hop that is none."""
        self._counts[hop][bisect_left(BOUNDS, seconds)] += 1
        self._sums[hop] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the metric as it stands."""
        family = HistogramMetricFamily(
            "quotary_hop_seconds",
            "Latency by hop: from arrival (relayed, verified, observed) or from the slot's end.",
            labels=["hop"],
        )
        for hop in HOPS:
            total, buckets = 0, []
            for bound, count in zip((*BOUNDS, "+Inf"), self._counts[hop], strict=True):
                total += count
                buckets.append((str(bound), float(total)))
            family.add_metric([hop], buckets, self._sums[hop])
        yield family
