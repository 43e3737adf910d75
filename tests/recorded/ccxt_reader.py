"""What ccxt reads in the venues' messages: run by a Python that has ccxt, never imported.

Reads ``{"venue": {"instrument", "rest", "live": [text, ...]}}`` on standard input and writes
``{"venue": {"rest": [bid, ask], "live": [[bid, ask] or null, ...]}}``: after each live message
the best bid and ask that ccxt then holds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from unittest.mock import MagicMock

import ccxt.pro

NAMES = {"coinbase": "coinbaseexchange", "crypto_com": "cryptocom"}


def make(venue: str, instrument: str) -> tuple[Any, str]:
    """Returns ccxt's class for a venue, with one market, and that market's symbol."""
    exchange = getattr(ccxt.pro, NAMES.get(venue, venue))()
    quote = "USDT" if "USDT" in instrument else "USD"
    symbol = f"BTC/{quote}"
    market = {
        "id": instrument,
        "lowercaseId": instrument.lower(),
        "wsId": symbol,
        "symbol": symbol,
        "base": "BTC",
        "quote": quote,
        "baseId": "BTC",
        "quoteId": quote,
        "settle": None,
        "type": "spot",
        "spot": True,
        "margin": False,
        "swap": False,
        "future": False,
        "option": False,
        "contract": False,
        "linear": None,
        "inverse": None,
        "contractSize": None,
        "active": True,
        "precision": {"price": 0.01, "amount": 1e-8},
        "limits": {},
        "info": {"wsname": symbol},
    }
    exchange.set_markets([market])
    return exchange, symbol


async def read_live(exchange: Any, symbol: str, texts: list[str]) -> list[list[float] | None]:
    client = MagicMock(url="wss://venue.example/spot", subscriptions={}, futures={})
    found = []
    for text in texts:
        message = json.loads(text) if text[:1] in "{[" else text
        try:
            if exchange.id == "bitstamp":
                # Its channel of whole books is read as such; ccxt's own keeps books by difference.
                best = read_book(exchange, symbol, message)
            else:
                result = exchange.handle_message(client, message)
                if asyncio.iscoroutine(result):
                    await result
                best = held(exchange, symbol)
        except Exception:  # whatever it raises: no quote
            best = None
        found.append(best)
    return found


def read_book(exchange: Any, symbol: str, message: Any) -> list[float] | None:
    book = exchange.parse_order_book(message["data"], symbol)
    return [book["bids"][0][0], book["asks"][0][0]]


def held(exchange: Any, symbol: str) -> list[float] | None:
    for store in (exchange.bidsasks, exchange.tickers):
        if store and symbol in store:
            return [store[symbol]["bid"], store[symbol]["ask"]]
    return None


async def read_rest(exchange: Any, symbol: str, text: str) -> list[float]:
    async def fetch(*_: Any, **__: Any) -> Any:
        return json.loads(text)

    exchange.fetch = fetch
    ticker = await exchange.fetch_ticker(symbol)
    return [ticker["bid"], ticker["ask"]]


async def main() -> None:
    answers = {}
    for venue, given in json.load(sys.stdin).items():
        exchange, symbol = make(venue, given["instrument"])
        answers[venue] = {
            "live": await read_live(exchange, symbol, given["live"]),
            "rest": await read_rest(exchange, symbol, given["rest"]),
        }
        await exchange.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
