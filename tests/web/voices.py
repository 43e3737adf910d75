"""Questions about presentations, signatures and venues' bytes, beside those about bundles."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from attestation.encoding import decode_object, encode
from attestation.expect import Expect
from attestation.feed import derive_observation
from attestation.keys import SigningKey, VerifyingKey
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

ORDER = 2**252 + 27742317777372353535851937790883648493
EIGHT = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point whose order is eight."""
SMALL = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    EIGHT,
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    # The same, negative, and in encodings that are not the only one.
    (1 << 255).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


def presentation_vector(
    name: str, data: list[bytes], trust: str, expect: str, now_us: int, answer: Answer | None = None
) -> Vector:
    """Asks about presentations under the files of a sample."""

    def ask() -> bytes:
        known, wanted = Trust.parse(trust.encode()), Expect.parse(expect.encode())
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
    lines = [f"{member} = {_toml(value)}" for member, value in expect.to_json().items()]
    return presentation_vector(
        f"shown/{name}",
        [presentation.encode()],
        forge.trust().dump().decode(),
        "\n".join(lines),
        forge.NOW,
    )


def _toml(value: Any) -> str:
    """A value of an expect file: strings, numbers, lists and one level of tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


def _signature(name: str, vkey: str, signature: bytes, message: bytes) -> Vector:
    def ask() -> bytes:
        VerifyingKey.parse(vkey).verify(signature, message)
        return b"valid"

    question = {"vkey": vkey, "signature": encoded(signature), "message": encoded(message)}
    return Vector(
        name=f"signature/{name}", call="judgeSignature", question=question, answer=Answer.of(ask)
    )


def _vkey(public: bytes, name: str = "key.example", tag: bytes = b"\x01") -> str:
    identity = hashlib.sha256(name.encode() + b"\n" + tag + public).digest()[:4].hex()
    return f"{name}+{identity}+{base64.b64encode(tag + public).decode()}"


def signatures() -> Iterator[Vector]:
    """Where implementations of Ed25519 differ: small orders, torsion, S beyond L, encodings."""
    key = SigningKey(name="key.example", algorithm="ed25519", seed=bytes(range(32)))
    vkey, message = key.verifying_key.vkey, b"message"
    good = key.sign(message)
    yield _signature("valid", vkey, good, message)
    yield _signature("empty message", vkey, key.sign(b""), b"")
    yield _signature("long message", vkey, key.sign(b"a" * 100_000), b"a" * 100_000)
    yield _signature("other message", vkey, good, b"massage")
    yield _signature("short", vkey, good[:-1], message)
    yield _signature("long", vkey, good + b"\0", message)
    yield _signature("zero", vkey, bytes(64), message)
    for bit in range(0, 512, 37):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield _signature(f"bit {bit}", vkey, bytes(changed), message)
    scalar = int.from_bytes(good[32:], "little")
    for times in (1, 2, 8):
        beyond = scalar + times * ORDER
        if beyond < 2**256:
            made = good[:32] + beyond.to_bytes(32, "little")
            yield _signature(f"S + {times} L", vkey, made, message)
    for number, point in enumerate(SMALL):
        yield _signature(f"small key {number}", _vkey(point), point + bytes(32), message)
        yield _signature(f"small key {number}, own R", _vkey(point), EIGHT + bytes(32), message)
        yield _signature(f"small R {number}", vkey, point + good[32:], message)
    yield _signature("not on the curve", _vkey((2).to_bytes(32, "little")), good, message)
    yield from _torsion()
    spoiled = {
        "id": vkey.replace("+", "+00", 1),
        "upper case": vkey.upper(),
        "no name": vkey[11:],
        "space": "key example" + vkey[11:],
        "tag 4": _vkey(key.verifying_key.public, tag=b"\x04"),
        "tag 255": _vkey(key.verifying_key.public, tag=b"\xff"),
        "31 bytes": _vkey(key.verifying_key.public[:31]),
        "stray bits": vkey[:-2] + chr(ord(vkey[-2]) + 1) + vkey[-1],
        "no padding": vkey.rstrip("="),
        "empty": "",
    }
    for name, text in spoiled.items():
        yield _signature(f"vkey {name}", text, good, message)


def _torsion() -> Iterator[Vector]:
    """Signatures that only an equation with the cofactor takes, and plain ones."""
    secret = 123456789012345678901234567890
    plain = crypto_scalarmult_ed25519_base_noclamp(secret.to_bytes(32, "little"))
    for mixed_key in (False, True):
        public = crypto_core_ed25519_add(plain, EIGHT) if mixed_key else plain
        for mixed_point in (False, True):
            for number in range(10):
                message = b"torsion %d" % number
                nonce = 987654321 + number
                point = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
                if mixed_point:
                    point = crypto_core_ed25519_add(point, EIGHT)
                digest = hashlib.sha512(point + public + message).digest()
                challenge = int.from_bytes(digest, "little") % ORDER
                scalar = (nonce + challenge * secret) % ORDER
                made = point + scalar.to_bytes(32, "little")
                name = f"torsion {mixed_key} {mixed_point} {number}"
                yield _signature(name, _vkey(public), made, message)


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

        def ask(body: bytes = body) -> bytes:
            found = scalars(body).items()
            rows = [[at, each.kind, each.raw.decode()] for at, each in found]
            return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()

        yield Vector(
            name=f"json/{number}/{body[:20]!r}",
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
                yield _messages(f"{name}/{listing.instrument}/{number}", venue, listing, group)


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


def _messages(name: str, venue: VenueFile, listing: Listing, messages: list[bytes]) -> Vector:
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
