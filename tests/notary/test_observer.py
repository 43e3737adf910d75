"""What a live session's messages show of the quote, and which of them are named."""

from __future__ import annotations

import random

import pytest

from attestation.document import MessageRef
from attestation.errors import MalformedError
from attestation.feed import derive_observation
from attestation.hashing import hash_string
from attestation.live import LiveMessage
from attestation.quote import DerivedQuote
from attestation.venues import load_venue, shipped_venues
from attestation.websocket import Kind
from notary.observer import Observer
from tests.attestation.test_feed import book_ticker, gemini
from tests.recorded.test_websocket import BAD, BY_EYE, messages


def message(number: int, payload: bytes, kind: Kind = "text") -> LiveMessage:
    return LiveMessage(number, kind, payload, number, 1_000 + number)


def ref(number: int, payload: bytes) -> MessageRef:
    return MessageRef(index=number, hash=hash_string(payload))


def binance() -> Observer:
    return Observer(load_venue("binance"), "BTCUSDT")


def test_latest_quote_is_seen_with_its_message_and_when_that_came() -> None:
    observer = binance()
    assert observer.seen is None
    observer.read(message(0, book_ticker(7)))
    observer.read(message(1, book_ticker(8, bid="100.15")))
    seen = observer.seen
    assert seen is not None
    assert (seen.bid, seen.ask) == ("100.15", "100.2")
    assert (seen.received_us, seen.exchange_us) == (1_001, None)
    assert seen.messages == (ref(1, book_ticker(8, bid="100.15")),)
    assert observer.seen is seen


def test_late_quote_changes_nothing() -> None:
    observer = binance()
    observer.read(message(0, book_ticker(8)))
    seen = observer.seen
    observer.read(message(1, book_ticker(7, bid="1")))
    assert observer.seen is seen
    assert not observer.malformed


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b'{"s":"ETHUSDT"}', book_ticker(9, bid="200"), b"\xff"]
)
def test_message_that_cannot_be_read_is_told_until_a_quote_comes(payload: bytes) -> None:
    observer = binance()
    observer.read(message(0, b"{"))
    assert (observer.seen, observer.malformed) == (None, True)
    observer.read(message(1, book_ticker(8)))
    seen = observer.seen
    assert not observer.malformed
    observer.read(message(2, payload))
    assert (observer.seen, observer.malformed) == (seen, True)
    # What is no quote does not mend it.
    observer.read(message(3, b'{"e":"serverShutdown"}'))
    assert observer.malformed
    observer.read(message(4, book_ticker(10)))
    assert not observer.malformed
    assert observer.seen is not seen


def test_binary_message_is_malformed() -> None:
    observer = binance()
    observer.read(message(0, book_ticker(8), "binary"))
    assert observer.malformed


def test_sides_of_two_messages_are_both_named_and_the_newer_tells_the_time() -> None:
    observer = Observer(load_venue("gemini"), "btcusd")
    first = gemini(0, ("bid", "100", "1"), ("ask", "101", "1"))
    second = gemini(1, ("ask", "102", "1"))
    third = gemini(2, ("ask", "103", "1"))
    for number, payload in enumerate((first, second, third)):
        observer.read(message(number, payload))
    seen = observer.seen
    assert seen is not None
    assert (seen.bid, seen.ask, seen.received_us) == ("100", "103", 1_002)
    assert seen.messages == (ref(0, first), ref(2, third))


def test_what_no_quote_rests_on_is_not_kept() -> None:
    observer = Observer(load_venue("gemini"), "btcusd")
    observer.read(message(0, gemini(0, ("bid", "100", "1"), ("ask", "101", "1"))))
    for number in range(1, 500):
        observer.read(message(number, gemini(number, ("ask", str(101 + number % 7), "1"))))
    assert len(observer._kept) <= 3
    flooded = binance()
    for number in range(500):
        flooded.read(message(number, b"{" if number % 2 else book_ticker(1)))
    assert flooded._kept == {}


@pytest.mark.recorded
@pytest.mark.parametrize("venue", sorted(BY_EYE))
def test_named_messages_alone_give_the_quote_again(venue: str) -> None:
    """The notary keeps no more than what a verifier needs, and no less."""
    file, (instrument, by_eye) = shipped_venues()[venue], BY_EYE[venue]
    lines = messages(venue)
    observer, malformed, last = Observer(file, instrument), False, None
    for number, (line, said) in enumerate(zip(lines, by_eye, strict=True)):
        observer.read(message(number, line, file.channel.sent_as))
        if isinstance(said, DerivedQuote):
            malformed, last = False, (said, 1_000 + number)
        malformed |= said == BAD
        assert observer.malformed is malformed
        seen = observer.seen
        if last is None:
            assert seen is None
            continue
        assert seen is not None
        quote, received_us = last
        assert (seen.bid, seen.ask, seen.exchange_us) == (quote.bid, quote.ask, quote.exchange_us)
        assert seen.received_us == received_us
        named = [lines[one.index] for one in seen.messages]
        assert [one.hash for one in seen.messages] == [hash_string(one) for one in named]
        assert derive_observation(file, instrument, named) == quote
    assert last is not None


def test_any_bytes_are_read_without_an_error() -> None:
    chance = random.Random(5)
    observer = binance()
    for number in range(2_000):
        payload = bytearray(book_ticker(number))
        payload[chance.randrange(len(payload))] = chance.randrange(256)
        observer.read(message(number, bytes(payload)))
        assert observer.seen is None or observer.seen.received_us <= 1_000 + number


def test_instrument_that_is_not_listed_is_refused() -> None:
    with pytest.raises(MalformedError):
        Observer(load_venue("binance"), "DOGEUSDT")


def test_who_looks_sees_what_came_although_nobody_read_it_yet() -> None:
    observer = binance()
    assert observer.take([message(0, book_ticker(7)), message(1, b"{")]) == 2
    assert observer.malformed
    assert observer.take([message(2, book_ticker(8)), message(3, book_ticker(9))]) == 2
    seen = observer.seen
    assert seen is not None
    assert seen.messages == (ref(3, book_ticker(9)),)
    assert observer.catch_up() == 0


def test_what_waits_is_read_in_order_and_in_parts() -> None:
    observer = binance()
    observer.take([message(number, book_ticker(number)) for number in range(5)])
    assert observer.catch_up(2) == 3
    assert observer._latest is not None
    assert observer._latest[1] == 1_001
    assert observer.take([message(5, b"{")]) == 4
    assert observer.catch_up(3) == 1
    assert not observer._malformed
    assert observer.catch_up(9) == 0
    assert observer.malformed
