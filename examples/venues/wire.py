"""What each venue answers: (venue, target, instant) to a response in its wire shape.

The bodies follow the vendors' documentation and recordings: member order, number
form (text or bare numbers), nesting and the members nobody asked for.  Unknown
instruments and paths get each venue's own error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import parse_qsl

from examples.venues.listings import VENUES, Listing, Venue
from examples.venues.prices import UNIT, Prices, Quote, decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response before framing: no Content-Length, Date or Connection yet."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


# The instrument a target asks for; None where the path is not the quote's.
Route: TypeAlias = Callable[[str, dict[str, str]], "str | None"]
# The body of a quote; ``now_us`` is the reply's own time.
Body: TypeAlias = Callable[[Venue, Listing, Quote, int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one venue is asked and answers; ``unknown`` answers for no such instrument."""

    route: Route
    body: Body
    unknown: tuple[int, str]


def respond(
    venue: Venue, target: str, prices: Prices, now_us: int, *, wick_bps: int = 0
) -> Response:
    """Answers a GET of origin-form ``target`` at ``now_us`` (UTC microseconds).

    ``wick_bps`` puts the quote that many basis points off.
    """
    shape = SHAPES[venue.name]
    path, _, query = target.partition("?")
    instrument = shape.route(path, dict(parse_qsl(query)))
    if instrument is None:
        return _response(venue, 404, '{"message":"Not Found"}')
    listing = venue.listing(instrument)
    if listing is None:
        status, body = shape.unknown
        return _response(venue, status, body)
    quote = prices.quote_listing(venue, listing, now_us).moved(wick_bps)
    return _response(venue, 200, shape.body(venue, listing, quote, now_us))


def quote_target(venue: Venue, market: str) -> str:
    """The target that asks ``venue`` for a market's quote."""
    return _TARGETS[venue.name].format(venue.of_market(market).instrument)


def with_other_instrument(venue: Venue, target: str) -> str:
    """The same target for another instrument of the venue: the wrong_instrument fault."""
    listings = venue.listings
    for index, item in enumerate(listings):
        if target == _TARGETS[venue.name].format(item.instrument):
            return _TARGETS[venue.name].format(listings[(index + 1) % len(listings)].instrument)
    return _TARGETS[venue.name].format(listings[-1].instrument)


_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}

_TARGETS = {
    "binance": "/api/v3/ticker/bookTicker?symbol={}",
    "coinbase": "/products/{}/ticker",
    "kraken": "/0/public/Ticker?pair={}",
    "okx": "/api/v5/market/ticker?instId={}",
    "bybit": "/v5/market/tickers?category=spot&symbol={}",
    "bitstamp": "/api/v2/ticker/{}/",
    "gemini": "/v1/pubticker/{}",
    "bitfinex": "/v2/ticker/{}",
    "kucoin": "/api/v1/market/orderbook/level1?symbol={}",
    "gate": "/api/v4/spot/tickers?currency_pair={}",
    "crypto_com": "/exchange/v1/public/get-tickers?instrument_name={}",
    "deribit": "/api/v2/public/ticker?instrument_name={}",
    "htx": "/market/detail/merged?symbol={}",
}


def _response(venue: Venue, status: int, body: str) -> Response:
    return Response(
        status=status,
        reason=_REASONS[status],
        headers=(("Content-Type", venue.content_type), *venue.headers),
        body=body.encode(),
    )


def _by_query(path: str, parameter: str, **required: str) -> Route:
    def route(asked: str, query: dict[str, str]) -> str | None:
        if asked != path or any(query.get(key) != value for key, value in required.items()):
            return None
        return query.get(parameter, "")

    return route


def _by_path(prefix: str, suffix: str = "") -> Route:
    def route(asked: str, query: dict[str, str]) -> str | None:
        if not (asked.startswith(prefix) and asked.endswith(suffix)):
            return None
        return asked[len(prefix) : len(asked) - len(suffix)]

    return route


def _size(noise: bytes, at: int, places: int) -> str:
    """A made-up amount between 0.01 and 6.56 from two bytes of noise."""
    amount = (int.from_bytes(noise[at : at + 2], "big") + 100) * (UNIT // 10_000)
    return decimal(amount + noise[at] * 11, places)


def _near(listing: Listing, quote: Quote, per_mille: int) -> str:
    """A price ``per_mille`` away from the bid, on the listing's decimals: highs and lows."""
    coarse = quote.bid * (1000 + per_mille) // 1000 // UNIT * UNIT
    return decimal(coarse, listing.places)


def _binance(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    return (
        f'{{"symbol":"{listing.instrument}",'
        f'"bidPrice":"{decimal(quote.bid, 8)}","bidQty":"{_size(quote.noise, 3, 8)}",'
        f'"askPrice":"{decimal(quote.ask, 8)}","askQty":"{_size(quote.noise, 5, 8)}"}}'
    )


def _coinbase(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    # The time is the last trade's, somewhat before the quote's.
    traded_us = quote.at_us - 1000 * quote.noise[7] - quote.noise[8]
    places = listing.places
    return (
        f'{{"ask":"{decimal(quote.ask, places)}","bid":"{decimal(quote.bid, places)}",'
        f'"volume":"8417.{quote.noise[9]:03d}20715",'
        f'"trade_id":{701_000_000 + quote.at_us // 1_000_000 % 1_000_000},'
        f'"price":"{decimal(quote.last, places)}","size":"{_size(quote.noise, 3, 8)}",'
        f'"time":"{_iso(traded_us)}","rfq_volume":"53.{quote.noise[10]:03d}417"}}'
    )


def _iso(at_us: int) -> str:
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"


def _kraken(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    noise, places = quote.noise, listing.places
    low, high = _near(listing, quote, -19), _near(listing, quote, 14)
    average = _near(listing, quote, -3)
    return (
        f'{{"error":[],"result":{{"{listing.instrument}":{{'
        f'"a":["{decimal(quote.ask, places)}","{noise[3] % 9 + 1}","{noise[3] % 9 + 1}.000"],'
        f'"b":["{decimal(quote.bid, places)}","{noise[4] % 9 + 1}","{noise[4] % 9 + 1}.000"],'
        f'"c":["{decimal(quote.last, places)}","{_size(noise, 5, 8)}"],'
        f'"v":["1{noise[7]:03d}.57020112","2{noise[8]:03d}.91833007"],'
        f'"p":["{average}","{average}"],"t":[{30_000 + noise[9]},{61_000 + noise[10]}],'
        f'"l":["{low}","{low}"],"h":["{high}","{high}"],"o":"{average}"}}}}}}'
    )


def _okx(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    places = listing.places
    return (
        '{"code":"0","msg":"","data":[{"instType":"SPOT",'
        f'"instId":"{listing.instrument}","last":"{decimal(quote.last, places)}",'
        f'"lastSz":"{_size(quote.noise, 3, 0)}",'
        f'"askPx":"{decimal(quote.ask, places)}","askSz":"{_size(quote.noise, 5, 0)}",'
        f'"bidPx":"{decimal(quote.bid, places)}","bidSz":"{_size(quote.noise, 7, 0)}",'
        f'"open24h":"{_near(listing, quote, -8)}","high24h":"{_near(listing, quote, 14)}",'
        f'"low24h":"{_near(listing, quote, -19)}","volCcy24h":"512{quote.noise[9]:03d}417.2091",'
        f'"vol24h":"8{quote.noise[10]:03d}.51930272","ts":"{quote.at_us // 1000}",'
        f'"sodUtc0":"{_near(listing, quote, -2)}","sodUtc8":"{_near(listing, quote, -5)}"}}]}}'
    )


def _bybit(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    places = listing.places
    return (
        '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{'
        f'"symbol":"{listing.instrument}",'
        f'"bid1Price":"{decimal(quote.bid, places)}","bid1Size":"{_size(quote.noise, 3, 0)}",'
        f'"ask1Price":"{decimal(quote.ask, places)}","ask1Size":"{_size(quote.noise, 5, 0)}",'
        f'"lastPrice":"{decimal(quote.last, places)}",'
        f'"prevPrice24h":"{_near(listing, quote, -8)}","price24hPcnt":"0.0081",'
        f'"highPrice24h":"{_near(listing, quote, 14)}",'
        f'"lowPrice24h":"{_near(listing, quote, -19)}",'
        f'"turnover24h":"612{quote.noise[9]:03d}904.13307",'
        f'"volume24h":"9{quote.noise[10]:03d}.20981",'
        f'"usdIndexPrice":"{decimal(quote.last + UNIT // 8, 6)}"}}]}},'
        f'"retExtInfo":{{}},"time":{now_us // 1000}}}'
    )


def _bitstamp(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    places = listing.places
    opened = _near(listing, quote, -8)
    return (
        f'{{"timestamp": "{now_us // 1_000_000}", "open": "{opened}", '
        f'"high": "{_near(listing, quote, 14)}", "low": "{_near(listing, quote, -19)}", '
        f'"last": "{decimal(quote.last, places)}", "volume": "1{quote.noise[9]:03d}.83150247", '
        f'"vwap": "{_near(listing, quote, -3)}", "bid": "{decimal(quote.bid, places)}", '
        f'"ask": "{decimal(quote.ask, places)}", "side": "{quote.noise[1] & 1}", '
        f'"open_24": "{opened}", "percent_change_24": "0.81"}}'
    )


def _gemini(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    places = listing.places
    base = listing.market.partition("/")[0]
    # The timestamp belongs to the volume, which is summed up each five minutes.
    summed_ms = now_us // 300_000_000 * 300_000
    return (
        f'{{"bid":"{decimal(quote.bid, places)}","ask":"{decimal(quote.ask, places)}",'
        f'"volume":{{"{base}":"{_size(quote.noise, 3, 8)}","USD":"51{quote.noise[9]:03d}04.1833",'
        f'"timestamp":{summed_ms}}},"last":"{decimal(quote.last, places)}"}}'
    )


def _bitfinex(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    return (
        f"[{decimal(quote.bid, 0)},{_size(quote.noise, 3, 0)},"
        f"{decimal(quote.ask, 0)},{_size(quote.noise, 5, 0)},"
        f"{quote.noise[7]},0.0{quote.noise[8]:03d}417,{decimal(quote.last, 0)},"
        f"1{quote.noise[9]:03d}.88275223,"
        f"{decimal(quote.bid * 1014 // 1000 // UNIT * UNIT, 0)},"
        f"{decimal(quote.bid * 981 // 1000 // UNIT * UNIT, 0)}]"
    )


def _kucoin(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    return (
        f'{{"code":"200000","data":{{"time":{quote.at_us // 1000},'
        f'"sequence":"{14_610_000_000 + quote.at_us // 1000 % 1_000_000_000}",'
        f'"price":"{decimal(quote.last, 0)}","size":"{_size(quote.noise, 3, 0)}",'
        f'"bestBid":"{decimal(quote.bid, 0)}","bestBidSize":"{_size(quote.noise, 5, 0)}",'
        f'"bestAsk":"{decimal(quote.ask, 0)}","bestAskSize":"{_size(quote.noise, 7, 0)}"}}}}'
    )


def _gate(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    return (
        f'[{{"currency_pair":"{listing.instrument}","last":"{decimal(quote.last, 0)}",'
        f'"lowest_ask":"{decimal(quote.ask, 0)}","lowest_size":"{_size(quote.noise, 3, 0)}",'
        f'"highest_bid":"{decimal(quote.bid, 0)}","highest_size":"{_size(quote.noise, 5, 0)}",'
        f'"change_percentage":"0.81","base_volume":"4{quote.noise[9]:03d}.912133756",'
        f'"quote_volume":"302{quote.noise[10]:03d}034.68892",'
        f'"high_24h":"{_near(listing, quote, 14)}","low_24h":"{_near(listing, quote, -19)}"}}]'
    )


def _crypto_com(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    places = listing.places
    return (
        '{"id":-1,"method":"public/get-tickers","code":0,"result":{"data":[{'
        f'"i":"{listing.instrument}","h":"{_near(listing, quote, 14)}",'
        f'"l":"{_near(listing, quote, -19)}","a":"{decimal(quote.last, places)}",'
        f'"v":"2{quote.noise[9]:03d}.5190","vv":"171{quote.noise[10]:03d}204.55","c":"0.0081",'
        f'"b":"{decimal(quote.bid, places)}","k":"{decimal(quote.ask, places)}","oi":"0",'
        f'"t":{quote.at_us // 1000}}}]}}}}'
    )


def _deribit(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    noise, places = quote.noise, listing.places
    last, mark = decimal(quote.last, places), decimal(quote.last + UNIT // 8, 4)
    return (
        f'{{"jsonrpc":"2.0","result":{{"timestamp":{quote.at_us // 1000},"stats":{{'
        f'"high":{_near(listing, quote, 14)},"low":{_near(listing, quote, -19)},'
        f'"price_change":0.8113,"volume":1{noise[9]:03d}.8,"volume_usd":64{noise[10]:03d}21.1}},'
        f'"state":"open","index_price":{mark},"mark_price":{mark},"last_price":{last},'
        f'"instrument_name":"{listing.instrument}",'
        f'"best_bid_price":{decimal(quote.bid, places)},"best_bid_amount":{_size(noise, 3, 0)},'
        f'"best_ask_price":{decimal(quote.ask, places)},"best_ask_amount":{_size(noise, 5, 0)}}},'
        f'"usIn":{now_us},"usOut":{now_us + 91},"usDiff":91,"testnet":false}}'
    )


def _htx(venue: Venue, listing: Listing, quote: Quote, now_us: int) -> str:
    noise, places = quote.noise, listing.places
    number = 361_000_000_000 + quote.at_us // 1_000_000 % 1_000_000_000
    return (
        f'{{"ch":"market.{listing.instrument}.detail.merged","status":"ok","ts":{now_us // 1000},'
        f'"tick":{{"id":{number},"version":{number},"open":{_near(listing, quote, -8)},'
        f'"close":{decimal(quote.last, places)},"low":{_near(listing, quote, -19)},'
        f'"high":{_near(listing, quote, 14)},"amount":1{noise[9]:03d}.2270810312447,'
        f'"vol":3.46{noise[10]:03d}8437,"count":90{noise[7]:03d},'
        f'"bid":[{decimal(quote.bid, places)},{_size(noise, 3, 0)}],'
        f'"ask":[{decimal(quote.ask, places)},{_size(noise, 5, 0)}]}}}}'
    )


SHAPES: dict[str, Shape] = {
    "binance": Shape(
        route=_by_query("/api/v3/ticker/bookTicker", "symbol"),
        body=_binance,
        unknown=(400, '{"code":-1121,"msg":"Invalid symbol."}'),
    ),
    "coinbase": Shape(
        route=_by_path("/products/", "/ticker"),
        body=_coinbase,
        unknown=(404, '{"message":"NotFound"}'),
    ),
    "kraken": Shape(
        route=_by_query("/0/public/Ticker", "pair"),
        body=_kraken,
        unknown=(200, '{"error":["EQuery:Unknown asset pair"]}'),
    ),
    "okx": Shape(
        route=_by_query("/api/v5/market/ticker", "instId"),
        body=_okx,
        unknown=(200, '{"code":"51001","msg":"Instrument ID does not exist","data":[]}'),
    ),
    "bybit": Shape(
        route=_by_query("/v5/market/tickers", "symbol", category="spot"),
        body=_bybit,
        unknown=(
            200,
            '{"retCode":10001,"retMsg":"Not supported symbols","result":{},"retExtInfo":{}}',
        ),
    ),
    "bitstamp": Shape(
        route=_by_path("/api/v2/ticker/", "/"),
        body=_bitstamp,
        unknown=(404, '{"code": "Object not found."}'),
    ),
    "gemini": Shape(
        route=_by_path("/v1/pubticker/"),
        body=_gemini,
        unknown=(
            400,
            '{"result":"error","reason":"Bad Request","message":"Not a valid symbol"}',
        ),
    ),
    "bitfinex": Shape(
        route=_by_path("/v2/ticker/"),
        body=_bitfinex,
        unknown=(500, '["error",10020,"symbol: invalid"]'),
    ),
    "kucoin": Shape(
        route=_by_query("/api/v1/market/orderbook/level1", "symbol"),
        body=_kucoin,
        unknown=(200, '{"code":"200000","data":null}'),
    ),
    "gate": Shape(
        route=_by_query("/api/v4/spot/tickers", "currency_pair"),
        body=_gate,
        unknown=(400, '{"label":"INVALID_CURRENCY_PAIR","message":"Invalid currency pair"}'),
    ),
    "crypto_com": Shape(
        route=_by_query("/exchange/v1/public/get-tickers", "instrument_name"),
        body=_crypto_com,
        unknown=(
            400,
            '{"id":-1,"method":"public/get-tickers","code":40004,"message":"Invalid argument"}',
        ),
    ),
    "deribit": Shape(
        route=_by_query("/api/v2/public/ticker", "instrument_name"),
        body=_deribit,
        unknown=(
            400,
            (
                '{"jsonrpc":"2.0","error":{"message":"Invalid params","data":{"reason":'
                '"wrong format","param":"instrument_name"},"code":-32602},"testnet":false}'
            ),
        ),
    ),
    "htx": Shape(
        route=_by_query("/market/detail/merged", "symbol"),
        body=_htx,
        unknown=(
            200,
            '{"status":"error","err-code":"invalid-parameter","err-msg":"invalid symbol"}',
        ),
    ),
}

assert set(SHAPES) == set(_TARGETS) == {venue.name for venue in VENUES}
