"""What a verify API counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


class Metrics:
    """One registry per application, so that two can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.verdicts = Counter(
            "quotary_verifier_verdicts",
            "Verdicts, by kind of error where rejected.",
            ["verdict", "error"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "quotary_verifier_request_seconds",
            "Time to read and answer one request, all its questions included.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.problems = Counter(
            "quotary_verifier_problems",
            "Requests that were no question, by HTTP status.",
            ["status"],
            registry=self.registry,
        )
