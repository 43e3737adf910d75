"""How a feed is, right now: what the terminal view, ``--json`` and ``/v1/status`` show.

Built from the feed's records, and from what its parts count (``prover.feed.metrics``).
Times are arguments, in microseconds; nothing here reads a clock.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Sequence
from typing import ClassVar, Protocol

from attestation.document import GapField
from attestation.encoding import Json, JsonObject
from attestation.reasons import PARTIES
from prover.feed.records import DeadLetter, Ended, Missed, Received, Record, Slot, Started, Tick
from prover.serve.hops import HopWindow
from prover.serve.reading import FeedFacts

WINDOW_US = 60_000_000
RATE_SECONDS = 5
SILENT_US = 5_000_000
"""A notary whose newest slot is older is away."""
OK, DEGRADED, DOWN = "ok", "degraded", "down"
STORE_VALUES = (
    "store_available",
    "spool_bytes",
    "waiting_records",
    "reconcile_difference",
    "lost_records",
)
CONNECTING, LIVE, WAITING = "connecting", "live", "waiting"


class LaneView(Protocol):
    """What a feed's part says of itself (``prover.feed.supervise.LaneStatus``)."""

    venue: str
    notary: str
    last_error: str


class EngineView(Protocol):
    """What a feed says beside its records (``prover.feed.engine.Feed``)."""

    @property
    def lanes(self) -> Sequence[LaneView]:
        """The venues' connections."""

    @property
    def troubles(self) -> dict[str, str]:
        """By URL, why a notary has no feed yet."""


class MessageRate:
    """Messages of the last whole seconds."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: deque[list[int]] = deque(maxlen=RATE_SECONDS + 2)

    def add(self, at_us: int) -> None:
        """Counts one."""
        second = at_us // 1_000_000
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1][1] += 1
        else:
            self._counts.append([second, 1])

    def per_second(self, now_us: int) -> int:
        """Returns how many a second there were, to the nearest one."""
        now = now_us // 1_000_000
        counted = sum(n for second, n in self._counts if now - RATE_SECONDS <= second < now)
        return round(counted / RATE_SECONDS)


@dataclasses.dataclass(slots=True, kw_only=True)
class LaneStatus:
    """One venue through one notary."""

    venue: str
    notary: str
    instrument: str = ""
    session: str = ""
    bid: str = ""
    ask: str = ""
    quoted_us: int = 0
    starts: int = 0
    failures: int = 0
    dead_letters: int = 0
    headroom: float = 1.0
    detail: str = ""
    rate: MessageRate = dataclasses.field(default_factory=MessageRate)
    gaps: deque[tuple[int, str, str]] = dataclasses.field(default_factory=deque)

    @property
    def state(self) -> str:
        """``live``, ``waiting`` for another attempt, or ``connecting`` for the first time."""
        if self.session:
            return LIVE
        return WAITING if self.detail else CONNECTING

    def gaps_by_fault(self, now_us: int) -> Counter[str]:
        """Returns the gaps of the last minute."""
        return Counter(fault for at, fault, _ in self.gaps if at > now_us - WINDOW_US)

    def to_json(self, now_us: int) -> JsonObject:
        """Returns the lane's row; ages are in milliseconds."""
        faults = self.gaps_by_fault(now_us)
        row: JsonObject = {
            "venue": self.venue,
            "notary": self.notary,
            "state": self.state,
            "messages_s": self.rate.per_second(now_us),
            "restarts": max(self.starts - 1, 0),
            "failures": self.failures,
            "dead_letters": self.dead_letters,
            "headroom_percent": round(self.headroom * 100),
            "gaps": {party: faults[party] for party in PARTIES},
        }
        if self.bid:
            row["bid"], row["ask"] = self.bid, self.ask
            row["age_ms"] = max(now_us - self.quoted_us, 0) // 1_000
        if self.instrument:
            row["instrument"] = self.instrument
        if self.session:
            row["session"] = self.session
        return row


@dataclasses.dataclass(slots=True, kw_only=True)
class NotaryStatus:
    """One notary's slots."""

    notary: str
    newest_us: int = 0
    total: int = 0
    slots: deque[int] = dataclasses.field(default_factory=deque)
    missed: deque[int] = dataclasses.field(default_factory=deque)

    def to_json(self, now_us: int) -> JsonObject:
        """Returns the notary's row; counts are of the last minute but for ``total``."""
        row: JsonObject = {
            "notary": self.notary,
            "state": self.state(now_us),
            "slots": sum(at > now_us - WINDOW_US for at in self.slots),
            "missed": sum(at > now_us - WINDOW_US for at in self.missed),
            "total": self.total,
        }
        if self.newest_us:
            row["newest_us"] = self.newest_us
            row["age_ms"] = max(now_us - self.newest_us, 0) // 1_000
        return row

    def state(self, now_us: int) -> str:
        """``ok`` while slots come, ``down`` if none did for a while."""
        return OK if now_us - self.newest_us < SILENT_US else DOWN


class FeedStatus:
    """A sink of a feed's records, and one of its measurements (``prover.feed.metrics``)."""

    TYPE: ClassVar[str] = "quotary/feed_status/v1"

    def __init__(self, feed: FeedFacts) -> None:
        self.feed = feed
        self.hops = HopWindow()
        self.store: dict[str, int] = {}
        self.notaries: dict[str, NotaryStatus] = {}
        self.lanes: dict[tuple[str, str], LaneStatus] = {}
        self.engine: EngineView | None = None
        for notary in feed.notaries:
            self.meet(notary)

    def take(self, record: Record) -> None:
        """Notes what a record tells (a ``prover.feed.records.Sink``)."""
        match record:
            case Received():
                if lane := self._lane(record.venue, record.notary):
                    lane.rate.add(record.received_us)
            case Tick():
                if lane := self._lane(record.venue, record.notary):
                    lane.bid, lane.ask = record.bid, record.ask
                    lane.quoted_us, lane.instrument = record.received_us, record.instrument
            case Started():
                lane = self._lane(record.venue, record.notary)
                # A quote by REST has a session too, which is no connection of the lane's.
                if lane and record.attestation.session().mode == "live":
                    lane.session, lane.instrument = record.session, record.instrument
                    lane.starts += 1
            case Ended():
                lane = self._lane(record.venue, record.notary)
                # One that another took over from has ended unnoticed.
                if lane and lane.session == record.session:
                    lane.session = ""
                    lane.detail = ": ".join(filter(None, (record.reason, record.detail)))
            case DeadLetter():
                if lane := self._lane(record.received.venue, record.received.notary):
                    lane.dead_letters += 1
            case Slot() | Missed():
                self._take_slot(record)

    def count(self, name: str, /, **labels: str) -> None:
        """Notes what has a place on the screen."""
        if name == "failures_total" and (lane := self._lane(labels["venue"], labels["notary"])):
            lane.failures += 1
            if not lane.session and not lane.detail:
                lane.detail = labels.get("rule", "")

    def value(self, name: str, value: float, /, **labels: str) -> None:
        """Notes headroom, spool and the store's counts."""
        if name == "connects_headroom_ratio":
            if lane := self._lane(labels["venue"], labels["notary"]):
                lane.headroom = value
        elif name in STORE_VALUES:
            self.store[name] = round(value)

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        """Notes a latency."""
        self.hops.add(hop, max(round(seconds * 1_000_000), 0))

    def state(self, now_us: int) -> str:
        """``down`` if no notary's slots come; ``degraded`` if anything is less than well."""
        states = [notary.state(now_us) for notary in self.notaries.values()]
        if OK not in states:
            return DOWN
        well = DOWN not in states and not self._store_away and not self.troubles
        lanes_live = all(lane.state == LIVE for lane in self.lanes.values())
        return OK if well and lanes_live else DEGRADED

    def to_json(self, now_us: int) -> JsonObject:
        """Returns the whole status."""
        lanes: list[Json] = []
        for lane in self.lanes.values():
            row = lane.to_json(now_us)
            if lane.state != LIVE and (detail := self.detail(lane)):
                row["detail"] = detail
            lanes.append(row)
        notaries: list[Json] = [notary.to_json(now_us) for notary in self.notaries.values()]
        return {
            "type": self.TYPE,
            "at_us": now_us,
            "feed": self.feed.feed,
            "market": self.feed.market,
            "grid_us": self.feed.grid_us,
            "state": self.state(now_us),
            "notaries": notaries,
            "lanes": lanes,
            "hops": self.hops.to_json(),
            "store": dict(self.store),
            "troubles": dict(self.troubles),
        }

    @property
    def troubles(self) -> dict[str, str]:
        """By URL, why a notary has no feed yet."""
        return {} if self.engine is None else self.engine.troubles

    def detail(self, lane: LaneStatus) -> str:
        """Returns what a connection's part says went wrong last, else what records said."""
        for told in () if self.engine is None else self.engine.lanes:
            if (told.venue, told.notary) == (lane.venue, lane.notary) and told.last_error:
                return told.last_error
        return lane.detail

    def meet(self, notary: str) -> None:
        """Makes place for a notary, whose name is known once it has answered."""
        self.notaries[notary] = NotaryStatus(notary=notary)
        for venue in self.feed.venues:
            self.lanes[venue, notary] = LaneStatus(venue=venue, notary=notary)

    @property
    def _store_away(self) -> bool:
        return self.store.get("store_available") == 0

    def _lane(self, venue: str, notary: str) -> LaneStatus | None:
        if notary not in self.notaries:
            self.meet(notary)
        return self.lanes.get((venue, notary))

    def _take_slot(self, record: Slot | Missed) -> None:
        if record.notary not in self.notaries:
            self.meet(record.notary)
        notary = self.notaries[record.notary]
        at = record.slot_us
        notary.newest_us = max(notary.newest_us, at)
        notary.total += 1
        kept = notary.slots if isinstance(record, Slot) else notary.missed
        kept.append(at)
        _forget(kept, notary.newest_us)
        if isinstance(record, Missed):
            return
        for venue, field in record.fields.items():
            if isinstance(field, GapField) and (lane := self._lane(venue, record.notary)):
                lane.gaps.append((at, field.fault, field.reason))
                while lane.gaps[0][0] <= at - WINDOW_US:
                    lane.gaps.popleft()


def _forget(kept: deque[int], newest_us: int) -> None:
    while kept and kept[0] <= newest_us - WINDOW_US:
        kept.popleft()
