"""Quotes: what follows from an answer, the same from all of it and from its shown parts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from attestation.encoding import MAX_INTEGER
from attestation.errors import IncompleteError, MalformedError, StaleError
from attestation.http1 import Response, read_response
from attestation.quote import (
    QuoteClaim,
    check_fresh,
    claim_quote,
    derive_quote,
    quote_pointers,
)
from attestation.strictjson import scalar, scalars
from attestation.venues import VenueFile, load_venue, parse_venue, shipped_venues
from tests.recorded.test_rest import BY_EYE, HERE

FILE = """
name = "example"
hosts = ["api.example.com"]
port = 443
markets = [{ market = "BTC/USD", instrument = "BTC-USD", quote = "USD" }]
[rest]
method = "GET"
target = "/{instrument}"
prices = "string"
bid = "/bid"
ask = "/ask"
last = "/last"
instrument = "/symbol"
checks = [{ at = "/error", equals = "[]" }, { at = "/status", equals = '"ok"' }]
rate = { requests = 1, seconds = 1 }
exchange_time = { at = "/t", sent_as = "number", unit = "ms", of = "quote" }
"""
VENUE = parse_venue(FILE.encode())
ANSWER: dict[str, Any] = {
    "error": [],
    "status": "ok",
    "symbol": "BTC-USD",
    "bid": "1.10",
    "ask": "1.20",
    "last": "1.15",
    "t": 1_700_000_000_123,
}


def answer(**changed: Any) -> bytes:
    return json.dumps(ANSWER | changed).encode()


def refused(body: bytes, venue: VenueFile = VENUE) -> str:
    with pytest.raises(MalformedError) as caught:
        derive_quote(venue, "BTC-USD", scalars(body))
    assert caught.value.rule == "W11"
    return caught.value.detail


# --- from all bytes and from parts --------------------------------------------------------------


def test_prices_come_in_normal_form_and_times_in_microseconds() -> None:
    quote = derive_quote(VENUE, "BTC-USD", scalars(answer()))
    assert (quote.bid, quote.ask, quote.last) == ("1.1", "1.2", "1.15")
    assert quote.exchange_us == 1_700_000_000_123_000


@pytest.mark.parametrize("name", shipped_venues())
def test_needed_parts_alone_give_the_same_quote(name: str) -> None:
    venue, (instrument, wanted) = load_venue(name), BY_EYE[name]
    every = scalars((HERE / name / "rest.json").read_bytes())
    needed = quote_pointers(venue, instrument)
    shown = {pointer: scalar(every[pointer].raw) for pointer in needed}
    assert derive_quote(venue, instrument, shown) == wanted
    assert len(set(needed)) == len(needed) < len(every)


@pytest.mark.parametrize("name", shipped_venues())
def test_each_needed_part_is_missed(name: str) -> None:
    venue, (instrument, _) = load_venue(name), BY_EYE[name]
    every = scalars((HERE / name / "rest.json").read_bytes())
    for pointer in quote_pointers(venue, instrument):
        rest = {at: value for at, value in every.items() if at != pointer}
        with pytest.raises(IncompleteError) as caught:
            derive_quote(venue, instrument, rest)
        assert (caught.value.rule, caught.value.found) == ("W11", pointer)


def test_claim_holds_what_was_derived_and_survives_its_encoding() -> None:
    claim = claim_quote(
        VENUE,
        "BTC-USD",
        scalars(answer()),
        observed_us=1_700_000_000_500_000,
        section="response.body",
    )
    assert claim.to_json() == {
        "venue": "example",
        "venue_file": VENUE.hash,
        "market": "BTC/USD",
        "instrument": "BTC-USD",
        "bid": "1.1",
        "ask": "1.2",
        "last": "1.15",
        "exchange_us": 1_700_000_000_123_000,
        "observed_us": 1_700_000_000_500_000,
        "section": "response.body",
    }
    assert QuoteClaim.decode(claim.encode()) == claim


@pytest.mark.parametrize(
    "changed",
    [
        {"bid": "1.10"},
        {"bid": "1e3"},
        {"bid": 1},
        {"venue": "Example"},
        {"venue_file": "sha256:00"},
        {"market": "BTCUSD"},
        {"instrument": "<b>"},
        {"exchange_us": -1},
        {"observed_us": True},
        {"section": "body"},
        {"mid": "1.15"},
    ],
)
def test_claim_of_another_shape_is_refused(changed: dict[str, Any]) -> None:
    claim = claim_quote(VENUE, "BTC-USD", scalars(answer()), observed_us=1, section="response.body")
    with pytest.raises(MalformedError):
        QuoteClaim.from_json(claim.to_json() | changed)


# --- attack 17: JSON tricks on a quote ----------------------------------------------------------


@pytest.mark.parametrize(
    "price",
    [
        "1e3",
        "1E0",
        "+1",
        "-1",
        "0",
        "0.00",
        "-0",
        "01",
        ".5",
        "1,000",
        " 1",
        "1 ",
        "1\u2028",
        "\uff11",
        "NaN",
        "Infinity",
        "",
        "1" * 40,
        "0." + "1" * 39,
        "<b>1</b>",
        1.1,
        1,
        None,
        True,
        [],
        {},
    ],
)
@pytest.mark.parametrize("member", ["bid", "ask", "last"])
def test_price_that_is_no_plain_positive_decimal_text_is_refused(
    member: str, price: object
) -> None:
    refused(answer(**{member: price}))


def test_numbers_are_read_as_exact_decimals_of_their_raw_text() -> None:
    venue = parse_venue(FILE.replace('prices = "string"', 'prices = "number"').encode())
    body = answer(bid=0, ask=0, last=0)
    for member, raw in (("bid", b"0.1"), ("ask", b"61834.100000000000001"), ("last", b"7390")):
        body = body.replace(b'"%s": 0' % member.encode(), b'"%s": %s' % (member.encode(), raw))
    quote = derive_quote(venue, "BTC-USD", scalars(body))
    assert (quote.bid, quote.ask, quote.last) == ("0.1", "61834.100000000000001", "7390")
    for raw in (b"1e-08", b"1E3", b"1.0e0", b"-1", b"0.0", b"1" * 40, b'"1"'):
        refused(body.replace(b": 7390", b": " + raw), venue)


def test_bid_above_ask_is_no_quote_and_equal_ones_are() -> None:
    refused(answer(bid="1.21"))
    refused(answer(bid="10", ask="9"))
    refused(answer(bid="1.1000000000000000000000000001", ask="1.1"))
    assert derive_quote(VENUE, "BTC-USD", scalars(answer(bid="1.2", ask="1.200"))).bid == "1.2"


@pytest.mark.parametrize("symbol", ["ETH-USD", "btc-usd", "BTC-USD ", "BTC-USD\u200f", 5, None, {}])
def test_answer_for_another_instrument_is_refused(symbol: object) -> None:
    refused(answer(symbol=symbol))


def test_instrument_is_compared_by_its_text_and_not_its_spelling() -> None:
    body = answer().replace(b'"BTC-USD"', rb'"BTC\u002dUSD"')
    assert derive_quote(VENUE, "BTC-USD", scalars(body)).bid == "1.1"


@pytest.mark.parametrize(
    "changed",
    [
        {"error": {}},
        {"error": None},
        {"error": ""},
        {"status": "OK"},
        {"status": "no"},
        {"status": True},
        {"status": []},
    ],
)
def test_answer_whose_check_differs_is_refused(changed: dict[str, Any]) -> None:
    refused(answer(**changed))


def test_filled_container_where_an_empty_one_is_wanted_is_incomplete() -> None:
    with pytest.raises(IncompleteError):
        derive_quote(VENUE, "BTC-USD", scalars(answer(error=["EQuery:Unknown asset pair"])))


def test_decoys_beside_and_inside_do_not_move_the_quote() -> None:
    body = answer(zz={"bid": "9", "ask": "9"}, note='"bid":"9"', data=[{"bid": "9"}])
    assert derive_quote(VENUE, "BTC-USD", scalars(body)).bid == "1.1"


def test_decoy_of_kraken_under_another_pair_is_not_read() -> None:
    instrument, wanted = BY_EYE["kraken"]
    body = (HERE / "kraken" / "rest.json").read_bytes()
    decoy = b'"result":{"XXBTZEUR":{"a":["1"],"b":["1"],"c":["1"]},'
    assert (
        derive_quote(load_venue("kraken"), instrument, scalars(body.replace(b'"result":{', decoy)))
        == wanted
    )


# --- times --------------------------------------------------------------------------------------


def timed(sent_as: str, unit: str) -> VenueFile:
    old = 'sent_as = "number", unit = "ms"'
    return parse_venue(FILE.replace(old, f'sent_as = "{sent_as}", unit = "{unit}"').encode())


@pytest.mark.parametrize(
    "sent_as, unit, sent, wanted",
    [
        ("number", "ms", 1_700_000_000_123, 1_700_000_000_123_000),
        ("string", "ms", "1700000000123", 1_700_000_000_123_000),
        ("number", "s", 1_700_000_000, 1_700_000_000_000_000),
        ("string", "s", "1700000000", 1_700_000_000_000_000),
        ("number", "s", 0, 0),
        ("string", "iso8601", "2023-11-14T22:13:20Z", 1_700_000_000_000_000),
        ("string", "iso8601", "2023-11-14T22:13:20.5Z", 1_700_000_000_500_000),
        ("string", "iso8601", "2023-11-14T22:13:20.123456Z", 1_700_000_000_123_456),
        ("string", "iso8601", "2023-11-14T22:13:20.123456999Z", 1_700_000_000_123_456),
        ("string", "iso8601", "2023-11-14T22:13:20.000001+00:00", 1_700_000_000_000_001),
        ("string", "iso8601", "2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("string", "iso8601", "1970-01-01T00:00:00Z", 0),
    ],
)
def test_exchange_time_becomes_microseconds(
    sent_as: str, unit: str, sent: object, wanted: int
) -> None:
    found = derive_quote(timed(sent_as, unit), "BTC-USD", scalars(answer(t=sent)))
    assert found.exchange_us == wanted


@pytest.mark.parametrize(
    "sent_as, unit, sent",
    [
        ("number", "ms", "1700000000123"),
        ("string", "ms", 1_700_000_000_123),
        ("number", "ms", 1.5),
        ("number", "ms", 1e20),
        ("number", "ms", -1),
        ("number", "ms", MAX_INTEGER),
        ("number", "s", 10**16),
        ("string", "s", "01"),
        ("string", "s", "+1"),
        ("string", "s", ""),
        ("string", "s", "1700000000.5"),
        ("string", "s", "٥"),
        ("string", "iso8601", "2023-11-14 22:13:20Z"),
        ("string", "iso8601", "2023-11-14T22:13:20"),
        ("string", "iso8601", "2023-11-14T22:13:20+01:00"),
        ("string", "iso8601", "2023-11-14T22:13:20.Z"),
        ("string", "iso8601", "2023-11-14T22:13:20.1234567890Z"),
        ("string", "iso8601", "2023-02-29T00:00:00Z"),
        ("string", "iso8601", "2023-13-01T00:00:00Z"),
        ("string", "iso8601", "2023-11-14T24:00:00Z"),
        ("string", "iso8601", "2023-11-14T22:13:60Z"),
        ("string", "iso8601", "1969-12-31T23:59:59Z"),
        ("string", "iso8601", "9999-12-31T23:59:59Z"),
        ("string", "iso8601", "0000-01-01T00:00:00Z"),
        ("string", "iso8601", None),
    ],
)
def test_exchange_time_of_another_form_is_refused(sent_as: str, unit: str, sent: object) -> None:
    refused(answer(t=sent), timed(sent_as, unit))


# --- attack 24: stale cached answer -------------------------------------------------------------


def aged(*lines: bytes) -> Response:
    head = b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"Content-Length: 0", b"", b""))
    return read_response(head, method="GET")


@pytest.mark.parametrize("lines", [(), (b"Age: 0",), (b"Age: 000",)])
def test_answer_without_age_is_fresh(lines: tuple[bytes, ...]) -> None:
    check_fresh(aged(*lines))


@pytest.mark.parametrize("age", [b"600", b"1", b"0001", b"9" * 100])
def test_answer_with_age_makes_no_quote(age: bytes) -> None:
    with pytest.raises(StaleError) as caught:
        check_fresh(aged(b"AGE: " + age))
    assert caught.value.rule == "W11"


@pytest.mark.parametrize("lines", [(b"Age: -1",), (b"Age:",), (b"Age: 1.5",), (b"Age: 0, 600",)])
def test_age_that_is_no_number_makes_no_quote(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError):
        check_fresh(aged(*lines))


def test_second_age_makes_no_quote() -> None:
    with pytest.raises(MalformedError):
        check_fresh(aged(b"Age: 0", b"Age: 600"))


def test_quotes_are_immutable() -> None:
    quote = derive_quote(VENUE, "BTC-USD", scalars(answer()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        quote.bid = "2"  # type: ignore[misc]
