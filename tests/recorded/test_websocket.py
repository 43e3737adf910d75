"""Messages of the venues' live channels, read by the venue files.

Each ``<venue>/ws.txt`` holds the messages of one connection, a line each, written by hand
in the shape the vendor documents.
"""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path

import pytest

from attestation.errors import MalformedError, QuotaryError
from attestation.feed import Channel, Passed, Update, derive_observation
from attestation.inflate import gunzip
from attestation.quote import DerivedQuote
from attestation.venues import load_venue, shipped_venues

pytestmark = pytest.mark.recorded

HERE = Path(__file__).parent


def quote(
    bid: str, ask: str, last: str | None = None, exchange_us: int | None = None
) -> DerivedQuote:
    return DerivedQuote(bid=bid, ask=ask, last=last, exchange_us=exchange_us)


BAD = "malformed"
T = 1_777_897_815_000_000
# What each line says, read off by eye.
BY_EYE: dict[str, tuple[str, list[str | DerivedQuote]]] = {
    "binance": (
        "BTCUSDT",
        [quote("64178.01", "64178.02"), BAD, "late", quote("64179", "64179.01"), "reconnect"],
    ),
    "bitfinex": (
        "tBTCUSD",
        [
            "greeting",
            BAD,
            "ack",
            quote("64170", "64172", "64173"),
            "heartbeat",
            BAD,
            quote("64171", "64172.5", "64172"),
            "reconnect",
        ],
    ),
    "bitstamp": (
        "btcusd",
        ["ack", quote("64178", "64180", None, T + 702_114), "pong", BAD, "reconnect"],
    ),
    "bybit": (
        "BTCUSDT",
        [
            "ack",
            quote("64178.5", "64178.6", None, T + 702_000),
            "pong",
            BAD,
            quote("64178.5", "64178.6", None, T + 702_000),
        ],
    ),
    "coinbase": (
        "BTC-USD",
        ["ack", quote("64181.26", "64181.27", "64181.27", T + 608_734), "heartbeat", "refusal"],
    ),
    "crypto_com": (
        "BTC_USD",
        ["ack", quote("64178.65", "64178.66", "64178.66", T + 502_000), "ping", "refusal"],
    ),
    "deribit": (
        "BTC_USDC",
        [
            "ack",
            quote("64178", "64181", None, T + 377_000),
            "pong",
            BAD,  # nobody asks
            "late",
            BAD,  # an exponent
            BAD,  # asked without having been told to
            "refusal",
        ],
    ),
    "htx": (
        "btcusdt",
        [
            "ack",
            quote("64178.01", "64178.02", None, T + 377_000),
            "ping",
            "late",
            quote("64178.5", "64179", None, T + 410_000),
            BAD,  # an exponent
            BAD,  # nobody asked
            "refusal",
        ],
    ),
    "gate": (
        "BTC_USDT",
        ["ack", quote("64178.3", "64178.4", None, T + 501_000), "pong", "refusal"],
    ),
    "gemini": (
        "btcusd",
        [
            quote("64176.83", "64181.9", None, T + 304_000),
            "heartbeat",
            quote("64177.1", "64181.9", None, T + 420_000),
            BAD,  # crossed, until the bid follows
            quote("64175.5", "64176", None, T + 461_000),
            BAD,  # a message is missing
            "partial",
            quote("64175.7", "64177", None, T + 561_000),
        ],
    ),
    "kraken": (
        "XXBTZUSD",
        [
            "status",
            "ack",
            quote("64180", "64180.1", "64180.1", T + 104_402),
            "heartbeat",
            quote("64180.1", "64180.2", "64180.1", T + 208_117),
            "pong",
            "refusal",
        ],
    ),
    "kucoin": (
        "BTC-USDT",
        [
            "greeting",
            "ack",
            quote("64178", "64178.1", None, T + 377_000),
            "pong",
            "late",
            "refusal",
        ],
    ),
    "okx": (
        "BTC-USDT",
        ["ack", quote("64177.9", "64178", None, T + 410_000), "pong", "status", "refusal"],
    ),
}


def messages(venue: str) -> list[bytes]:
    """The recorded messages: a line each, those of an encoded channel in base64."""
    lines = (HERE / venue / "ws.txt").read_bytes().splitlines()
    if load_venue(venue).channel.encoding is None:
        return lines
    return [base64.b64decode(line, validate=True) for line in lines]


def text(venue: str, message: bytes) -> bytes:
    """What a message says."""
    return message if load_venue(venue).channel.encoding is None else gunzip(message)


def sent(venue: str, says: bytes) -> bytes:
    """A message that says it, as the venue would send it."""
    if load_venue(venue).channel.encoding is None:
        return says
    return gzip.compress(says, mtime=0)


def outcome(channel: Channel, message: bytes, index: int) -> Update | Passed | None:
    """What a message says; None if it is malformed, and no other exception."""
    try:
        return channel.read(message, index)
    except MalformedError:
        return None


def test_every_venue_has_recorded_messages() -> None:
    assert {path.parent.name for path in HERE.glob("*/ws.txt")} == set(shipped_venues())
    assert BY_EYE.keys() == set(shipped_venues())


@pytest.mark.parametrize("venue", BY_EYE)
def test_recorded_messages_say_what_was_read_by_eye(venue: str) -> None:
    instrument, wanted = BY_EYE[venue]
    lines = messages(venue)
    channel = Channel(load_venue(venue), instrument)
    found: list[str | DerivedQuote] = []
    for index, line in enumerate(lines):
        result = outcome(channel, line, index)
        if isinstance(result, Update):
            found.append(result.quote)
            evidence = [lines[number] for number in result.messages]
            assert derive_observation(load_venue(venue), instrument, evidence) == result.quote
        else:
            found.append(BAD if result is None else result.kind)
    assert found == wanted


def test_htx_is_answered_with_the_number_of_its_ping_as_text() -> None:
    channel = Channel(load_venue("htx"), "btcusdt")
    assert channel.read(messages("htx")[2], 0) == Passed("ping", b'{"pong":1777897816000}')


def test_venues_heartbeat_is_answered_with_its_id() -> None:
    channel = Channel(load_venue("crypto_com"), "BTC_USD")
    answer = channel.read(messages("crypto_com")[2], 0)
    assert answer == Passed("ping", b'{"id":1777897816000,"method":"public/respond-heartbeat"}')


NUMBERS = re.compile(rb"[0-9]+\.?[0-9]*")


def prices(message: bytes) -> set[str]:
    """Every number of a message in normal form."""
    found = set()
    for number in NUMBERS.findall(message):
        text = number.decode()
        found.add(text.rstrip("0").rstrip(".") if "." in text else text)
    return found


@pytest.mark.parametrize("venue", BY_EYE)
def test_mutated_message_gives_a_value_of_its_own_or_an_error(venue: str) -> None:
    """One byte less, doubled or changed: never a price that the message does not hold."""
    instrument, wanted = BY_EYE[venue]
    lines = messages(venue)
    first, right = next(
        (index, what) for index, what in enumerate(wanted) if isinstance(what, DerivedQuote)
    )
    line = text(venue, lines[first])
    shape = NUMBERS.sub(b"", line)
    for at in range(len(line)):
        for put in (b"", line[at : at + 1] * 2, b"7", b'"', b"-", b"e", b"}", b"\xff", b"\\"):
            mutant = line[:at] + put + line[at + 1 :]
            channel = Channel(load_venue(venue), instrument)
            for index in range(first):
                outcome(channel, lines[index], index)
            result = outcome(channel, sent(venue, mutant), first)
            if isinstance(result, Update):
                found = result.quote
                assert {found.bid, found.ask} <= prices(mutant)
                # Another price only where a digit of it changed, never by another reading.
                same = (found.bid, found.ask) == (right.bid, right.ask)
                assert same or NUMBERS.sub(b"", mutant) == shape


@pytest.mark.parametrize("venue", BY_EYE)
def test_message_cut_anywhere_is_refused(venue: str) -> None:
    instrument = BY_EYE[venue][0]
    for line in messages(venue):
        channel = Channel(load_venue(venue), instrument)
        for size in range(len(line)):
            with pytest.raises(QuotaryError):
                channel.read(line[:size], 0)
