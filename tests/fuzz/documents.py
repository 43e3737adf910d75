"""Targets: canonical JSON, every document, keys, and the files of an operator."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from attestation.commitment import Part
from attestation.encoding import decode, decode_message, encode
from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.expect import Expect
from attestation.keys import SigningKey, VerifyingKey
from attestation.request import KeylogCommitment, KeylogOpened, KeyOpening
from attestation.rotation import Rotation, RotationStatement, sign_rotation
from attestation.schema import Document
from attestation.seal import SignedSeal
from attestation.strictjson import check_pointer
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueContent, VenueFile, parse_venue
from attestation.verdict import Accepted, Rejected
from notary.desk import read_attest
from notary.envelope import read_envelope
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.verifier import forge
from tests.verifier.evidence import evidence
from verifier.selftest import SAMPLES
from verifier.show import describe, read_document

LIMIT = 64 * 1024


def encoding(data: bytes) -> None:
    """Canonical bytes alone are read, and any other JSON reader reads the same."""
    value = parse(lambda: decode(data, limit=LIMIT))
    message = parse(lambda: decode_message(data, limit=LIMIT))
    if message is not None:
        with certain("a message's value has one canonical form"):
            demand(decode_deep(encode_deep(message)) == message, "a message reads otherwise")
        demand(plain(data) == message, "a message reads otherwise elsewhere")
    if value is None:
        return
    canonical = data.removesuffix(b"\n")
    with certain("what was decoded encodes"):
        demand(encode(value) == canonical, "not the canonical bytes")
    demand(plain(canonical) == value, "canonical bytes read otherwise elsewhere")
    demand(message == value, "canonical bytes are no message, or another")


def encode_deep(value: Any) -> bytes:
    """Encodes a message, which may be a few levels deeper than a document."""
    return encode(value) if _depth(value) <= 16 else json.dumps(value).encode()


def decode_deep(data: bytes) -> Any:
    return json.loads(data)


def plain(data: bytes) -> Any:
    """What an ordinary reader makes of it, which keeps integers and order apart from floats."""
    return json.loads(data)


def _depth(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, items), default=0)


UNTYPED: tuple[type[Document], ...] = (KeyOpening, KeylogOpened, Expect)
TYPED: tuple[type[Document], ...] = (
    KeylogCommitment,
    RotationStatement,
    Part,
    SignedSeal,
    Accepted,
    Rejected,
)


def documents(data: bytes) -> None:
    """A document is read by its type, encodes to its bytes, and prints harmlessly."""
    document = parse(lambda: read_document(data))
    if document is not None:
        _check_document(type(document), document, data)
        shown = describe(document)
        harmless = all(line.isprintable() for line in shown.split("\n"))
        demand(harmless, "a document prints what a terminal obeys")
    for kind in (*TYPED, *UNTYPED):
        other = parse(functools.partial(kind.decode, data))
        if other is not None:
            _check_document(kind, other, data)
    value = parse(lambda: decode(data))
    if isinstance(value, dict):
        parse(functools.partial(VenueContent.from_json, value))


def _check_document(kind: type[Document], document: Document, data: bytes) -> None:
    with certain("a document encodes"):
        demand(document.encode() == data.removesuffix(b"\n"), "a document encodes otherwise")
        # The quick reader and the one that explains must take the same.
        demand(kind._explain(document.to_json()) == document, "two readers, two documents")


def document_seeds() -> Iterable[bytes]:
    session, record = forge.session(), evidence()
    yield session.present().encode()
    yield session.whole().encode()
    yield session.attestation.encode()
    yield session.attestation.header.encode()
    yield session.attestation.fields[0].encode()
    yield session.secrets.encode()
    yield session.secrets.request.encode()
    yield forge.slot().encode()
    yield record.encode()
    if record.seal is not None:
        yield record.seal.encode()
        yield record.seal.seal.encode()
    yield record.opening.encode()
    old = forge.LyingNotary().key
    new = dataclasses.replace(old, seed=forge.hash_of("new"))
    times = {"issued_us": forge.T0, "from_us": forge.T0, "old_until_us": forge.T0 + 1}
    rotation = Rotation(
        name=old.name,
        operator="One Ltd",
        old=old.verifying_key.vkey,
        new=new.verifying_key.vkey,
        until_us=forge.T0 + 2,
        **times,
    )
    yield sign_rotation(rotation, old=old, new=new).encode()
    secrets = dict.fromkeys(KeylogOpened.__slots__[1:], "5a" * 32)
    logged = KeylogOpened(kind="keylog", **secrets)
    yield logged.encode()
    yield logged.commitment(session="5a" * 16, nonce="5a" * 16).encode()
    yield forge.expect(modes=("open", "sealed"), insecure_allow_development=True).encode()
    yield Part(salt="0" * 32, at="/a/0", data=b'"1"').encode()
    for venue in ("kraken", "bybit"):
        yield encode(_venue_json(venue))


def keys(data: bytes) -> None:
    """A key has one spelling; what it signs verifies, and nothing altered does."""
    text = data.decode("utf-8", "surrogateescape")
    verifying = parse(lambda: VerifyingKey.parse(text), MalformedError, UntrustedError)
    if verifying is not None:
        demand(verifying.vkey == text, "a key has two spellings")
        parse(lambda: verifying.verify(data[:64].ljust(64, b"\0"), data), *_PROOFS)
    signing = parse(lambda: SigningKey.parse(text), MalformedError, UntrustedError)
    if signing is not None:
        demand(signing.encode() == text, "a private key has two spellings")
        with certain("a key's own signature verifies"):
            signing.verifying_key.verify(signing.sign(data), data)


def key_seeds() -> Iterable[bytes]:
    for algorithm in ("ed25519", "ecdsa-secp256k1"):
        key = forge.LyingNotary(algorithm=algorithm).key
        yield key.verifying_key.vkey.encode()
        yield key.encode().encode()


def trust(data: bytes) -> None:
    """A trust file is read or refused as the caller's own mistake, and written back the same."""
    believed = parse(lambda: Trust.parse(data), UsageError)
    if believed is None:
        return
    with certain("a trust file is written and read back"):
        again = Trust.parse(believed.dump())
    demand(again == believed, "a trust file changes when it is written")
    for entry in believed.keys:
        found = parse(lambda entry=entry: _find(again, entry), UntrustedError)
        demand(found in (None, entry), "another key is found")


def _find(believed: Trust, entry: TrustedKey) -> TrustedKey:
    return believed.find(entry.key.short, entry.role, entry.valid_from_us)


def trust_seeds() -> Iterable[bytes]:
    yield forge.trust(forge.LyingNotary(), forge.LyingNotary(name="two")).dump()
    for path in sorted(SAMPLES.glob("*trust.toml")):
        yield path.read_bytes()
    yield b'[log_policy]\nfile = "policy.txt"\n'


def expect(data: bytes) -> None:
    """An expect file is read or refused, and never demands nothing."""
    wanted = parse(lambda: Expect.parse(data), UsageError)
    if wanted is None:
        return
    with certain("an expect file is a document"):
        again = Expect.decode(wanted.encode())
    demand(again == wanted, "an expect file changes when it is written")
    demand(bool(wanted.venues) != bool(wanted.hosts), "it names no place")


def expect_seeds() -> Iterable[bytes]:
    for path in sorted(SAMPLES.glob("*expect.toml")):
        yield path.read_bytes()


def venue_files(data: bytes) -> None:
    """A venue file renders, for each instrument, what the other parsers take."""
    venue = parse(lambda: parse_venue(data))
    if venue is None:
        return
    again = parse_venue(data)
    demand(again == venue and again.hash == venue.hash, "a venue file has two hashes")
    for listing in venue.markets:
        with certain("a listed instrument renders"):
            target = venue.target(listing.instrument)
            for template in venue.rest.pointers:
                check_pointer(venue.pointer(template, listing.instrument))
            demand(venue.market(listing.instrument) == listing.market, "another market")
        demand(target.startswith("/") and target.isascii() and " " not in target, "a bad target")


def venue_seeds() -> Iterable[bytes]:
    for path in sorted(resources.files("attestation.venues").iterdir(), key=lambda item: item.name):
        if path.name.endswith(".toml"):
            yield path.read_bytes()


def _venue_json(name: str) -> Any:
    content = forge.shipped_venues()[name]
    assert isinstance(content, VenueFile)
    members = {field.name: getattr(content, field.name) for field in dataclasses.fields(content)}
    del members["hash"]
    return VenueContent(**members).to_json()


def control(data: bytes) -> None:
    """Bodies of the control API are read or refused; nothing of an opening is repeated."""
    envelope = parse(lambda: read_envelope(data))
    if envelope is not None:
        request, _ = envelope
        with certain("a session request has canonical bytes"):
            demand(type(request).decode(request.encode()) == request, "two session requests")
    answer = parse(lambda: read_attest(data))
    if answer is not None:
        opening, request_ = answer
        demand(opening is not None or request_ is not None, "neither opening nor request")


def control_seeds() -> Iterable[bytes]:
    record = evidence()
    opening, request = record.opening.to_json(), record.request.to_json()
    yield encode({"opening": opening, "request": request})
    yield encode({"opening": opening})
    yield json.dumps({"request": request}, indent=1).encode()
    yield json.dumps(
        {
            "request": {
                "type": "quotary/session_request/v1",
                "notary": "notary.one",
                "at_us": forge.T0,
                "nonce": "0" * 32,
                "prover": forge.LyingNotary().key.verifying_key.vkey,
                "mode": "sealed",
                "binding": "full",
                "venue": "kraken",
                "instrument": "XXBTZUSD",
                "trade": "t-1",
                "leg": "open",
            },
            "signature": "00" * 64,
        }
    ).encode()


def _json_seeds() -> Iterable[bytes]:
    yield from document_seeds()
    yield from (path.read_bytes() for path in sorted(SAMPLES.glob("valid_*.json")))
    yield b"{}\n"
    yield b'{"a":[1,-1,true,false,"\\u001f\\n\\\\",[],{}],"b":9007199254740991}'
    yield b'{"a": "\\u00e9", "b":-0}'


_PROOFS = (InvalidProofError,)

TARGETS = (
    Target(name="encoding", run=encoding, seeds=_json_seeds, mutate=mutate_json, max_size=16_384),
    Target(
        name="documents", run=documents, seeds=document_seeds, mutate=mutate_json, max_size=32_768
    ),
    Target(name="keys", run=keys, seeds=key_seeds, max_size=1_024),
    Target(name="trust", run=trust, seeds=trust_seeds),
    Target(name="expect", run=expect, seeds=expect_seeds),
    Target(name="venue_files", run=venue_files, seeds=venue_seeds),
    Target(name="control", run=control, seeds=control_seeds, mutate=mutate_json),
)
