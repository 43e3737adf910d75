"""What a feed measures, as Prometheus metrics (docs/feeds.md, "Metrics and alerts").

The catalogue is closed: a name or label that is not in it is a bug, and a label's values
are venues, notaries and rules, bounded in number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from attestation.document import GapField
from prover.feed.records import Missed, Record, Slot

HOPS = (
    "received",
    "relayed",
    "verified",
    "observed",
    "signed",
    "logged",
    "stored",
    "published",
)
"""The one vocabulary of the latency, in the order in which a quote passes."""

BUDGET_MS: Mapping[str, int] = MappingProxyType(
    {
        "relayed": 1,
        "verified": 5,
        "observed": 5,
        "stored": 50,
        "signed": 20,
        "logged": 60,
        "published": 100,
    }
)
"""What each hop may take, at p99, from where it is counted (docs/feeds.md)."""
HOP_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0),
)
"""Bounds of the hops' histogram: the budgets 5, 50 and 100 ms are among them."""

_LANE = ("venue", "notary")
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "messages_total": ("Data messages received.", _LANE),
        "dead_letters_total": ("Messages that could not be read.", _LANE),
        "duplicates_total": ("Quotes that were received before.", _LANE),
        "starts_total": ("Connections that were started and attested.", _LANE),
        "replacements_total": ("Connections replaced before they ended.", _LANE),
        "failures_total": ("Connections that failed or ended, by rule.", ("rule", *_LANE)),
        "slots_total": ("Slots attested.", ("notary",)),
        "missed_total": ("Slots that got no attestation, by fault.", ("fault", "notary")),
        "gaps_total": (
            "Venues without a quote in an attested slot, by reason and its fault.",
            ("fault", "reason", *_LANE),
        ),
        "slot_streams_total": ("Streams of slots that ended, by rule.", ("notary", "rule")),
        "observations_total": (
            "Observations held against own messages, by verdict.",
            ("notary", "verdict"),
        ),
        "fallbacks_total": (
            "Slots for which REST was asked, a session having failed, by outcome.",
            ("outcome", *_LANE),
        ),
        "restarts_total": ("Parts of this program that failed and were started again.", ("kind",)),
        "registrations_failed_total": ("Feeds that a notary did not log, by rule.", ("rule",)),
        "sink_failures_total": ("Records that a part of this program failed at.", ("kind",)),
        "incidents_unkept_total": ("Incidents that no disk took.", ("notary",)),
        "incidents_total": ("What a notary signed that is not what was sent.", ("notary", "rule")),
        "streams_cut_total": ("Consumers' streams that were cut, by reason.", ("reason",)),
    }
)
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "connects_headroom_ratio": ("Connections a venue still allows, 0 to 1.", _LANE),
        "sends_headroom_ratio": ("Messages a venue still takes, 0 to 1.", _LANE),
        "quote_age_seconds": ("Since a live venue's latest quote.", _LANE),
        "slot_age_seconds": ("Since the newest slot of a notary.", ("notary",)),
        "streams": ("Consumers' streams that are open.", ()),
        "spool_bytes": ("Bytes that wait on disk for the store.", ()),
        "waiting_records": ("Records in memory that wait for the store.", ()),
        "store_bytes": ("Bytes of the store on disk.", ()),
        "reconcile_difference": ("Records of which nobody knows where they went.", ()),
        "lost_records": ("Records that were given up since the start.", ()),
        "store_available": ("Whether the store takes records: 1 or 0.", ()),
    }
)
MAX_RULES = 64
"""Different rules that are told apart; a notary's words are no closed list."""
OTHER = "other"


class FeedMetrics:
    """One registry per feed.  Records what parts of the feed tell, and what records say."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.hops = Histogram(
            "quotary_hop_seconds",
            "Latency by hop: from arrival (stored), or from the slot's instant (signed, logged, "
            "published).",
            ["hop"],
            buckets=HOP_SECONDS,
            registry=self.registry,
        )
        self._counters = {
            name: Counter(f"quotary_{name}", text, labels, registry=self.registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"quotary_{name}", text, labels, registry=self.registry)
            for name, (text, labels) in GAUGES.items()
        }
        self._rules: set[str] = set()
        self._newest: dict[str, int] = {}

    def count(self, name: str, /, **labels: str) -> None:
        """Adds one to a counter of the catalogue."""
        if "rule" in labels:
            labels["rule"] = self._rule(labels["rule"])
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc()

    def value(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge of the catalogue."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        """Records a hop's latency; clocks that disagree count as no time."""
        self.hops.labels(hop).observe(max(seconds, 0.0))

    def take(self, record: Record) -> None:
        """Counts slots and gaps (a ``prover.feed.records.Sink``)."""
        match record:
            case Slot():
                self.count("slots_total", notary=record.notary)
                for venue, field in record.fields.items():
                    if isinstance(field, GapField):
                        self.count(
                            "gaps_total",
                            venue=venue,
                            notary=record.notary,
                            reason=field.reason,
                            fault=field.fault,
                        )
            case Missed():
                self.count("missed_total", notary=record.notary, fault=record.fault)
            case _:
                return
        at = record.slot_us
        if at > self._newest.get(record.notary, 0):
            self._newest[record.notary] = at

    def render(self) -> bytes:
        """Returns the text exposition format."""
        now = self._clock()
        for notary, slot_us in self._newest.items():
            self.value("slot_age_seconds", max(now - slot_us / 1_000_000, 0.0), notary=notary)
        return generate_latest(self.registry)

    def _rule(self, rule: str) -> str:
        if rule not in self._rules:
            if len(self._rules) >= MAX_RULES or len(rule) > 64:
                return OTHER
            self._rules.add(rule)
        return rule
