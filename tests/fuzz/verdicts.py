"""Targets: what a verifier decides about documents that anyone, or a lying notary, made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import orjson

from attestation import merkle
from attestation.document import Field, Header, body_leaves
from attestation.encoding import decode_object
from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.hashing import format_hash
from attestation.presentation import Presentation, SectionOpening, ShownField
from attestation.venues import shipped_venues
from attestation.verdict import Accepted, Rejected, read_verdict
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.verifier import feeds, forge
from tests.verifier.evidence import evidence, roots, venue
from verifier import VerifiedQuote, verify
from verifier.insecure import insecure_verify_authentic
from verifier.question import read_questions
from verifier.recheck import recheck

TRUST = forge.trust()
EXPECT = forge.expect()
SLOT = forge.expect("binance")
FEED = dataclasses.replace(EXPECT, venues=("bitfinex", "gemini"))


def presentation(data: bytes) -> None:
    """Whatever is done to signed presentations: refused, or the quotes that were signed."""
    for expect in (EXPECT, SLOT, FEED):
        verified = parse(
            lambda expect=expect: verify(data, trust=TRUST, expect=expect, now_us=forge.NOW),
            QuotaryError,
        )
        for quote in () if verified is None else verified.quotes:
            demand(_told(quote) in _honest(), "a quote that nobody signed")
    parse(
        lambda: insecure_verify_authentic(data, trust=TRUST, now_us=forge.NOW).fields.header,
        QuotaryError,
    )


def _told(quote: Any) -> tuple[Any, ...]:
    return (quote.header.id, quote.venue, quote.bid, quote.ask, quote.mid, quote.not_after_us)


@cache
def _honest() -> frozenset[tuple[Any, ...]]:
    signed = [
        (forge.session().present(), EXPECT),
        (_slot(), SLOT),
        (_slot(), EXPECT),
        (_feed(), FEED),
    ]
    return frozenset(
        _told(quote)
        for shown, expect in signed
        for quote in verify(shown, trust=TRUST, expect=expect, now_us=forge.NOW).quotes
    )


def _feed() -> Presentation:
    return feeds.slot(venues=("bitfinex", "gemini")).present()


def _slot() -> Presentation:
    return forge.show_fields(forge.slot(), range(5))


def presentation_seeds() -> Iterable[bytes]:
    yield forge.session().present().encode()
    yield forge.session().whole().encode()
    yield _slot().encode()
    yield _feed().encode()


def lying_notary(data: bytes) -> None:
    """A notary that signs any fields: refused, or what the opened bytes say to another reader.

    The input is ``{"fields": [{"name", "value"}], "openings": [...], "issued_us"}``.
    """
    shown = parse(lambda: sign(decode_object(data)))
    if shown is None:
        return
    quote = parse(
        lambda: verify(shown.encode(), trust=TRUST, expect=EXPECT, now_us=forge.NOW), QuotaryError
    )
    if not isinstance(quote, VerifiedQuote):
        demand(quote is None, "a transcript instead of a quote")
        return
    fields = {field.name: field.value for field in shown.fields if field.name != "section"}
    file = shipped_venues()["coinbase"]
    connection: Any = fields["connection"]
    http: Any = fields["http"]
    demand(connection["host"] in file.hosts and connection["port"] == file.port, "another place")
    demand(http["target"] == file.target(quote.instrument), "another target")
    demand((http["method"], http["status"]) == ("GET", 200), "another exchange")
    demand(quote.not_before_us == connection["request_first_us"], "another beginning")
    demand(quote.not_after_us == connection["response_last_us"], "another end")
    demand(quote.not_before_us <= quote.not_after_us <= shown.header.issued_us, "time backwards")
    body = _body(shown)
    for member, pointer in (("bid", "bid"), ("ask", "ask"), ("last", "price")):
        told = getattr(quote, member)
        demand(Decimal(body[pointer]) == Decimal(told), f"{member} is not what the bytes say")
    demand(quote.mid == (Fraction(quote.bid) + Fraction(quote.ask)) / 2, "another middle")


def sign(value: Any) -> Presentation:
    """Signs any fields as the lying notary; raises MalformedError for no presentation."""
    if value.keys() != {"fields", "openings", "issued_us"} or type(value["fields"]) is not list:
        raise MalformedError("not a body")
    notary = forge.LyingNotary()
    fields = tuple(
        Field.from_json({"type": Field.TYPE, **_object(each)}) for each in value["fields"]
    )
    seed = forge.hash_of("fuzz").hex()
    if not fields or any(field.salt is not None for field in fields):
        raise MalformedError("no fields, or salts")
    root = merkle.root(body_leaves(fields, seed=seed, algorithm=notary.hash), notary.hash)
    header = Header.from_json(
        {
            "type": Header.TYPE,
            "id": "0" * 32,
            "key": notary.key.verifying_key.short,
            "root": format_hash(root, notary.hash),
            "size": len(fields),
            "issued_us": value["issued_us"],
        }
    )
    openings = value["openings"]
    if type(openings) is not list:
        raise MalformedError("no openings")
    return Presentation(
        header=header,
        signature=notary.key.sign(header.encode()).hex(),
        fields=tuple(ShownField.of(index, field) for index, field in enumerate(fields)),
        proof=(),
        openings=tuple(SectionOpening.from_json(each) for each in openings),
        seed=seed,
    )


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict or "type" in value:
        raise MalformedError("not a field")
    return value


def _body(shown: Presentation) -> dict[str, str]:
    """The opened body as an ordinary reader has it: whole, or the parts by pointer."""
    found: dict[str, str] = {}
    for opening in shown.openings:
        field = shown.fields[opening.index].value
        if field["name"] != "response.body":
            continue
        if opening.data is not None:
            return json.loads(opening.data)  # type: ignore[no-any-return]
        for part in opening.parts or ():
            found[part.at.removeprefix("/")] = json.loads(part.data)
    return found


def lying_seeds() -> Iterable[bytes]:
    for shown in (forge.session().whole(), forge.session(body_scheme="hash").whole()):
        value = {
            "fields": [{"name": field.name, "value": field.value} for field in shown.fields],
            "openings": [opening.to_json() for opening in shown.openings],
            "issued_us": shown.header.issued_us,
        }
        yield orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def questions(data: bytes) -> None:
    """A question to the verify API is refused as one, or each part gets a verdict."""
    asked = parse(lambda: read_questions(data), MalformedError, UsageError)
    if asked is None:
        return
    for question in asked.items[:4]:
        with certain("an answer"):
            verdict = question.answer(trust=TRUST, now_us=forge.NOW)
            demand(isinstance(verdict, (Accepted, Rejected)), "no verdict")
            demand(read_verdict(decode_object(verdict.encode())) == verdict, "two verdicts")


def question_seeds() -> Iterable[bytes]:
    shown, expect = forge.session().present().to_json(), EXPECT.to_json()
    question = {"presentation": shown, "expect": expect}
    quorum = {**expect, "notaries": {"count": 2}}
    yield orjson.dumps(question, option=orjson.OPT_SORT_KEYS)
    yield orjson.dumps({"presentations": [shown, shown], "expect": quorum})
    yield orjson.dumps({"batch": [{"presentation": shown}, question], "expect": expect})
    earlier = feeds.slot(venues=FEED.venues or (), slot_us=feeds.SLOT_US - feeds.GRID_US).bare()
    first = {"before": earlier.to_json(), "at_us": feeds.SLOT_US, "grid_us": feeds.GRID_US}
    slot = {"presentation": _feed().to_json(), "first": first, "expect": FEED.to_json()}
    yield orjson.dumps(slot, option=orjson.OPT_SORT_KEYS)


def evidence_(data: bytes) -> None:
    """Evidence is refused, or repeats the one attestation that was signed."""
    report = parse(
        lambda: recheck(data, roots=roots(), trust=TRUST, venue_files={"binance": venue()}),
        QuotaryError,
    )
    if report is not None:
        wanted = evidence().attestation.header.id
        demand(report.attestation == wanted, "an attestation that nobody signed")
        demand(report.host == evidence().attestation.connection().host, "another host")


def evidence_seeds() -> Iterable[bytes]:
    yield evidence().encode()
    yield dataclasses.replace(evidence(), seal=None).encode()


TARGETS = (
    Target(
        name="presentation",
        run=presentation,
        seeds=presentation_seeds,
        mutate=mutate_json,
        max_size=16_384,
    ),
    Target(
        name="lying_notary",
        run=lying_notary,
        seeds=lying_seeds,
        mutate=mutate_json,
        max_size=16_384,
    ),
    Target(
        name="questions", run=questions, seeds=question_seeds, mutate=mutate_json, max_size=32_768
    ),
    Target(
        name="evidence", run=evidence_, seeds=evidence_seeds, mutate=mutate_json, max_size=32_768
    ),
)
