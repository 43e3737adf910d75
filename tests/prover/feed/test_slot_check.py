"""Slots are held against this prover's own messages: lies are told from what it cannot know."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.document import GapField, MessageRef, ObservationField
from attestation.errors import InvalidProofError
from attestation.feed import Channel, Update
from attestation.hashing import hash_string
from attestation.venues import load_venue
from prover.feed.own_messages import KEPT_US, MAX_QUOTES, OwnFetch, OwnMessages, OwnSession
from prover.feed.slot_check import Verdict, judge, judge_fetch, judge_gap, judge_late

NOTARY = "notary.example"
VENUE = load_venue("okx")
INSTRUMENT = VENUE.instrument("BTC/USD")
SESSION = "ab" * 16
START_US = 1_777_897_815_000_000


def book(bid: str, ask: str, at_ms: int) -> bytes:
    sides = f'"asks":[["{ask}","1","0","1"]],"bids":[["{bid}","1","0","1"]]'
    head = '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{'
    return f'{head}{sides},"ts":"{at_ms}","seqId":{at_ms}}}]}}'.encode()


MESSAGES = [book(f"{64000 + at}.1", f"{64000 + at}.2", 1_777_897_815_000 + at) for at in range(6)]


def own(messages: list[bytes] = MESSAGES, venue: str = "okx") -> OwnSession:
    found = OwnMessages().begin(SESSION, notary=NOTARY, venue=venue, instrument=INSTRUMENT)
    channel = Channel(VENUE, INSTRUMENT)
    for index, payload in enumerate(messages):
        update = channel.read(payload, index)
        assert isinstance(update, Update)
        found.note(index, payload, update, wall_us=START_US + index, steady_us=index)
    return found


def observation(index: int = 3, **changes: Any) -> ObservationField:
    payload = MESSAGES[index]
    update = Channel(VENUE, INSTRUMENT).read(payload, index)
    assert isinstance(update, Update)
    return dataclasses.replace(
        ObservationField(
            venue="okx",
            instrument=INSTRUMENT,
            bid=update.quote.bid,
            ask=update.quote.ask,
            received_us=START_US,
            exchange_us=update.quote.exchange_us,
            source="live",
            session=SESSION,
            messages=(MessageRef(index=index, hash=hash_string(payload)),),
        ),
        **changes,
    )


def verdict(found: ObservationField, session: OwnSession | None, **more: Any) -> Verdict:
    return judge(found, session, notary=NOTARY, venue=VENUE, **more)


def test_a_quote_of_the_provers_own_messages_is_its_own() -> None:
    assert verdict(observation(), own()) is Verdict.OWN


LIES: dict[str, dict[str, Any]] = {
    "another bid": {"bid": "1"},
    "another ask": {"ask": "99999"},
    "another time": {"exchange_us": 1},
    "no time": {"exchange_us": None},
    "another message's hash": {"messages": (MessageRef(index=3, hash=hash_string(MESSAGES[2])),)},
    "a message that makes no quote of its own": {
        "messages": (
            MessageRef(index=2, hash=hash_string(MESSAGES[2])),
            MessageRef(index=3, hash=hash_string(MESSAGES[3])),
        )
    },
    "no message": {"messages": ()},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_observation_that_is_not_what_this_prover_saw_is_an_incident(lie: str) -> None:
    with pytest.raises(InvalidProofError, match="observation"):
        verdict(observation(**LIES[lie]), own())


@pytest.mark.parametrize("lie", [name for name in LIES if "message" not in name])
def test_a_lie_about_kept_messages_is_told_as_well(lie: str) -> None:
    def recall(notary: str, session: str, index: int) -> bytes | None:
        return MESSAGES[index] if (notary, session) == (NOTARY, SESSION) else None

    assert verdict(observation(), None, recall=recall) is Verdict.OWN
    with pytest.raises(InvalidProofError, match="observation"):
        verdict(observation(**LIES[lie]), None, recall=recall)


def test_a_kept_message_of_another_hash_is_told() -> None:
    with pytest.raises(InvalidProofError, match="messages"):
        verdict(observation(), None, recall=lambda notary, session, index: MESSAGES[0])


def test_a_session_of_another_venue_or_notary_is_told() -> None:
    with pytest.raises(InvalidProofError, match="session"):
        verdict(observation(), own(venue="bybit"))
    with pytest.raises(InvalidProofError, match="session"):
        judge(observation(), own(), notary="other.example", venue=VENUE)


def test_a_session_that_the_prover_does_not_have_is_told_unless_it_is_of_before_its_time() -> None:
    assert verdict(observation(), None, remembered=False) is Verdict.UNKNOWN
    with pytest.raises(InvalidProofError, match="does not have"):
        verdict(observation(), None)


def test_what_the_notary_saw_before_the_session_broke_cannot_be_judged() -> None:
    session = own(MESSAGES[:3])
    session.end()
    assert verdict(observation(5), session) is Verdict.UNSEEN
    assert verdict(observation(2), session) is Verdict.OWN


def test_the_newest_quote_is_remembered_however_old_it_is_and_others_for_a_while() -> None:
    session = own()
    late = book("64100.1", "64100.2", 1_777_897_999_000)
    update = Channel(VENUE, INSTRUMENT).read(late, 6)
    assert isinstance(update, Update)
    assert session.find(observation(5).messages) is not None
    session.note(6, late, update, wall_us=START_US, steady_us=10 * KEPT_US)
    assert session.find((MessageRef(index=6, hash=hash_string(late)),)) is not None
    assert session.find(observation(5).messages) is None


def test_a_flood_of_quotes_is_remembered_within_a_bound() -> None:
    session = OwnSession(SESSION, NOTARY, "okx", INSTRUMENT)
    update = Channel(VENUE, INSTRUMENT).read(MESSAGES[0], 0)
    assert isinstance(update, Update)
    for index in range(MAX_QUOTES + 5_000):
        session.note(index, b"x", update._replace(messages=(index,)), wall_us=START_US, steady_us=0)
    assert len(session._quotes) <= MAX_QUOTES + 1
    assert len(session._refs) <= 2_000


def test_a_message_that_is_not_here_yet_is_a_lie_only_if_it_never_comes() -> None:
    session = own(MESSAGES[:3])
    assert verdict(observation(5), session) is Verdict.UNSEEN
    with pytest.raises(InvalidProofError, match="never came"):
        judge_late(5, session)
    judge_late(2, session)
    session.end()
    judge_late(5, session)


GAP = GapField(venue="okx", reason="venue_silent", fault="venue")


def test_a_gap_for_a_venue_that_was_heard_is_an_incident_unless_the_notary_takes_the_blame() -> (
    None
):
    session = own()
    assert session.stood(START_US + 5_000_000, 3_000_000)
    with pytest.raises(InvalidProofError, match=r"gap\.reason"):
        judge_gap(GAP, session)
    judge_gap(dataclasses.replace(GAP, reason="overload", fault="notary"), session)
    session.end()
    judge_gap(GAP, session)


def test_a_quote_stood_only_if_it_was_long_before_and_nothing_unreadable_came_since() -> None:
    session = own()
    assert not session.stood(START_US + 2_000_000, 3_000_000)
    session.note(6, b"?", None, readable=False, wall_us=START_US, steady_us=7)
    assert not session.stood(START_US + 60_000_000, 3_000_000)
    all_of_them = OwnMessages()
    found = all_of_them.begin(SESSION, notary=NOTARY, venue="okx", instrument=INSTRUMENT)
    assert all_of_them.standing(NOTARY, "okx", START_US + 60_000_000, 0) is None
    update = Channel(VENUE, INSTRUMENT).read(MESSAGES[0], 0)
    assert isinstance(update, Update)
    found.note(0, MESSAGES[0], update, wall_us=START_US, steady_us=0)
    assert all_of_them.standing(NOTARY, "okx", START_US + 60_000_000, 0) is found
    assert all_of_them.standing(NOTARY, "bybit", START_US + 60_000_000, 0) is None
    assert all_of_them.standing("other.example", "okx", START_US + 60_000_000, 0) is None


def test_a_side_that_was_set_long_before_its_quote_is_remembered_as_long_as_it_is_held() -> None:
    session = OwnSession(SESSION, NOTARY, "gemini", INSTRUMENT)
    update = Channel(VENUE, INSTRUMENT).read(MESSAGES[0], 0)
    assert isinstance(update, Update)
    session.note(0, b"bid", None, held=(0,), wall_us=START_US, steady_us=0)
    for index in range(1, 5_000):
        session.note(index, b"no side", None, held=(0,), wall_us=START_US, steady_us=0)
    rests_on = update._replace(messages=(0, 5_000))
    session.note(5_000, b"ask", rests_on, held=(0, 5_000), wall_us=START_US, steady_us=0)
    messages = tuple(
        MessageRef(index=index, hash=hash_string(text))
        for index, text in ((0, b"bid"), (5_000, b"ask"))
    )
    found = session.find(messages)
    assert found is not None
    assert found.messages == messages
    assert len(session._refs) <= 2_000


def test_a_rest_quote_is_that_of_its_own_session() -> None:
    fetch = OwnFetch(
        session=SESSION,
        notary=NOTARY,
        venue="okx",
        bid="1",
        ask="2",
        exchange_us=None,
        received_us=START_US,
    )
    found = observation(bid="1", ask="2", exchange_us=None, source="rest")
    assert judge_fetch(found, fetch, notary=NOTARY) is Verdict.OWN
    for change in ({"bid": "0.5"}, {"received_us": START_US + 1}, {"venue": "bybit"}):
        with pytest.raises(InvalidProofError):
            judge_fetch(dataclasses.replace(found, **change), fetch, notary=NOTARY)
