"""Slots that were tampered with after signing, or signed by a notary that lies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.document import MessageRef
from attestation.encoding import encode
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
)
from attestation.expect import Expect
from attestation.hashing import hash_string
from attestation.presentation import Presentation
from tests.verifier import feeds, forge
from tests.verifier.test_mutations import flips
from verifier import VerifiedSlot, verify

TRUST = forge.trust()
VENUES = ("bitfinex", "coinbase", "gemini")
HONEST = feeds.slot(venues=VENUES)
SHOWN = HONEST.present()
EXPECT = Expect(venues=VENUES, market=forge.MARKET, roots=feeds.ROOTS)


def check(presentation: Presentation | bytes) -> VerifiedSlot:
    found = verify(presentation, trust=TRUST, expect=EXPECT, now_us=forge.NOW)
    assert isinstance(found, VerifiedSlot)
    return found


def rejected(
    kind: type[QuotaryError], rule: str | None, presentation: Presentation | bytes
) -> None:
    with pytest.raises(kind) as caught:
        check(presentation)
    assert (type(caught.value), caught.value.rule) == (kind, rule), str(caught.value)


def edited(change: Callable[[dict[str, Any]], object], shown: Presentation = SHOWN) -> bytes:
    document = json.loads(shown.encode())
    change(document)
    return encode(document)


def ref(*payloads: bytes) -> list[dict[str, Any]]:
    return [
        MessageRef(index=index, hash=hash_string(payload)).to_json()
        for index, payload in enumerate(payloads, start=3)
    ]


# Tampered with on the way.


def test_any_flipped_bit_of_a_slot_is_refused() -> None:
    assert flips(SHOWN.encode(), lambda position: [position % 8], check) == []


@pytest.mark.slow
def test_every_flipped_bit_of_a_slots_own_fields_and_messages_is_refused() -> None:
    shown = HONEST.present("coinbase", sessions=()).encode()
    expect = Expect(venues=("coinbase",), market=forge.MARKET)

    def check_one(data: bytes) -> Any:
        return verify(data, trust=TRUST, expect=expect, now_us=forge.NOW)

    assert check_one(shown).checked[-1] == "messages"
    assert flips(shown, lambda position: range(8), check_one) == []


def test_every_truncation_and_trailing_byte_is_refused() -> None:
    data = SHOWN.encode()
    for end in (*range(0, len(data), 97), len(data) - 1):
        rejected(MalformedError, None, data[:end])
    rejected(MalformedError, None, data + b" ")


@given(st.binary(max_size=200), st.integers(0, len(SHOWN.encode())), st.integers(0, 60))
def test_bytes_put_anywhere_are_refused_or_change_nothing(
    some: bytes, start: int, size: int
) -> None:
    data = SHOWN.encode()
    changed = data[:start] + some + data[start + size :]
    try:
        found = check(changed)
    except QuotaryError:
        return
    assert found == check(SHOWN)


PARTS = feeds.slot(venues=(*VENUES, "okx")).present(*VENUES)


@pytest.mark.parametrize("index", range(len(PARTS.fields)))
def test_no_field_of_a_slot_can_be_left_out(index: int) -> None:
    def drop(document: dict[str, Any]) -> None:
        del document["fields"][index]

    with pytest.raises(QuotaryError) as caught:
        check(edited(drop, PARTS))
    # The first field tells that it is a slot; every other was folded to the root.
    assert isinstance(caught.value, MalformedError if index == 0 else InvalidProofError)


def _members(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from _members(item, (*path, key))


def test_no_member_of_a_slot_can_be_left_out_unseen() -> None:
    document = json.loads(PARTS.encode())
    optional = {("messages",), ("sessions",)}
    for path in list(_members(document)):
        if path[:1] in optional and len(path) <= 2:
            continue  # less is shown, and less is checked: see test_slots
        value = json.loads(PARTS.encode())
        place = value
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        with pytest.raises(QuotaryError):
            check(encode(value))


@pytest.mark.parametrize(
    ("change", "kind", "rule"),
    [
        (lambda d: d["fields"].insert(1, d["fields"].pop(2)), MalformedError, None),
        (lambda d: d["fields"][0]["value"]["venues"].reverse(), InvalidProofError, "header.root"),
        (
            lambda d: d["fields"][1].update(value=d["fields"][2]["value"]),
            InvalidProofError,
            "header.root",
        ),
        (
            lambda d: d["fields"][1].update(
                name="gap",
                value={"venue": "bitfinex", "reason": "venue_silent", "fault": "venue"},
            ),
            InvalidProofError,
            "header.root",
        ),
        (lambda d: d["messages"].append(d["messages"][0]), MalformedError, "messages"),
        (lambda d: d["messages"].append("AA"), InvalidProofError, "messages"),
        (lambda d: d["messages"].pop(0), IncompleteError, "messages.missing"),
        (lambda d: d["sessions"].append(d["sessions"][0]), MalformedError, "sessions"),
        (lambda d: d["sessions"].pop(1), IncompleteError, "expect.roots"),
        (
            lambda d: d["sessions"][0].update(header=d["sessions"][1]["header"]),
            InvalidProofError,
            None,
        ),
        (lambda d: d.update(header=d["sessions"][0]["header"]), InvalidProofError, None),
    ],
)
def test_a_slot_put_together_otherwise_is_refused(
    change: Callable[[dict[str, Any]], object], kind: type[QuotaryError], rule: str | None
) -> None:
    rejected(kind, rule, edited(change))


def test_an_observation_cannot_be_moved_to_another_slot() -> None:
    later = feeds.slot(venues=VENUES, slot_us=feeds.SLOT_US + feeds.GRID_US).present()
    for index in range(len(SHOWN.fields)):
        fields = list(SHOWN.fields)
        fields[index] = later.fields[index]
        moved = dataclasses.replace(SHOWN, fields=tuple(fields))
        if moved != SHOWN:
            rejected(InvalidProofError, "header.root", moved)


# Signed by a notary that lies: the messages tell.


def test_a_message_of_another_venue_with_the_same_price_gives_no_quote() -> None:
    _, quote, _ = feeds.read("coinbase")
    (payload,) = HONEST.messages["coinbase"]
    lies = {
        "gemini.bid": quote.bid,
        "gemini.ask": quote.ask,
        "gemini.exchange_us": quote.exchange_us,
        "gemini.messages": ref(payload),
    }
    rejected(
        InvalidProofError,
        "observation.messages",
        feeds.slot(venues=VENUES, lies=lies).shown({"gemini": (payload,)}),
    )


@pytest.mark.parametrize("venue", ["binance", "coinbase", "kraken", "okx"])
def test_a_message_of_another_instrument_gives_no_quote(venue: str) -> None:
    (payload,) = HONEST.messages[venue] if venue in VENUES else feeds.slot().messages[venue]
    other = payload.replace(b"BTC", b"ETH")
    assert other != payload
    slot = feeds.slot(venues=[venue], lies={f"{venue}.messages": ref(other)})
    with pytest.raises(InvalidProofError) as caught:
        verify(
            slot.shown({venue: (other,)}),
            trust=TRUST,
            expect=Expect(venues=(venue,), market=forge.MARKET),
            now_us=forge.NOW,
        )
    assert caught.value.rule == "observation.messages"


def test_messages_in_another_order_or_more_than_the_quote_rests_on_give_none() -> None:
    acknowledged, quote = HONEST.messages["bitfinex"]
    (other,) = HONEST.messages["coinbase"]
    for payloads in ((quote, acknowledged), (acknowledged, other, quote), (quote,)):
        lies = {"bitfinex.messages": ref(*payloads)}
        slot = feeds.slot(venues=VENUES, lies=lies)
        rejected(InvalidProofError, "observation.messages", slot.shown({"bitfinex": payloads}))
    falling = ref(acknowledged, quote)
    falling[0]["index"] = 9
    slot = feeds.slot(venues=VENUES, lies={"bitfinex.messages": falling})
    rejected(InvalidProofError, "messages.order", slot.present())


@pytest.mark.parametrize(
    ("made", "kind", "rule"),
    [
        (feeds.slot(venues=VENUES, lies={"slot.market": "ETH/USD"}), ExpectationError, "market"),
        (feeds.slot(venues=VENUES, feed="other"), ExpectationError, "purpose"),
        (
            feeds.slot(venues=VENUES, slot_us=feeds.SLOT_US + feeds.GRID_US),
            ExpectationError,
            "purpose",
        ),
    ],
)
def test_a_slot_of_another_market_feed_or_instant_is_not_the_expected_one(
    made: feeds.FeedSlot, kind: type[QuotaryError], rule: str
) -> None:
    purpose = f"slot/{feeds.FEED}/{feeds.SLOT_US}"
    expect = dataclasses.replace(EXPECT, purpose=purpose)
    verify(SHOWN, trust=TRUST, expect=expect, now_us=forge.NOW)
    with pytest.raises(kind) as caught:
        verify(made.present(), trust=TRUST, expect=expect, now_us=forge.NOW)
    assert caught.value.rule == f"expect.{rule}"


@pytest.mark.parametrize(
    "lies",
    [
        {"slot.venues": ["coinbase", "bitfinex", "gemini"]},
        {"slot.venues": ["bitfinex", "coinbase"]},
        {"slot.venues": ["bitfinex", "coinbase", "gemini", "okx"]},
        {"slot.venues": ["bitfinex", "bitfinex", "gemini"]},
        {"gemini.venue": "kraken"},
    ],
)
def test_venues_and_their_fields_are_in_one_order(lies: dict[str, Any]) -> None:
    attestation = feeds.slot(venues=VENUES, lies=lies).attestation
    rejected(MalformedError, "slot.venues", forge.show_fields(attestation, range(5)))
