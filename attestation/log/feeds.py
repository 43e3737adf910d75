"""The rules of feeds: each slot has exactly one entry, in time (docs/log.md, "Rules")."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from attestation.log.entry import FeedEntry, MissedEntry, SlotEntry
from attestation.log.slots import SlotGrid
from attestation.log.state import FeedState, SlotPlace, Span
from attestation.log.violation import Violation, bad_entry

MAX_FEEDS = 1_000
MAX_LATE_US = 60_000_000
MAX_DUE = 10_000
"""Slots of a feed that may be due at a time: late_us / grid_us."""

Effect: TypeAlias = Callable[[], object]


@dataclasses.dataclass(slots=True, kw_only=True)
class Feed:
    """A feed and its slots; ``places`` holds the records of sessions for slots that are due."""

    entry: FeedEntry
    index: int
    grid: SlotGrid
    venues: frozenset[str]
    places: dict[str, bytes] = dataclasses.field(default_factory=dict)
    slot_index: int | None = None
    slot_logged_us: int = 0

    @classmethod
    def of(cls, entry: FeedEntry, index: int) -> Feed:
        """Returns a feed as its entry at ``index`` begins it."""
        grid = SlotGrid(grid_us=entry.grid_us, late_us=entry.late_us, from_us=entry.from_us)
        venues = frozenset(venue.venue for venue in entry.venues)
        return cls(entry=entry, index=index, grid=grid, venues=venues)

    def is_late(self, slot_us: int, logged_us: int) -> bool:
        """Tells whether an entry for a slot comes after its time."""
        return logged_us > slot_us + self.entry.late_us


class Feeds:
    """The feeds of a log.  The judges append violations and return the entry's effect."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._given_up: list[Violation] = []

    def get(self, name: str) -> Feed | None:
        """Returns the feed of that name."""
        return self._feeds.get(name)

    def judge_feed(self, entry: FeedEntry, index: int, found: list[Violation]) -> Effect | None:
        known = self._feeds.get(entry.feed)
        if known is not None:
            found.append(
                Violation(kind="duplicate", detail="a feed's name twice", entries=(known.index,))
            )
            return None
        if entry.from_us < entry.logged_us:
            found.append(bad_entry("a feed is logged before its first slot"))
        if (
            len(self._feeds) >= MAX_FEEDS
            or entry.late_us > MAX_LATE_US
            or entry.late_us // entry.grid_us > MAX_DUE
        ):
            found.append(bad_entry("too many feeds, or too many slots due at a time"))
            return None
        feed = Feed.of(entry, index)
        return lambda: self._feeds.__setitem__(entry.feed, feed)

    def judge_slot(self, entry: SlotEntry, index: int, found: list[Violation]) -> Effect | None:
        feed = self._settled(entry, found)
        if feed is None:
            return None
        if entry.prev != feed.slot_index:
            before = feed.index if feed.slot_index is None else feed.slot_index
            found.append(bad_entry("prev is not the feed's slot entry before", before))
        if feed.is_late(entry.slot_us, entry.logged_us):
            found.append(_late(feed))

        def take() -> None:
            self._settle(feed, entry)
            feed.slot_index, feed.slot_logged_us = index, entry.logged_us

        return take

    def judge_missed(self, entry: MissedEntry, index: int, found: list[Violation]) -> Effect | None:
        feed = self._settled(entry, found)
        if feed is None:
            return None
        # After a restart the notary owns up to the slots that passed meanwhile.
        if entry.fault != "notary" and feed.is_late(entry.slot_us, entry.logged_us):
            found.append(_late(feed))
        return lambda: self._settle(feed, entry)

    def overdue(self, now_us: int) -> Iterator[Violation]:
        """Yields the runs of slots that should have their entries by ``now_us``."""
        for feed in self._feeds.values():
            self._advance(feed, now_us)
            for span in feed.grid.spans:
                yield _missing(feed, span)

    def given_up(self) -> list[Violation]:
        """Returns the runs that were overdue for so long that they are not followed, once."""
        found, self._given_up = self._given_up, []
        return found

    def save(self, now_us: int) -> tuple[FeedState, ...]:
        """Returns the state of every feed."""
        return tuple([self._save(feed, now_us) for feed in self._feeds.values()])

    def save_one(self, name: str, now_us: int) -> FeedState | None:
        """Returns the state of one feed."""
        feed = self._feeds.get(name)
        return None if feed is None else self._save(feed, now_us)

    def restore(self, states: Iterable[FeedState]) -> None:
        """Goes on from a saved state; raises MalformedError where it is none."""
        for saved in states:
            feed = Feed.of(saved.entry, saved.index)
            feed.grid.restore(
                floor_us=saved.floor_us,
                settled=saved.settled,
                spans=[(span.first_us, span.stop_us) for span in saved.spans],
            )
            feed.places = {place.place: place.record for place in saved.places}
            feed.slot_index, feed.slot_logged_us = saved.slot_index, saved.slot_logged_us
            self._feeds[saved.entry.feed] = feed

    def _save(self, feed: Feed, now_us: int) -> FeedState:
        self._advance(feed, now_us)
        return FeedState(
            entry=feed.entry,
            index=feed.index,
            floor_us=feed.grid.floor_us,
            settled=tuple(sorted(feed.grid.settled)),
            spans=tuple([Span(first_us=first, stop_us=stop) for first, stop in feed.grid.spans]),
            places=tuple(
                [SlotPlace(place=place, record=record) for place, record in feed.places.items()]
            ),
            slot_index=feed.slot_index,
            slot_logged_us=feed.slot_logged_us,
        )

    def _settled(self, entry: SlotEntry | MissedEntry, found: list[Violation]) -> Feed | None:
        """Returns the feed of an entry for a slot; checks that the slot is open."""
        feed = self._feeds.get(entry.feed)
        if feed is None or not feed.grid.has(entry.slot_us):
            found.append(bad_entry("no such feed or slot is in the log"))
            return None
        if entry.logged_us < entry.slot_us:
            found.append(bad_entry("a slot's entry before the slot", feed.index))
        if not feed.grid.is_open(entry.slot_us):
            found.append(
                Violation(
                    kind="duplicate",
                    detail=f"a second entry for slot {entry.slot_us} of {entry.feed}",
                    entries=(feed.index,),
                )
            )
        return feed

    def _settle(self, feed: Feed, entry: SlotEntry | MissedEntry) -> None:
        # A slot far ahead of the log's time is no memory to spend.
        if entry.slot_us <= entry.logged_us and feed.grid.is_open(entry.slot_us):
            feed.grid.settle(entry.slot_us)
        self._advance(feed, entry.logged_us)

    def _advance(self, feed: Feed, now_us: int) -> None:
        self._given_up += [_missing(feed, span) for span in feed.grid.advance(now_us)]
        # Places come about in the order of their slots, or nearly so.
        for place in list(feed.places):
            if int(place.rpartition("/")[2]) >= feed.grid.floor_us:
                break
            del feed.places[place]


def _late(feed: Feed) -> Violation:
    return Violation(kind="late", detail="a slot's entry after its time", entries=(feed.index,))


def _missing(feed: Feed, span: tuple[int, int]) -> Violation:
    first, stop = span
    count = (stop - first) // feed.entry.grid_us
    return Violation(
        kind="missed",
        detail=f"{count} slots of {feed.entry.feed} from {first} on have no entry",
        entries=(feed.index,),
    )
