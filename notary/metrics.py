"""Prometheus metrics; labels come from closed lists, never from a prover."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from notary.hops import Hops

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


class Metrics:
    """One registry per notary, so that two can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.sessions = Counter(
            "quotary_notary_sessions",
            "Sessions admitted.",
            ["mode"],
            registry=self.registry,
        )
        self.refused = Counter(
            "quotary_notary_refusals",
            "Requests refused, by kind of error.",
            ["kind"],
            registry=self.registry,
        )
        self.ended = Counter(
            "quotary_notary_sessions_ended",
            "Sessions ended, by reason and fault.",
            ["reason", "fault"],
            registry=self.registry,
        )
        self.connections = Gauge(
            "quotary_notary_connections", "Relay connections open.", registry=self.registry
        )
        self.relayed = Counter(
            "quotary_notary_relayed_bytes",
            "Raw bytes witnessed, both directions.",
            registry=self.registry,
        )
        self.verify = Histogram(
            "quotary_notary_verify_seconds",
            "Time to verify one claim.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.durable = Histogram(
            "quotary_notary_durable_seconds",
            "Time until an attestation is durable.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.hops = Hops()
        self.registry.register(self.hops)
        self.live_sessions = Gauge(
            "quotary_notary_live_sessions",
            "Live sessions whose start is attested, by venue.",
            ["venue"],
            registry=self.registry,
        )
        self.live_messages = Counter(
            "quotary_notary_live_messages",
            "Data messages of live sessions, by venue.",
            ["venue"],
            registry=self.registry,
        )
        self.clock_apart = Gauge(
            "quotary_notary_clock_apart_seconds",
            "How far the system's clock is ahead of the notary's.",
            registry=self.registry,
        )
        self.log_size = Gauge(
            "quotary_notary_log_entries",
            "Entries under the published checkpoint.",
            registry=self.registry,
        )
        self.cosigned = Counter(
            "quotary_notary_log_cosignatures",
            "Answers of witnesses, by witness and result.",
            ["witness", "result"],
            registry=self.registry,
        )
        self.slots = Counter(
            "quotary_notary_slots",
            "Slots of feeds that were decided, attested or missed.",
            ["end"],
            registry=self.registry,
        )
        for end in ("slot", "missed"):
            # Shown from the start, so that the first one missed is an increase.
            self.slots.labels(end=end)
        self.gaps = Counter(
            "quotary_notary_gaps",
            "Gaps in attested slots, by venue and reason.",
            ["venue", "reason"],
            registry=self.registry,
        )
        self.slot_lag = Gauge(
            "quotary_notary_slot_lag_seconds",
            "Time from the latest slot's instant until it was handed out.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Returns the text exposition format."""
        return generate_latest(self.registry)
