"""Candles of mids, per venue and of the median over venues; for display, exact all the same.

Candle k covers [k x interval, (k+1) x interval).  Built from slots they are a function of
what is attested, and the same whenever they are built; from ticks, of what one prover saw.
Nothing here reads a clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import ClassVar

from attestation.errors import UsageError
from attestation.price import MAX_DIGITS, normalize
from attestation.schema import Document, Micros, Price

SECOND_US = 1_000_000
MINUTE_US = 60_000_000
INTERVALS: Mapping[str, int] = {"1s": SECOND_US, "1m": MINUTE_US}
"""The intervals that are served, by name, in microseconds."""
STALE_US = 3_000_000
"""A venue's tick that is older takes no part in the median."""

# Prices have at most 30 digits, so no sum of two, and no half of one, needs more.
_EXACT = Context(prec=3 * MAX_DIGITS, traps=[Inexact, InvalidOperation])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candle(Document):
    """Mids from ``start_us`` on, for one interval."""

    TYPE: ClassVar[str | None] = None

    start_us: Micros
    open: Price
    high: Price
    low: Price
    close: Price


@dataclasses.dataclass(slots=True)
class _Bar:
    first_us: int
    last_us: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


class Candles:
    """The newest candles of one interval, at most ``keep`` of each venue and the median.

    Values may come late and in any order: open and close are the earliest and the latest
    by their times.  What is older than the oldest candle kept is left out.
    """

    def __init__(self, interval_us: int, *, keep: int) -> None:
        if interval_us <= 0 or keep <= 0:
            raise UsageError("candles have a length and a number", rule="interval")
        self._interval, self._keep = interval_us, keep
        self._bars: dict[str | None, dict[int, _Bar]] = {}
        self._ticks: dict[str, tuple[int, Decimal]] = {}

    def take_slot(self, slot_us: int, quotes: Mapping[str, tuple[str, str]]) -> None:
        """Takes a slot's observations, (bid, ask) by venue; gaps have no part in it."""
        mids = {venue: exact_mid(*quote) for venue, quote in quotes.items()}
        for venue, mid in mids.items():
            self._add(venue, slot_us, mid)
        if mids:
            self._add(None, slot_us, exact_median(list(mids.values())))

    def take_tick(self, venue: str, at_us: int, bid: str, ask: str) -> None:
        """Takes one venue's quote; the others stand as they were, until they are stale."""
        mid = exact_mid(bid, ask)
        self._add(venue, at_us, mid)
        known = self._ticks.get(venue)
        if known is None or known[0] <= at_us:
            self._ticks[venue] = at_us, mid
        fresh = [mid for seen_us, mid in self._ticks.values() if abs(at_us - seen_us) <= STALE_US]
        if fresh:
            self._add(None, at_us, exact_median(fresh))

    def venues(self) -> list[str]:
        """Returns the venues that have candles."""
        return sorted(venue for venue in self._bars if venue is not None)

    def candles(self, venue: str | None = None, *, from_us: int = 0) -> list[Candle]:
        """Returns a venue's candles, or the median's, that start at or after ``from_us``.

        Intervals without a value have none.
        """
        found = []
        for start_us, bar in sorted(self._bars.get(venue, {}).items()):
            prices = [format_price(each) for each in (bar.open, bar.high, bar.low, bar.close)]
            if start_us >= from_us and None not in prices:
                opened, high, low, close = (price or "" for price in prices)
                found.append(
                    Candle(start_us=start_us, open=opened, high=high, low=low, close=close)
                )
        return found

    def _add(self, venue: str | None, at_us: int, mid: Decimal) -> None:
        bars = self._bars.setdefault(venue, {})
        start_us = at_us // self._interval * self._interval
        bar = bars.get(start_us)
        if bar is None:
            if len(bars) >= self._keep:
                oldest = min(bars)
                if start_us < oldest:
                    return
                del bars[oldest]
            bars[start_us] = _Bar(at_us, at_us, mid, mid, mid, mid)
            return
        bar.high, bar.low = max(bar.high, mid), min(bar.low, mid)
        if at_us < bar.first_us:
            bar.first_us, bar.open = at_us, mid
        if at_us >= bar.last_us:
            bar.last_us, bar.close = at_us, mid


def exact_mid(bid: str, ask: str) -> Decimal:
    """Returns the exact middle of two prices in normal form."""
    return _EXACT.divide(_EXACT.add(Decimal(bid), Decimal(ask)), Decimal(2))


def exact_median(values: list[Decimal]) -> Decimal:
    """Returns the middle value, of an even number the exact mean of the two middles."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return _EXACT.divide(_EXACT.add(ordered[half - 1], ordered[half]), Decimal(2))


def format_price(value: Decimal) -> str | None:
    """Writes a price in normal form; None for one of more than 30 digits."""
    text = format(value, "f")
    if len(value.as_tuple().digits) > MAX_DIGITS or len(text) > MAX_DIGITS + 2:
        return None
    return normalize(text)
