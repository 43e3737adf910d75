"""Prices: one text for each value, and no arithmetic but the exact."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.price import MAX_DIGITS, format_exact, fraction, mid, normalize
from attestation.schema import Document, Price

PROPERTY = settings(max_examples=300)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quoted(Document):
    price: Price


WIRE = st.from_regex(r"\A-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?\Z").filter(str.isascii)


@pytest.mark.parametrize(
    "raw, normal",
    [
        ("0.10", "0.1"),
        ("61834.10000000", "61834.1"),
        ("100", "100"),
        ("100.00", "100"),
        ("0", "0"),
        ("0.000", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("-1.50", "-1.5"),
        ("0.00001306", "0.00001306"),
        ("9" * MAX_DIGITS, "9" * MAX_DIGITS),
        ("-0." + "1" * (MAX_DIGITS - 1), "-0." + "1" * (MAX_DIGITS - 1)),
    ],
)
def test_wire_decimals_have_one_normal_form(raw: str, normal: str) -> None:
    assert normalize(raw) == normal
    assert normalize(normal) == normal


@pytest.mark.parametrize(
    "raw",
    [
        "1e3",
        "1E-5",
        "1.5e0",
        "+1",
        "01",
        "00",
        "-01",
        ".5",
        "5.",
        "1,000",
        "1_000",
        "0x10",
        " 1",
        "1 ",
        "1\n",
        "",
        "-",
        "--1",
        "NaN",
        "Infinity",
        "1.2.3",
        "٥",
        "１",
        "1\u2028",
        "null",
        "9" * 31,
        "0." + "1" * 30,
        "1" * 40,
        "0." + "0" * 40,
    ],
)
def test_anything_but_a_plain_decimal_is_refused(raw: str) -> None:
    with pytest.raises(MalformedError) as caught:
        normalize(raw)
    assert caught.value.rule == "W11"


@PROPERTY
@given(WIRE)
def test_normal_form_keeps_the_value_and_is_what_documents_hold(raw: str) -> None:
    normal = normalize(raw)
    assert Quoted.from_json({"price": normal}).price == normal
    assert Decimal(normal) == Decimal(raw)
    assert fraction(normal) == Fraction(raw)
    assert format_exact(fraction(normal)) == normal
    assert normalize(normal) == normal


@PROPERTY
@given(st.text(max_size=8) | st.text("0123456789.-+eE", max_size=36))
def test_any_text_gives_a_decimal_or_malformed(raw: str) -> None:
    try:
        normal = normalize(raw)
    except MalformedError:
        return
    assert Fraction(normal) == Fraction(raw)


@pytest.mark.parametrize("price", ["0.10", "1.0", "-0", "01", "1e3"])
def test_fraction_wants_the_normal_form(price: str) -> None:
    with pytest.raises(MalformedError):
        fraction(price)


def test_mid_is_exact_where_floats_are_not() -> None:
    assert mid("0.1", "0.2") == Fraction(3, 20)
    assert format_exact(mid("61834.1", "61834.11")) == "61834.105"
    huge = "9" * 29
    assert mid(huge, huge) == int(huge)


@pytest.mark.parametrize(
    "value, text",
    [
        (Fraction(0), "0"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 20), "0.05"),
        (Fraction(12_300), "12300"),
        (Fraction(1, 10 ** (MAX_DIGITS - 1)), "0." + "0" * (MAX_DIGITS - 2) + "1"),
    ],
)
def test_finite_decimals_are_written_exactly(value: Fraction, text: str) -> None:
    assert format_exact(value) == text


@pytest.mark.parametrize(
    "value",
    [Fraction(1, 3), Fraction(1, 7), Fraction(10**30), Fraction(1, 10**30), Fraction(1, 2**200)],
)
def test_value_without_a_decimal_of_thirty_digits_is_refused(value: Fraction) -> None:
    with pytest.raises(MalformedError):
        format_exact(value)
