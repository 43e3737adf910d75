"""Exact values with infinity, in which a withheld price can favour a player to the end.

A slot that a prover withheld is a price of 0 or infinity, whichever favours the
player (rule S7); medians and returns are taken over it like over any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from attestation.errors import UsageError


class Value(NamedTuple):
    """A rational number from 0 upward, or infinity; compares like a number."""

    infinite: bool
    number: Fraction

    def __str__(self) -> str:
        return "inf" if self.infinite else str(self.number)


ZERO: Final = Value(False, Fraction(0))
INFINITY: Final = Value(True, Fraction(0))


def finite(number: Fraction) -> Value:
    """Returns a number as a value; raises UsageError below 0."""
    if number < 0:
        raise UsageError("a price is not below 0", found=str(number))
    return Value(False, number)


def median(values: Sequence[Value]) -> Value:
    """Returns the middle value, or the mean of the two middles; of at least one value."""
    if not values:
        raise UsageError("no median of nothing")
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    if odd:
        return ordered[half]
    low, high = ordered[half - 1], ordered[half]
    if high.infinite:
        return INFINITY
    return Value(False, (low.number + high.number) / 2)


def ratio(close: Value, opening: Value) -> Value:
    """Returns close / opening: x/0 is infinity, x/infinity is 0.

    The two never are 0 both or infinite both: what favours a player at one end is
    the opposite of what does at the other.  Raises UsageError if they are.
    """
    if (close == ZERO and opening == ZERO) or (close.infinite and opening.infinite):
        raise UsageError("no ratio of two zeros or two infinities")
    if opening.infinite:
        return ZERO
    if close.infinite or opening == ZERO:
        return INFINITY
    return Value(False, close.number / opening.number)
