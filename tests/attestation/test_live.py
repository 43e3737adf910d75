"""Live sessions (W12): what passes, what ends them by name, and when an answer is late."""

from __future__ import annotations

import hashlib
import re

import pytest

from attestation.errors import MalformedError
from attestation.live import LiveMessage, LiveReader, exactly
from attestation.tls13.application import Plaintext
from attestation.venues.parts import Rate
from tests.attestation.live_sessions import (
    PING,
    RULES,
    SUBSCRIBE,
    SUBSCRIBED,
    SWITCH,
    UPGRADE,
    Connection,
    changed,
    feed,
    piece,
    pushed,
    said,
    subscribed,
    upgraded,
    witness,
)


def record_count(data: bytes) -> int:
    """Counts raw records, apart from the code under test."""
    count = 0
    while data:
        data = data[5 + int.from_bytes(data[3:5], "big") :]
        count += 1
    return count


# What passes.


def test_a_whole_session_is_read_from_its_records() -> None:
    connection = Connection().upgrade()
    connection.push(pushed("text", b"one"))
    connection.push(pushed("ping", b"?") + pushed("text", b"t", final=False))
    connection.say(said("pong", b"?") + said("text", PING))
    connection.push(pushed("text", b"wo", first=False) + pushed("binary", b"\xff"))
    connection.push(pushed("close", b"\x03\xe8"))
    connection.say(said("close", b"\x03\xe8"))
    seen, messages = witness(connection)
    assert [message[:3] for message in messages] == [
        (0, "text", b"one"),
        (1, "text", b"two"),
        (2, "binary", b"\xff"),
    ]
    assert messages[1].hash == "sha256:" + hashlib.sha256(b"two").hexdigest()
    reader = seen.reader
    assert (reader.request, reader.response) == (UPGRADE, SWITCH)
    assert reader.subscription == SUBSCRIBE
    assert reader.subscribed and reader.message_count == 3
    assert reader.closed("sent") and reader.closed("received") and not reader.pending


@pytest.mark.parametrize(
    ("size", "last"), [(24, [0, 0]), (12, [0, 1]), (8, [1, 2]), (6, [1, 3]), (5, [2, 4])]
)
def test_a_message_names_the_record_and_the_time_of_its_last_byte(
    size: int, last: list[int]
) -> None:
    connection = Connection().upgrade()
    before = sum(record_count(data) for way, data in connection.events if way == "received")
    connection.push(pushed("text", b"a" * 10) + pushed("text", b"b" * 10), size=size)
    _, messages = witness(connection)
    assert [message.record - before for message in messages] == last  # 12 bytes each
    assert [message.received_us for message in messages] == [len(connection.events) - 1] * 2


def test_bytes_in_the_read_of_the_101_count() -> None:
    reader = LiveReader(RULES)
    feed(reader, "sent", UPGRADE)
    found = feed(reader, "received", SWITCH + pushed("text", b"hello") + pushed("text", b"x")[:2])
    assert [message.payload for message in found] == [b"hello"]
    (message,) = reader.feed("received", piece(b"x", 7), at_us=5)
    assert message == LiveMessage(1, "text", b"x", 7, 5)


def test_messages_of_records_that_waited_came_when_their_records_did() -> None:
    """Verified together or one by one, a session's messages and what it owes are the same."""
    parts = [pushed("text", b"a"), pushed("text", b"b" * 200)[:90], pushed("text", b"b" * 200)[90:]]
    parts += [pushed("ping", b"?"), pushed("text", b"c") + pushed("text", b"d")]
    alone, together = subscribed(), subscribed()
    wanted = [
        message
        for number, data in enumerate(parts)
        for message in alone.feed("received", piece(data, number), at_us=1_000 * number)
    ]
    data, spans = bytearray(), []
    for number, part in enumerate(parts):
        spans.append((number, len(data), len(data) + len(part)))
        data += part
    stamps = [1_000 * number for number in range(len(parts))]
    waited = Plaintext(data=data, spans=spans)
    found = together.feed("received", waited, at_us=stamps[-1], stamps=stamps)
    assert found == wanted
    assert [message.received_us for message in found] == [0, 2_000, 4_000, 4_000]
    assert together.keepalive_due_us == alone.keepalive_due_us == 3_000 + RULES.answer_us


def test_a_pong_may_stand_in_the_subscription() -> None:
    reader = upgraded()
    feed(reader, "received", pushed("ping", b"1"))
    feed(reader, "sent", said("text", SUBSCRIBE[0]) + said("pong", b"1"))
    assert not reader.subscribed
    feed(reader, "sent", said("text", SUBSCRIBE[1]))
    assert reader.subscribed


def test_a_target_alone_may_subscribe() -> None:
    reader = upgraded(changed(subscribe=()))
    assert reader.subscribed
    feed(reader, "sent", said("text", PING))


def test_a_pattern_takes_a_payload_as_a_whole() -> None:
    rules = changed(subscribe=(re.compile(rb'{"id":[0-9]{4}}'),))
    feed(upgraded(rules), "sent", said("text", b'{"id":1700}'))
    with pytest.raises(MalformedError):
        feed(upgraded(rules), "sent", said("text", b'{"id":1700} '))


@pytest.mark.parametrize("early_s", [-11, -10, 0, 10, 11])
def test_a_clock_in_a_clients_message_is_near_its_arrival(early_s: int) -> None:
    # With an old time a client could have the venue refuse its subscription.
    rules = changed(
        subscribe=(re.compile(rb"begin ([0-9]{10})"),), keep_alive=(re.compile(rb"ping ([0-9]+)"),)
    )
    for said_by in (b"begin 1700000000", b"ping 1700000000"):
        reader, now_us = upgraded(rules), (1_700_000_000 + early_s) * 1_000_000
        if said_by.startswith(b"ping"):
            feed(reader, "sent", said("text", b"begin 1700000000"), 1_700_000_000_000_000)
        if abs(early_s) <= 10:
            feed(reader, "sent", said("text", said_by), now_us)
            assert reader.subscribed
        else:
            with pytest.raises(MalformedError, match="the client"):
                feed(reader, "sent", said("text", said_by), now_us)


def test_an_answer_in_text_may_be_given_once_as_the_rules_tell_it() -> None:
    rules = changed(answer=lambda text: b"pong " + text[5:] if text[:4] == b"beat" else None)
    reader = subscribed(rules)
    assert len(feed(reader, "received", pushed("text", b"beat 7") + pushed("text", b"x"))) == 2
    feed(reader, "sent", said("text", b"pong 7"))
    with pytest.raises(MalformedError, match="neither keep-alive nor answer"):
        feed(reader, "sent", said("text", b"pong 7"))


def test_ping_frames_of_the_client_pass_where_the_rules_have_them() -> None:
    feed(subscribed(changed(pings=True)), "sent", said("ping", b"abcd"))


def test_an_upgrade_that_trickles_in_is_read() -> None:
    reader = LiveReader(RULES)
    for byte in UPGRADE:
        feed(reader, "sent", bytes((byte,)))
    for byte in SWITCH:
        feed(reader, "received", bytes((byte,)))
    assert (reader.request, reader.response) == (UPGRADE, SWITCH)


# What ends the session (attack 43).


@pytest.mark.parametrize(
    ("frames", "detail"),
    [
        (said("text", b'{"op":"unsubscribe","channel":"a"}'), "neither keep-alive nor answer"),
        (said("text", SUBSCRIBE[0]), "neither keep-alive nor answer"),
        (said("text", b'{"op":"subscribe","channel":"c"}'), "neither keep-alive nor answer"),
        (said("text", PING + b" "), "neither keep-alive nor answer"),
        (said("text", b""), "neither keep-alive nor answer"),
        (said("binary", PING), "neither keep-alive nor answer"),
        (said("ping"), "neither keep-alive nor answer"),
        (said("pong"), "answers no ping"),
        (said("pong", b"2"), "answers no ping"),
        (said("pong", b"1") * 2, "answers no ping"),
        (said("close") + said("text", PING), "follows the close"),
        (said("close") + said("pong", b"1"), "follows the close"),
        (said("close") * 2, "follows the close"),
        (pushed("text", PING), "not masked"),
        (b"\xc1" + said("text", PING)[1:], "reserved bit"),
        (b"\x81\xfe\x40\x01", "larger than"),
        (b"\x81\xff" + (1 << 20).to_bytes(8, "big"), "larger than"),
    ],
)
def test_a_client_that_says_more_than_its_rules_is_refused(frames: bytes, detail: str) -> None:
    reader = subscribed()
    feed(reader, "received", pushed("ping", b"1"))
    with pytest.raises(MalformedError, match=detail) as caught:
        feed(reader, "sent", frames)
    assert caught.value.rule == "W12"
    with pytest.raises(MalformedError) as again:
        feed(reader, "received", pushed("text", b"after"))
    assert again.value is caught.value


@pytest.mark.parametrize(
    "frames",
    [
        said("text", SUBSCRIBE[1]) + said("text", SUBSCRIBE[0]),
        said("text", PING),
        said("text", SUBSCRIBE[0]) + said("text", PING),
        said("binary", SUBSCRIBE[0]),
        said("ping"),
        said("text", SUBSCRIBE[0] + SUBSCRIBE[1]),
    ],
    ids=["other_order", "keep_alive_first", "keep_alive_between", "binary", "ping", "joined"],
)
def test_the_subscription_comes_first_in_order_and_whole(frames: bytes) -> None:
    with pytest.raises(MalformedError, match="did not send its subscription") as caught:
        feed(upgraded(), "sent", frames)
    assert caught.value.rule == "W12"


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (b"/ws/v5", b"/ws/v6", "W14"),
        (b"/ws/v5", b"/ws/v5?x", "W14"),
        (b"User-Agent: quotary", b"x-simulated-trading: 1", "W14"),
        (b"User-Agent: quotary", b"Origin: https://x.example", "W14"),
        (b"Host: api.venue.example", b"Host: api.venue.example:443", "W10"),
        (b"Host: api.venue.example", b"Host: other.example", "W10"),
        (b"GET", b"POST", "W12"),
        (b"User-Agent: quotary", b"User-Agent quotary", "W9"),
        (b"\r\n\r\n", b"\r\n\r\n" + SUBSCRIBED, "W12"),
    ],
)
def test_another_upgrade_is_refused(before: bytes, after: bytes, rule: str) -> None:
    with pytest.raises(MalformedError) as caught:
        feed(LiveReader(RULES), "sent", UPGRADE.replace(before, after, 1))
    assert caught.value.rule == rule


def test_a_client_that_does_not_wait_for_the_101_is_refused() -> None:
    reader = LiveReader(RULES)
    feed(reader, "sent", UPGRADE)
    with pytest.raises(MalformedError, match="before the 101"):
        feed(reader, "sent", SUBSCRIBED)


def test_a_venue_that_does_not_wait_for_the_upgrade_is_refused() -> None:
    reader = LiveReader(RULES)
    feed(reader, "sent", UPGRADE[:-1])
    with pytest.raises(MalformedError) as caught:
        feed(reader, "received", SWITCH)
    assert caught.value.rule == "W8"


def test_an_answer_other_than_the_101_tells_its_status() -> None:
    reader = LiveReader(RULES)
    feed(reader, "sent", UPGRADE)
    with pytest.raises(MalformedError) as caught:
        feed(reader, "received", b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
    assert (caught.value.rule, caught.value.found) == ("W12", 429)


def test_a_head_without_end_is_refused() -> None:
    reader = LiveReader(RULES)
    feed(reader, "sent", UPGRADE)
    feed(reader, "received", b"HTTP/1.1 101 " + b"a" * 32_000)
    with pytest.raises(MalformedError, match="larger than"):
        feed(reader, "received", b"a" * 1_000)


@pytest.mark.parametrize(
    ("frames", "detail"),
    [
        (said("text", b"x"), "server masked"),
        (b"\xc1\x00", "reserved bit"),
        (pushed("close") + pushed("text", b"x"), "follows the close"),
        (pushed("text", b"\xff"), "not UTF-8"),
        (pushed("text", b"x", first=False), "continuation of no message"),
        (b"\x81\x7f" + (1 << 21).to_bytes(8, "big"), "larger than"),
    ],
)
def test_a_server_that_breaks_rfc_6455_is_refused(frames: bytes, detail: str) -> None:
    with pytest.raises(MalformedError, match=detail) as caught:
        feed(subscribed(), "received", frames)
    assert caught.value.rule == "W12"


def test_keep_alives_beyond_the_venues_rate_are_refused_and_answers_are_not_counted() -> None:
    reader = subscribed(changed(sends=Rate(requests=3, seconds=2)))
    feed(reader, "sent", said("text", PING), 10)
    feed(reader, "received", pushed("ping"), 20)
    feed(reader, "sent", said("pong"), 30)
    feed(reader, "sent", said("text", PING), 2_000_000)  # the first is two seconds ago
    with pytest.raises(MalformedError, match="more than the venue takes") as caught:
        feed(reader, "sent", said("text", PING) * 2, 2_000_001)
    assert caught.value.rule == "W13"


def test_exactly_takes_its_text_for_text() -> None:
    assert exactly(b"a.c").fullmatch(b"a.c")
    assert not exactly(b"a.c").fullmatch(b"abc")
