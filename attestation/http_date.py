"""The ``Date`` of an HTTP response as an instant (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from attestation.errors import MalformedError

SECOND_US = 1_000_000

_IMF_FIXDATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT",
    re.ASCII,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=1024)
def http_date_us(text: str) -> int:
    """Reads an IMF-fixdate, the only form senders may generate, to microseconds.

    A leap second (second 60, RFC 5322 section 3.3) is the instant after second
    59, as clocks without leap seconds have it.  Raises MalformedError, also
    before 1970.
    """
    match = _IMF_FIXDATE.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        raise MalformedError("not an HTTP date", found=text[:40])
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    leap = second == 60
    month = _MONTHS.index(match[2]) + 1
    try:
        date = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError:
        raise MalformedError("no such date or time", found=text[:40]) from None
    result = (int(date.timestamp()) + leap) * SECOND_US
    if result < 0:
        raise MalformedError("a date before 1970", found=text[:40])
    return result
