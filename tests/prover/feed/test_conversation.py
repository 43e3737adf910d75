"""What a client says on a venue's channel: nothing that a notary's reader would refuse."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from attestation.errors import MalformedError, RefusedError
from attestation.feed import Channel, Passed, Update
from attestation.live import LiveReader
from attestation.live_rules import live_rules
from attestation.subscription import upgrade_target
from attestation.tls13.application import Plaintext
from attestation.tls13.wire import Direction
from attestation.upgrade import accept_value
from attestation.venues import VenueFile, load_venue, shipped_venues
from examples.venues.live import frame
from prover.feed.conversation import (
    ANSWER_US,
    PROBE_US,
    QUOTELESS_US,
    Conversation,
    Heard,
    Moment,
    Place,
)

NAMES = tuple(shipped_venues())
START_US = 1_777_897_815_000_000
STEADY_US = 5_000_000_000
SECOND = 1_000_000
TOKEN = "abc=="
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Line:
    """A conversation, a notary's reader of it, and a venue that says what a test says."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.venue: VenueFile = load_venue(name)
        self.instrument = self.venue.markets[0].instrument
        host = self.venue.channel.hosts[0].replace("*", "-spot")
        token = None if self.venue.channel.token is None else TOKEN
        target = upgrade_target(self.venue, self.instrument, host=host, token=token)
        every_us = self.venue.channel.keep_alive.every_s * SECOND
        self.channel = Channel(self.venue, self.instrument)
        self.now_us = 0
        self.talk = Conversation(
            self.venue,
            self.instrument,
            Place(host, self.venue.channel.port, target, every_us),
            read=self.channel.read,
            random=random.Random(seed).randbytes,
        )
        self.reader = LiveReader(live_rules(self.venue, self.instrument, host=host))
        self.said = b""

    @property
    def now(self) -> Moment:
        return Moment(START_US + self.now_us, STEADY_US + self.now_us)

    def witness(self, direction: Direction, data: bytes) -> None:
        piece = Plaintext(data=bytearray(data), spans=[(0, 0, len(data))])
        self.reader.feed(direction, piece, at_us=START_US + self.now_us)

    def flush(self) -> bytes:
        data = self.talk.outgoing()
        if data:
            self.witness("sent", data)
        self.said += data
        return data

    def hear(self, data: bytes) -> list[Heard]:
        self.witness("received", data)
        heard = self.talk.feed(data, self.now)
        self.flush()
        return heard

    def upgrade(self, frames: bytes = b"") -> list[Heard]:
        request = self.flush()
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\n\r\n"
        )
        return self.hear(head + frames)

    def pass_time(self, until_us: int, quiet: Callable[[], None] = lambda: None) -> None:
        """Lets time go by as a link does: a call when the last one asked, each second at most."""
        while self.now_us < until_us:
            due_us = self.talk.tick(self.now)
            self.flush()
            quiet()
            assert due_us is not None
            left_us = due_us - self.now.steady_us
            step = min(left_us, SECOND) if left_us > 0 else SECOND
            self.now_us = min(self.now_us + step, until_us)
            self.reader.check_keepalive(START_US + self.now_us)


def greeting(name: str) -> bytes:
    return b'{"id":"h","type":"welcome"}' if name == "kucoin" else b'{"event":"info","version":2}'


@pytest.mark.parametrize("name", NAMES)
def test_a_notary_finds_nothing_to_refuse_in_hours_of_a_venue_that_only_lives(name: str) -> None:
    line = Line(name)
    line.upgrade()
    keep = line.venue.channel.keep_alive
    if line.venue.channel.await_greeting:
        line.hear(frame(TEXT, greeting(name)))
    beats = [0]

    def beat() -> None:
        if line.now_us >= beats[0] * keep.every_s * SECOND:
            beats[0] += 1
            line.hear(frame(PING, b"%d" % beats[0]))

    line.pass_time(line.now_us + 3 * 3600 * SECOND, beat)
    assert line.reader.subscribed
    assert line.talk.subscribed
    assert line.reader.subscription == tuple(line.talk.subscription)


@pytest.mark.parametrize("name", NAMES)
def test_a_venue_that_says_nothing_is_taken_for_gone_when_its_file_says_or_sooner(
    name: str,
) -> None:
    line = Line(name)
    line.upgrade()
    if line.venue.channel.await_greeting:
        line.hear(frame(TEXT, greeting(name)))
    keep = line.venue.channel.keep_alive
    begun = line.now_us
    while line.now.steady_us < line.talk.silent_us:
        assert line.now_us < begun + keep.silence_s * SECOND + SECOND
        line.pass_time(line.now_us + SECOND)
    took = line.now_us - begun
    if keep.sender == "client":
        assert took <= PROBE_US + ANSWER_US + 2 * SECOND
    else:
        assert took >= keep.every_s * SECOND


def test_any_byte_heard_puts_off_the_end_of_a_venue() -> None:
    line = Line("okx")
    line.upgrade()
    for _ in range(100):
        line.pass_time(line.now_us + 8 * SECOND)
        line.hear(frame(TEXT, b"pong"))
        assert line.now.steady_us < line.talk.silent_us


def test_a_venue_that_pushes_on_change_may_be_quiet_once_it_has_quoted() -> None:
    line = Line("okx")
    line.upgrade()
    assert line.talk.quoteless_us is not None
    line.hear(
        frame(
            TEXT,
            b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":'
            b'[["2","1","0","1"]],"bids":[["1","1","0","1"]],"ts":"1777897815000","seqId":7}]}',
        )
    )
    assert line.talk.quoteless_us is None
    timed = Line("bitstamp")
    timed.upgrade()
    book = (
        b'{"event":"data","channel":"order_book_btcusd","data":{"timestamp":"1777897815",'
        b'"microtimestamp":"1777897815000000","bids":[["1","1"]],"asks":[["2","1"]]}}'
    )
    (heard,) = timed.hear(frame(TEXT, book))
    assert isinstance(heard.found, Update)
    assert timed.talk.quoteless_us == timed.now.steady_us + QUOTELESS_US


def test_a_pong_repeats_its_ping_and_only_the_latest_of_one_read_is_owed() -> None:
    line = Line("binance")
    line.upgrade()
    line.said = b""
    line.hear(frame(PING, b"one") + frame(PING, b"two") + frame(PING, b"three"))
    assert line.said[0] == 0x80 | PONG
    assert line.said[1] == 0x80 | 5
    mask, body = line.said[2:6], line.said[6:]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(body)) == b"three"


def test_every_frame_has_a_mask_of_its_own() -> None:
    line = Line("binance")
    line.upgrade()
    masks = set()
    for number in range(200):
        line.said = b""
        line.hear(frame(PING, b"%d" % number))
        masks.add(line.said[2:6])
    assert len(masks) == 200


def test_a_heartbeat_that_wants_an_answer_gets_it_with_the_same_id() -> None:
    line = Line("crypto_com")
    line.upgrade()
    line.pass_time(2 * SECOND)
    line.said = b""
    line.hear(frame(TEXT, b'{"id":77,"method":"public/heartbeat","code":0}'))
    mask, body = line.said[2:6], line.said[6:]
    text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    assert text == b'{"id":77,"method":"public/respond-heartbeat"}'


def test_the_subscription_waits_for_the_greeting_or_the_time_that_the_file_names() -> None:
    kucoin = Line("kucoin")
    kucoin.upgrade()
    kucoin.pass_time(5 * SECOND)
    assert not kucoin.talk.subscribed
    kucoin.hear(frame(TEXT, greeting("kucoin")))
    assert kucoin.talk.subscribed

    crypto = Line("crypto_com")
    crypto.upgrade()
    crypto.pass_time(999_000)
    assert not crypto.talk.subscribed
    crypto.pass_time(1_001_000)
    assert crypto.talk.subscribed


def test_messages_that_come_with_the_101_count_from_zero() -> None:
    line = Line("okx")
    fragment = frame(TEXT, b"po", final=False) + frame(PING, b"x") + frame(0, b"ng")
    heard = line.upgrade(frame(TEXT, b"pong") + fragment)
    assert [(one.index, one.payload) for one in heard] == [(0, b"pong"), (1, b"pong")]
    assert line.reader.message_count == line.talk.message_count == 2


def test_a_message_that_cannot_be_read_is_told_and_ends_nothing() -> None:
    line = Line("okx")
    line.upgrade()
    bad, good = line.hear(frame(TEXT, b"{") + frame(TEXT, b"pong"))
    assert isinstance(bad.found, MalformedError)
    assert good.found == Passed("pong")


def test_a_frame_that_cannot_be_read_ends_the_conversation() -> None:
    line = Line("okx")
    line.upgrade()
    with pytest.raises(MalformedError, match="W12"):
        line.talk.feed(b"\xc1\x00", line.now)


def test_a_refused_subscription_ends_the_conversation() -> None:
    line = Line("kucoin")
    line.upgrade()
    with pytest.raises(RefusedError, match="refused the subscription"):
        line.talk.feed(frame(TEXT, b'{"id":"1","type":"error"}'), line.now)


def test_a_venue_may_ask_for_another_connection() -> None:
    line = Line("bitstamp")
    line.upgrade()
    assert not line.talk.reconnect
    line.hear(frame(TEXT, b'{"event":"bts:request_reconnect","channel":"","data":""}'))
    assert line.talk.reconnect


def test_a_close_is_answered_with_its_code_and_nothing_is_said_after_it() -> None:
    line = Line("bybit")
    line.upgrade()
    line.said = b""
    line.hear(frame(CLOSE, (1001).to_bytes(2, "big") + b"going"))
    mask, body = line.said[2:6], line.said[6:]
    code = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    assert (line.said[0], code) == (0x80 | CLOSE, (1001).to_bytes(2, "big"))
    assert line.talk.venue_closed
    line.talk.close()
    assert line.talk.tick(line.now) is None
    assert line.talk.outgoing() == b""


def test_an_answer_to_the_upgrade_that_never_ends_is_refused() -> None:
    line = Line("okx")
    line.flush()
    line.talk.feed(b"HTTP/1.1 101 Switching Protocols\r\n", line.now)
    with pytest.raises(MalformedError, match="W9"):
        line.talk.feed(b"X-Long: " + b"x" * 20_000, line.now)


@pytest.mark.parametrize("name", NAMES)
def test_however_the_bytes_are_cut_the_messages_are_the_same(name: str) -> None:
    texts = [b"pong", b'{"a":1}', b"", "\u00e9".encode()]
    stream = b"".join(frame(TEXT, text) for text in texts)
    whole = Line(name)
    wanted = [(one.index, one.payload) for one in whole.upgrade(stream)]
    drip = Line(name)
    drip.upgrade()
    found = []
    for at in range(len(stream)):
        found += [(one.index, one.payload) for one in drip.hear(stream[at : at + 1])]
    assert found == wanted
