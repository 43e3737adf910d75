"""The simulated venues: wire shapes, and prices by seed and script."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx
import pytest

from attestation.errors import UsageError
from examples.venues import Prices, Script, ThreadedVenueServer, VenueServer
from examples.venues.listings import BY_NAME, MARKETS, VENUES
from examples.venues.prices import UNIT, Quote, units

NOW_US = 1_767_225_600_123_456  # 2026-01-01T00:00:00.123456Z
VENUE_NAMES = [venue.name for venue in VENUES]

# From the vendors' documentation, not from the code: target for BTC, then where
# bid, ask and last are, and whether they are text or bare numbers.
DOCUMENTED: dict[str, tuple[str, str, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...], type]] = {
    "binance": (
        "data-api.binance.vision",
        "/api/v3/ticker/bookTicker?symbol=BTCUSDT",
        ("bidPrice",),
        ("askPrice",),
        (),
        str,
    ),
    "coinbase": (
        "api.exchange.coinbase.com",
        "/products/BTC-USD/ticker",
        ("bid",),
        ("ask",),
        ("price",),
        str,
    ),
    "kraken": (
        "api.kraken.com",
        "/0/public/Ticker?pair=XXBTZUSD",
        ("result", "XXBTZUSD", "b", 0),
        ("result", "XXBTZUSD", "a", 0),
        ("result", "XXBTZUSD", "c", 0),
        str,
    ),
    "okx": (
        "www.okx.com",
        "/api/v5/market/ticker?instId=BTC-USDT",
        ("data", 0, "bidPx"),
        ("data", 0, "askPx"),
        ("data", 0, "last"),
        str,
    ),
    "bybit": (
        "api.bybit.com",
        "/v5/market/tickers?category=spot&symbol=BTCUSDT",
        ("result", "list", 0, "bid1Price"),
        ("result", "list", 0, "ask1Price"),
        ("result", "list", 0, "lastPrice"),
        str,
    ),
    "bitstamp": (
        "www.bitstamp.net",
        "/api/v2/ticker/btcusd/",
        ("bid",),
        ("ask",),
        ("last",),
        str,
    ),
    "gemini": ("api.gemini.com", "/v1/pubticker/btcusd", ("bid",), ("ask",), ("last",), str),
    "bitfinex": ("api-pub.bitfinex.com", "/v2/ticker/tBTCUSD", (0,), (2,), (6,), Decimal),
    "kucoin": (
        "api.kucoin.com",
        "/api/v1/market/orderbook/level1?symbol=BTC-USDT",
        ("data", "bestBid"),
        ("data", "bestAsk"),
        ("data", "price"),
        str,
    ),
    "gate": (
        "api.gateio.ws",
        "/api/v4/spot/tickers?currency_pair=BTC_USDT",
        (0, "highest_bid"),
        (0, "lowest_ask"),
        (0, "last"),
        str,
    ),
    "crypto_com": (
        "api.crypto.com",
        "/exchange/v1/public/get-tickers?instrument_name=BTC_USD",
        ("result", "data", 0, "b"),
        ("result", "data", 0, "k"),
        ("result", "data", 0, "a"),
        str,
    ),
    "htx": (
        "api.huobi.pro",
        "/market/detail/merged?symbol=btcusdt",
        ("tick", "bid", 0),
        ("tick", "ask", 0),
        ("tick", "close"),
        Decimal,
    ),
    "deribit": (
        "www.deribit.com",
        "/api/v2/public/ticker?instrument_name=BTC_USDC",
        ("result", "best_bid_price"),
        ("result", "best_ask_price"),
        ("result", "last_price"),
        Decimal,
    ),
}

# Where the instrument and the exchange's time stand, for the venues that send them.
INSTRUMENTS = {
    "binance": (("symbol",), "BTCUSDT"),
    "okx": (("data", 0, "instId"), "BTC-USDT"),
    "bybit": (("result", "list", 0, "symbol"), "BTCUSDT"),
    "gate": ((0, "currency_pair"), "BTC_USDT"),
    "crypto_com": (("result", "data", 0, "i"), "BTC_USD"),
    "deribit": (("result", "instrument_name"), "BTC_USDC"),
}
REPLY_TIMES: dict[str, tuple[tuple[Any, ...], object]] = {
    "bybit": (("time",), Decimal(NOW_US // 1000)),
    "htx": (("ts",), Decimal(NOW_US // 1000)),
    "bitstamp": (("timestamp",), str(NOW_US // 1_000_000)),
}
QUOTE_TIMES: dict[str, tuple[tuple[Any, ...], type[Any]]] = {
    "okx": (("data", 0, "ts"), str),
    "kucoin": (("data", "time"), Decimal),
    "crypto_com": (("result", "data", 0, "t"), Decimal),
    "deribit": (("result", "timestamp"), Decimal),
}


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=7, clock_us=lambda: NOW_US).in_thread() as server:
        yield server


def get(server: ThreadedVenueServer, host: str, target: str) -> httpx.Response:
    context = ssl.create_default_context(cadata=server.ca_pem.decode())
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(
            f"https://127.0.0.1:{server.port}{target}",
            headers={"Host": host},
            extensions={"sni_hostname": host},
        )


def exact_json(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def dollars(amount: int) -> Decimal:
    return Decimal(amount) / UNIT


@pytest.mark.parametrize("venue", VENUE_NAMES)
def test_documented_target_answers_the_simulated_quote_in_the_documented_places(
    venues: ThreadedVenueServer, venue: str
) -> None:
    host, target, bid_at, ask_at, last_at, form = DOCUMENTED[venue]
    response = get(venues, host, target)
    quote = venues.quote(venue, "BTC/USD")
    document = exact_json(response.content)
    assert response.status_code == 200
    assert type(at(document, bid_at)) is form
    assert Decimal(at(document, bid_at)) == dollars(quote.bid)
    assert Decimal(at(document, ask_at)) == dollars(quote.ask)
    assert quote.bid < quote.ask
    if last_at:
        assert Decimal(at(document, last_at)) == dollars(quote.last)


@pytest.mark.parametrize("venue", VENUE_NAMES)
@pytest.mark.parametrize("market", MARKETS)
def test_every_listing_is_served_on_every_host_of_its_venue(
    venues: ThreadedVenueServer, venue: str, market: str
) -> None:
    instrument = BY_NAME[venue].of_market(market).instrument
    documented = BY_NAME[venue].of_market("BTC/USD").instrument
    _, target, bid_at, *_ = DOCUMENTED[venue]
    bid_at = tuple(instrument if step == documented else step for step in bid_at)
    quote = venues.quote(venue, market)
    for host in BY_NAME[venue].hosts:
        document = exact_json(get(venues, host, target.replace(documented, instrument)).content)
        assert Decimal(at(document, bid_at)) == dollars(quote.bid)


@pytest.mark.parametrize("venue", sorted(INSTRUMENTS))
def test_instrument_is_named_where_the_venue_names_it(
    venues: ThreadedVenueServer, venue: str
) -> None:
    host, target, *_ = DOCUMENTED[venue]
    path, instrument = INSTRUMENTS[venue]
    assert at(exact_json(get(venues, host, target).content), path) == instrument


@pytest.mark.parametrize("venue", sorted(REPLY_TIMES))
def test_reply_time_is_the_clock_in_the_venues_unit(
    venues: ThreadedVenueServer, venue: str
) -> None:
    host, target, *_ = DOCUMENTED[venue]
    path, wanted = REPLY_TIMES[venue]
    assert at(exact_json(get(venues, host, target).content), path) == wanted


@pytest.mark.parametrize("venue", sorted(QUOTE_TIMES))
def test_quote_time_is_when_the_book_changed_in_milliseconds(
    venues: ThreadedVenueServer, venue: str
) -> None:
    host, target, *_ = DOCUMENTED[venue]
    path, form = QUOTE_TIMES[venue]
    sent = at(exact_json(get(venues, host, target).content), path)
    assert type(sent) is form
    assert int(sent) == venues.quote(venue, "BTC/USD").at_us // 1000


def test_coinbase_time_is_an_iso_instant_of_microseconds_before_the_quote(
    venues: ThreadedVenueServer,
) -> None:
    host, target, *_ = DOCUMENTED["coinbase"]
    time = at(exact_json(get(venues, host, target).content), ("time",))
    assert time.startswith("202") and time.endswith("Z") and len(time) == 27
    assert time <= "2026-01-01T00:00:00.123456Z"


@pytest.mark.parametrize("venue", VENUE_NAMES)
def test_unknown_instrument_gets_an_error_and_no_price(
    venues: ThreadedVenueServer, venue: str
) -> None:
    host, target, *_ = DOCUMENTED[venue]
    instrument = BY_NAME[venue].of_market("BTC/USD").instrument
    response = get(venues, host, target.replace(instrument, "NOPE"))
    assert str(venues.quote(venue, "BTC/USD").bid // UNIT) not in response.text
    exact_json(response.content)


def test_headers_carry_date_of_the_clock_type_and_length(venues: ThreadedVenueServer) -> None:
    host, target, *_ = DOCUMENTED["binance"]
    response = get(venues, host, target)
    assert response.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert response.headers["content-type"] == "application/json;charset=UTF-8"
    assert int(response.headers["content-length"]) == len(response.content)


def test_kraken_answers_an_alias_under_its_own_spelling(venues: ThreadedVenueServer) -> None:
    response = get(venues, "api.kraken.com", "/0/public/Ticker?pair=XBTUSD")
    assert list(response.json()["result"]) == ["XXBTZUSD"]


def test_unknown_path_is_not_found(venues: ThreadedVenueServer) -> None:
    assert get(venues, "api.kraken.com", "/0/public/Time").status_code == 404


def test_host_of_another_venue_is_misdirected(venues: ThreadedVenueServer) -> None:
    context = ssl.create_default_context(cadata=venues.ca_pem.decode())
    with httpx.Client(verify=context, trust_env=False) as client:
        response = client.get(
            f"https://127.0.0.1:{venues.port}/",
            headers={"Host": "www.okx.com"},
            extensions={"sni_hostname": "api.kraken.com"},
        )
    assert response.status_code == 421


def _walk(seed: int, steps: int) -> list[Quote]:
    prices = Prices(seed=seed, origin_us=NOW_US)
    instants = range(NOW_US, NOW_US + steps * 100_000, 100_000)
    return [prices.quote(BY_NAME["kraken"], "BTC/USD", instant) for instant in instants]


def test_same_seed_gives_the_same_prices_and_another_seed_others() -> None:
    assert _walk(1, 50) == _walk(1, 50)
    assert [quote.bid for quote in _walk(1, 50)] != [quote.bid for quote in _walk(2, 50)]


def test_prices_of_a_seed_never_change_between_versions() -> None:
    prices = Prices(seed=1, origin_us=0)
    quote = prices.quote(BY_NAME["kraken"], "ETH/USD", 60_000_000)
    assert (quote.bid, quote.ask) == (340_307_000_000, 340_308_000_000)


def test_price_does_not_depend_on_what_was_asked_before() -> None:
    late = Prices(seed=3, origin_us=0)
    late.quote(BY_NAME["okx"], "BTC/USD", 90_000_000)
    early = Prices(seed=3, origin_us=0)
    assert late.quote(BY_NAME["okx"], "BTC/USD", 5_000_000) == early.quote(
        BY_NAME["okx"], "BTC/USD", 5_000_000
    )


def test_walk_turns_back_so_that_any_instant_is_within_reach() -> None:
    prices = Prices(seed=3, origin_us=0)
    mids = [prices.quote(BY_NAME["binance"], "BTC/USD", NOW_US + 10**18).mid for _ in range(2)]
    assert mids[0] == mids[1] > 0
    two_hours_us = 7_200_000_000
    near = [
        prices.quote(BY_NAME["binance"], "BTC/USD", two_hours_us + offset).mid
        for offset in (-100_000, 0, 100_000)
    ]
    assert abs(near[0] - near[1]) < 100 and abs(near[1] - near[2]) < 100


def test_venues_move_together_within_their_basis() -> None:
    prices = Prices(seed=4, origin_us=0)
    for instant in range(0, 600_000_000, 7_000_000):
        mids = [prices.quote(venue, "BTC/USD", instant).mid for venue in VENUES]
        assert max(mids) / min(mids) < Fraction(1004, 1000)


def test_lagging_venue_shows_the_common_mid_late() -> None:
    prices = Prices(seed=5, origin_us=0)
    lag_us = BY_NAME["gemini"].lag_ms * 1000
    assert lag_us > 0
    before = prices.quote(BY_NAME["gemini"], "BTC/USD", 10_000_000 + lag_us - 1)
    after = prices.quote(BY_NAME["gemini"], "BTC/USD", 10_000_000 + lag_us)
    assert (before.at_us, after.at_us) == (9_900_000, 10_000_000)


SCRIPT = b"""
[[step]]
at_ms = 0
mids = { "BTC/USD" = "64000" }

[[step]]
at_ms = 3000
mids = { "BTC/USD" = "64012.3456" }
venues.gate = { "BTC/USD" = "63999.9" }
"""


@pytest.mark.parametrize("venue", VENUE_NAMES)
def test_scripted_mids_are_served_exactly(venue: str) -> None:
    now = [NOW_US]
    host, target, bid_at, ask_at, _, _ = DOCUMENTED[venue]
    second = "63999.9" if venue == "gate" else "64012.3456"
    server = VenueServer(script=Script.parse(SCRIPT), clock_us=lambda: now[0])
    with server.in_thread() as running:
        for elapsed_us, mid in ((0, "64000"), (2_999_999, "64000"), (3_000_000, second)):
            now[0] = NOW_US + elapsed_us
            document = exact_json(get(running, host, target).content)
            bid, ask = Fraction(at(document, bid_at)), Fraction(at(document, ask_at))
            assert bid < ask
            assert (bid + ask) / 2 == Fraction(mid)


def test_script_leaves_other_markets_to_the_walk() -> None:
    scripted = Prices(seed=1, origin_us=0, script=Script.parse(SCRIPT))
    free = Prices(seed=1, origin_us=0)
    asked = (BY_NAME["okx"], "SOL/USD", 3_000_000)
    assert scripted.quote(*asked) == free.quote(*asked)


def test_mid_set_while_running_replaces_script_and_is_lifted_again() -> None:
    prices = Prices(seed=1, origin_us=0, script=Script.parse(SCRIPT))
    prices.set_mid("BTC/USD", "50000.5", venue="okx")
    assert prices.quote(BY_NAME["okx"], "BTC/USD", 0).mid == Fraction("50000.5")
    assert prices.quote(BY_NAME["gate"], "BTC/USD", 0).mid == 64000
    prices.set_mid("BTC/USD", None, venue="okx")
    assert prices.quote(BY_NAME["okx"], "BTC/USD", 0).mid == 64000


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\xff",
        b"[[step]]\nat_ms = -1\n",
        b"[[step]]\nat_ms = 1\n[[step]]\nat_ms = 1\n",
        b'[[step]]\nat_ms = 0\nmids = { "BTC/USD" = 64000.5 }\n',
        b'[[step]]\nat_ms = 0\nmids = { "BTC/EUR" = "1" }\n',
        b'[[step]]\nat_ms = 0\nvenues.mtgox = { "BTC/USD" = "1" }\n',
        b'[[step]]\nat_ms = 0\nmids = { "BTC/USD" = "0.000000001" }\n',
        b"[[step]]\nat_ms = 0\nmdis = {}\n",
    ],
)
def test_wrong_script_is_a_usage_error(script: bytes) -> None:
    with pytest.raises(UsageError):
        Script.parse(script)


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "-1", "+1", "0", "0.00000001", "1e3", "1.", "1.000000000", "1" * 13, "\u0661"],
)
def test_what_is_no_price_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        units(text)
