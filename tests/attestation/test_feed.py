"""Messages of a live channel as observations: what follows from their bytes and order."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import IncompleteError, MalformedError, UsageError
from attestation.feed import Channel, Passed, Update, derive_observation
from attestation.venues import load_venue, parse_venue, shipped_venues
from tests.attestation.test_venues import FILE

NAMES = tuple(shipped_venues())


def book_ticker(update: int, bid: str = "100.10", ask: str = "100.20", more: str = "") -> bytes:
    return f'{{"u":{update},"s":"BTCUSDT","b":"{bid}","B":"1","a":"{ask}","A":"2"{more}}}'.encode()


def gemini(sequence: int, *sides: tuple[str, str, str]) -> bytes:
    events = ",".join(
        f'{{"type":"change","reason":"top-of-book","price":"{price}","delta":"1",'
        f'"remaining":"{remaining}","side":"{side}","symbol":"BTCUSD"}}'
        for side, price, remaining in sides
    )
    return (
        f'{{"type":"update","timestampms":{1_777_897_815_000 + sequence},'
        f'"socket_sequence":{sequence},"events":[{events}]}}'
    ).encode()


def binance() -> Channel:
    return Channel(load_venue("binance"), "BTCUSDT")


def test_quote_names_its_message_and_is_known_by_its_sequence() -> None:
    found = binance().read(book_ticker(7), 12)
    assert isinstance(found, Update)
    assert (found.quote.bid, found.quote.ask) == ("100.1", "100.2")
    assert found.messages == (12,)
    assert found.key == "7"


def test_message_sent_twice_has_the_key_of_the_first() -> None:
    channel = Channel(load_venue("kucoin"), "BTC-USDT")
    message = (
        b'{"topic":"/spotMarket/level1:BTC-USDT","type":"message","subject":"level1",'
        b'"data":{"asks":["2","1"],"bids":["1","1"],"timestamp":1777897815377}}'
    )
    first, second = channel.read(message, 0), channel.read(message, 1)
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.key == second.key
    assert (first.messages, second.messages) == ((0,), (1,))


def test_late_quote_does_not_replace_a_newer_one() -> None:
    channel = binance()
    assert isinstance(channel.read(book_ticker(8), 0), Update)
    assert channel.read(book_ticker(7, "90", "91"), 1) == Passed("late")
    assert isinstance(channel.read(book_ticker(8), 2), Update)


@pytest.mark.parametrize(
    "message",
    [
        book_ticker(1, "100.3", "100.2"),
        book_ticker(1, "0", "100.2"),
        book_ticker(1, "-1", "100.2"),
        book_ticker(1, "1e2", "100.2"),
        book_ticker(1, "0100", "100.2"),
        book_ticker(1, more=',"b":"1"'),
        book_ticker(1, more=',"\\u0062":"1"'),
        book_ticker(1, more=',"x":NaN'),
        book_ticker(1) + b" {}",
        b"\xef\xbb\xbf" + book_ticker(1),
        book_ticker(1).replace(b'"100.10"', b"100.10"),
        book_ticker(1).replace(b"BTCUSDT", b"ETHUSDT"),
        book_ticker(1).replace(b'"u":1', b'"u":-1'),
        b"[]",
        b"{}",
        b"",
        b"pong",
    ],
)
def test_message_that_is_no_quote_by_the_rules_is_malformed(message: bytes) -> None:
    channel = binance()
    with pytest.raises(MalformedError) as caught:
        channel.read(message, 0)
    assert caught.value.rule == "W11"
    assert isinstance(channel.read(book_ticker(9), 1), Update)


def test_binary_message_is_malformed() -> None:
    with pytest.raises(MalformedError):
        binance().read(book_ticker(1), 0, "binary")


def test_second_row_in_a_message_is_malformed() -> None:
    row = '{"asks":[["2","1","0","1"]],"bids":[["1","1","0","1"]],"ts":"1777897815410","seqId":1}'
    head = '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":['
    channel = Channel(load_venue("okx"), "BTC-USDT")
    assert isinstance(channel.read(f"{head}{row}]}}".encode(), 0), Update)
    with pytest.raises(MalformedError):
        channel.read(f"{head}{row},{row}]}}".encode(), 1)


def test_quote_of_sides_rests_on_the_messages_that_set_them() -> None:
    channel = Channel(load_venue("gemini"), "btcusd")
    lines = [
        gemini(0, ("bid", "100", "1")),
        gemini(1, ("ask", "101", "1")),
        gemini(2, ("bid", "99", "1"), ("bid", "99.5", "1")),
    ]
    assert channel.read(lines[0], 0) == Passed("partial")
    second, third = channel.read(lines[1], 1), channel.read(lines[2], 2)
    assert isinstance(second, Update)
    assert isinstance(third, Update)
    assert second.messages == (0, 1)
    assert third.messages == (1, 2)
    assert (third.quote.bid, third.quote.ask) == ("99.5", "101")
    venue = load_venue("gemini")
    assert derive_observation(venue, "btcusd", lines[1:]) == third.quote
    for wrong in (lines, lines[2:], lines[:1], []):
        with pytest.raises(IncompleteError):
            derive_observation(venue, "btcusd", wrong)


def test_emptied_side_gives_no_quote_until_it_has_a_price() -> None:
    channel = Channel(load_venue("gemini"), "btcusd")
    assert isinstance(channel.read(gemini(0, ("bid", "100", "1"), ("ask", "101", "1")), 0), Update)
    with pytest.raises(MalformedError):
        channel.read(gemini(1, ("ask", "101", "0.00")), 1)
    assert isinstance(channel.read(gemini(2, ("ask", "102", "1")), 2), Update)


@pytest.mark.parametrize(
    "lost",
    [
        b"{",
        gemini(2, ("bid", "99", "1")),
        gemini(1, ("mid", "99", "1")),
        gemini(1, ("bid", "", "")),
    ],
)
def test_side_set_before_an_unreadable_or_missing_message_is_forgotten(lost: bytes) -> None:
    channel = Channel(load_venue("gemini"), "btcusd")
    assert isinstance(channel.read(gemini(0, ("bid", "100", "1"), ("ask", "101", "1")), 0), Update)
    with pytest.raises(MalformedError):
        channel.read(lost, 1)
    sequence = 3
    if b'"socket_sequence":2' not in lost:
        sequence = 2 if lost != b"{" else 1
    assert channel.read(gemini(sequence, ("bid", "99", "1")), 2) == Passed("partial")
    assert isinstance(channel.read(gemini(sequence + 1, ("ask", "101", "1")), 3), Update)


def test_quote_of_an_assigned_channel_rests_on_the_assignment_too() -> None:
    venue = load_venue("bitfinex")
    ack = b'{"event":"subscribed","channel":"ticker","chanId":5,"symbol":"tBTCUSD"}'
    quote = b"[5,[1,2,3,4,5,6,7,8,9,10]]"
    channel = Channel(venue, "tBTCUSD")
    with pytest.raises(MalformedError):
        channel.read(quote, 0)
    assert channel.read(ack, 1) == Passed("ack")
    assert channel.read(b'[5,"hb"]', 2) == Passed("heartbeat")
    found = channel.read(quote, 3)
    assert isinstance(found, Update)
    assert found.messages == (1, 3)
    assert derive_observation(venue, "tBTCUSD", [ack, quote]) == found.quote
    for wrong in ([quote], [ack.replace(b"5", b"6"), quote], [ack.replace(b"BTC", b"ETH"), quote]):
        with pytest.raises(MalformedError):
            derive_observation(venue, "tBTCUSD", wrong)


def test_ping_that_repeats_too_much_is_malformed() -> None:
    channel = Channel(load_venue("crypto_com"), "BTC_USD")
    with pytest.raises(MalformedError):
        channel.read(b'{"id":"%s","method":"public/heartbeat"}' % (b"1" * 80), 0)


def test_unlisted_instrument_and_file_without_a_channel_are_refused() -> None:
    with pytest.raises(MalformedError) as caught:
        Channel(load_venue("binance"), "DOGEUSDT")
    assert caught.value.rule == "W14"
    with pytest.raises(UsageError):
        Channel(parse_venue(FILE.encode()), "BTC-USDT")


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b"[5]", b'[5,"hb"]']), max_size=4))
def test_any_bytes_are_read_or_malformed(data: list[bytes]) -> None:
    for name in NAMES:
        channel = Channel(load_venue(name), load_venue(name).instrument("BTC/USD"))
        for index, message in enumerate(data):
            try:
                found = channel.read(message, index)
            except MalformedError:
                continue
            assert isinstance(found, Passed)


# --- what a section may not hold ----------------------------------------------------------------

REFUSED = {
    "pattern without a token": ('"stream.binance.com"', '"*.binance.com"'),
    "target with an unknown placeholder": ("{stream}@", "{market}@"),
    "nothing that names the instrument": ("/ws/{stream}@bookTicker", "/ws/btcusdt@bookTicker"),
    "target with a blank": ("/ws/{stream}", "/ws /{stream}"),
    "client's keep-alive without a message": (
        'sender = "venue", form = "frame"',
        'sender = "client", form = "text"',
    ),
    "neither bid nor events": ('bid = "/b"\n', ""),
    "order without a sequence": ('sequence = "/u"\n', ""),
    "order by a time that is not there": ('order = "sequence"', 'order = "time"'),
    "nothing that tells a quote": (
        'when = [{ at = "/s", equals = \'"{instrument}"\' }]\n',
        "when = []\n",
    ),
    "relative pointer": ('bid = "/b"', 'bid = "b"'),
    "unknown kind of message": ('kind = "reconnect"', 'kind = "greet"'),
    "ping without an answer": ('kind = "reconnect"', 'kind = "ping"'),
    "message with neither text nor when": (
        'when = [{ at = "/e", equals = \'"serverShutdown"\' }] }',
        "}",
    ),
    "unknown member": ("life_s = 86400", "life = 86400"),
    "two listings of one stream": ('stream = "ethusdt"', 'stream = "btcusdt"'),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_section_is_refused(change: tuple[str, str]) -> None:
    text = files("attestation.venues").joinpath("binance.toml").read_text("utf-8")
    parse_venue(text.encode())
    old, new = change
    assert text.count(old) == 1
    with pytest.raises(MalformedError):
        parse_venue(text.replace(old, new).encode())


def test_only_the_host_of_a_token_is_a_pattern() -> None:
    for venue in shipped_venues().values():
        patterns = [host for host in venue.channel.hosts if "*" in host]
        assert bool(patterns) == (venue.channel.token is not None)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("kucoin", 'paths = ["/", "/endpoint"]', "paths = []"),
        ("kucoin", '"/endpoint"]', '"/x?a=b"]'),
        ("kucoin", '"/endpoint"]', '"//evil.com"]'),
        ("kucoin", 'target = "/api/v1/bullet-public"', 'target = "https://evil.com/"'),
        ("kucoin", "{path}?token={token}", "{path}"),
        ("kucoin", '"push*.kucoin.com"', '"*.com"'),
        ("kucoin", '"push*.kucoin.com"', '"push.kucoin.*"'),
        ("gemini", "bid = '\"bid\"'", "bid = 'bid'"),
        ("gemini", "contiguous = true", "contiguous = false"),
        ("bitfinex", 'channel = "/0"\n', ""),
        ("bitfinex", 'channel = "/chanId", ', ""),
        ("crypto_com", 'echo = "/id"\n', ""),
    ],
)
def test_section_of_another_kind_is_refused(name: str, old: str, new: str) -> None:
    text = files("attestation.venues").joinpath(f"{name}.toml").read_text("utf-8")
    assert text.count(old) == 1
    with pytest.raises(MalformedError):
        parse_venue(text.replace(old, new).encode())


@settings(max_examples=300)
@given(st.sampled_from(NAMES), st.integers(0, 4_000), st.integers(0, 8), st.text(max_size=3))
def test_any_change_of_a_shipped_file_is_refused_or_gives_a_channel(
    name: str, at: int, gone: int, put: str
) -> None:
    text = files("attestation.venues").joinpath(f"{name}.toml").read_text("utf-8")
    at %= len(text)
    try:
        venue = parse_venue((text[:at] + put + text[at + gone :]).encode("utf-8", "surrogatepass"))
    except MalformedError:
        return
    if venue.websocket is not None:
        Channel(venue, venue.markets[0].instrument)
