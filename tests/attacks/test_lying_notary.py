"""Rows 27, 33, 34, 40: a notary that lies to an honest prover, with its true key.

The prover is the product's own.  Whatever it is told, it either refuses with
the member that is wrong, or has what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attestation.document import Field
from attestation.errors import (
    ExpectationError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UnavailableError,
    UntrustedError,
)
from attestation.keys import SigningKey
from prover.check import MAX_RECEIVED
from tests.adversaries.notary import Lie, LyingNotary
from tests.adversaries.stage import ATTACKER
from tests.attacks.conftest import fetch_through

HASH = "sha256:" + "00" * 32
STRANGER = SigningKey(name="stranger.notary.example", algorithm="ed25519", seed=b"\x09" * 32)
TellLie = Callable[[LyingNotary], Lie]


def refused(lying: LyingNotary, kind: type[QuotaryError], rule: str) -> None:
    with pytest.raises(kind) as caught:
        fetch_through(lying)
    assert caught.value.rule == rule, caught.value


# What is granted.


@pytest.mark.parametrize(
    ("member", "value", "kind", "rule"),
    [
        ("purpose", "adhoc/another", ExpectationError, "session.purpose"),
        ("host", "other.example", ExpectationError, "session.host"),
        ("port", 8443, ExpectationError, "session.port"),
        ("target", "/0/public/Ticker?pair=XETHZUSD", ExpectationError, "session.target"),
        ("id", "../../v1", MalformedError, "id"),
        ("id", None, MalformedError, "id"),
        ("nonce", "00", MalformedError, "nonce"),
        ("token", "x\r\nX-Other: y", MalformedError, "token"),
        ("proxy", "no address", MalformedError, "proxy"),
        ("proxy", "127.0.0.1:99999", MalformedError, "proxy"),
        ("deadlines", [], MalformedError, "deadlines"),
    ],
)
def test_session_granted_for_something_else_is_refused(
    lying: LyingNotary, member: str, value: object, kind: type[QuotaryError], rule: str
) -> None:
    lying.lie("session", lambda answer: {**answer, member: value})
    refused(lying, kind, rule)
    assert "seal" not in lying.heard


# Seals: refused before the key is opened.

SEALS: dict[str, tuple[TellLie, type[QuotaryError], str]] = {
    "other_session": (
        lambda notary: notary.resealed(session="00" * 16),
        ExpectationError,
        "seal.session",
    ),
    "other_request": (lambda notary: notary.resealed(sent=HASH), InvalidProofError, "seal.sent"),
    "other_size": (
        lambda notary: notary.resealed(sent_size=1),
        InvalidProofError,
        "seal.sent_size",
    ),
    "endless_response": (
        lambda notary: notary.resealed(received_size=MAX_RECEIVED + 1),
        MalformedError,
        "seal.received_size",
    ),
    "times_backwards": (
        lambda notary: notary.resealed(hello_us=1),
        InvalidProofError,
        "seal.times",
    ),
    "key_of_nobody": (
        lambda notary: notary.resealed(signer=STRANGER),
        InvalidProofError,
        "seal.signature",
    ),
    "unsigned": (
        lambda notary: lambda answer: {**answer, "signature": ""},
        InvalidProofError,
        "seal.signature",
    ),
    "altered_after_signing": (
        lambda notary: lambda answer: {**answer, "seal": {**answer["seal"], "received": HASH}},
        InvalidProofError,
        "seal.signature",
    ),
    "no_seal": (lambda notary: lambda answer: {}, MalformedError, "seal"),
}


@pytest.mark.parametrize("how", SEALS)
def test_false_seal_is_refused_before_the_key_is_opened(lying: LyingNotary, how: str) -> None:
    lie, kind, rule = SEALS[how]
    lying.lie("seal", lie(lying))
    refused(lying, kind, rule)
    assert lying.heard[-1] == "seal"
    assert "attestation" not in lying.heard


def test_seal_under_an_unknown_key_is_untrusted(lying: LyingNotary) -> None:
    """Row 33: keys come from the trust file, not from the document."""

    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        named = {**answer, "seal": {**answer["seal"], "key": STRANGER.verifying_key.short}}
        return lying.resealed(signer=STRANGER)(named)

    lying.lie("seal", lie)
    refused(lying, UntrustedError, "trust.unknown")
    assert "attestation" not in lying.heard


def test_seal_over_other_response_bytes_is_refused_on_release(lying: LyingNotary) -> None:
    lying.lie("seal", lying.resealed(received=HASH))
    refused(lying, InvalidProofError, "seal.received")


# Attestations.


def swapped(fields: list[Field]) -> list[Field]:
    return [fields[1], fields[0], *fields[2:]]


def doubled(fields: list[Field]) -> list[Field]:
    index = next(at for at, field in enumerate(fields) if field.name == "section")
    return [*fields[:index], fields[index], *fields[index:]]


LIES: dict[str, tuple[TellLie, type[QuotaryError], str]] = {
    "other_session": (
        lambda notary: notary.altered("session", id="00" * 16),
        ExpectationError,
        "session.id",
    ),
    "other_nonce": (
        lambda notary: notary.altered("session", nonce="00" * 16),
        ExpectationError,
        "session.nonce",
    ),
    "other_purpose": (
        lambda notary: notary.altered("session", purpose="trade/t-1/open"),
        ExpectationError,
        "session.purpose",
    ),
    "other_prover": (
        lambda notary: notary.altered("session", prover=ATTACKER.verifying_key.vkey),
        ExpectationError,
        "session.prover",
    ),
    "other_mode": (
        lambda notary: notary.altered("session", mode="open"),
        ExpectationError,
        "session.mode",
    ),
    "other_host": (
        lambda notary: notary.altered("connection", host="api.exchange.coinbase.com"),
        ExpectationError,
        "connection.host",
    ),
    "other_time_of_the_seal": (
        lambda notary: notary.altered("connection", sealed_us=1),
        QuotaryError,
        "connection.sealed_us",
    ),
    "other_time_of_release": (
        lambda notary: notary.altered("connection", released_us=1),
        QuotaryError,
        "connection.released_us",
    ),
    "other_size": (
        lambda notary: notary.altered("connection", received_bytes=1),
        InvalidProofError,
        "connection.received_bytes",
    ),
    "other_chain": (
        lambda notary: notary.altered("server", chain=["00" * 32]),
        InvalidProofError,
        "server.chain",
    ),
    "other_status": (
        lambda notary: notary.altered("http", status=404),
        InvalidProofError,
        "http.status",
    ),
    "other_target": (
        lambda notary: notary.altered("http", target="/other"),
        InvalidProofError,
        "http.target",
    ),
    "other_body": (
        lambda notary: notary.altered("response.body", digest=HASH),
        InvalidProofError,
        "section.response.body.digest",
    ),
    "other_range": (
        lambda notary: notary.altered("response.body", start=0),
        InvalidProofError,
        "section.response.body.start",
    ),
    "other_price": (
        lambda notary: notary.altered("quote/v1", bid="1"),
        InvalidProofError,
        "quote.bid",
    ),
    "other_time_of_the_quote": (
        lambda notary: notary.altered("quote/v1", observed_us=1),
        InvalidProofError,
        "quote.observed_us",
    ),
    "other_instrument": (
        lambda notary: notary.altered("quote/v1", instrument="XETHZUSD"),
        InvalidProofError,
        "quote.instrument",
    ),
    "no_body": (
        lambda notary: notary.without("response.body"),
        InvalidProofError,
        "section.name",
    ),
    "body_twice": (lambda notary: notary.forged(doubled), QuotaryError, "section.name"),
    "no_quote": (lambda notary: notary.without("quote/v1"), InvalidProofError, "extension.id"),
    "no_session": (lambda notary: notary.without("session"), QuotaryError, "fields"),
    "no_connection": (lambda notary: notary.without("connection"), QuotaryError, "fields"),
    "no_server": (lambda notary: notary.without("server"), QuotaryError, "fields"),
    "no_http": (lambda notary: notary.without("http"), QuotaryError, "fields"),
    "no_notary": (lambda notary: notary.without("notary"), QuotaryError, "fields"),
    "swapped_fields": (lambda notary: notary.forged(swapped), QuotaryError, "fields"),
    "other_hash": (
        lambda notary: notary.forged(root="sha3-256:" + "00" * 32),
        ExpectationError,
        "header.root",
    ),
    "other_root": (lambda notary: notary.forged(root=HASH), InvalidProofError, "header.root"),
    "other_size_of_the_body": (
        lambda notary: notary.forged(size=3),
        InvalidProofError,
        "header.size",
    ),
    "other_salts": (
        lambda notary: lambda answer: {"attestation": {**answer["attestation"], "seed": "00" * 32}},
        InvalidProofError,
        "header.root",
    ),
    "signature_of_nobody": (
        lambda notary: notary.forged(signer=STRANGER),
        InvalidProofError,
        "signature",
    ),
    "key_of_a_stranger": (
        lambda notary: notary.forged(signer=STRANGER, key=STRANGER.verifying_key.short),
        UntrustedError,
        "trust.unknown",
    ),
    "key_of_the_same_id_under_another_name": (
        lambda notary: notary.forged(key=f"other.example+{notary.key.verifying_key.key_id.hex()}"),
        UntrustedError,
        "trust.unknown",
    ),
    "issued_in_the_past": (
        lambda notary: notary.forged(issued_us=1),
        QuotaryError,
        "connection.issued_us",
    ),
    "no_attestation": (lambda notary: lambda answer: {}, MalformedError, "attestation"),
    "extra_member": (
        lambda notary: lambda answer: {"attestation": {**answer["attestation"], "x": 1}},
        MalformedError,
        "attestation",
    ),
}


@pytest.mark.parametrize("how", LIES)
def test_false_attestation_is_refused(lying: LyingNotary, how: str) -> None:
    lie, kind, rule = LIES[how]
    lying.lie("attestation", lie(lying))
    refused(lying, kind, rule)


def test_true_attestation_of_another_session_is_refused(lying: LyingNotary) -> None:
    kept: list[dict[str, Any]] = []

    def keep(answer: dict[str, Any]) -> dict[str, Any]:
        kept.append(answer)
        return answer

    lying.lie("attestation", keep)
    fetch_through(lying)
    lying.lie("attestation", lambda answer: kept[0])
    refused(lying, ExpectationError, "session.id")


@pytest.mark.parametrize("rule", ["connection.received_bytes", "quote.bid", "session.nonce"])
def test_false_attestation_is_refused_in_open_mode(lying: LyingNotary, rule: str) -> None:
    name, _, member = rule.partition(".")
    value = {"received_bytes": 10**6, "bid": "1", "nonce": "00" * 16}[member]
    lying.lie(
        "attestation", lying.altered({"quote": "quote/v1"}.get(name, name), **{member: value})
    )
    with pytest.raises(QuotaryError) as caught:
        fetch_through(lying, mode="open")
    assert caught.value.rule == rule


# The relay.


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,)) if len(data) > 100 else data


@pytest.mark.parametrize(
    ("rewrite", "timeout"),
    [pytest.param(flipped, 60.0, id="flipped"), pytest.param(lambda _: b"", 2.0, id="swallowed")],
)
def test_relay_that_alters_bytes_ends_the_fetch(
    lying: LyingNotary, rewrite: Callable[[bytes], bytes], timeout: float
) -> None:
    lying.rewrite = rewrite
    with pytest.raises((MalformedError, InvalidProofError, UntrustedError, UnavailableError)):
        fetch_through(lying, timeout=timeout)


def test_released_bytes_other_than_the_sealed_are_refused(lying: LyingNotary) -> None:
    """The last bytes the relay sends are the released response."""
    released = False

    def mark(answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal released
        released = True
        return answer

    lying.lie("seal", mark)
    lying.rewrite = lambda data: flipped(data) if released else data
    with pytest.raises((MalformedError, InvalidProofError)) as caught:
        fetch_through(lying)
    assert caught.value.detail
