"""Targets: what a verifier decides about slots that a lying notary made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from attestation.encoding import base64url_decode, base64url_encode, decode_object
from attestation.errors import MalformedError, QuotaryError
from attestation.expect import Expect
from attestation.hashing import hash_string
from attestation.presentation import Presentation
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, demand, parse
from tests.fuzz.verdicts import sign
from tests.verifier import feeds, forge
from verifier import VerifiedSlot, verify

VENUES = ("bitfinex", "coinbase", "gemini", "kraken")
TRUST = forge.trust()
EXPECT = Expect(venues=VENUES, market=forge.MARKET)
_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")


def lying_slots(data: bytes) -> None:
    """A notary that signs any slot: refused, or quotes whose numbers its venues' messages have.

    The input is ``{"fields": [{"name", "value"}], "messages": [...], "issued_us"}``; a
    reference to a message may give its number instead of its hash.
    """
    shown = parse(lambda: _sign(decode_object(data)))
    if shown is None:
        return
    found = parse(
        lambda: verify(shown.encode(), trust=TRUST, expect=EXPECT, now_us=forge.NOW), QuotaryError
    )
    if found is None:
        return
    demand(isinstance(found, VerifiedSlot), "no slot")
    assert isinstance(found, VerifiedSlot)
    demand([quote.venue for quote in found.quotes] == list(VENUES), "other venues")
    messages = {hash_string(message): message for message in shown.messages or ()}
    fields: dict[str, Any] = {
        str(field.value.get("venue")): field.value
        for field in shown.fields
        if field.name == "observation"
    }
    for quote in found.quotes:
        seen = fields[quote.venue]
        demand(quote.instrument == feeds.read(quote.venue)[0], "another instrument")
        demand(quote.not_after_us == seen["received_us"] <= found.slot_us, "another time")
        demand(0 < Decimal(quote.bid) <= Decimal(quote.ask), "no quote")
        if "messages" not in quote.checked:
            continue
        rests_on = b"\n".join(messages[ref["hash"]] for ref in seen["messages"])
        numbers = {Decimal(text.decode()) for text in _NUMBER.findall(rests_on)}
        for price in (quote.bid, quote.ask):
            demand(Decimal(price) in numbers, "a price that no message has")


def _sign(value: Any) -> Presentation:
    """Signs any slot; raises MalformedError for no presentation."""
    given = value.pop("messages", None)
    if type(given) is not list or not all(type(item) is str for item in given):
        raise MalformedError("no messages")
    messages = tuple(base64url_decode(item) for item in given)
    fields = value.get("fields")
    for field in fields if type(fields) is list else ():
        inner = field.get("value") if type(field) is dict else None
        refs = inner.get("messages") if type(inner) is dict else None
        for ref in refs if type(refs) is list else ():
            number = ref.get("hash") if type(ref) is dict else None
            if type(number) is int and 0 <= number < len(messages):
                ref["hash"] = hash_string(messages[number])
    shown = sign({**value, "openings": []})
    return dataclasses.replace(shown, messages=messages or None)


@cache
def _slot() -> feeds.FeedSlot:
    return feeds.slot(venues=VENUES)


def slot_seeds() -> Iterable[bytes]:
    shown = _slot().present(sessions=())
    messages = list(shown.messages or ())
    hashes = [hash_string(message) for message in messages]
    for numbered in (False, True):
        fields: list[Any] = [
            {"name": field.name, "value": orjson.loads(orjson.dumps(field.value))}
            for field in shown.fields
        ]
        for field in fields if numbered else ():
            for ref in field["value"].get("messages", ()):
                ref["hash"] = hashes.index(ref["hash"])
        value = {
            "fields": fields,
            "messages": [base64url_encode(message) for message in messages],
            "issued_us": shown.header.issued_us,
        }
        yield orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


TARGETS = (
    Target(
        name="lying_slots", run=lying_slots, seeds=slot_seeds, mutate=mutate_json, max_size=8_192
    ),
)
