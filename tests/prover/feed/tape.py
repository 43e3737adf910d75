"""Records of a feed as its parts emit them, made without a notary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attestation import merkle
from attestation.document import (
    Attestation,
    ConnectionField,
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
from attestation.errors import MalformedError
from attestation.feed import derive_observation
from attestation.hashing import format_hash, hash_string
from attestation.keys import SigningKey
from attestation.quote import derive_quote
from attestation.reasons import FAULTS
from attestation.strictjson import scalars
from attestation.venues import shipped_venues
from prover.feed.records import Received, Slot, Started

NOTARY = "notary.example"
BTC = "btc"
MARKET = "BTC/USD"
GRID = 500_000
START = 1_777_897_815_000_000

Said: TypeAlias = str | tuple[str, Sequence[tuple[int, bytes]]]
"""What a slot says of a venue: a gap's reason, or (session, (index, payload) of messages)."""


def session_id(label: str) -> str:
    return _seeded(label).hex()[:32]


def book(update: int, bid: str = "100.10", ask: str = "100.20") -> bytes:
    """A message of binance's channel."""
    return f'{{"u":{update},"s":"BTCUSDT","b":"{bid}","B":"1","a":"{ask}","A":"2"}}'.encode()


def received(
    venue: str,
    session: str,
    index: int,
    payload: bytes,
    received_us: int = START,
    notary: str = NOTARY,
) -> Received:
    return Received(
        notary=notary,
        venue=venue,
        session=session,
        index=index,
        received_us=received_us,
        payload=payload,
    )


def make_start(venue: str, session: str, notary: str = NOTARY, feed: str = BTC) -> Started:
    instrument = shipped_venues()[venue].instrument(MARKET)
    connection = ConnectionField(
        host="stream.venue.example",
        port=443,
        address="192.0.2.1",
        suite="TLS_AES_128_GCM_SHA256",
        group="x25519",
        connected_us=START,
        hello_us=START,
        opened_us=START,
        released_us=START,
        request_first_us=START,
        request_last_us=START,
        response_first_us=START,
        response_last_us=START,
        sent_records=3,
        sent_bytes=300,
        received_records=5,
        received_bytes=5_000,
        handshake_hash="00" * 32,
    )
    server = ServerField(
        name="stream.venue.example",
        chain=("11" * 32,),
        leaf_spki="22" * 32,
        not_after_us=START * 2,
        roots="sha256:" + "33" * 32,
        scheme="ecdsa_secp256r1_sha256",
    )
    who = SessionField(
        id=session,
        mode="live",
        binding="full",
        prover="prover.example+00000000+AA",
        purpose=f"live/{feed}/{venue}",
        nonce="44" * 16,
    )
    http = HttpField(method="GET", target="/ws", status=101)
    fields = [
        Field(name=each.FIELD, value=each.to_json()) for each in (who, connection, server, http)
    ]
    return Started(
        notary=notary,
        feed=feed,
        venue=venue,
        instrument=instrument,
        session=session,
        attestation=_sign(fields, notary, f"start/{session}", START + 1_000),
    )


def make_slot(
    slot_us: int,
    venues: Mapping[str, Said],
    notary: str = NOTARY,
    feed: str = BTC,
    label: str = "",
    rest: Mapping[str, tuple[str, bytes]] | None = None,
) -> Slot:
    """A slot whose quotes follow from the messages; of other bytes, from none.

    ``rest`` has session and body of quotes by REST, by venue.
    """
    bodies = rest or {}
    head = SlotField(
        feed=feed, market=MARKET, slot_us=slot_us, venues=tuple(sorted([*venues, *bodies]))
    )
    fields = [Field(name="slot", value=head.to_json())]
    for venue in head.venues:
        if venue in bodies:
            observation = _ask(venue, slot_us, *bodies[venue])
            fields.append(Field(name="observation", value=observation.to_json()))
            continue
        said = venues[venue]
        if isinstance(said, str):
            gap = GapField(venue=venue, reason=said, fault=FAULTS[said])
            fields.append(Field(name="gap", value=gap.to_json()))
        else:
            observation = _observe(venue, slot_us, *said)
            fields.append(Field(name="observation", value=observation.to_json()))
    return Slot(
        notary=notary,
        attestation=_sign(fields, notary, f"{feed}/{slot_us}{label}", slot_us + 60_000),
    )


def _observe(
    venue: str, slot_us: int, session: str, messages: Sequence[tuple[int, bytes]]
) -> ObservationField:
    file = shipped_venues()[venue]
    instrument = file.instrument(MARKET)
    bid, ask, exchange_us = "1", "2", None
    try:
        quote = derive_observation(file, instrument, [payload for _, payload in messages])
    except MalformedError:
        pass
    else:
        bid, ask, exchange_us = quote.bid, quote.ask, quote.exchange_us
    return ObservationField(
        venue=venue,
        instrument=instrument,
        bid=bid,
        ask=ask,
        received_us=slot_us - 1_000,
        exchange_us=exchange_us,
        session=session,
        messages=tuple(
            MessageRef(index=index, hash=hash_string(payload)) for index, payload in messages
        ),
    )


def _ask(venue: str, slot_us: int, session: str, body: bytes) -> ObservationField:
    file = shipped_venues()[venue]
    instrument = file.instrument(MARKET)
    quote = derive_quote(file, instrument, scalars(body))
    return ObservationField(
        venue=venue,
        instrument=instrument,
        bid=quote.bid,
        ask=quote.ask,
        received_us=slot_us - 1_000,
        exchange_us=quote.exchange_us,
        source="rest",
        session=session,
        messages=(),
    )


def _sign(fields: list[Field], notary: str, label: str, issued_us: int) -> Attestation:
    key = SigningKey(name=notary, algorithm="ed25519", seed=_seeded(f"attest {notary}"))
    vkey = key.verifying_key.vkey
    who = NotaryField(name=key.name, vkey=vkey, software="test")
    fields = [*fields, Field(name="notary", value=who.to_json())]
    seed = _seeded(f"seed {label}").hex()
    header = Header(
        id=_seeded(f"id {notary} {label}").hex()[:32],
        key=key.verifying_key.short,
        root=format_hash(merkle.root(body_leaves(fields, seed=seed, algorithm="sha256"))),
        size=len(fields),
        issued_us=issued_us,
    )
    signature = key.sign(header.encode()).hex()
    return Attestation(header=header, signature=signature, fields=tuple(fields), seed=seed)


def _seeded(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()
