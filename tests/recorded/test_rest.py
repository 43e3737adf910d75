"""Answers in the venues' wire shapes, read by the venue files.

Each ``<venue>/rest.json`` is written by hand in the shape the venue's file describes, with its
order of members, spacing and number formats.  ``make check-fixtures`` sets
QUOTARY_FIXTURES to a folder of messages that others recorded and reads them too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from attestation.errors import MalformedError, QuotaryError
from attestation.quote import DerivedQuote, derive_quote
from attestation.strictjson import Scalar, scalars
from attestation.venues import load_venue, shipped_venues

pytestmark = pytest.mark.recorded

HERE = Path(__file__).parent
NEIGHBOUR = Path(os.environ["QUOTARY_FIXTURES"]) if "QUOTARY_FIXTURES" in os.environ else None
NEIGHBOURS = sorted(NEIGHBOUR.rglob("*.json")) if NEIGHBOUR else []


def quote(bid: str, ask: str, last: str | None, exchange_us: int | None = None) -> DerivedQuote:
    return DerivedQuote(bid=bid, ask=ask, last=last, exchange_us=exchange_us)


# Instrument and quote of each message, read off by eye.
BY_EYE = {
    "binance": ("BTCUSDT", quote("64178.01", "64178.02", None)),
    "bitfinex": ("tBTCUSD", quote("64170", "64172", "64173")),
    "bitstamp": ("btcusd", quote("64178", "64180", "64179", 1777897815_000_000)),
    "bybit": ("BTCUSDT", quote("64178.5", "64178.6", "64178.6", 1777897815_702_000)),
    "coinbase": ("BTC-USD", quote("64181.26", "64181.27", "64181.27", 1777897815_608_734)),
    "crypto_com": ("BTC_USD", quote("64178.65", "64178.66", "64178.66", 1777897815_502_000)),
    "deribit": ("BTC_USDC", quote("64178", "64181", "64179", 1777897815_377_000)),
    "htx": ("btcusdt", quote("64178.01", "64178.02", "64178.01", 1777897815_410_000)),
    "gate": ("BTC_USDT", quote("64178.3", "64178.4", "64178.3")),
    "gemini": ("btcusd", quote("64176.83", "64181.9", "64180.14")),
    "kraken": ("XXBTZUSD", quote("64180", "64180.1", "64180.1")),
    "kucoin": ("BTC-USDT", quote("64178", "64178.1", "64178.1", 1777897815_377_000)),
    "okx": ("BTC-USDT", quote("64177.9", "64178", "64177.9", 1777897815_410_000)),
}

# Messages of the neighbouring folder that are answers of our routes.
NEIGHBOURS_BY_EYE = {
    "xchange-bitstamp__bitstamp_example-ticker-data.json": (
        "bitstamp",
        "btcusd",
        quote("134.89", "134.92", "134.89", 1381787133_000_000),
    ),
    "xchange-gateio-v4____files_api_v4_spot_tickers_btc-usdt.json": (
        "gate",
        "BTC_USDT",
        quote("26026.7", "26026.8", "26028.7"),
    ),
}


def test_every_venue_has_a_recorded_answer() -> None:
    recorded = {path.parent.name for path in HERE.glob("*/rest.json")}
    assert recorded == BY_EYE.keys() == set(shipped_venues())


ANSWERS = [
    pytest.param(HERE / venue / "rest.json", venue, instrument, wanted, id=venue)
    for venue, (instrument, wanted) in BY_EYE.items()
] + [
    pytest.param(path, *NEIGHBOURS_BY_EYE[path.name], id=path.name)
    for path in NEIGHBOURS
    if path.name in NEIGHBOURS_BY_EYE
]


@pytest.mark.parametrize(("path", "venue", "instrument", "wanted"), ANSWERS)
def test_recorded_answer_gives_the_quote_read_by_eye(
    path: Path, venue: str, instrument: str, wanted: DerivedQuote
) -> None:
    assert derive_quote(load_venue(venue), instrument, scalars(path.read_bytes())) == wanted


@pytest.mark.parametrize("venue", BY_EYE)
def test_cut_answer_is_refused_at_every_byte(venue: str) -> None:
    body = (HERE / venue / "rest.json").read_bytes()
    for size in range(len(body)):
        with pytest.raises(QuotaryError):
            scalars(body[:size])


def stdlib_scalars(text: str) -> dict[str, str]:
    """Reads with the standard library: numbers as sent, strings decoded, by pointer."""
    found: dict[str, str] = {}

    def walk(pointer: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for key, member in value.items():
                walk(f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", member)
        elif isinstance(value, list) and value:
            for index, member in enumerate(value):
                walk(f"{pointer}/{index}", member)
        else:
            found[pointer] = value if isinstance(value, str) else json.dumps(value)

    walk("", json.loads(text, parse_float=str, parse_int=str))
    return found


def shown(value: Scalar) -> str:
    if value.kind == "string":
        return value.text()
    return "".join(value.raw.decode().split())


@pytest.mark.parametrize(
    "path",
    [*sorted(HERE.glob("*/*.json")), *NEIGHBOURS],
    ids=lambda path: "/".join(path.parts[-2:]),
)
def test_recorded_message_reads_as_in_the_standard_library(path: Path) -> None:
    body = path.read_bytes()
    try:
        wanted = stdlib_scalars(body.decode("utf-8"))
    except json.JSONDecodeError:  # a neighbour's file with comments
        with pytest.raises(MalformedError):
            scalars(body)
    else:
        assert {at: shown(value) for at, value in scalars(body).items()} == wanted
