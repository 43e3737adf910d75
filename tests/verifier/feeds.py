"""Slots of a forged feed over every venue, with real messages and the starts of sessions.

Each observation rests on recorded messages of its venue (``tests/recorded``), read as a
notary reads them.  Deterministic, as everything of ``tests/verifier/forge.py``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from attestation.commitment import SectionRequest, commit
from attestation.document import (
    Attestation,
    ConnectionField,
    Field,
    GapField,
    HttpField,
    MessageRef,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
)
from attestation.errors import MalformedError
from attestation.feed import Channel, Update
from attestation.hashing import hash_string
from attestation.presentation import Presentation, SectionOpening
from attestation.quote import DerivedQuote
from attestation.slot_presentation import present_slot, present_start
from attestation.subscription import upgrade_target
from attestation.venues import load_venue, venue_names
from tests.verifier import forge
from tests.verifier.forge import LyingNotary, hash_of

RECORDED = Path(__file__).parents[1] / "recorded"
VENUES = venue_names()
FEED = "main"
GRID_US = 500_000
SLOT_US = forge.T0 + 1_000_000
ROOTS = hash_string(b"roots")


@cache
def read(venue: str) -> tuple[str, DerivedQuote, tuple[tuple[int, bytes], ...]]:
    """Returns an instrument, its last good quote, and the recorded messages that it rests on."""
    file = load_venue(venue)
    instrument = file.instrument(forge.MARKET)
    channel = Channel(file, instrument)
    lines = (RECORDED / venue / "ws.txt").read_bytes().splitlines()
    last: Update | None = None
    for index, line in enumerate(lines):
        try:
            found = channel.read(line, index)
        except MalformedError:
            continue
        if isinstance(found, Update):
            last = found
    assert last is not None, venue
    return instrument, last.quote, tuple((index, lines[index]) for index in last.messages)


@dataclasses.dataclass(frozen=True)
class FeedSlot:
    """A slot's attestation, and what can stand beside it, by venue."""

    attestation: Attestation
    messages: Mapping[str, tuple[bytes, ...]]
    starts: Mapping[str, Presentation]

    def present(
        self,
        *venues: str,
        messages: Sequence[str] | None = None,
        sessions: Sequence[str] | None = None,
    ) -> Presentation:
        """Shows the named venues, or all, each with its messages and its session's start."""
        shown = venues or tuple(self.attestation.fields[0].value["venues"])  # type: ignore[arg-type]
        seen = [venue for venue in shown if venue in self.messages]
        with_messages = seen if messages is None else messages
        with_sessions = seen if sessions is None else sessions
        return present_slot(
            self.attestation,
            venues or None,
            [message for venue in with_messages for message in self.messages[venue]],
            sessions=[self.starts[venue] for venue in with_sessions],
        )

    def shown(self, messages: Mapping[str, tuple[bytes, ...]]) -> Presentation:
        """Shows everything, with these venues' messages instead of the honest ones."""
        return dataclasses.replace(self, messages={**self.messages, **messages}).present()

    def bare(self, *venues: str) -> Presentation:
        """Shows the named venues, or all, and nothing beside them."""
        return self.present(*venues, messages=(), sessions=())


def slot(
    *,
    notary: LyingNotary | None = None,
    venues: Sequence[str] = VENUES,
    gaps: Mapping[str, tuple[str, str]] | None = None,
    lies: Mapping[str, Any] | None = None,
    start_lies: Mapping[str, Any] | None = None,
    slot_us: int = SLOT_US,
    feed: str = FEED,
    label: str = "",
) -> FeedSlot:
    """Builds an honest slot, but for ``lies`` about it and ``start_lies`` about every start.

    ``gaps``: reason and fault by venue.  Lies as in ``forge.session``.
    """
    notary = notary or LyingNotary()
    label = label or f"{notary.name}/{feed}/{slot_us}"
    head = SlotField(feed=feed, market=forge.MARKET, slot_us=slot_us, venues=tuple(venues))
    fields = [Field(name="slot", value=head.to_json())]
    messages: dict[str, tuple[bytes, ...]] = {}
    starts: dict[str, Presentation] = {}
    for venue in venues:
        if gaps is not None and venue in gaps:
            reason, fault = gaps[venue]
            gap = GapField(venue=venue, reason=reason, fault=fault)
            fields.append(Field(name="gap", value=gap.to_json()))
            continue
        instrument, quote, rests_on = read(venue)
        messages[venue] = tuple(payload for _, payload in rests_on)
        starts[venue] = start(venue, notary=notary, feed=feed, lies=start_lies)
        observation = ObservationField(
            venue=venue,
            instrument=instrument,
            bid=quote.bid,
            ask=quote.ask,
            received_us=slot_us - 50_000,
            exchange_us=quote.exchange_us,
            source="live",
            session=session_id(venue, notary, feed),
            messages=tuple(
                MessageRef(index=index, hash=hash_string(payload)) for index, payload in rests_on
            ),
        )
        fields.append(Field(name="observation", value=observation.to_json()))
    fields.append(Field(name="notary", value=notary.notary_field().to_json()))
    fields = [forge.lie(field, lies or {}) for field in fields]
    attestation = notary.sign(fields, label=f"slot/{label}", issued_us=slot_us + 2_000)
    return FeedSlot(attestation=attestation, messages=messages, starts=starts)


def session_id(venue: str, notary: LyingNotary, feed: str = FEED) -> str:
    return hash_of(f"live/{notary.name}/{feed}/{venue}", 16).hex()


def start(venue: str, **changes: Any) -> Presentation:
    """Presents what ``started`` attests, all fields shown."""
    return present_start(started(venue, **changes))


def frame(text: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's text frame (RFC 6455 section 5.3), of at most 65,535 bytes."""
    size = len(text)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
    return b"\x81" + length + mask + masked


def start_opened(venue: str, frames: Mapping[str, bytes]) -> Presentation:
    """Presents a start whose named ``message`` sections hold these bytes, all opened."""
    honest, notary = started(venue), LyingNotary()
    fields, openings, at = list(honest.fields[:-1]), [], 300
    for name, data in frames.items():
        salt = hash_of(f"salt/{name}", 16)
        wanted = SectionRequest(name=name, direction="sent", scheme="hash", salt=salt.hex())
        committed = commit(
            wanted, data, start=at, end=at + len(data), framing="plain", algorithm="sha256"
        )
        at += len(data)
        openings.append(SectionOpening(index=len(fields), salt=salt.hex(), data=data))
        fields.append(Field(name="section", value=committed.to_json()))
    attestation = notary.sign(
        [*fields, honest.fields[-1]], label=f"opened/{venue}", issued_us=honest.header.issued_us
    )
    return dataclasses.replace(present_start(attestation), openings=tuple(openings))


def started(
    venue: str,
    *,
    notary: LyingNotary | None = None,
    feed: str = FEED,
    at_us: int = forge.T0,
    lies: Mapping[str, Any] | None = None,
) -> Attestation:
    """The attested start of a venue's live session, honest but for ``lies``."""
    notary = notary or LyingNotary()
    file = load_venue(venue)
    instrument = file.instrument(forge.MARKET)
    # A pattern stands for what the venue's own answer names.
    host = re.sub(r"\*", "a", file.channel.hosts[0])
    token = None if file.channel.token is None else "2neAiuYvAU61ZDXANAGAsiL4"
    path = "/" if file.channel.token is None else file.channel.token.paths[0]
    session = SessionField(
        id=session_id(venue, notary, feed),
        mode="live",
        binding="full",
        prover="prover.one+" + "0" * 8,
        purpose=f"live/{feed}/{venue}",
        nonce=hash_of(f"nonce/{venue}", 16).hex(),
    )
    connection = ConnectionField(
        host=host,
        port=file.channel.port,
        address=forge.ADDRESS,
        suite="TLS_AES_128_GCM_SHA256",
        group="x25519",
        connected_us=at_us,
        hello_us=at_us + 1_000,
        opened_us=at_us + 30_000,
        released_us=at_us + 31_000,
        request_first_us=at_us + 31_000,
        request_last_us=at_us + 31_000,
        response_first_us=at_us + 90_000,
        response_last_us=at_us + 91_000,
        sent_records=3,
        sent_bytes=700,
        received_records=6,
        received_bytes=4_000,
        handshake_hash=hash_of(f"handshake/{venue}").hex(),
    )
    server = ServerField(
        name=host,
        chain=(hash_of("leaf").hex(), hash_of("issuer").hex()),
        leaf_spki=hash_of("spki").hex(),
        not_after_us=at_us + forge.YEAR // 4,
        roots=ROOTS,
        scheme="ecdsa_secp256r1_sha256",
    )
    http = HttpField(
        method="GET",
        target=upgrade_target(file, instrument, host=host, token=token, path=path),
        status=101,
    )
    fields = [
        Field(name=member.FIELD, value=member.to_json())
        for member in (session, connection, server, http)
    ]
    fields.append(Field(name="notary", value=notary.notary_field().to_json()))
    fields = [forge.lie(field, lies or {}) for field in fields]
    return notary.sign(
        fields, label=f"start/{venue}/{notary.name}/{feed}", issued_us=at_us + 95_000
    )
