"""The histogram of hops, as Prometheus reads it."""

from __future__ import annotations

import pytest

from notary.hops import BOUNDS, HOPS
from notary.metrics import Metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_buckets_count_up_to_their_bound() -> None:
    metrics = Metrics()
    for seconds in (BOUNDS[0], BOUNDS[0] + 1e-9, 0.004, 60.0):
        metrics.hops.note("verified", seconds)
    found = [
        sample(metrics, "quotary_hop_seconds_bucket", hop="verified", le=str(bound))
        for bound in (BOUNDS[0], BOUNDS[1], 0.005, BOUNDS[-1], "+Inf")
    ]
    assert found == [1, 2, 3, 3, 4]
    assert sample(metrics, "quotary_hop_seconds_count", hop="verified") == 4
    total = sample(metrics, "quotary_hop_seconds_sum", hop="verified")
    assert total == pytest.approx(60.00404, abs=1e-6)


def test_every_hop_is_shown_from_the_start() -> None:
    metrics = Metrics()
    counts = [sample(metrics, "quotary_hop_seconds_count", hop=hop) for hop in HOPS]
    assert counts == [0] * len(HOPS)
    with pytest.raises(KeyError):
        metrics.hops.note("guessed", 0.1)
