"""What provers sign to have entries logged and to read feeds: read strictly, one spelling."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.encoding import JsonObject, base64url_encode
from attestation.errors import InvalidProofError, MalformedError
from attestation.feed_request import (
    MAX_BEARER,
    EntryRequest,
    FeedRequest,
    SignedEntryRequest,
    SignedFeedRequest,
)
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.entry import KINDS, TickEntry, TradesEntry

KEY = SigningKey(name="prover.example", algorithm="ed25519", seed=bytes(32))
REQUEST = FeedRequest(
    notary="notary.example",
    feed="btc-usd",
    at_us=1_768_478_400_000_000,
    nonce="0f" * 16,
    prover=KEY.verifying_key.vkey,
)
TRADES = TradesEntry(count=3, root="sha256:" + "00" * 32)


def entry_request(entry: JsonObject) -> EntryRequest:
    return EntryRequest(
        notary=REQUEST.notary,
        at_us=REQUEST.at_us,
        nonce=REQUEST.nonce,
        prover=REQUEST.prover,
        entry=entry,
    )


def test_token_leads_back_to_the_request_and_its_signature() -> None:
    signed = SignedFeedRequest.parse(SignedFeedRequest.sign(REQUEST, KEY).bearer)
    assert signed.request == REQUEST
    key = VerifyingKey.parse(signed.request.prover)
    key.verify(bytes.fromhex(signed.signature), signed.request.encode())
    other = dataclasses.replace(REQUEST, feed="eth-usd")
    with pytest.raises(InvalidProofError):
        key.verify(bytes.fromhex(signed.signature), other.encode())


@pytest.mark.parametrize(
    "token",
    [
        "",
        "?",
        "A",
        SignedFeedRequest.sign(REQUEST, KEY).bearer + "A",
        SignedFeedRequest.sign(REQUEST, KEY).bearer + "=",
        base64url_encode(REQUEST.encode()),
        base64url_encode(SignedFeedRequest.sign(REQUEST, KEY).encode() + b" "),
        "A" * (MAX_BEARER + 1),
    ],
    ids=["none", "no base64", "cut", "longer", "padded", "no envelope", "spelled anew", "too long"],
)
def test_token_has_one_spelling(token: str) -> None:
    with pytest.raises(MalformedError):
        SignedFeedRequest.parse(token)


def test_entry_of_a_prover_is_read() -> None:
    signed = SignedEntryRequest.sign(entry_request(TRADES.to_json()), KEY)
    assert SignedEntryRequest.decode(signed.encode()).request.submitted() == TRADES


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"feed", "policy", "trades"}))
def test_entry_that_the_notary_alone_makes_is_refused(kind: str) -> None:
    entry = {**TickEntry().to_json(), "kind": kind}
    with pytest.raises(MalformedError):
        entry_request(entry).submitted()


def test_entry_that_says_when_it_was_logged_is_refused() -> None:
    entry = {**TRADES.to_json(), "logged_us": 1}
    with pytest.raises(MalformedError) as refused:
        entry_request(entry).submitted()
    assert refused.value.rule == "entry.logged_us"
