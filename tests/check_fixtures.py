"""Messages that other projects recorded, read by the venue files.

``python -m tests.check_fixtures [FOLDER]`` reads FOLDER (default
``$QUOTARY_FIXTURES``, else ``../shared/fixtures`` beside the project) and says
what it read, or that FOLDER is not there.  ``make check-fixtures`` runs it as a
test; answers we wrote ourselves are read by ``tests/recorded``.

These recordings are older than the venue files and name other instruments: a
venue file is read with just those places replaced.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from attestation.errors import MalformedError
from attestation.feed import Channel, Passed, Update
from attestation.price import normalize
from attestation.quote import DerivedQuote, derive_quote
from attestation.strictjson import scalars
from attestation.venues import VenueFile, parse_venue

PROJECT = Path(__file__).resolve().parent.parent


def quote(bid: str, ask: str, last: str | None, exchange_us: int | None = None) -> DerivedQuote:
    return DerivedQuote(bid=bid, ask=ask, last=last, exchange_us=exchange_us)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """An outsider's recording: the venue file's text is ``replaced`` before it is read."""

    path: str
    venue: str
    instrument: str
    expected: DerivedQuote
    replaced: tuple[tuple[str, str], ...] = ()


OUTSIDE = (
    Outside(
        path="xchange/xchange-binance____files_single-24hr-ticker.json",
        venue="binance",
        instrument="BNBBTC",
        replaced=(("BTCUSDT", "BNBBTC"),),
        expected=quote("4", "4.000002", None),
    ),
    Outside(
        path="xchange/xchange-coinbasepro__coinbasepro_example-ticker-data.json",
        venue="coinbase",
        instrument="BTC-USD",
        expected=quote("637", "637.11", "246.28", 1_428_526_146_506_997),
    ),
    Outside(
        path="xchange/xchange-kraken__kraken_example-ticker-data.json",
        venue="kraken",
        instrument="XXBTZEUR",
        replaced=(("XXBTZUSD", "XXBTZEUR"),),
        expected=quote("560.466", "562.26651", "560.87711"),
    ),
    Outside(
        path="xchange/xchange-bybit__getTickerSpot.json5",
        venue="bybit",
        instrument="BTCUSDT",
        expected=quote("20517.96", "20527.77", "20533.13", 1_673_859_087_947_000),
    ),
    Outside(
        path="xchange/xchange-bitstamp__bitstamp_example-ticker-data.json",
        venue="bitstamp",
        instrument="btcusd",
        expected=quote("134.89", "134.92", "134.89", 1_381_787_133_000_000),
    ),
    Outside(
        path="xchange/xchange-bitfinex__bitfinex_v2_example-ticker-data.json",
        venue="bitfinex",
        instrument="tBTCUSD",
        # Recorded from /v2/tickers: rows with their symbol in front.
        replaced=(('"/0"', '"/1/1"'), ('"/2"', '"/1/3"'), ('"/6"', '"/1/7"')),
        expected=quote("7381.6", "7381.7", "7381.2"),
    ),
    Outside(
        path="xchange/xchange-gateio-v4____files_api_v4_spot_tickers.json",
        venue="gate",
        instrument="BTC_USDT",
        expected=quote("26019.8", "26019.9", "26019.8"),
    ),
    Outside(
        path="xchange/xchange-gateio-v4____files_api_v4_spot_tickers_btc-usdt.json",
        venue="gate",
        instrument="BTC_USDT",
        expected=quote("26026.7", "26026.8", "26028.7"),
    ),
)
NOT_JSON = {
    "xchange-stream-binance__info_bitrich_xchangestream_binance_dto_testBookTickerEvent.json"
}
"""Recordings that their project annotated with comments."""


def check_outside(folder: Path) -> list[str]:
    """Reads every recording in ``folder``; returns a line for each, raises on a difference."""
    lines = []
    for recording in OUTSIDE:
        body = (folder / recording.path).read_bytes()
        found = derive_quote(_venue(recording), recording.instrument, scalars(body))
        _same(recording.path, found, recording.expected)
        lines.append(f"{recording.venue:12}{found.bid} / {found.ask}  {recording.path}")
    for path in sorted((folder / "xchange").glob("*.json*")) + sorted(
        folder.glob("massive/*.json")
    ):
        if path.name in NOT_JSON:
            _refused(path)
        else:
            _same_reading(path.name, path.read_bytes())
            lines.append(f"{'strict JSON':12}{path.name}")
    pushes = 0
    for path in sorted((folder / "cryptofeed").glob("*.head")):
        messages = list(_messages(path))
        for message in messages:
            _same_reading(path.name, message)
            if path.name.startswith("OKX"):
                pushes += _okx_push(message)
        lines.append(f"{'strict JSON':12}{path.name}: {len(messages)} messages")
        read = _LIVE.get(path.name.partition(".")[0])
        if read is not None:
            found = read(messages)
            if not found:
                raise AssertionError(f"no quote in {path.name}")
            lines.append(f"{path.name.partition('.')[0].lower():12}{found} live quotes")
    if not pushes:
        raise AssertionError("no OKX ticker among the recorded messages")
    lines.append(f"{'okx':12}{pushes} ticker pushes read by the REST pointers")
    return lines


def fixtures_folder() -> Path:
    """Where outsiders' recordings would be; relative paths count from the project."""
    return PROJECT / os.environ.get("QUOTARY_FIXTURES", "../shared/fixtures")


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else fixtures_folder()
    if not folder.is_dir():
        print(f"{os.path.relpath(folder, PROJECT)} is not here: nothing was read")
        return 0
    print("\n".join(check_outside(folder)))
    return 0


def _venue(recording: Outside) -> VenueFile:
    text = files("attestation.venues").joinpath(f"{recording.venue}.toml").read_text("utf-8")
    for old, new in recording.replaced:
        text = text.replace(old, new)
    return parse_venue(text.encode("utf-8"))


def _okx_push(message: bytes) -> int:
    """Reads a pushed ticker, whose rows are those of the REST answer; returns 1 if it is one."""
    value = json.loads(message)
    rows = value.get("data", [])
    if value.get("arg", {}).get("channel") != "tickers" or not rows:
        return 0
    row = json.loads(message, parse_float=str)["data"][0]
    text = files("attestation.venues").joinpath("okx.toml").read_text("utf-8")
    # A push has no code, and tickers of futures come between.
    text = text.replace('checks = [{ at = "/code", equals = \'"0"\' }]', "")
    venue = parse_venue(text.replace("BTC-USDT", row["instId"]).encode("utf-8"))
    found = derive_quote(venue, row["instId"], scalars(message))
    assert found.exchange_us == int(row["ts"]) * 1000
    assert found.bid.rstrip("0") in row["bidPx"]
    return 1


def _channel(venue: str, replaced: tuple[tuple[str, str], ...], instrument: str) -> Channel:
    text = files("attestation.venues").joinpath(f"{venue}.toml").read_text("utf-8")
    for old, new in replaced:
        text = text.replace(old, new)
    return Channel(parse_venue(text.encode("utf-8")), instrument)


def _quoted(channel: Channel, message: bytes, index: int, bid: str, ask: str) -> int:
    """Reads a message as a quote of these prices; returns 1."""
    found = channel.read(message, index)
    if not isinstance(found, Update):
        raise AssertionError(f"no quote: {message!r}")
    _same(message.decode(), (found.quote.bid, found.quote.ask), (normalize(bid), normalize(ask)))
    return 1


def _live_coinbase(messages: list[bytes]) -> int:
    found = 0
    for message in messages:
        value = json.loads(message)
        if value.get("type") == "ticker":
            product = value["product_id"]
            channel = _channel("coinbase", (("BTC-USD", product),), product)
            found += _quoted(channel, message, 0, value["best_bid"], value["best_ask"])
    return found


def _live_binance(messages: list[bytes]) -> int:
    found = 0
    for message in messages:
        value = json.loads(message)
        if value.get("stream", "").endswith("@bookTicker"):
            # Recorded from a combined stream, which wraps the raw one's message.
            raw = message[message.index(b'"data":') + len(b'"data":') : -1]
            data = value["data"]
            replaced = (("BTCUSDT", data["s"]), ("btcusdt", data["s"].lower()))
            channel = _channel("binance", replaced, data["s"])
            found += _quoted(channel, raw, 0, data["b"], data["a"])
    return found


def _live_bitfinex(messages: list[bytes]) -> int:
    """Each symbol's channel, from its acknowledgement on; with numbered messages."""
    channels: dict[int, Channel] = {}
    found = 0
    for index, message in enumerate(messages):
        value = json.loads(message, parse_float=str)
        if isinstance(value, dict):
            if (value.get("event"), value.get("channel")) == ("subscribed", "ticker"):
                channel = _channel("bitfinex", (("tBTCUSD", value["symbol"]),), value["symbol"])
                _same(value["symbol"], channel.read(message, index), Passed("ack"))
                channels[value["chanId"]] = channel
        elif value[0] in channels and value[1] != "hb":
            bid, ask = str(value[1][0]), str(value[1][2])
            found += _quoted(channels[value[0]], message, index, bid, ask)
    return found


_LIVE: dict[str, Callable[[list[bytes]], int]] = {
    "BINANCE": _live_binance,
    "BITFINEX": _live_bitfinex,
    "COINBASE": _live_coinbase,
}


def _messages(path: Path) -> Iterator[bytes]:
    """Received text messages of a recording whose last line may be cut."""
    for line in path.read_text("utf-8").splitlines()[:-1]:
        stamp, separator, message = line.partition(": ")
        if not separator or not stamp.replace(".", "").isdigit():
            continue
        if message.startswith(("b'", 'b"')):
            data = ast.literal_eval(message)
            if data.startswith(b"{"):
                yield data
        elif message:
            yield message.encode("utf-8")


def _refused(path: Path) -> None:
    try:
        scalars(path.read_bytes())
    except MalformedError:
        return
    raise AssertionError(f"{path.name} has comments and was read")


def _same_reading(name: str, body: bytes) -> None:
    """Demands as many scalars, in the same order, as the standard library finds."""
    found = [json.loads(value.raw) for value in scalars(body).values()]
    _same(name, found, list(_leaves(json.loads(body))))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list) and value:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found} instead of {expected}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
