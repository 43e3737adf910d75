"""One attested session and one slot, for the examples of docs/formats.md.

No TLS is made: the raw bytes, the certificates and the handshake hash are
stand-ins, and everything signed over them is real.  Deterministic: keys come
from stated seeds, all other random values from ``fixed``.
"""

from __future__ import annotations

import hashlib

from attestation import merkle
from attestation.commitment import SectionRequest
from attestation.document import (
    Attestation,
    ConnectionField,
    ExtensionField,
    Field,
    GapField,
    Header,
    HttpField,
    MessageRef,
    NotaryField,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
    body_leaves,
)
from attestation.extension import QUOTE
from attestation.feed_request import FeedRequest, SignedFeedRequest
from attestation.hashing import format_hash, hash_string
from attestation.http1 import read_request, read_response
from attestation.keys import SigningKey
from attestation.presentation import Presentation
from attestation.quote import claim_quote
from attestation.request import AttestationRequest, ExtensionRequest, SessionRequest
from attestation.rotation import Rotation, RotationStatement, sign_rotation
from attestation.seal import Seal, SealTimes, SignedSeal
from attestation.secrets import Secrets
from attestation.section import Exchange, commit_section
from attestation.slot_presentation import present_slot, present_start
from attestation.strictjson import scalars
from attestation.subscription import upgrade_target
from attestation.transcript import Transcript
from attestation.trust import Trust, TrustedKey
from attestation.venues import shipped_venues

T0 = 1_768_478_400_000_000
"""2026-01-15T12:00:00Z, when the notary connected."""
NOW = T0 + 5_000_000
YEAR = 365 * 86_400 * 1_000_000
HOST, INSTRUMENT = "data-api.binance.vision", "BTCUSDT"
SPLIT = 41
"""Bytes of the body's first chunk."""

NOTARY = SigningKey(name="notary.example", algorithm="ed25519", seed=b"\x01" * 32)
CURVE = SigningKey(name="notary.example", algorithm="ecdsa-secp256k1", seed=b"\x02" * 32)
PROVER = SigningKey(name="prover.example", algorithm="ed25519", seed=b"\x03" * 32)

REQUEST = (
    f"GET /api/v3/ticker/bookTicker?symbol={INSTRUMENT} HTTP/1.1\r\n"
    f"Host: {HOST}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
).encode()
BODY = (
    b'{"symbol":"BTCUSDT","bidPrice":"96500.10000000","bidQty":"4.21004000",'
    b'"askPrice":"96500.98000000","askQty":"0.93712000"}'
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 15 Jan 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:SPLIT], BODY[SPLIT:], b""))
)


MESSAGE = (
    b'{"u":49283710663,"s":"BTCUSDT","b":"96500.10000000","B":"4.21004000",'
    b'"a":"96500.98000000","A":"0.93712000"}'
)
"""A quote of the live channel."""


def fixed(label: str, size: int = 32) -> str:
    """Hex that looks random and is always the same."""
    return hashlib.sha256(b"quotary/example/" + label.encode()).hexdigest()[: 2 * size]


def session_request() -> SessionRequest:
    """What the prover signs to get the session."""
    return SessionRequest(
        notary=NOTARY.name,
        at_us=T0 - 40_000,
        nonce=fixed("request nonce", 16),
        prover=PROVER.verifying_key.vkey,
        mode="sealed",
        binding="full",
        venue="binance",
        instrument=INSTRUMENT,
        trade="t-1",
        leg="open",
    )


def feed_request() -> SignedFeedRequest:
    """What the prover signs to read a feed's slots."""
    return SignedFeedRequest.sign(
        FeedRequest(
            notary=NOTARY.name,
            feed="btc-usd",
            at_us=T0 - 40_000,
            nonce=fixed("feed nonce", 16),
            prover=PROVER.verifying_key.vkey,
        ),
        PROVER,
    )


def attestation_request() -> AttestationRequest:
    """What it asks to have committed."""

    def section(
        name: str, direction: str, split: str | None = None, **place: int
    ) -> SectionRequest:
        return SectionRequest(
            name=name,
            direction=direction,
            scheme="hash" if split is None else "tree",
            salt=fixed(f"salt {name}", 16 if split is None else 32),
            split=split,
            **place,
        )

    start = REQUEST.index(b"symbol=")
    return AttestationRequest(
        session=fixed("session", 16),
        hash="sha256",
        signature="ed25519",
        sections=(
            section("request.line", "sent"),
            section("response.status", "received"),
            section("response.body", "received", "json"),
            section("x.symbol", "sent", "fixed:5", start=start, end=start + 14),
        ),
        extensions=(ExtensionRequest(id=QUOTE),),
    )


def exchange() -> Exchange:
    """The plaintext, parsed."""
    return Exchange(
        transcript=Transcript(sent=REQUEST, received=RESPONSE),
        request=read_request(REQUEST),
        response=read_response(RESPONSE, method="GET"),
    )


def session() -> tuple[Attestation, Secrets, SignedSeal]:
    """The attestation, what its prover keeps, and the seal."""
    asked, request = exchange(), attestation_request()
    wanted, venue = session_request(), shipped_venues()["binance"]
    times = SealTimes(
        connected_us=T0, hello_us=T0 + 400, released_us=T0 + 21_000, sealed_us=T0 + 61_000
    )
    connection = ConnectionField(
        host=HOST,
        port=443,
        address="151.101.1.1",
        suite="TLS_AES_128_GCM_SHA256",
        group="x25519",
        request_first_us=T0 + 21_000,
        request_last_us=T0 + 21_000,
        response_first_us=T0 + 43_000,
        response_last_us=T0 + 43_200,
        opened_us=T0 + 62_500,
        sent_records=4,
        sent_bytes=560,
        received_records=9,
        received_bytes=3_740,
        handshake_hash=fixed("handshake"),
        **{member: getattr(times, member) for member in times.__slots__},
    )
    server = ServerField(
        name=HOST,
        chain=(fixed("leaf certificate"), fixed("issuing certificate")),
        leaf_spki=fixed("leaf key"),
        not_after_us=T0 + YEAR // 4,
        roots=f"sha256:{fixed('roots')}",
        scheme="ecdsa_secp256r1_sha256",
    )
    who = SessionField(
        id=request.session,
        mode=wanted.mode,
        binding=wanted.binding,
        prover=wanted.prover,
        purpose=wanted.purpose,
        nonce=fixed("nonce", 16),
    )
    http = HttpField(
        method="GET",
        target=venue.target(INSTRUMENT),
        status=200,
        server_date="Thu, 15 Jan 2026 12:00:00 GMT",
    )
    quote = claim_quote(
        venue,
        INSTRUMENT,
        scalars(BODY),
        observed_us=connection.response_last_us,
        section="response.body",
    )
    fields = [
        Field(name=part.FIELD, value=part.to_json()) for part in (who, connection, server, http)
    ]
    fields += [
        Field(name="section", value=commit_section(section, asked, "sha256").to_json())
        for section in request.sections
    ]
    extension = ExtensionField(id=QUOTE, value=quote.to_json(), by="prover")
    fields += [Field(name="extension", value=extension.to_json()), _notary()]
    attestation = _sign(fields, "session", T0 + 64_000)
    seal = Seal(
        session=request.session,
        sent=hash_string(b"raw bytes sent"),
        received=hash_string(b"raw bytes received"),
        sent_size=560,
        received_size=3_740,
        times=times,
        key=NOTARY.verifying_key.short,
    )
    signed = SignedSeal(seal=seal, signature=NOTARY.sign(seal.encode()).hex())
    secrets = Secrets(
        header=attestation.header.id, request=request, sent=REQUEST, received=RESPONSE
    )
    return attestation, secrets, signed


def slot() -> Presentation:
    """A slot with both of its venues shown, the message and the session of one beside it."""
    fields = [
        Field(name=part.FIELD, value=part.to_json())
        for part in (
            SlotField(
                feed="btc-usd",
                market="BTC/USD",
                slot_us=T0 + 1_000_000,
                venues=("binance", "kraken"),
            ),
            ObservationField(
                venue="binance",
                instrument=INSTRUMENT,
                bid="96500.1",
                ask="96500.98",
                received_us=T0 + 950_000,
                source="live",
                session=fixed("live session", 16),
                messages=(MessageRef(index=1_204, hash=hash_string(MESSAGE)),),
            ),
            GapField(venue="kraken", reason="venue_silent", fault="venue"),
        )
    ]
    attestation = _sign([*fields, _notary()], "slot", T0 + 1_002_000)
    return present_slot(attestation, messages=[MESSAGE], sessions=[live_session()])


def live_session() -> Presentation:
    """The attested start of the live session that the slot names."""
    venue = shipped_venues()["binance"]
    host = venue.channel.hosts[0]
    parts = (
        SessionField(
            id=fixed("live session", 16),
            mode="live",
            binding="full",
            prover=PROVER.verifying_key.vkey,
            purpose="live/btc-usd/binance",
            nonce=fixed("live nonce", 16),
        ),
        ConnectionField(
            host=host,
            port=venue.channel.port,
            address="151.101.1.1",
            suite="TLS_AES_128_GCM_SHA256",
            group="x25519",
            connected_us=T0 - 3_600_000_000,
            hello_us=T0 - 3_599_999_600,
            opened_us=T0 - 3_599_977_000,
            released_us=T0 - 3_599_975_000,
            request_first_us=T0 - 3_599_975_000,
            request_last_us=T0 - 3_599_975_000,
            response_first_us=T0 - 3_599_953_000,
            response_last_us=T0 - 3_599_953_000,
            sent_records=4,
            sent_bytes=520,
            received_records=8,
            received_bytes=3_410,
            handshake_hash=fixed("live handshake"),
        ),
        ServerField(
            name=host,
            chain=(fixed("live leaf certificate"), fixed("issuing certificate")),
            leaf_spki=fixed("live leaf key"),
            not_after_us=T0 + YEAR // 4,
            roots=f"sha256:{fixed('roots')}",
            scheme="ecdsa_secp256r1_sha256",
        ),
        HttpField(
            method="GET",
            target=upgrade_target(venue, INSTRUMENT, host=host),
            status=101,
            server_date="Thu, 15 Jan 2026 11:00:00 GMT",
        ),
    )
    fields = [Field(name=part.FIELD, value=part.to_json()) for part in parts]
    start = _sign([*fields, _notary()], "live", T0 - 3_599_950_000)
    return present_start(start)


def trust() -> Trust:
    """A reader's trust in the notary for the year 2026."""
    return Trust(
        keys=(
            TrustedKey(
                name=NOTARY.name,
                operator="Example Ltd",
                key=NOTARY.verifying_key,
                role="attest",
                valid_from_us=T0 - 14 * 86_400_000_000,
                valid_until_us=T0 - 14 * 86_400_000_000 + YEAR,
            ),
        )
    )


def rotation() -> RotationStatement:
    """The notary's word on its next key, from a week later on."""
    new = SigningKey(name=NOTARY.name, algorithm="ed25519", seed=b"\x04" * 32)
    day = 86_400_000_000
    return sign_rotation(
        Rotation(
            name=NOTARY.name,
            operator="Example Ltd",
            old=NOTARY.verifying_key.vkey,
            new=new.verifying_key.vkey,
            issued_us=T0,
            from_us=T0 + 7 * day,
            old_until_us=T0 + 9 * day,
            until_us=T0 + 7 * day + YEAR,
        ),
        old=NOTARY,
        new=new,
    )


def _notary() -> Field:
    key = NOTARY.verifying_key
    value = NotaryField(name=key.name, vkey=key.vkey, software="quotary 0.1.0")
    return Field(name="notary", value=value.to_json())


def _sign(fields: list[Field], label: str, issued_us: int) -> Attestation:
    seed = fixed(f"{label} seed")
    header = Header(
        id=fixed(f"{label} header", 16),
        key=NOTARY.verifying_key.short,
        root=format_hash(merkle.root(body_leaves(fields, seed=seed, algorithm="sha256"))),
        size=len(fields),
        issued_us=issued_us,
    )
    return Attestation(
        header=header,
        signature=NOTARY.sign(header.encode()).hex(),
        fields=tuple(fields),
        seed=seed,
    )
