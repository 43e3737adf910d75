"""Whatever happens in whatever order: slots say what a plain reading of the page says."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.document import GapField
from attestation.reasons import FAULTS
from notary.feeds import ClosedSlot, FeedBook, Lapsed
from tests.notary.test_feeds import GRID, SECOND, STARTED, Quoted, Source, entry

LATE = 600_000
FIVE = 5 * SECOND
FEED = entry(late_us=LATE)
VENUES = ("binance", "kraken")
KINDS = ("look", "tick", "try", "start", "quote", "garble", "end", "part", "agree")


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happens so long after what happened before it."""

    after_us: int
    kind: str
    venue: str
    session: int
    reason: str


EVENTS = st.lists(
    st.builds(
        Event,
        after_us=st.one_of(
            st.integers(0, 300_000), st.sampled_from([0, 1, GRID, GRID // 2, SECOND, FIVE])
        ),
        kind=st.sampled_from(KINDS),
        venue=st.sampled_from(VENUES),
        session=st.integers(0, 3),
        reason=st.sampled_from(sorted(FAULTS)),
    ),
    max_size=40,
)


def readings(events: list[tuple[int, Event]], last_us: int) -> dict[int, dict[str, str] | None]:
    """What each slot says by venue, from all that happened in order; None if nothing in time."""
    found: dict[int, dict[str, str] | None] = {}
    trouble = (STARTED, "restart")
    for slot_us in range(STARTED + GRID, last_us + 1, GRID):
        closed_us, happened = _closing(events, slot_us)
        if closed_us > slot_us + LATE:
            found[slot_us] = None
            continue
        agree = [event.kind for _, event in happened if event.kind in ("part", "agree")]
        if agree[-1:] == ["part"]:
            trouble = (slot_us, "clock")
            found[slot_us] = dict.fromkeys(VENUES, "clock")
        elif closed_us - slot_us > GRID // 2:
            found[slot_us] = dict.fromkeys(VENUES, "overload")
        else:
            found[slot_us] = {venue: _venue(happened, venue, slot_us, trouble) for venue in VENUES}
    return found


def _closing(events: list[tuple[int, Event]], slot_us: int) -> tuple[int, list[tuple[int, Event]]]:
    """When the slot is closed, and what happened before."""
    for number, (now_us, event) in enumerate(events):
        looked = event.kind not in ("part", "agree", "start")
        if looked and (now_us > slot_us or (now_us == slot_us and event.kind == "tick")):
            return now_us, events[:number]
    raise AssertionError("the slot stays open")


def _venue(
    happened: list[tuple[int, Event]], venue: str, slot_us: int, trouble: tuple[int, str]
) -> str:
    alive: dict[int, str] = {}
    order: list[int] = []
    last_us, reason, ended_us = 0, "", 0
    for now_us, event in happened:
        if event.venue != venue:
            continue
        match event.kind:
            case "start" if event.session not in order:
                alive[event.session] = "venue_silent"
                order.append(event.session)
            case "quote" if event.session in alive:
                alive[event.session] = f"quote {now_us}"
            case "garble" if event.session in alive:
                alive[event.session] = "venue_malformed"
            case "end":
                alive.pop(event.session, None)
                last_us = ended_us = now_us
                reason = event.reason
            case "try":
                last_us = now_us
    if alive:
        said = alive[min(alive)]
        anew = FAULTS.get(reason) == "prover" and slot_us - ended_us <= FIVE
        return reason if said == "venue_silent" and anew else said
    if reason and ended_us >= trouble[0]:
        return reason if slot_us - last_us <= FIVE else "absent"
    return trouble[1] if slot_us - trouble[0] <= FIVE else "absent"


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_slots_say_what_a_plain_reading_of_the_page_says(events: list[Event]) -> None:
    agree = [True]
    book = FeedBook([FEED], started_us=STARTED, clocks_agree=lambda: agree[0])
    sources: dict[tuple[str, int], Source] = {}
    alive: set[tuple[str, int]] = set()
    now_us, over = STARTED, list[ClosedSlot | Lapsed]()
    happened: list[tuple[int, Event]] = []
    for event in [*events, Event(GRID, "tick", "binance", 0, "absent")]:
        now_us += event.after_us
        happened.append((now_us, event))
        place = (event.venue, event.session)
        match event.kind:
            case "look":
                book.close_before(now_us)
            case "tick":
                over += book.take(now_us)
            case "try":
                book.attempted(FEED.feed, event.venue, now_us)
            case "start":
                if place not in sources:
                    sources[place] = Source(f"{event.session:032x}", event.session, event.venue)
                    alive.add(place)
                    book.started(sources[place])
            case "quote" | "garble":
                book.close_before(now_us)
                if place in alive:
                    observer = sources[place].observer
                    if event.kind == "quote":
                        observer.seen = Quoted(now_us)
                    observer.malformed = event.kind == "garble"
            case "end":
                session = f"{event.session:032x}"
                book.ended(FEED.feed, event.venue, session, event.reason, now_us)
                alive.discard(place)
            case "part":
                agree[0] = False
            case "agree":
                agree[0] = True
    slots: list[int] = []
    wanted = readings(happened, now_us)
    for each in over:
        if isinstance(each, Lapsed):
            run = range(each.first_us, each.stop_us, GRID)
            assert all(wanted[slot_us] is None for slot_us in run)
            slots += run
            continue
        slots.append(each.slot_us)
        found = {}
        for field in each.fields:
            gap = isinstance(field, GapField)
            found[field.venue] = field.reason if gap else f"quote {field.received_us}"
        assert found == wanted[each.slot_us]
    assert slots == list(wanted)
