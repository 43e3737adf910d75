"""The Date header as an instant (RFC 9110 section 5.6.7)."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.http_date import http_date_us

NEW_YEAR_2017_US = 1_483_228_800_000_000


@given(st.integers(0, 253_402_300_799))
def test_date_that_a_server_writes_is_read_back(second: int) -> None:
    assert http_date_us(formatdate(second, usegmt=True)) == second * 1_000_000


@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
)
def test_any_text_is_a_date_or_malformed(text: str) -> None:
    try:
        found = http_date_us(text)
    except MalformedError:
        return
    assert found % 1_000_000 == 0 <= found


def test_leap_second_is_the_instant_after_second_59() -> None:
    """RFC 5322 section 3.3: second 60 occurs; the clock of the epoch repeats there."""
    assert http_date_us("Sat, 31 Dec 2016 23:59:60 GMT") == NEW_YEAR_2017_US


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sat, 31 Dec 2016 23:59:61 GMT",
        "Sat, 31 Dec 2016 24:00:00 GMT",
        "Sat, 31 Dec 2016 23:60:60 GMT",
        "Fri, 32 Jan 2026 12:00:00 GMT",
        "Sun, 30 Feb 2026 12:00:00 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",  # the obsolete forms, which no sender may generate
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_other_text_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        http_date_us(text)
