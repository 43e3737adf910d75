"""Feeds in memory: which session feeds a slot, and why a venue has no quote in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from attestation.document import GapField, MessageRef, ObservationField
from attestation.errors import RefusedError, UsageError
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.reasons import FAULTS
from attestation.request import SessionRequest
from notary.feeds import EARLY_US, ClosedSlot, FeedBook, Lapsed

GRID = 500_000
SECOND = 1_000_000
PROVER = "prover.example+c33434c5+Ae1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR"
STARTED = 1_000 * SECOND
SLOT = STARTED + 20 * SECOND
"""A slot long after the notary's own start."""


def entry(name: str = "btc-usd", **changes: object) -> FeedEntry:
    venues = [("binance", "BTCUSDT"), ("kraken", "XXBTZUSD")]
    feed = FeedEntry(
        feed=name,
        venues=tuple(
            FeedVenue(venue=venue, instrument=instrument, venue_file="sha256:" + "00" * 32)
            for venue, instrument in venues
        ),
        market="BTC/USD",
        grid_us=GRID,
        late_us=SECOND,
        provers=(PROVER,),
        from_us=STARTED,
    )
    return dataclasses.replace(feed, **changes)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Quoted:
    received_us: int
    bid: str = "96500.1"
    ask: str = "96500.98"
    exchange_us: int | None = None
    messages: tuple[MessageRef, ...] = (MessageRef(index=7, hash="sha256:" + "07" * 32),)


@dataclasses.dataclass
class Observer:
    seen: Quoted | None = None
    malformed: bool = False


@dataclasses.dataclass
class Source:
    session: str
    opened: int
    venue: str = "binance"
    feed: str = "btc-usd"
    observer: Observer = dataclasses.field(default_factory=Observer)


def source(number: int, received_us: int | None = None, *, malformed: bool = False) -> Source:
    """Returns live session ``number``, opened in that order, with a quote of that time."""
    seen = None if received_us is None else Quoted(received_us, bid=str(number))
    return Source(f"{number:032x}", number, observer=Observer(seen, malformed))


@dataclasses.dataclass
class Clocks:
    agree: bool = True

    def __call__(self) -> bool:
        return self.agree


def book(clocks: Clocks | None = None, feed: FeedEntry | None = None) -> FeedBook:
    return FeedBook([feed or entry()], started_us=STARTED, clocks_agree=clocks or Clocks())


def close(
    book: FeedBook, slot_us: int = SLOT, now_us: int | None = None
) -> dict[str, ObservationField | GapField]:
    """Closes everything up to a slot; returns what that says by venue."""
    slots = list(book.take(slot_us if now_us is None else now_us))
    (found,) = [over for over in slots if isinstance(over, ClosedSlot) and over.slot_us == slot_us]
    assert [field.venue for field in found.fields] == ["binance", "kraken"]
    return {field.venue: field for field in found.fields}


def binance(
    book: FeedBook, slot_us: int = SLOT, now_us: int | None = None
) -> ObservationField | GapField:
    return close(book, slot_us, now_us)["binance"]


def test_quote_of_the_session_that_feeds_is_the_observation() -> None:
    feeds = book()
    feeds.started(source(3, SLOT - 40_000))
    assert binance(feeds) == ObservationField(
        venue="binance",
        instrument="BTCUSDT",
        bid="3",
        ask="96500.98",
        received_us=SLOT - 40_000,
        source="live",
        session=f"{3:032x}",
        messages=Quoted(0).messages,
    )


def test_quote_stays_the_observation_until_another_comes() -> None:
    feeds = book()
    feeds.started(source(3, SLOT - 40_000))
    binance(feeds)
    later = binance(feeds, SLOT + GRID)
    assert isinstance(later, ObservationField)
    assert later.received_us == SLOT - 40_000


def _absent(feeds: FeedBook) -> None:
    """Nobody ever tried."""


def _gave_up(feeds: FeedBook) -> None:
    feeds.attempted("btc-usd", "binance", SLOT - 6 * SECOND)
    feeds.ended("btc-usd", "binance", "aa", "venue_closed", SLOT - 5 * SECOND - 1)


def _tries(feeds: FeedBook) -> None:
    feeds.ended("btc-usd", "binance", "aa", "venue_closed", SLOT - 9 * SECOND)
    feeds.attempted("btc-usd", "binance", SLOT - 5 * SECOND)


def _first_try(feeds: FeedBook) -> None:
    feeds.attempted("btc-usd", "binance", SLOT - 1)


def _just_ended(feeds: FeedBook) -> None:
    feeds.started(source(1, SLOT - 2 * SECOND))
    feeds.ended("btc-usd", "binance", f"{1:032x}", "prover_slow", SLOT - 5 * SECOND)


def _ended_twice(feeds: FeedBook) -> None:
    feeds.ended("btc-usd", "binance", "aa", "prover_closed", SLOT - 3 * SECOND)
    feeds.ended("btc-usd", "binance", "bb", "venue_refused", SLOT - 1 * SECOND)


def _silent(feeds: FeedBook) -> None:
    feeds.started(source(1))


def _anew(feeds: FeedBook) -> None:
    feeds.started(source(1, SLOT - 6 * SECOND))
    feeds.started(source(2))
    feeds.ended("btc-usd", "binance", f"{1:032x}", "prover_closed", SLOT - 5 * SECOND)


def _anew_long_ago(feeds: FeedBook) -> None:
    feeds.ended("btc-usd", "binance", "aa", "prover_closed", SLOT - 5 * SECOND - 1)
    feeds.started(source(2))


def _anew_after_the_venue(feeds: FeedBook) -> None:
    feeds.ended("btc-usd", "binance", "aa", "venue_closed", SLOT - SECOND)
    feeds.started(source(2))


def _malformed(feeds: FeedBook) -> None:
    feeds.started(source(1, malformed=True))


def _malformed_later(feeds: FeedBook) -> None:
    feeds.started(source(1, SLOT - 100_000, malformed=True))


GAPS: dict[str, tuple[Callable[[FeedBook], None], str]] = {
    "nobody ever tried": (_absent, "absent"),
    "the last end and the last attempt are more than five seconds ago": (_gave_up, "absent"),
    "the first attempt is under way": (_first_try, "absent"),
    "connections are tried again after an end": (_tries, "venue_closed"),
    "the session has just ended": (_just_ended, "prover_slow"),
    "the last of several ends": (_ended_twice, "venue_refused"),
    "alive and no message yet": (_silent, "venue_silent"),
    "begun anew by the prover and no message yet": (_anew, "prover_closed"),
    "alive and no message for long": (_anew_long_ago, "venue_silent"),
    "begun anew after the venue closed and no message yet": (_anew_after_the_venue, "venue_silent"),
    "alive and only unreadable messages": (_malformed, "venue_malformed"),
    "an unreadable message after the quote": (_malformed_later, "venue_malformed"),
}


@pytest.mark.parametrize(("happened", "reason"), GAPS.values(), ids=GAPS)
def test_gap_has_its_reason(happened: Callable[[FeedBook], None], reason: str) -> None:
    feeds = book()
    happened(feeds)
    found = close(feeds)
    assert found["binance"] == GapField(venue="binance", reason=reason, fault=FAULTS[reason])
    # What happens at one venue says nothing of another.
    assert found["kraken"] == GapField(venue="kraken", reason="absent", fault="prover")


@pytest.mark.parametrize("reason", FAULTS)
def test_gap_has_the_reason_of_the_last_end_whatever_it_was(reason: str) -> None:
    feeds = book()
    feeds.ended("btc-usd", "binance", "aa", reason, SLOT - SECOND)
    assert binance(feeds) == GapField(venue="binance", reason=reason, fault=FAULTS[reason])


def test_lowest_opened_index_alive_feeds() -> None:
    feeds = book()
    for session in (source(5, SLOT - 1), source(4, SLOT - 2), source(9, SLOT - 3)):
        feeds.started(session)
    first = binance(feeds)
    assert isinstance(first, ObservationField)
    assert first.bid == "4"
    feeds.ended("btc-usd", "binance", f"{4:032x}", "prover_closed", SLOT + 1)
    second = binance(feeds, SLOT + GRID)
    assert isinstance(second, ObservationField)
    assert second.bid == "5"


def test_session_that_feeds_and_is_silent_is_not_passed_over() -> None:
    feeds = book()
    feeds.started(source(4))
    feeds.started(source(5, SLOT - 1))
    found = binance(feeds)
    assert isinstance(found, GapField)
    assert found.reason == "venue_silent"


def test_end_of_a_session_that_does_not_feed_changes_nothing() -> None:
    feeds = book()
    feeds.started(source(4, SLOT - 1))
    feeds.started(source(5, SLOT - 1))
    feeds.ended("btc-usd", "binance", f"{5:032x}", "venue_closed", SLOT - 1)
    found = binance(feeds)
    assert isinstance(found, ObservationField)
    assert found.bid == "4"


def test_first_five_seconds_after_the_start_are_the_notarys() -> None:
    feeds = book()
    early = binance(feeds, STARTED + 5 * SECOND)
    assert early == GapField(venue="binance", reason="restart", fault="notary")
    late = binance(feeds, STARTED + 5 * SECOND + GRID)
    assert late == GapField(venue="binance", reason="absent", fault="prover")


def test_end_after_the_start_is_the_reason_within_the_first_five_seconds() -> None:
    feeds = book()
    feeds.ended("btc-usd", "binance", "aa", "venue_refused", STARTED + SECOND)
    found = binance(feeds, STARTED + 2 * SECOND)
    assert isinstance(found, GapField)
    assert found.reason == "venue_refused"


def test_every_venue_is_a_gap_while_the_clocks_disagree_and_five_seconds_longer() -> None:
    clocks = Clocks()
    feeds = book(clocks)
    feeds.started(source(4, SLOT - 1))
    clocks.agree = False
    found = close(feeds)
    assert [gap.reason for gap in found.values() if isinstance(gap, GapField)] == ["clock"] * 2
    clocks.agree = True
    after = close(feeds, SLOT + 5 * SECOND)
    assert isinstance(after["binance"], ObservationField)
    # Nobody could begin a session meanwhile.
    assert after["kraken"] == GapField(venue="kraken", reason="clock", fault="notary")
    later = close(feeds, SLOT + 5 * SECOND + GRID)["kraken"]
    assert later == GapField(venue="kraken", reason="absent", fault="prover")


@pytest.mark.parametrize(("late_us", "overload"), [(GRID // 2, False), (GRID // 2 + 1, True)])
def test_slot_that_the_notary_comes_to_after_half_a_grid_is_overload(
    late_us: int, overload: bool
) -> None:
    feeds = book()
    feeds.take(SLOT - 1)
    feeds.started(source(4, SLOT - 1))
    found = binance(feeds, SLOT, SLOT + late_us)
    if overload:
        assert found == GapField(venue="binance", reason="overload", fault="notary")
    else:
        assert isinstance(found, ObservationField)


def test_what_comes_after_a_slot_and_before_its_turn_does_not_count() -> None:
    feeds = book()
    session = source(4, SLOT - 10)
    feeds.started(session)
    feeds.close_before(SLOT + 1)
    session.observer.seen, session.observer.malformed = Quoted(SLOT + 1, bid="999"), True
    feeds.ended("btc-usd", "binance", session.session, "venue_closed", SLOT + 2)
    found = binance(feeds, SLOT, SLOT + 3)
    assert isinstance(found, ObservationField)
    assert (found.bid, found.received_us) == ("4", SLOT - 10)


def test_what_is_stamped_with_the_slot_itself_counts() -> None:
    feeds = book()
    session = source(4, SLOT - 10)
    feeds.started(session)
    feeds.close_before(SLOT)
    session.observer.seen = Quoted(SLOT, bid="999")
    found = binance(feeds, SLOT, SLOT + 3)
    assert isinstance(found, ObservationField)
    assert found.bid == "999"


def test_each_slot_is_closed_once_and_in_order() -> None:
    feeds = book()
    found = feeds.take(STARTED + 3 * GRID)
    assert [over.slot_us for over in found if isinstance(over, ClosedSlot)] == [
        STARTED + GRID,
        STARTED + 2 * GRID,
        STARTED + 3 * GRID,
    ]
    assert feeds.take(STARTED + 4 * GRID - 1) == []
    assert feeds.next_us == STARTED + 4 * GRID


def test_slots_that_are_over_for_long_lapse_whole() -> None:
    feeds = book()
    feeds.take(SLOT)
    found = feeds.take(SLOT + 3_600 * SECOND)
    lapsed = found[0]
    # A slot's entry may come up to a second after it, and not later.
    assert lapsed == Lapsed(
        feed=entry(), first_us=SLOT + GRID, stop_us=SLOT + 3_600 * SECOND - SECOND
    )
    closed = [over.slot_us for over in found[1:] if isinstance(over, ClosedSlot)]
    assert closed == [SLOT + 3_600 * SECOND - late for late in (2 * GRID, GRID, 0)]


def test_slots_begin_after_the_start_and_with_the_feed() -> None:
    assert book().next_us == STARTED + GRID
    feeds = book(feed=entry(from_us=STARTED + 10 * SECOND - 1))
    assert feeds.next_us == STARTED + 10 * SECOND
    feeds.add(entry("eth-usd", from_us=STARTED + SECOND, grid_us=SECOND), STARTED + 2 * SECOND)
    assert feeds.next_us == STARTED + 3 * SECOND
    with pytest.raises(UsageError):
        feeds.add(entry(), STARTED)


def test_no_feed_has_no_next_slot() -> None:
    feeds = FeedBook(started_us=STARTED, clocks_agree=Clocks())
    assert feeds.next_us is None
    assert feeds.take(SLOT) == []


def rest(slot_us: int = SLOT, received_us: int | None = None, bid: str = "5") -> ObservationField:
    return ObservationField(
        venue="binance",
        instrument="BTCUSDT",
        bid=bid,
        ask="6",
        received_us=slot_us if received_us is None else received_us,
        source="rest",
        session="05" * 16,
        messages=(),
    )


def fetch(
    feeds: FeedBook, found: ObservationField, first_us: int = SLOT - GRID + 1, slot_us: int = SLOT
) -> bool:
    return feeds.fetched(
        "btc-usd", slot_us, found, request_first_us=first_us, now_us=found.received_us
    )


def test_first_response_within_the_grid_of_a_slot_is_its_observation() -> None:
    feeds = book()
    assert fetch(feeds, rest())
    assert not fetch(feeds, rest(bid="7"))
    assert binance(feeds) == rest()
    later = binance(feeds, SLOT + GRID)
    assert isinstance(later, GapField)


@pytest.mark.parametrize(
    ("first_us", "received_us"), [(SLOT - GRID, SLOT), (SLOT - GRID + 1, SLOT + 1)]
)
def test_response_outside_the_grid_is_no_observation(first_us: int, received_us: int) -> None:
    feeds = book()
    assert not feeds.fetched(
        "btc-usd",
        SLOT,
        rest(received_us=received_us),
        request_first_us=first_us,
        now_us=SLOT,
    )
    assert isinstance(binance(feeds), GapField)


def test_response_attested_after_its_slot_was_closed_is_no_observation() -> None:
    feeds = book()
    assert isinstance(binance(feeds), GapField)
    assert not fetch(feeds, rest())


def test_live_quote_goes_before_a_fetched_one() -> None:
    feeds = book()
    fetch(feeds, rest())
    feeds.started(source(4, SLOT - 1))
    found = binance(feeds)
    assert isinstance(found, ObservationField)
    assert found.source == "live"


@pytest.mark.parametrize("malformed", [False, True])
def test_fetched_quote_stands_where_a_live_session_has_none(malformed: bool) -> None:
    feeds = book()
    fetch(feeds, rest())
    feeds.started(source(4, malformed=malformed))
    assert binance(feeds) == rest()


def request(**changes: object) -> SessionRequest:
    wanted = SessionRequest(
        notary="notary.example",
        at_us=SLOT,
        nonce="00" * 16,
        prover=PROVER,
        mode="sealed",
        binding="full",
        venue="binance",
        instrument="BTCUSDT",
        feed="btc-usd",
        slot_us=SLOT,
    )
    return dataclasses.replace(wanted, **changes)  # type: ignore[arg-type]


def test_session_of_the_feed_is_admitted() -> None:
    feeds = book()
    feeds.admit(request(), SLOT - 1)
    feeds.admit(request(mode="live", slot_us=None), SLOT - 1)


@pytest.mark.parametrize(
    ("changes", "rule", "status"),
    [
        ({"feed": "eth-usd"}, "feed", 404),
        ({"prover": "another"}, "request.prover", 403),
        ({"venue": "okx"}, "request.venue", 403),
        ({"instrument": "ETHUSDT"}, "request.instrument", 403),
        ({"slot_us": SLOT + 1}, "request.slot_us", 403),
        ({"slot_us": STARTED - GRID}, "request.slot_us", 403),
        ({"slot_us": SLOT - GRID}, "request.slot_us", 409),
    ],
    ids=["feed", "prover", "venue", "instrument", "off the grid", "before the first", "over"],
)
def test_session_of_no_feed_is_refused(changes: dict[str, object], rule: str, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        book().admit(request(**changes), SLOT - GRID)
    assert (refused.value.rule, refused.value.http_status) == (rule, status)


def test_unknown_feed_and_venue_are_named() -> None:
    feeds = book()
    assert feeds.get("btc-usd") == entry()
    with pytest.raises(RefusedError):
        feeds.get("eth-usd")
    with pytest.raises(UsageError):
        feeds.attempted("btc-usd", "okx", SLOT)


def test_live_session_long_before_the_first_slot_is_refused() -> None:
    """The log could not show that it goes on: slots alone renew its deadline."""
    begins = STARTED + 600 * SECOND
    feeds = book(feed=entry(from_us=begins))
    live = request(mode="live", slot_us=None)
    with pytest.raises(RefusedError) as refused:
        feeds.admit(live, begins - EARLY_US - 1)
    assert (refused.value.rule, refused.value.http_status) == ("request.feed", 403)
    feeds.admit(live, begins - EARLY_US)


def test_what_waits_is_read_before_a_slot_is_closed() -> None:
    feeds, feeding = book(), source(1)
    feeds.take(SLOT - 1)
    feeds.started(feeding)

    def settle() -> None:
        feeding.observer.seen = Quoted(SLOT - 1_000, bid="77")

    feeds.attend(settle)
    feeds.close_before(SLOT)
    assert feeding.observer.seen is None  # no slot is over
    found = binance(feeds)
    assert isinstance(found, ObservationField)
    assert found.bid == "77"
    feeding.observer.seen = None
    feeds.dismiss(settle)
    assert binance(feeds, SLOT + GRID) == GapField(
        venue="binance", reason="venue_silent", fault="venue"
    )


@pytest.mark.parametrize("by_time", [False, True])
def test_session_that_ends_as_what_waits_is_read_ended_before_the_slot(by_time: bool) -> None:
    feeds, broken = book(), source(1, SLOT - 40_000)
    feeds.take(SLOT - 1)
    feeds.started(broken)

    def settle() -> None:
        feeds.dismiss(settle)
        feeds.ended("btc-usd", "binance", broken.session, "venue_tls", SLOT + 300)

    feeds.attend(settle)
    if by_time:
        feeds.close_before(SLOT + 300)
    assert binance(feeds, now_us=SLOT + 300) == GapField(
        venue="binance", reason="venue_tls", fault="venue"
    )
