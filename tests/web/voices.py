"""Questions about presentations, signatures and venues' bytes, beside those about bundles."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from attestation.encoding import decode_object, encode
from attestation.expect import Expect
from attestation.feed import derive_observation
from attestation.log.policy import LogPolicy
from attestation.presentation import Presentation
from attestation.strictjson import scalars
from attestation.subscription import subscription
from attestation.trust import Trust
from attestation.venues import Listing, VenueFile, load_venue, shipped_venues
from tests.fuzz.edits import mutate_json
from tests.recorded.test_websocket import messages, sent
from tests.recorded.test_websocket import text as said_by
from tests.verifier import feeds, forge, test_slots
from tests.web.canonical import SPELLINGS
from tests.web.expected import expect_text
from tests.web.signatures import signatures
from tests.web.vectors import Answer, Vector, encoded
from verifier.decide import accepted
from verifier.quorum import verify_voices
from verifier.selftest import SAMPLES, samples
from verifier.verify import verify

PAGE_ALONE = {
    "valid_secp256k1": Answer(error="UntrustedError", rule="page.algorithm"),
    "valid_sha3": Answer(error="UntrustedError", rule="page.algorithm"),
}
"""What the page refuses and Python does not: it takes Ed25519 and SHA-256 alone."""


def presentation_vector(
    name: str,
    data: list[bytes],
    trust: str,
    expect: str,
    now_us: int,
    answer: Answer | None = None,
    log_policy: str | None = None,
) -> Vector:
    """Asks about presentations under a reader's files."""

    def ask() -> bytes:
        known, wanted = Trust.parse(trust.encode()), Expect.parse(expect.encode())
        if log_policy is not None:
            policy = LogPolicy.parse(log_policy.encode())
            known = dataclasses.replace(known, log_policy=policy)
        if len(data) == 1 and wanted.notary_count == 1:
            verified = verify(data[0], trust=known, expect=wanted, now_us=now_us)
            found = accepted(verified)
            mids = [str(quote.mid) for quote in verified.quotes]
        else:
            agreed = verify_voices(data, trust=known, expect=wanted, now_us=now_us)
            found = accepted(agreed)
            voices = getattr(agreed, "slots", None) or agreed.quotes  # type: ignore[union-attr]
            mids = [str(quote.mid) for voice in voices for quote in voice.quotes]
        quotes = [
            {
                "venue": quote.venue,
                "market": quote.market,
                "instrument": quote.instrument,
                "bid": quote.bid,
                "ask": quote.ask,
                "mid": middle,
                "not_before_us": quote.not_before_us,
                "not_after_us": quote.not_after_us,
            }
            for quote, middle in zip(found.quotes, mids, strict=True)
        ]
        return encode(
            {
                "quotes": quotes,
                "mode": found.mode,
                "purpose": found.purpose,
                "not_before_us": found.not_before_us,
                "not_after_us": found.not_after_us,
                "notaries": [notary.to_json() for notary in found.notaries],
                "checked": list(found.checked),
                "not_checked": list(found.not_checked),
            }
        )

    question = {
        "presentations": [encoded(each) for each in data],
        "trust": trust,
        "expect": expect,
        "now_us": now_us,
        **({} if log_policy is None else {"log_policy": log_policy}),
    }
    return Vector(
        name=name, call="judgePresentations", question=question, answer=answer or Answer.of(ask)
    )


def sample_presentations() -> Iterator[Vector]:
    """All that ``verifier selftest`` runs."""
    now_us = decode_object((SAMPLES / "clock.json").read_bytes())["now_us"]
    assert isinstance(now_us, int)
    for sample in samples():
        yield presentation_vector(
            f"sample/{sample.name}.{sample.code}",
            [path.read_bytes() for path in sample.files],
            sample.trust.read_text(),
            sample.expect.read_text(),
            now_us,
            PAGE_ALONE.get(sample.name),
        )


def changed_presentations() -> Iterator[Vector]:
    """Valid ones changed at random places, and spelled in other ways."""
    now_us = decode_object((SAMPLES / "clock.json").read_bytes())["now_us"]
    assert isinstance(now_us, int)
    by_name = {sample.name: sample for sample in samples()}
    for name in ("valid_redacted", "valid_whole", "valid_logged", "valid_slot_of_all_venues"):
        sample = by_name[name]
        (file,) = sample.files
        trust, expect = sample.trust.read_text(), sample.expect.read_text()
        for seed in range(60):
            data = mutate_json(file.read_bytes(), 2_000_000, seed)
            yield presentation_vector(f"changed/{name}/{seed}", [data], trust, expect, now_us)
    sample = by_name["valid_redacted"]
    trust, expect = sample.trust.read_text(), sample.expect.read_text()
    for spelling, spell in SPELLINGS.items():
        try:
            data = spell(sample.files[0].read_bytes())
        except AssertionError:
            continue  # of bundles alone
        yield presentation_vector(f"spelled/{spelling}", [data], trust, expect, now_us)


def slots_shown() -> Iterator[Vector]:
    """Slots whose sessions' subscriptions are opened, and quotes of requests."""
    okx, coinbase = test_slots.expect("okx"), test_slots.expect("coinbase")
    (wanted,) = subscription(load_venue("okx"), "BTC-USDT", time_s=forge.T0 // 1_000_000)
    whole = feeds.frame(wanted)
    long = feeds.frame(wanted + b" " * 200)
    split = (
        b"\x01\x84\0\0\0\0" + wanted[:4] + b"\x80" + bytes([0x80 | len(wanted) - 4, 0, 0, 0, 0])
    ) + wanted[4:]
    slot = feeds.slot(venues=["okx"])
    for number, frames in enumerate(
        (
            {"message.0": whole},
            {"message.0": split},
            {"message.0": split[:-1]},
            {"message.0": long},
            {"message.0": feeds.frame(wanted.replace(b"BTC", b"ETH"))},
            {"message.0": wanted},
            {"message.0": whole + whole},
            {"message.0": whole[:-1]},
            {"message.0": b"\x89" + whole[1:]},
            {"message.0": b"\x82" + whole[1:]},
            {"message.0": b"\xc1" + whole[1:]},
            {"message.0": b"\x81" + bytes([whole[1] & 0x7F]) + whole[2:]},
            {"message.0": b"\x81\xfe\0" + whole[1:]},
            {"message.0": b""},
            {"message.1": whole},
            {"message.0": whole, "message.1": whole},
            {"message.00": whole},
            {"message.zero": whole},
        )
    ):
        starts = (feeds.start_opened("okx", frames),)
        shown = dataclasses.replace(slot.bare(), sessions=starts)
        yield shown_vector(f"subscription/{number}", shown, okx)
    for number, change in enumerate(CHANGES):
        fetched, session = test_slots.fetched(**change)
        shown = dataclasses.replace(fetched.bare(), sessions=(session.present(),))
        yield shown_vector(f"request/{number}", shown, coinbase)
        yield shown_vector(f"request/{number}/alone", fetched.bare(), coinbase)
        either = test_slots.expect("coinbase", bindings=("full", "template"))
        yield shown_vector(f"request/{number}/either", shown, either)
        yield shown_vector(f"request/{number}/either alone", fetched.bare(), either)


CHANGES: list[dict[str, Any]] = [
    {},
    {"purpose": "trade/t-1/open"},
    {"bid": "96500.1"},
    {"at_us": forge.T0 + 1},
    {"mode": "open"},
    {"lies": {"session.binding": "template"}},
    {"lies": {"quote.bid": "1"}},
    {"lies": {"connection.address": "10.0.0.1"}},
    {"lies": {"connection.address": "::ffff:8.8.8.8"}},
    {"lies": {"connection.address": "2606:4700::1111"}},
    {"lies": {"server.name": "evil.example"}},
]


def shown_vector(name: str, presentation: Presentation, expect: Expect) -> Vector:
    return presentation_vector(
        f"shown/{name}",
        [presentation.encode()],
        forge.trust().dump().decode(),
        expect_text(expect),
        forge.NOW,
    )


JSON = [
    b"{}", b"[]", b"0", b'""', b"null", b" [ ] ", b'{"a":1,"b":[1,2,{"c":"d"}]}',
    b'{"a":1,"a":2}', b'{"a":{},"a":1}', b'{"a":1,"\\u0061":2}', b'{"a/b":1,"a~b":2,"":3}',
    b"1.50", b"-0", b"-0.0", b"01", b"1.", b".5", b"+1", b"1e3", b"1E+3", b"1e", b"NaN",
    b"Infinity", b"-", b"0x10", b"1_000", "٥".encode(), b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"', b'"\xed\xa0\x80"', b'"\xff"', b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\\x"',
    b'"\\u12"', b'"a', b"[1,]", b"[,1]", b"[1 2]", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{1:2}",
    b"\xef\xbb\xbf{}", b"{}{}", b"{} x", b"", b" ", b"\x0b1", "\u00a01".encode(), b"'a'", b"tru",
    b"true", b"[true,false,null]", b"/* */1", b"[" * 64 + b"]" * 64, b"[" * 65 + b"]" * 65,
    b"[" * 66 + b"1" + b"]" * 66, b'{"' + b"k" * 511 + b'":1}', b'{"' + b"k" * 512 + b'":1}',
    b"[" + b"0," * 65535 + b"0]", b"[" + b"0," * 65534 + b"0]", '"\u2028\u202e"'.encode(),
    b"[1\t,\r\n2]", b'{"a":[{"b":[]},{}]}',
]  # fmt: skip


def venue_json() -> Iterator[Vector]:
    """Bodies that readers of JSON differ over."""
    for number, body in enumerate(JSON):
        yield json_vector(f"{number}/{body[:20]!r}", body)


def json_vector(name: str, body: bytes) -> Vector:
    """Asks for the scalars of a venue's JSON."""

    def ask() -> bytes:
        rows = [[at, each.kind, each.raw.decode()] for at, each in scalars(body).items()]
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()

    return Vector(
        name=f"json/{name}",
        call="judgeJson",
        question={"body": encoded(body)},
        answer=Answer.of(ask),
    )


def venue_messages() -> Iterator[Vector]:
    """Messages recorded in every venue's wire shape: each alone, runs of them, and changed ones."""
    for name, venue in shipped_venues().items():
        lines = messages(name)
        groups = [lines[start:stop] for stop in range(1, len(lines) + 1) for start in range(stop)]
        for line in lines:
            says = said_by(name, line)
            groups += [[sent(name, mutate_json(says, 4_000, seed))] for seed in range(12)]
            if says != line:
                groups += [[member] for member in members(says)]
        groups += [[first, last] for first in lines for last in lines]
        for listing in venue.markets[:2]:
            for number, group in enumerate(groups):
                yield messages_vector(
                    f"{name}/{listing.instrument}/{number}", venue, listing, group
                )


def members(says: bytes) -> Iterator[bytes]:
    """A text as gzip members in every kind of block, and members that are hurt."""
    for level in (0, 1, 6, 9):
        yield gzip.compress(says, level, mtime=0)
        yield gzip.compress(says + b" " * 70_000, level, mtime=0)
        yield gzip.compress(says + b" " * (64 * 1024 - len(says)), level, mtime=0)
    for strategy in (zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE):
        stream = zlib.compressobj(9, zlib.DEFLATED, 31, 9, strategy)
        yield stream.compress(says) + stream.flush()
    whole, chance = gzip.compress(says, mtime=0), random.Random(len(says))
    yield from (whole + b"\0", whole * 2, whole[:-1], whole[:4], b"", says)
    for _ in range(60):
        hurt = bytearray(whole)
        hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
        yield bytes(hurt)


def messages_vector(name: str, venue: VenueFile, listing: Listing, messages: list[bytes]) -> Vector:
    """Asks for the quote that rests on messages."""

    def ask() -> bytes:
        found = derive_observation(venue, listing.instrument, messages)
        told = [found.bid, found.ask, found.exchange_us]
        return json.dumps(told, separators=(",", ":")).encode()

    question = {
        "venue": venue.name,
        "instrument": listing.instrument,
        "messages": [encoded(each) for each in messages],
    }
    return Vector(
        name=f"message/{name}", call="judgeMessages", question=question, answer=Answer.of(ask)
    )


@cache
def voices() -> list[Vector]:
    """All questions that are not about bundles."""
    return [
        *sample_presentations(),
        *changed_presentations(),
        *slots_shown(),
        *signatures(),
        *venue_json(),
        *venue_messages(),
    ]
