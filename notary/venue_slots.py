"""What a slot says of each venue of a feed, from what is known of it.

A venue's field in a slot is, in this order (docs/log.md, "Slots"):

1. gap ``clock`` while the notary's clocks disagree; gap ``overload`` if the notary comes to
   the slot more than half a grid late;
2. the quote of the live session that feeds it: of those alive, the lowest ``opened`` index;
3. the quote of the slot's own REST session;
4. of a live session without a quote: gap ``venue_malformed`` if its latest message could not
   be read, else ``venue_silent``, or the reason of a session that the prover ended within
   five seconds before;
5. the reason that the venue's last session ended with, or, after what befell the notary
   itself, ``restart`` or ``clock``: for five seconds, or as long as connections are tried;
6. gap ``absent``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Protocol, TypeAlias

from attestation.document import GapField, MessageRef, ObservationField
from attestation.log.entry import FeedVenue
from attestation.reasons import FAULTS

GRACE_US = 5_000_000
"""How long a venue may be without a session or an attempt before its prover is absent."""

VenueSlot: TypeAlias = ObservationField | GapField


class Quote(Protocol):
    """The latest quote of a live session, and the messages it was read from."""

    @property
    def bid(self) -> str: ...
    @property
    def ask(self) -> str: ...
    @property
    def exchange_us(self) -> int | None: ...
    @property
    def received_us(self) -> int: ...
    @property
    def messages(self) -> tuple[MessageRef, ...]: ...


class Observing(Protocol):
    """Reads a live session's messages.

    ``malformed``: a message later than ``seen``'s could not be read.
    """

    @property
    def seen(self) -> Quote | None: ...
    @property
    def malformed(self) -> bool: ...


class LiveSource(Protocol):
    """A live session whose start is attested; ``opened`` is the index of its entry."""

    @property
    def feed(self) -> str: ...
    @property
    def venue(self) -> str: ...
    @property
    def session(self) -> str: ...
    @property
    def opened(self) -> int: ...
    @property
    def observer(self) -> Observing: ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Trouble:
    """What befell the notary itself last, and when."""

    reason: str
    at_us: int


@dataclasses.dataclass(slots=True, kw_only=True)
class VenueState:
    """What is known of a venue of a feed.

    ``sources`` are alive, the one that feeds first; ``tried_us`` is when a connection was
    last tried; ``reason`` is how the last one ended, ``ended_us`` when; ``fetched`` are
    the quotes of REST sessions by slot.
    """

    venue: FeedVenue
    sources: list[LiveSource] = dataclasses.field(default_factory=list)
    tried_us: int | None = None
    reason: str | None = None
    ended_us: int = 0
    fetched: dict[int, ObservationField] = dataclasses.field(default_factory=dict)

    def observe(self, slot_us: int) -> ObservationField | None:
        """Returns the quote of the session that feeds the slot, if it has one."""
        if not self.sources:
            return None
        source = self.sources[0]
        seen = source.observer.seen
        if seen is None or source.observer.malformed or seen.received_us > slot_us:
            return None
        return ObservationField(
            venue=self.venue.venue,
            instrument=self.venue.instrument,
            bid=seen.bid,
            ask=seen.ask,
            received_us=seen.received_us,
            exchange_us=seen.exchange_us,
            source="live",
            session=source.session,
            messages=seen.messages,
        )

    def missing(self, slot_us: int, trouble: Trouble) -> str:
        """Returns why there is no quote."""
        if self.sources and self.sources[0].observer.malformed:
            return "venue_malformed"
        if self.sources:
            # Or a prover could begin anew before each slot that it dislikes.
            anew = slot_us - self.ended_us <= GRACE_US and FAULTS.get(self.reason or "") == "prover"
            return self.reason if anew and self.reason is not None else "venue_silent"
        ended = self.reason is not None and self.ended_us >= trouble.at_us
        if ended and self.reason is not None:
            known_us, reason = max(self.ended_us, self.tried_us or 0), self.reason
        else:
            known_us, reason = trouble.at_us, trouble.reason
        return reason if slot_us - known_us <= GRACE_US else "absent"


def slot_fields(
    venues: Iterable[VenueState],
    slot_us: int,
    now_us: int,
    *,
    grid_us: int,
    clocks_agree: bool,
    trouble: Trouble,
) -> tuple[VenueSlot, ...]:
    """Returns what a slot says of each venue, closed at ``now_us``."""
    whole: str | None = None
    if not clocks_agree:
        whole = "clock"
    elif now_us - slot_us > grid_us // 2:
        whole = "overload"
    fields: list[VenueSlot] = []
    for state in venues:
        seen = None
        if whole is None:
            seen = state.observe(slot_us) or state.fetched.get(slot_us)
        fields.append(seen or _gap(state.venue.venue, whole or state.missing(slot_us, trouble)))
    return tuple(fields)


def _gap(venue: str, reason: str) -> GapField:
    return GapField(venue=venue, reason=reason, fault=FAULTS[reason])
