"""What is known of feeds in memory, and what a slot says of each of its venues.

No I/O and no clock: times come in as arguments, and so does whether the notary's clocks
agree.  A slot S is closed by the first call that tells a time after it, before what that
call brings is taken: whatever is stamped up to S counts for S, and nothing later does.

What a slot says of each venue is in ``notary.venue_slots``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from attestation.document import ObservationField
from attestation.errors import RefusedError, UsageError
from attestation.log.entry import FeedEntry
from attestation.request import SessionRequest
from notary.venue_slots import LiveSource, Trouble, VenueSlot, VenueState, slot_fields

EARLY_US = 60_000_000
"""How long before a feed's first slot its live sessions may begin."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClosedSlot:
    """A slot and what it says of each venue, in the feed's order."""

    feed: FeedEntry
    slot_us: int
    fields: tuple[VenueSlot, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """Slots that the notary came to when nothing could be said of them in time any more.

    From ``first_us`` to before ``stop_us``.
    """

    feed: FeedEntry
    first_us: int
    stop_us: int


class _Feed:
    """One feed: its venues by name, the next slot to close, what is over and not taken."""

    __slots__ = ("entry", "next_us", "over", "states")

    def __init__(self, entry: FeedEntry, next_us: int) -> None:
        self.entry = entry
        self.states = {venue.venue: VenueState(venue=venue) for venue in entry.venues}
        self.next_us = next_us
        self.over: list[ClosedSlot | Lapsed] = []


class FeedBook:
    """The feeds of a notary's log, their live sessions and their slots.

    ``started_us`` is when this notary began: slots before it are none of the book's.
    ``clocks_agree`` is asked when a slot is closed.  Raises RefusedError with a status.
    """

    def __init__(
        self,
        entries: Iterable[FeedEntry] = (),
        *,
        started_us: int,
        clocks_agree: Callable[[], bool],
    ) -> None:
        self._clocks_agree = clocks_agree
        self._trouble = Trouble(reason="restart", at_us=started_us)
        self._feeds: dict[str, _Feed] = {}
        self._soonest_us: int | None = None
        self._settlers: list[Callable[[], None]] = []
        self._settling = False
        for entry in entries:
            self.add(entry, started_us)

    @property
    def feeds(self) -> tuple[FeedEntry, ...]:
        """The feeds, in the order in which they came to be known."""
        return tuple([feed.entry for feed in self._feeds.values()])

    @property
    def next_us(self) -> int | None:
        """The slot that is closed next, of whichever feed; None without feeds."""
        return self._soonest_us

    def next_of(self, name: str) -> int:
        """Returns the slot of a feed that is closed next; RefusedError (404) without it."""
        return self._feed(name).next_us

    def add(self, entry: FeedEntry, now_us: int) -> None:
        """Takes a feed that is in the log; its slots after ``now_us`` are the book's.

        Raises UsageError for a name it has.
        """
        if entry.feed in self._feeds:
            raise UsageError("a feed's name twice", rule="feed", found=entry.feed)
        first_us = max(entry.from_us, now_us + 1)
        self._feeds[entry.feed] = _Feed(entry, -(-first_us // entry.grid_us) * entry.grid_us)
        self._look_ahead()

    def get(self, name: str) -> FeedEntry:
        """Raises RefusedError (404) for a feed that is not in the log."""
        return self._feed(name).entry

    def admit(self, request: SessionRequest, now_us: int) -> None:
        """Raises RefusedError unless the feed has what a session request names.

        404 for the feed itself, 403 for its prover, venue, instrument or slot, 409 for a
        slot that is over.
        """
        if request.feed is None:
            raise UsageError("the request is for no feed", rule="request.feed")
        entry = self.get(request.feed)
        if request.prover not in entry.provers:
            raise _refused("the prover is none of the feed's", "request.prover", request.prover)
        state = self._feeds[request.feed].states.get(request.venue or "")
        if state is None:
            raise _refused("the venue is none of the feed's", "request.venue", request.venue)
        if request.instrument != state.venue.instrument:
            raise _refused(
                "the instrument is not the feed's", "request.instrument", request.instrument
            )
        slot_us = request.slot_us
        if slot_us is None:
            # Before the first slot nothing renews its deadline in the log (L6).
            if entry.from_us > now_us + EARLY_US:
                raise _refused("the feed begins later", "request.feed", entry.from_us)
            return
        if slot_us % entry.grid_us or slot_us < entry.from_us:
            raise _refused("the feed has no such slot", "request.slot_us", slot_us)
        if slot_us <= now_us or slot_us < self._feeds[request.feed].next_us:
            raise RefusedError(
                "the slot is over", rule="request.slot_us", found=slot_us, http_status=409
            )

    def attempted(self, feed: str, venue: str, now_us: int) -> None:
        """Notes that a connection for a live session is tried."""
        self.close_before(now_us)
        self._state(feed, venue).tried_us = now_us

    def started(self, source: LiveSource) -> None:
        """Takes a live session whose start is attested and durable: it may feed slots."""
        sources = self._state(source.feed, source.venue).sources
        sources.append(source)
        sources.sort(key=lambda source: source.opened)

    def attend(self, settle: Callable[[], None]) -> None:
        """Has ``settle`` called before slots are closed: it reads what came and waits.

        What that brings to an end, ended before the slots that are then closed.
        """
        self._settlers.append(settle)

    def dismiss(self, settle: Callable[[], None]) -> None:
        """Calls it no more, if it was."""
        if settle in self._settlers:
            self._settlers.remove(settle)

    def ended(self, feed: str, venue: str, session: str, reason: str, now_us: int) -> None:
        """Notes the end of a live session, whether it had started or not."""
        self.close_before(now_us)
        state = self._state(feed, venue)
        state.sources = [source for source in state.sources if source.session != session]
        state.reason, state.ended_us = reason, now_us

    def fetched(
        self,
        feed: str,
        slot_us: int,
        observation: ObservationField,
        *,
        request_first_us: int,
        now_us: int,
    ) -> bool:
        """Takes the quote of a slot's REST session; tells whether it counts for the slot.

        It does if the request was forwarded, and the response ended, within the grid that
        the slot ends, if it is the slot's first and the slot is not closed yet.
        """
        self.close_before(now_us)
        found = self._feed(feed)
        state = self._state(feed, observation.venue)
        within = slot_us - found.entry.grid_us < request_first_us
        if not within or observation.received_us > slot_us or slot_us < found.next_us:
            return False
        return state.fetched.setdefault(slot_us, observation) is observation

    def close_before(self, now_us: int) -> None:
        """Closes the slots before ``now_us``: to be called before what is stamped then is read."""
        # Asked for each piece that any live session brings.
        if self._soonest_us is None or now_us <= self._soonest_us or self._settling:
            return
        self._settle()
        for feed in self._feeds.values():
            if feed.next_us < now_us:
                self._close(feed, now_us - 1, now_us)
        self._look_ahead()

    def take(self, now_us: int) -> list[ClosedSlot | Lapsed]:
        """Closes the slots up to ``now_us``; returns what is over, each feed's in order."""
        taken: list[ClosedSlot | Lapsed] = []
        self._settle()
        for feed in self._feeds.values():
            self._close(feed, now_us, now_us)
            taken += feed.over
            feed.over = []
        self._look_ahead()
        return taken

    def _settle(self) -> None:
        self._settling = True
        try:
            for settle in tuple(self._settlers):
                settle()
        finally:
            self._settling = False

    def _look_ahead(self) -> None:
        self._soonest_us = min((feed.next_us for feed in self._feeds.values()), default=None)

    def _close(self, feed: _Feed, last_us: int, now_us: int) -> None:
        """Closes a feed's slots up to ``last_us``."""
        entry, grid_us = feed.entry, feed.entry.grid_us
        # The first slot of which an entry can still come in time: however long the notary
        # stood still, there are few of them.
        due_us = -((entry.late_us - now_us) // grid_us) * grid_us
        if feed.next_us < due_us:
            feed.over.append(Lapsed(feed=entry, first_us=feed.next_us, stop_us=due_us))
            feed.next_us = due_us
        while feed.next_us <= last_us:
            feed.over.append(self._closed(feed, feed.next_us, now_us))
            feed.next_us += grid_us
        for state in feed.states.values():
            for slot_us in [slot for slot in state.fetched if slot < feed.next_us]:
                del state.fetched[slot_us]

    def _closed(self, feed: _Feed, slot_us: int, now_us: int) -> ClosedSlot:
        agree = self._clocks_agree()
        if not agree:
            self._trouble = Trouble(reason="clock", at_us=slot_us)
        fields = slot_fields(
            feed.states.values(),
            slot_us,
            now_us,
            grid_us=feed.entry.grid_us,
            clocks_agree=agree,
            trouble=self._trouble,
        )
        return ClosedSlot(feed=feed.entry, slot_us=slot_us, fields=fields)

    def _feed(self, name: str) -> _Feed:
        feed = self._feeds.get(name)
        if feed is None:
            raise RefusedError(
                "no such feed is in the log", rule="feed", found=name, http_status=404
            )
        return feed

    def _state(self, feed: str, venue: str) -> VenueState:
        state = self._feed(feed).states.get(venue)
        if state is None:
            raise UsageError("the feed has no such venue", rule="venue", found=venue)
        return state


def _refused(detail: str, rule: str, found: object) -> RefusedError:
    return RefusedError(detail, rule=rule, found=found, http_status=403)
