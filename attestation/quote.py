"""The price extension ``quote/v1``: a quote read from a venue's answer (rule W11).

Notary, prover and verifier derive it with the same function from the same
bytes, whole or only as far as a ``tree`` section shows them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from attestation.commitment import SectionName
from attestation.encoding import MAX_INTEGER
from attestation.errors import IncompleteError, MalformedError, StaleError
from attestation.http1 import Request, Response
from attestation.price import normalize
from attestation.schema import Document, HashString, Micros, Price
from attestation.strictjson import Scalar
from attestation.venues import PLACEHOLDER, ExchangeTime, Instrument, Market, VenueFile, VenueName


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuoteClaim(Document):
    """The value of ``quote/v1``.

    ``venue_file`` is the hash of the venue file it was read under, ``section``
    the section that holds the bytes, ``observed_us`` when the response had
    arrived on the notary's clock, ``exchange_us`` the venue's own time.
    """

    venue: VenueName
    venue_file: HashString
    market: Market
    instrument: Instrument
    bid: Price
    ask: Price
    last: Price | None = None
    exchange_us: Micros | None = None
    observed_us: Micros
    section: SectionName


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DerivedQuote:
    """What an answer says: prices in normal form, 0 < bid <= ask, time in microseconds."""

    bid: str
    ask: str
    last: str | None
    exchange_us: int | None


def quote_pointers(venue: VenueFile, instrument: str) -> list[str]:
    """Returns every pointer that ``derive_quote`` reads, each once.

    Raises MalformedError (W14) for an instrument the file does not list.
    """
    pointers = [venue.pointer(template, instrument) for template in venue.rest.pointers]
    return list(dict.fromkeys(pointers))


def derive_quote(venue: VenueFile, instrument: str, scalars: Mapping[str, Scalar]) -> DerivedQuote:
    """Reads the quote of ``instrument`` from the scalars of a response body.

    Every member the venue file names is read, the optional ones too, so that a
    quote cannot depend on what is shown.  Raises IncompleteError (W11) if one
    is absent, MalformedError (W11) if one is not what the file says, and
    MalformedError (W14) for an instrument the file does not list.
    """
    rest = venue.rest
    venue.market(instrument)  # refuses an unlisted one before it is put into a pointer

    def read(template: str) -> Scalar:
        pointer = template.replace(PLACEHOLDER, instrument)
        try:
            return scalars[pointer]
        except KeyError:
            raise IncompleteError(
                "a member the quote needs is absent", rule="W11", found=pointer
            ) from None

    for check in rest.checks or ():
        found, wanted = read(check.at), check.filled(instrument)
        if not same_scalar(found, wanted):
            raise MalformedError(
                f"{check.at} is not what a quote has",
                rule="W11",
                found=found.shown,
                wanted=wanted.shown,
            )
    if rest.instrument is not None:
        shown = read(rest.instrument).text()
        if shown != instrument:
            raise MalformedError(
                "answer is for another instrument", rule="W11", found=shown[:80], wanted=instrument
            )
    bid = positive_price(read(rest.bid), rest.prices)
    ask = positive_price(read(rest.ask), rest.prices)
    if Decimal(bid) > Decimal(ask):
        raise MalformedError("bid is above ask", rule="W11", found=[bid, ask])
    return DerivedQuote(
        bid=bid,
        ask=ask,
        last=None if rest.last is None else positive_price(read(rest.last), rest.prices),
        exchange_us=(
            None
            if rest.exchange_time is None
            else exchange_us(read(rest.exchange_time.at), rest.exchange_time)
        ),
    )


def claim_quote(
    venue: VenueFile,
    instrument: str,
    scalars: Mapping[str, Scalar],
    *,
    observed_us: int,
    section: str,
) -> QuoteClaim:
    """Derives a quote and returns the extension's value; raises as ``derive_quote``."""
    derived = derive_quote(venue, instrument, scalars)
    return QuoteClaim(
        venue=venue.name,
        venue_file=venue.hash,
        market=venue.market(instrument),
        instrument=instrument,
        bid=derived.bid,
        ask=derived.ask,
        last=derived.last,
        exchange_us=derived.exchange_us,
        observed_us=observed_us,
        section=section,
    )


QUOTE_HEADERS = frozenset({"host", "accept", "accept-encoding", "connection", "user-agent"})
"""All that a quote's request may have: others lead some venues to other prices.

A single header makes an exchange answer for its simulated market, under the name,
target and certificate of the true one.
"""


def check_plain_request(request: Request) -> None:
    """Raises MalformedError (W14) for a header that a quote's request must not have."""
    for line in request.headers:
        if line.name not in QUOTE_HEADERS:
            raise MalformedError(
                f"a quote's request has {line.name[:80]!r}, which may change the answer",
                rule="W14",
                found=line.name[:80],
                wanted=sorted(QUOTE_HEADERS),
            )


def check_fresh(response: Response) -> None:
    """Raises StaleError (W11) for an answer that a cache held: ``Age`` above 0.

    RFC 9111 section 5.1: Age is whole seconds; anything else is MalformedError.
    """
    age = response.header("age")
    if age is None or age == b"0":
        return
    shown = age[:40].decode("ascii", "backslashreplace")
    if not re.fullmatch(rb"[0-9]+", age):
        raise MalformedError("Age is not a number of seconds", rule="W11", found=shown)
    if age.strip(b"0"):
        raise StaleError("answer comes from a cache", rule="W11", found=shown, wanted="0")


def same_scalar(found: Scalar, wanted: Scalar) -> bool:
    """Whether two scalars are the same value: texts by content, the others by spelling."""
    if found.kind != wanted.kind:
        return False
    if found.kind == "string":
        return found.text() == wanted.text()
    # Empty containers may hold blanks; numbers and literals have one spelling here.
    return found.kind in ("object", "array") or found.raw == wanted.raw


def text_of(value: Scalar, sent_as: str) -> str:
    """Returns the text of a string or number; raises MalformedError if sent as another kind."""
    if value.kind != sent_as:
        raise MalformedError(
            f"{value.kind} instead of a {sent_as}", rule="W11", found=value.shown, wanted=sent_as
        )
    return value.text() if sent_as == "string" else value.raw.decode("ascii")


def positive_price(value: Scalar, sent_as: str) -> str:
    """Returns a price in normal form; raises MalformedError (W11) unless it is above 0."""
    price = normalize(text_of(value, sent_as))
    if price == "0" or price.startswith("-"):
        raise MalformedError("price is not positive", rule="W11", found=price)
    return price


_WHOLE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_ISO8601 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(?:Z|\+00:00)",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000}


def exchange_us(value: Scalar, time: ExchangeTime) -> int:
    """Returns the venue's time in microseconds; raises MalformedError (W11) for other text."""
    text = text_of(value, time.sent_as)
    if time.unit == "iso8601":
        result = _iso8601_us(text)
    elif _WHOLE.fullmatch(text):
        result = int(text) * _MICROS[time.unit]
    else:
        raise MalformedError("time is not a whole number", rule="W11", found=text[:40])
    if not 0 <= result <= MAX_INTEGER:
        raise MalformedError("time is out of range", rule="W11", found=text[:40])
    return result


def _iso8601_us(text: str) -> int:
    """Reads an RFC 3339 time in UTC with up to nanoseconds; less than a microsecond is cut."""
    match = _ISO8601.fullmatch(text)
    if match is None:
        raise MalformedError("time is not ISO 8601 in UTC", rule="W11", found=text[:40])
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        instant = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise MalformedError("no such time", rule="W11", found=text[:40]) from None
    passed = instant - _EPOCH
    fraction_us = int((match[7] or "").ljust(6, "0")[:6])
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + fraction_us
