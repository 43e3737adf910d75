"""Prices as exact decimals: text in normal form, and fractions; never floats.

The normal form (docs/formats.md): no exponent, no plus sign, no needless zeros,
no "-0", at most 30 digits.  Equal prices have equal texts.
"""

from __future__ import annotations

import re
from fractions import Fraction

from attestation.errors import MalformedError

MAX_DIGITS = 30

_WIRE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


def normalize(raw: str) -> str:
    """Brings a decimal as venues send it ("0.10") to normal form ("0.1").

    Raises MalformedError (W11) for anything but a plain decimal: exponents,
    leading zeros, plus signs, blanks, or more than 30 digits as sent.
    """
    if len(raw) > MAX_DIGITS + 2 or not _WIRE.fullmatch(raw):
        raise MalformedError("not a plain decimal", rule="W11", found=raw[:80])
    if len(raw) - raw.startswith("-") - ("." in raw) > MAX_DIGITS:
        raise MalformedError(f"more than {MAX_DIGITS} digits", rule="W11", found=raw)
    text = raw.rstrip("0").rstrip(".") if "." in raw else raw
    return "0" if text == "-0" else text


def fraction(price: str) -> Fraction:
    """Returns the exact value of a price; raises MalformedError unless it is in normal form."""
    value, places = _scaled(price)
    return Fraction(value, 10**places)


def mid(bid: str, ask: str) -> Fraction:
    """Returns the exact middle of two prices in normal form; raises as ``fraction``."""
    (low, low_places), (high, high_places) = _scaled(bid), _scaled(ask)
    places = max(low_places, high_places)
    total = low * 10 ** (places - low_places) + high * 10 ** (places - high_places)
    return Fraction(total, 2 * 10**places)


def format_exact(value: Fraction) -> str:
    """Writes a fraction as a decimal in normal form.

    Raises MalformedError if no finite decimal of at most 30 digits equals it.
    """
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0 and twos <= MAX_DIGITS:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0 and fives <= MAX_DIGITS:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > MAX_DIGITS or abs(value) >= 10**MAX_DIGITS:
        raise MalformedError(f"no decimal of {MAX_DIGITS} digits", rule="W11")
    digits = str(abs(value.numerator) * (10**places // value.denominator)).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return normalize(f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits)


def _scaled(price: str) -> tuple[int, int]:
    """Returns (value, places): the price is value / 10^places."""
    if normalize(price) != price:
        raise MalformedError("price is not in normal form", rule="W11", found=price)
    whole, _, decimals = price.partition(".")
    return int(whole + decimals), len(decimals)
