"""Which hosts, instruments, ticks and habits each simulated venue has: data only.

Written from the vendors' documentation, apart from ``attestation/venues``, so
that a mistake in a venue file shows as a disagreement between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from examples.venues.authority import KeyType

MARKETS = ("BTC/USD", "ETH/USD", "SOL/USD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One instrument: its market, tick as decimal text, and decimals on the wire.

    ``tick`` is the step of its order book; ``places`` how many decimals the venue
    prints at least (kraken pads to five).
    """

    instrument: str
    market: str
    tick: str
    places: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """One exchange: ``basis_ppm`` above the common mid, seen ``lag_ms`` late.

    ``hosts`` serve REST, ``stream_hosts`` the live channel on ``stream_port``.
    """

    name: str
    hosts: tuple[str, ...]
    stream_hosts: tuple[str, ...]
    stream_port: int = 443
    listings: tuple[Listing, ...]
    headers: tuple[tuple[str, str], ...]
    content_type: str = "application/json"
    basis_ppm: int = 0
    lag_ms: int = 0
    spread_ticks: int = 1
    key_type: KeyType = "p256"
    aliases: Mapping[str, str] = field(default_factory=dict)

    def listing(self, instrument: str) -> Listing | None:
        """Finds an instrument by its spelling or an accepted alias."""
        wanted = self.aliases.get(instrument, instrument)
        return next((item for item in self.listings if item.instrument == wanted), None)

    def of_market(self, market: str) -> Listing:
        """Finds the listing of a market; KeyError if there is none."""
        for item in self.listings:
            if item.market == market:
                return item
        raise KeyError(market)


def _three(
    btc: str, eth: str, sol: str, *, ticks: tuple[str, str, str], places: tuple[int, int, int]
) -> tuple[Listing, ...]:
    rows = zip((btc, eth, sol), MARKETS, ticks, places, strict=True)
    return tuple(
        Listing(instrument=instrument, market=market, tick=tick, places=decimals)
        for instrument, market, tick, decimals in rows
    )


_CLOUDFLARE = (
    ("CF-Cache-Status", "DYNAMIC"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("X-Content-Type-Options", "nosniff"),
    ("Server", "cloudflare"),
)
_CENTS = ("0.01", "0.01", "0.01")

VENUES: tuple[Venue, ...] = (
    Venue(
        name="binance",
        hosts=("data-api.binance.vision", "api.binance.com"),
        stream_hosts=("stream.binance.com", "data-stream.binance.vision"),
        stream_port=9443,
        listings=_three("BTCUSDT", "ETHUSDT", "SOLUSDT", ticks=_CENTS, places=(8, 8, 8)),
        content_type="application/json;charset=UTF-8",
        headers=(
            ("Server", "nginx"),
            ("x-mbx-uuid", "5c2f8d1e-94b7-4a55-9d6e-2b7f30c1a8e4"),
            ("x-mbx-used-weight", "2"),
            ("x-mbx-used-weight-1m", "2"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubdomains"),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-cache, no-store, must-revalidate"),
            ("Pragma", "no-cache"),
            ("Expires", "0"),
            ("Access-Control-Allow-Origin", "*"),
        ),
        basis_ppm=-120,
        lag_ms=0,
    ),
    Venue(
        name="coinbase",
        hosts=("api.exchange.coinbase.com",),
        stream_hosts=("ws-feed.exchange.coinbase.com",),
        listings=_three("BTC-USD", "ETH-USD", "SOL-USD", ticks=_CENTS, places=(2, 2, 2)),
        content_type="application/json; charset=utf-8",
        headers=(("Access-Control-Allow-Origin", "*"), ("Cache-Control", "no-store"), *_CLOUDFLARE),
        basis_ppm=15,
        lag_ms=20,
    ),
    Venue(
        name="kraken",
        hosts=("api.kraken.com",),
        stream_hosts=("ws.kraken.com",),
        listings=_three(
            "XXBTZUSD",
            "XETHZUSD",
            "SOLUSD",
            ticks=("0.1", "0.01", "0.01"),
            places=(5, 5, 2),
        ),
        aliases={"XBTUSD": "XXBTZUSD", "ETHUSD": "XETHZUSD"},
        headers=(("Cache-Control", "no-cache, no-store, must-revalidate"), *_CLOUDFLARE),
        basis_ppm=25,
        lag_ms=80,
    ),
    Venue(
        name="okx",
        hosts=("www.okx.com",),
        stream_hosts=("ws.okx.com",),
        stream_port=8443,
        listings=_three(
            "BTC-USDT", "ETH-USDT", "SOL-USDT", ticks=("0.1", "0.01", "0.01"), places=(1, 2, 2)
        ),
        headers=(("X-BROKERID", "0"), ("Vary", "Accept-Encoding"), *_CLOUDFLARE),
        basis_ppm=-110,
        lag_ms=10,
        key_type="rsa",
    ),
    Venue(
        name="bybit",
        hosts=("api.bybit.com",),
        stream_hosts=("stream.bybit.com",),
        listings=_three("BTCUSDT", "ETHUSDT", "SOLUSDT", ticks=_CENTS, places=(2, 2, 2)),
        headers=(
            ("Server", "Openresty"),
            ("Ret_Code", "0"),
            ("Cache-Control", "no-store"),
            ("X-Cache", "Miss from cloudfront"),
        ),
        basis_ppm=-130,
        lag_ms=15,
        key_type="rsa",
    ),
    Venue(
        name="bitstamp",
        hosts=("www.bitstamp.net",),
        stream_hosts=("ws.bitstamp.net",),
        listings=_three("btcusd", "ethusd", "solusd", ticks=("1", "0.1", "0.01"), places=(0, 1, 2)),
        headers=(
            ("Vary", "Accept-Language, Origin"),
            ("Content-Language", "en"),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
        ),
        basis_ppm=40,
        lag_ms=120,
        key_type="p384",
    ),
    Venue(
        name="gemini",
        hosts=("api.gemini.com",),
        stream_hosts=("api.gemini.com",),
        listings=_three("btcusd", "ethusd", "solusd", ticks=_CENTS, places=(2, 2, 2)),
        headers=(
            ("Server", "nginx"),
            ("Vary", "Origin"),
            ("Strict-Transport-Security", "max-age=15724800; includeSubDomains"),
        ),
        basis_ppm=30,
        lag_ms=150,
        spread_ticks=3,
    ),
    Venue(
        name="bitfinex",
        hosts=("api-pub.bitfinex.com",),
        stream_hosts=("api-pub.bitfinex.com",),
        listings=_three(
            "tBTCUSD", "tETHUSD", "tSOLUSD", ticks=("1", "0.1", "0.01"), places=(0, 0, 0)
        ),
        content_type="application/json; charset=utf-8",
        headers=(("Access-Control-Allow-Origin", "*"), ("X-RateLimit-Limit", "90"), *_CLOUDFLARE),
        basis_ppm=-45,
        lag_ms=60,
    ),
    Venue(
        name="kucoin",
        hosts=("api.kucoin.com",),
        stream_hosts=("ws-api-spot.kucoin.com",),
        listings=_three(
            "BTC-USDT", "ETH-USDT", "SOL-USDT", ticks=("0.1", "0.01", "0.001"), places=(0, 0, 0)
        ),
        headers=(
            ("Access-Control-Allow-Origin", "*"),
            ("gw-ratelimit-limit", "2000"),
            *_CLOUDFLARE,
        ),
        basis_ppm=-125,
        lag_ms=40,
        key_type="p384",
    ),
    Venue(
        name="gate",
        hosts=("api.gateio.ws",),
        stream_hosts=("api.gateio.ws",),
        listings=_three(
            "BTC_USDT", "ETH_USDT", "SOL_USDT", ticks=("0.1", "0.01", "0.01"), places=(0, 0, 0)
        ),
        headers=(("Server", "openresty"), ("X-Gate-Ratelimit-Limit", "200"), ("Vary", "Origin")),
        basis_ppm=-115,
        lag_ms=50,
    ),
    Venue(
        name="crypto_com",
        hosts=("api.crypto.com",),
        stream_hosts=("stream.crypto.com",),
        listings=_three(
            "BTC_USD", "ETH_USD", "SOL_USD", ticks=("0.01", "0.01", "0.001"), places=(2, 2, 3)
        ),
        content_type="application/json; charset=utf-8",
        headers=(("Cache-Control", "no-store"), *_CLOUDFLARE),
        basis_ppm=20,
        lag_ms=90,
    ),
    Venue(
        name="deribit",
        hosts=("www.deribit.com",),
        stream_hosts=("www.deribit.com",),
        listings=_three(
            "BTC_USDC", "ETH_USDC", "SOL_USDC", ticks=("1", "0.1", "0.01"), places=(1, 1, 2)
        ),
        headers=(("Cache-Control", "no-store"), ("Vary", "Origin"), *_CLOUDFLARE),
        basis_ppm=-20,
        lag_ms=70,
    ),
    Venue(
        name="htx",
        hosts=("api.huobi.pro",),
        stream_hosts=("api.huobi.pro",),
        listings=_three("btcusdt", "ethusdt", "solusdt", ticks=_CENTS, places=(2, 2, 4)),
        content_type="application/json;charset=utf-8",
        headers=(("Cache-Control", "no-store"), *_CLOUDFLARE),
        basis_ppm=-105,
        lag_ms=60,
    ),
)

BY_NAME: Mapping[str, Venue] = {venue.name: venue for venue in VENUES}
BY_HOST: Mapping[str, Venue] = {
    host: venue for venue in VENUES for host in (*venue.hosts, *venue.stream_hosts)
}
