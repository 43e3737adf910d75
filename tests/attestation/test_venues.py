"""Venue files: eleven that are shipped, optional ones, and everything a file may not hold."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding import encode
from attestation.errors import MalformedError, UsageError
from attestation.hashing import hash_string
from attestation.http1 import read_request
from attestation.quote import derive_quote, quote_pointers
from attestation.strictjson import scalars
from attestation.venues import VenueFile, load_venue, parse_venue, shipped_venues, venue_names
from examples.venues.listings import VENUES, Venue
from examples.venues.prices import Prices, decimal
from examples.venues.wire import quote_target, respond
from tests.check_fixtures import check_outside, fixtures_folder

NAMES = (
    "binance",
    "bitfinex",
    "bitstamp",
    "bybit",
    "coinbase",
    "crypto_com",
    "gate",
    "gemini",
    "kraken",
    "kucoin",
    "okx",
)
OPTIONAL = ("deribit", "htx")
FILE = """
name = "example"
hosts = ["api.example.com"]
port = 443
markets = [
    { market = "BTC/USD", instrument = "BTC-USDT", quote = "USDT" },
    { market = "BTC/USD", instrument = "BTC-USDC", quote = "USDC" },
]

[rest]
method = "GET"
target = "/ticker?symbol={instrument}"
prices = "string"
bid = "/{instrument}/bid"
ask = "/{instrument}/ask"
last = "/last"
instrument = "/symbol"
checks = [{ at = "/code", equals = "0" }]
rate = { requests = 10, seconds = 1 }
exchange_time = { at = "/ts", sent_as = "number", unit = "ms", of = "quote" }
"""


def changed(old: str, new: str) -> bytes:
    assert FILE.count(old) == 1
    return FILE.replace(old, new).encode()


# --- shipped files ------------------------------------------------------------------------------


def test_eleven_venues_are_shipped() -> None:
    assert venue_names() == NAMES
    assert tuple(shipped_venues()) == tuple(sorted((*NAMES, *OPTIONAL)))
    assert {name for name, file in shipped_venues().items() if file.optional} == set(OPTIONAL)
    assert load_venue("crypto_com").hosts == ("api.crypto.com",)


def test_optional_is_said_with_true_or_not_at_all() -> None:
    file = FILE.replace('name = "example"', 'name = "example"\noptional = true')
    assert parse_venue(file.encode()).optional is True
    assert parse_venue(FILE.encode()).optional is None
    with pytest.raises(MalformedError) as caught:
        parse_venue(file.replace("true", "false").encode())
    assert caught.value.rule == "optional"


@pytest.mark.parametrize("name", (*NAMES, *OPTIONAL))
def test_shipped_file_lists_three_markets_of_dollars(name: str) -> None:
    venue = load_venue(name)
    assert venue.name == name
    assert {listing.market for listing in venue.markets} >= {"BTC/USD", "ETH/USD", "SOL/USD"}
    assert {listing.quote for listing in venue.markets} <= {"USD", "USDC", "USDT"}
    for listing in venue.markets:
        assert venue.market(listing.instrument) == listing.market
        target = venue.target(listing.instrument)
        assert listing.instrument in target
        request = f"{venue.method} {target} HTTP/1.1\r\nHost: {venue.hosts[0]}\r\n\r\n"
        assert read_request(request.encode()).target == target


@pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name)
def test_simulated_answer_is_read_in_every_market(venue: Venue) -> None:
    # Written from the vendors' documentation apart from the venue files.
    shipped = load_venue(venue.name)
    assert shipped.hosts == venue.hosts
    prices = Prices(seed=11, origin_us=1_778_750_000_000_000)
    now_us = 1_778_750_813_123_456
    for listing in venue.listings:
        assert shipped.market(listing.instrument) == listing.market
        assert shipped.target(listing.instrument) == quote_target(venue, listing.market)
        body = respond(venue, quote_target(venue, listing.market), prices, now_us).body
        wanted = prices.quote_listing(venue, listing, now_us)
        found = derive_quote(shipped, listing.instrument, scalars(body))
        assert (found.bid, found.ask) == (decimal(wanted.bid, 0), decimal(wanted.ask, 0))
        assert found.last in (None, decimal(wanted.last, 0))
        if found.exchange_us is not None:
            assert now_us - 2_000_000 <= found.exchange_us <= now_us


@pytest.mark.recorded
def test_recordings_of_other_projects_read_as_quotes_and_strict_json() -> None:
    folder = fixtures_folder()
    if not folder.is_dir():
        pytest.skip(f"{os.path.relpath(folder)} is not here")
    assert len(check_outside(folder)) > 30


# --- hash and lookups ---------------------------------------------------------------------------


def test_hash_is_of_the_content_and_not_of_its_layout() -> None:
    venue = parse_venue(FILE.encode())
    assert venue.hash == hash_string(encode(tomllib.loads(FILE)))
    assert venue.to_json() | {"hash": None} == tomllib.loads(FILE) | {"hash": None}
    commented = "# a comment\n" + FILE.replace("port = 443", "port   = 443 # https")
    assert parse_venue(commented.encode()).hash == venue.hash
    assert parse_venue(changed("port = 443", "port = 8443")).hash != venue.hash


def test_instrument_is_looked_up_in_the_closed_list() -> None:
    venue = parse_venue(FILE.encode())
    assert venue.instrument("BTC/USD") == "BTC-USDT"
    assert venue.target("BTC-USDC") == "/ticker?symbol=BTC-USDC"
    assert quote_pointers(venue, "BTC-USDC") == [
        "/code",
        "/symbol",
        "/BTC-USDC/bid",
        "/BTC-USDC/ask",
        "/last",
        "/ts",
    ]
    with pytest.raises(UsageError):
        venue.instrument("ETH/USD")


@pytest.mark.parametrize(
    "instrument",
    ["ETH-USDT", "btc-usdt", "", "BTC-USDT&x=1", "{instrument}", "BTC-USDT ", "BTC-USDT/../ETH"],
)
def test_instrument_outside_the_closed_list_is_refused(instrument: str) -> None:
    venue = parse_venue(FILE.encode())
    for look_up in (
        venue.target,
        venue.market,
        lambda name: quote_pointers(venue, name),
        lambda name: derive_quote(venue, name, {}),
    ):
        with pytest.raises(MalformedError) as caught:
            look_up(instrument)
        assert caught.value.rule == "W14"


@pytest.mark.parametrize("name", ["example", "BINANCE", "", "../binance", "binance.toml"])
def test_unknown_venue_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        load_venue(name)


# --- what a file may not hold -------------------------------------------------------------------

REFUSED = {
    "unknown member": ("port = 443", "port = 443\nwebsite = 'x'"),
    "unknown member of rest": ('method = "GET"', 'method = "GET"\nbody = ""'),
    "unknown member of a listing": ('quote = "USDT" }', 'quote = "USDT", tick = "1" }'),
    "type member": ("port = 443", 'port = 443\ntype = "venue"'),
    "missing member": ("port = 443", ""),
    "missing rate": ("rate = { requests = 10, seconds = 1 }", ""),
    "float": ("port = 443", "port = 443.0"),
    "date": ("port = 443", "port = 2026-01-01"),
    "boolean for a number": ("port = 443", "port = true"),
    "text for a number": ("port = 443", 'port = "443"'),
    "port out of range": ("port = 443", "port = 65536"),
    "port zero": ("port = 443", "port = 0"),
    "upper-case host": ("api.example.com", "API.example.com"),
    "host with a port": ("api.example.com", "api.example.com:443"),
    "host with a trailing dot": ("api.example.com", "api.example.com."),
    "host of one label": ("api.example.com", "localhost"),
    "address for a host": ("api.example.com", "10.0.0.1"),
    "host with a path": ("api.example.com", "api.example.com/x"),
    "no host": ('["api.example.com"]', "[]"),
    "host twice": ('["api.example.com"]', '["api.example.com", "api.example.com"]'),
    "name in upper case": ('"example"', '"Example"'),
    "market without a slash": ('"BTC/USD", instrument = "BTC-USDT"', '"BTC", instrument = "X"'),
    "instrument twice": ("BTC-USDC", "BTC-USDT"),
    "instrument that needs escaping": ("BTC-USDC", "BTC/USDC"),
    "instrument with a tilde": ("BTC-USDC", "BTC~USDC"),
    "instrument with an ampersand": ("BTC-USDC", "BTC&x"),
    "no method of ours": ('"GET"', '"POST"'),
    "target without the instrument": ("symbol={instrument}", "symbol=BTCUSDT"),
    "target with the instrument twice": ("?symbol={instrument}", "?a={instrument}&b={instrument}"),
    "target with another placeholder": ("?symbol=", "?x={market}&symbol="),
    "absolute target": ('"/ticker?', '"https://evil.com/ticker?'),
    "target of two slashes": ('"/ticker?', '"//evil.com/ticker?'),
    "target with a blank": ("/ticker?", "/ticker ?"),
    "target with a line break": ("/ticker?", "/ticker\\r\\nX: y?"),
    "target with a fragment": ("/ticker?", "/ticker#?"),
    "relative pointer": ('"/last"', '"last"'),
    "pointer with a bad escape": ('"/last"', '"/la~2st"'),
    "pointer with another placeholder": ('"/last"', '"/{market}/last"'),
    "pointer with a lone brace": ('"/last"', '"/{last"'),
    "bad pointer in a check": ('"/code"', '"code"'),
    "bad pointer of time": ('"/ts"', '"ts"'),
    "check that is no JSON": ('equals = "0"', 'equals = "OK"'),
    "check of a container with members": ('equals = "0"', 'equals = "[1]"'),
    "check that is no text": ('equals = "0"', "equals = 0"),
    "unknown form of prices": ('prices = "string"', 'prices = "float"'),
    "unknown unit": ('unit = "ms"', 'unit = "ns"'),
    "unknown meaning of time": ('of = "quote"', 'of = "order"'),
    "ISO time sent as a number": ('unit = "ms"', 'unit = "iso8601"'),
    "rate of nothing": ("requests = 10", "requests = 0"),
    "no TOML": ("[rest]", "[rest"),
    "member twice": ("port = 443", "port = 443\nport = 443"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_file_is_refused(change: tuple[str, str]) -> None:
    parse_venue(FILE.encode())
    with pytest.raises(MalformedError):
        parse_venue(changed(*change))


def test_file_without_markets_is_refused() -> None:
    emptied = re.sub(r"markets = \[.*?\n\]", "markets = []", FILE, flags=re.DOTALL)
    with pytest.raises(MalformedError):
        parse_venue(emptied.encode())


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xef\xbb\xbf" + FILE.encode(), b"#" * 70_000, b"a = " + b"[" * 5_000]
)
def test_bytes_that_are_no_venue_file_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_venue(data)


@settings(max_examples=300)
@given(st.integers(0, len(FILE)), st.integers(0, 12), st.text(max_size=3))
def test_any_change_gives_a_venue_file_or_malformed(at: int, gone: int, put: str) -> None:
    data = (FILE[:at] + put + FILE[at + gone :]).encode("utf-8", "surrogatepass")
    try:
        venue = parse_venue(data)
    except MalformedError:
        return
    assert isinstance(venue, VenueFile)
    assert venue.hash == hash_string(encode(tomllib.loads(data.decode())))


def test_every_file_of_the_folder_is_a_venue() -> None:
    import attestation.venues as package

    folder = Path(package.__file__).parent
    found = {path.name for path in folder.iterdir() if path.name != "__pycache__"}
    code = {"__init__.py", "parts.py", "websocket.py"}
    assert found == code | {f"{name}.toml" for name in (*NAMES, *OPTIONAL)}
