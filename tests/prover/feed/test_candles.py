"""Candles: exact, whatever order their values come in."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UsageError
from attestation.price import format_exact, mid
from prover.feed.candles import INTERVALS, MINUTE_US, SECOND_US, STALE_US, Candle, Candles
from tests.prover.feed.tape import GRID

PRICES = st.integers(1, 10**9).map(lambda number: format_exact(Fraction(number, 10**4)))
SLOTS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.dictionaries(st.sampled_from("abcde"), st.tuples(PRICES, PRICES), max_size=5),
    ),
    unique_by=lambda slot: slot[0],
    max_size=20,
)


def test_candle_of_a_second_is_by_hand() -> None:
    candles = Candles(SECOND_US, keep=120)
    candles.take_slot(7_000_000, {"a": ("100", "101"), "b": ("102", "103")})
    candles.take_slot(7_500_000, {"a": ("99.5", "100"), "b": ("104", "105")})
    candles.take_slot(8_000_000, {"a": ("1", "3")})
    assert candles.candles("a") == [
        Candle(start_us=7_000_000, open="100.5", high="100.5", low="99.75", close="99.75"),
        Candle(start_us=8_000_000, open="2", high="2", low="2", close="2"),
    ]
    assert candles.candles() == [
        Candle(start_us=7_000_000, open="101.5", high="102.125", low="101.5", close="102.125"),
        Candle(start_us=8_000_000, open="2", high="2", low="2", close="2"),
    ]
    assert candles.venues() == ["a", "b"]
    assert candles.candles("a", from_us=7_000_001) == candles.candles("a")[1:]


def median(values: list[Fraction]) -> Fraction:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


@given(slots=SLOTS, seed=st.integers(0, 9), interval=st.sampled_from(sorted(INTERVALS.values())))
def test_candles_of_slots_in_any_order_are_those_of_exact_fractions(
    slots: list[tuple[int, dict[str, tuple[str, str]]]], seed: int, interval: int
) -> None:
    candles = Candles(interval, keep=1_000)
    shuffled = list(slots)
    random.Random(seed).shuffle(shuffled)
    for number, quotes in shuffled:
        candles.take_slot(number * GRID, quotes)
    wanted: dict[str | None, dict[int, list[Fraction]]] = {}
    for number, quotes in sorted(slots):
        mids = {venue: mid(*quote) for venue, quote in quotes.items()}
        start = number * GRID // interval * interval
        values = [*mids.items(), *([(None, median(list(mids.values())))] if mids else [])]
        for venue, value in values:
            wanted.setdefault(venue, {}).setdefault(start, []).append(value)
    assert candles.venues() == sorted(venue for venue in wanted if venue is not None)
    for venue in (None, *candles.venues()):
        found = [
            (each.start_us, each.open, each.high, each.low, each.close)
            for each in candles.candles(venue)
        ]
        assert found == [
            (start, *map(format_exact, (each[0], max(each), min(each), each[-1])))
            for start, each in sorted(wanted.get(venue, {}).items())
        ]


def test_memory_is_bounded_and_the_newest_stay() -> None:
    candles = Candles(MINUTE_US, keep=3)
    for minute in (5, 6, 7, 8, 4):
        candles.take_slot(minute * MINUTE_US, {"a": ("1", "1")})
    assert [each.start_us // MINUTE_US for each in candles.candles("a")] == [6, 7, 8]


def test_median_of_ticks_leaves_out_venues_that_fell_silent() -> None:
    candles = Candles(MINUTE_US, keep=3)
    candles.take_tick("a", 0, "1", "1")
    candles.take_tick("b", STALE_US, "3", "3")
    candles.take_tick("b", STALE_US + 1, "5", "5")
    (candle,) = candles.candles()
    assert (candle.open, candle.high, candle.low, candle.close) == ("1", "5", "1", "5")


def test_price_of_too_many_digits_makes_no_candle_and_no_error() -> None:
    candles = Candles(SECOND_US, keep=3)
    wide, narrow = "9" * 30, "0." + "1" * 29
    candles.take_slot(0, {"a": (narrow, wide), "b": ("1", "2")})
    assert candles.candles("a") == []
    assert candles.candles("b") != []


def test_candles_without_length_are_refused() -> None:
    with pytest.raises(UsageError):
        Candles(0, keep=1)
