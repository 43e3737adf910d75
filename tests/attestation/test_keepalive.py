"""When a live session's client has to answer or to speak, and from when on it is too late."""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError, QuotaryError, RefusedError
from attestation.keepalive import MAX_OWED, OwedAnswers
from attestation.live import LiveReader
from tests.attestation.live_sessions import (
    PING,
    SUBSCRIBED,
    changed,
    feed,
    pushed,
    said,
    subscribed,
    upgraded,
)


def late(reader: LiveReader, now_us: int) -> QuotaryError:
    with pytest.raises(RefusedError) as caught:
        reader.check_keepalive(now_us)
    assert caught.value.rule == "keepalive_missed"
    return caught.value


def test_an_unanswered_ping_is_missed_after_the_limit_and_not_before() -> None:
    reader = subscribed()
    assert reader.keepalive_due_us is None
    feed(reader, "received", pushed("ping", b"1"), 100)
    feed(reader, "received", pushed("ping", b"2"), 200)
    assert reader.keepalive_due_us == 1_000_100
    feed(reader, "sent", said("pong", b"1"), 1_000_100)
    assert reader.keepalive_due_us == 1_000_200
    reader.check_keepalive(1_000_200)
    error = late(reader, 1_000_201)
    with pytest.raises(RefusedError) as again:
        feed(reader, "sent", said("pong", b"2"), 1_000_202)
    assert again.value is error


def test_an_answer_that_comes_late_does_not_undo_that_it_was_missed() -> None:
    reader = subscribed()
    feed(reader, "received", pushed("ping", b"1"), 100)
    with pytest.raises(RefusedError):
        feed(reader, "sent", said("pong", b"1"), 1_000_101)


def test_a_client_may_answer_the_most_recent_ping_alone() -> None:
    reader = subscribed()
    for at_us in (1, 2, 3):
        feed(reader, "received", pushed("ping", b"%d" % at_us), at_us)
    feed(reader, "sent", said("pong", b"3"), 4)
    assert reader.keepalive_due_us is None
    with pytest.raises(MalformedError, match="answers no ping"):
        feed(reader, "sent", said("pong", b"1"), 5)


def test_pings_alike_are_settled_together_and_each_may_be_answered() -> None:
    reader = subscribed()
    feed(reader, "received", pushed("ping") * 2, 1)
    feed(reader, "sent", said("pong"), 2)
    assert reader.keepalive_due_us is None
    feed(reader, "sent", said("pong"), 3)
    with pytest.raises(MalformedError, match="answers no ping"):
        feed(reader, "sent", said("pong"), 4)


def test_a_client_that_has_to_speak_is_missed_when_silent() -> None:
    reader = upgraded(changed(silence_us=50))
    assert reader.keepalive_due_us == 50
    feed(reader, "sent", SUBSCRIBED, 20)
    feed(reader, "received", pushed("ping"), 30)
    feed(reader, "sent", said("pong"), 40)  # an answer is not a word of its own
    assert reader.keepalive_due_us == 70
    feed(reader, "sent", said("text", PING), 60)
    late(reader, 111)


def test_an_unanswered_text_is_missed_and_nothing_is_after_a_close() -> None:
    rules = changed(answer=lambda text: text)
    late_one, closing = subscribed(rules), subscribed(rules)
    for reader in (late_one, closing):
        feed(reader, "received", pushed("text", b"beat"), 5)
    late(late_one, 1_000_006)
    feed(closing, "received", pushed("close"), 6)
    closing.check_keepalive(9_000_000)


def test_owed_answers_are_bounded_for_good_clients_and_broken_servers() -> None:
    owed = OwedAnswers()
    for _ in range(3 * MAX_OWED):  # two alike, one answer: the other stays possible, not owed
        owed.ask(b"", 1)
        owed.ask(b"", 2)
        assert owed.give(b"") and owed.oldest_us is None
    owed.ask(b"x", 3)
    owed.ask(b"y", 4)  # one that was settled makes room
    assert owed.oldest_us == 3
    fresh = OwedAnswers()
    for at_us in range(MAX_OWED):
        fresh.ask(b"%d" % at_us, at_us)
    with pytest.raises(MalformedError) as caught:
        fresh.ask(b"one more", 0)
    assert caught.value.rule == "W12"
