"""Rows 17, 24: bodies that hold another price than they seem to, and old answers."""

from __future__ import annotations

import os
import time
from email.utils import formatdate
from typing import Any

import pytest

from attestation.document import Attestation
from attestation.errors import QuotaryError, StaleError
from attestation.expect import Expect
from attestation.http1 import read_request, read_response
from attestation.presentation import Presentation, present
from attestation.request import AttestationRequest
from attestation.secrets import Secrets
from attestation.section import Exchange
from attestation.transcript import Transcript
from tests.adversaries.prover import Attempt, get, whole_body
from tests.adversaries.venue import answer, response
from tests.attacks.conftest import Scene
from verifier import VerifiedQuote, verify

QUOTE = [{"id": "quote/v1"}]
BODY = '{"symbol":"BTCUSDT","bidPrice":"64000.10","bidQty":"1","askPrice":"64000.20","askQty":"2"}'
COINBASE = '{"bid":"64000.10","ask":"64000.20","price":"64000.15","time":"%s"}'


def body(**members: str) -> bytes:
    """The honest body with raw members replaced."""
    text = BODY
    for name, raw in members.items():
        start = text.index(f'"{name}":') + len(name) + 3
        end = min(at for at in (text.find(",", start), text.find("}", start)) if at >= 0)
        text = text[:start] + raw + text[end:]
    return text.encode()


def quote(scene: Scene, data: bytes, **place: Any) -> tuple[Attempt, dict[str, Any]]:
    """Runs a session for a quote up to its request; returns that."""
    scene.hostile.behave(answer(data))
    attempt = scene.quote(**place).handshake().send()
    attempt.seal()
    return attempt, attempt.request(whole_body(), extensions=QUOTE)


def refuse(scene: Scene, data: bytes, *rules: str) -> None:
    attempt, request = quote(scene, data)
    with scene.refused(*rules, reason="venue_malformed"):
        attempt.open(request=request)


def claim_of(attestation: dict[str, Any]) -> dict[str, Any]:
    """The value of quote/v1."""
    found: dict[str, Any] = next(
        field["value"]["value"] for field in attestation["fields"] if field["name"] == "extension"
    )
    return found


def test_honest_quote_is_attested(scene: Scene) -> None:
    attempt, request = quote(scene, response(BODY.encode()))
    claim = claim_of(attempt.open(request=request)["attestation"])
    assert (claim["bid"], claim["ask"], claim["instrument"]) == ("64000.1", "64000.2", "BTCUSDT")


# Row 17.

TRICKS = {
    "price_twice": BODY.encode()[:-1] + b',"bidPrice":"1"}',
    "price_as_a_number": body(bidPrice="64000.10"),
    "price_in_a_string_of_json": body(bidPrice='"{\\"bidPrice\\":\\"1\\"}"'),
    "exponent": body(bidPrice='"6.4e4"'),
    "exponent_of_a_number": body(bidPrice="1e3"),
    "not_a_number": body(bidPrice="NaN"),
    "not_a_number_as_text": body(bidPrice='"NaN"'),
    "infinity": body(askPrice='"Infinity"'),
    "forty_digits": body(askPrice='"' + "9" * 40 + '"'),
    "sign": body(bidPrice='"+64000.10"'),
    "negative": body(bidPrice='"-64000.10"'),
    "zero": body(bidPrice='"0.00"'),
    "leading_zero": body(bidPrice='"064000.10"'),
    "comma": body(bidPrice='"64000,10"'),
    "blank": body(bidPrice='" 64000.10"'),
    "other_digits": body(bidPrice='"٦٤٠٠٠"'),
    "empty": body(bidPrice='""'),
    "null": body(bidPrice="null"),
    "array": body(bidPrice='["64000.10"]'),
    "nested_decoy": b'{"data":' + BODY.encode() + b"}",
    "list_of_one": b"[" + BODY.encode() + b"]",
    "another_instrument": body(symbol='"ETHUSDT"'),
    "instrument_in_lower_case": body(symbol='"btcusdt"'),
    "instrument_twice": BODY.encode()[:-1] + b',"symbol":"ETHUSDT"}',
    "instrument_absent": body().replace(b'"symbol":"BTCUSDT",', b""),
    "bid_above_ask": body(bidPrice='"64000.30"'),
    "byte_order_mark": b"\xef\xbb\xbf" + BODY.encode(),
    "trailing_comma": BODY.encode()[:-1] + b",}",
    "comment": b"/* */" + BODY.encode(),
    "second_value": BODY.encode() + BODY.encode(),
    "not_utf8": BODY.encode().replace(b'"askQty":"2"', b'"askQty":"\xff"'),
    "lone_surrogate": body(askQty='"\\ud800"'),
    "raw_control": BODY.encode().replace(b'"askQty":"2"', b'"askQty":"\n"'),
    "deep": b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "cut": BODY.encode()[:-1],
    "empty_body": b"",
    "html": b"<html>64000.10</html>",
}


@pytest.mark.parametrize("how", TRICKS)
def test_body_with_a_second_reading_makes_no_quote(scene: Scene, how: str) -> None:
    refuse(scene, response(TRICKS[how]), "W11")


def test_line_separator_in_a_string_is_a_string(scene: Scene) -> None:
    data = BODY.encode().replace(b'"askQty":"2"', '"askQty":"\u2028"'.encode())
    attempt, request = quote(scene, response(data))
    assert claim_of(attempt.open(request=request)["attestation"])["bid"] == "64000.1"


@pytest.mark.parametrize("status", [b"201 Created", b"404 Not Found", b"503 Service Unavailable"])
def test_other_status_than_200_makes_no_quote(scene: Scene, status: bytes) -> None:
    refuse(scene, response(BODY.encode(), status=status), "W11")


@pytest.mark.parametrize("lie", [{"bid": "1"}, {"market": "ETH/USD"}, {"observed_us": 1}])
def test_value_that_the_notary_does_not_derive_is_refused(
    scene: Scene, lie: dict[str, object]
) -> None:
    attempt, request = quote(scene, response(BODY.encode()))
    truth = claim_of(attempt.open(request=request)["attestation"])
    again, request = quote(scene, response(BODY.encode()))
    request["extensions"] = [{"id": "quote/v1", "value": {**truth, **lie}}]
    with scene.refused("extension.value"):
        again.open(request=request)


def test_wrong_guess_does_not_tell_the_price(scene: Scene) -> None:
    """Seeing is never free: a sealed answer is released with its attestation alone."""
    attempt, request = quote(scene, response(BODY.encode()))
    request["extensions"] = [{"id": "quote/v1", "value": {"bid": "1"}}]
    refusal = scene.prover.http.post(
        f"/v1/sessions/{attempt.id}/attestations",
        json={"opening": attempt.opening(), "request": request},
        headers=scene.prover.bearer(attempt.id),
    )
    assert refusal.json()["rule"] == "extension.value"
    assert "64000" not in refusal.text
    attempt.client.receive(attempt.ended())
    assert attempt.client.application == b""


def test_quote_without_its_body_is_refused(scene: Scene) -> None:
    attempt, request = quote(scene, response(BODY.encode()))
    request["sections"] = []
    with scene.refused("extension.quote"):
        attempt.open(request=request)


def test_quote_of_an_ad_hoc_host_is_refused(scene: Scene) -> None:
    scene.hostile.behave(answer(response(BODY.encode())))
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W14"):
        attempt.open(request=attempt.request(whole_body(), extensions=QUOTE))


@pytest.mark.parametrize("identifier", ["other/v1", "quote/v2"])
def test_unknown_extension_is_refused(scene: Scene, identifier: str) -> None:
    attempt, request = quote(scene, response(BODY.encode()))
    request["extensions"] = [{"id": identifier}]
    with scene.refused("extension.id"):
        attempt.open(request=request)


# Row 24.


@pytest.mark.parametrize("age", [b"1", b"600", b"-1", b"1, 0", b"x"])
def test_answer_from_a_cache_makes_no_quote(scene: Scene, age: bytes) -> None:
    refuse(scene, response(BODY.encode(), headers=b"Age: %s\r\n" % age), "W11")


def test_second_age_does_not_hide_the_first(scene: Scene) -> None:
    refuse(scene, response(BODY.encode(), headers=b"Age: 0\r\nAge: 600\r\n"), "W9", "W11")


def test_age_zero_is_fresh(scene: Scene) -> None:
    attempt, request = quote(scene, response(BODY.encode(), headers=b"Age: 0\r\n"))
    assert attempt.open(request=request)["attestation"]


def presented(scene: Scene, data: bytes, **place: Any) -> Presentation:
    """A quote attested by the notary and presented as a whole."""
    attempt, request = quote(scene, data, **place)
    attestation = Attestation.from_json(attempt.open(request=request)["attestation"])
    sent = get(attempt.granted["host"], attempt.granted["target"])
    exchange = Exchange(
        transcript=Transcript(sent=sent, received=data),
        request=read_request(sent),
        response=read_response(data, method="GET"),
    )
    secrets = Secrets(
        header=attestation.header.id,
        request=AttestationRequest.from_json(request),
        sent=sent,
        received=data,
    )
    return present(attestation, secrets, exchange, sections={"response.body": "whole"})


def decide(scene: Scene, presentation: Presentation, venue: str, **expect: Any) -> VerifiedQuote:
    verdict = verify(
        presentation,
        trust=scene.notary.trust,
        expect=Expect(venues=(venue,), market="BTC/USD", insecure_allow_development=True, **expect),
        now_us=time.time_ns() // 1000,
    )
    assert isinstance(verdict, VerifiedQuote)
    return verdict


def dated(seconds: float) -> bytes:
    return f"Date: {formatdate(time.time() + seconds, usegmt=True)}\r\n".encode()


def test_answer_that_its_server_dated_now_is_accepted(scene: Scene) -> None:
    presentation = presented(scene, response(BODY.encode(), headers=dated(0)))
    assert decide(scene, presentation, "binance").bid == "64000.1"


@pytest.mark.parametrize("seconds", [-600, 600])
def test_answer_that_its_server_dated_otherwise_is_stale(scene: Scene, seconds: float) -> None:
    presentation = presented(scene, response(BODY.encode(), headers=dated(seconds)))
    with pytest.raises(StaleError) as caught:
        decide(scene, presentation, "binance")
    assert caught.value.rule == "expect.max_date_skew_us"


def test_time_inside_the_body_is_attested_as_it_stands(scene: Scene) -> None:
    """An old trade time is no lie of anybody's: it is shown, and the reader decides."""
    coinbase = {"venue": "coinbase", "instrument": "BTC-USD"}
    data = response((COINBASE % "2026-01-15T12:00:00.5Z").encode())
    attempt, request = quote(scene, data, **coinbase)
    claim = claim_of(attempt.open(request=request)["attestation"])
    assert claim["exchange_us"] == 1_768_478_400_500_000


def test_interval_must_lie_inside_the_readers_window_to_the_microsecond(scene: Scene) -> None:
    presentation = presented(scene, response(BODY.encode()))
    verdict = decide(scene, presentation, "binance")
    first, last = verdict.not_before_us, verdict.not_after_us
    decide(scene, presentation, "binance", not_before_us=first, not_after_us=last)
    for window in ({"not_before_us": first + 1}, {"not_after_us": last - 1}):
        with pytest.raises(StaleError) as caught:
            decide(scene, presentation, "binance", **window)
        assert caught.value.rule == f"expect.{next(iter(window))}"


# Row 23.


def test_attestation_for_one_trade_settles_no_other(scene: Scene) -> None:
    trade = {"adhoc": None, "trade": f"t-{os.urandom(4).hex()}", "leg": "open"}
    purpose = f"trade/{trade['trade']}/open"
    presentation = presented(scene, response(BODY.encode()), **trade)
    decide(scene, presentation, "binance", purpose=purpose)
    others = {
        "expect.purpose": {"purpose": purpose.replace("/open", "/close")},
        "expect.instruments": {"instruments": ("ETHUSDT",)},
        "expect.not_before_us": {"not_before_us": time.time_ns() // 1000},
    }
    for rule, expect in others.items():
        with pytest.raises(QuotaryError) as caught:
            decide(scene, presentation, "binance", **expect)
        assert caught.value.rule == rule
