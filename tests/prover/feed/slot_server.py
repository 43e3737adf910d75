"""A notary's event stream of slots as a test scripts it: cut anywhere, lying, refusing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from attestation import merkle
from attestation.document import Attestation
from attestation.encoding import decode_object
from attestation.hashing import hash_string
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.entry import FeedEntry, FeedVenue, MissedEntry, SlotEntry, write_entry
from attestation.log.inclusion import Inclusion
from attestation.log.proof import LogProof
from attestation.trust import Trust, TrustedKey
from attestation.venues import load_venue
from prover.feed.records import Slot
from tests.prover.feed.tape import BTC, GRID, MARKET, NOTARY, START, Said, make_slot
from tests.prover.stage import PROVER

LOG_KEY = SigningKey(name="log.example/a", algorithm="ed25519", seed=b"\x0a" * 32)
VENUES = ("binance", "okx")
ENTRY = FeedEntry(
    feed=BTC,
    venues=tuple(
        FeedVenue(
            venue=name,
            instrument=load_venue(name).instrument(MARKET),
            venue_file=load_venue(name).hash,
        )
        for name in VENUES
    ),
    market=MARKET,
    grid_us=GRID,
    late_us=1_000_000,
    provers=(PROVER.verifying_key.vkey,),
    from_us=START,
)


def trust_of(slot: Slot) -> Trust:
    """Trusts the notary of a made slot."""
    vkey = slot.attestation.notary().vkey
    key = TrustedKey(
        name=NOTARY,
        operator="Test",
        key=VerifyingKey.parse(vkey),
        role="attest",
        valid_from_us=0,
        valid_until_us=2**53 - 1,
    )
    return Trust(keys=(key,))


def included(attestation: Attestation, slot_us: int, feed: str = BTC) -> Inclusion:
    """The slot's entry, alone in a log."""
    entry = write_entry(
        SlotEntry(
            logged_us=attestation.header.issued_us + 1_000,
            feed=feed,
            slot_us=slot_us,
            header=hash_string(attestation.header.encode()),
        )
    )
    root = merkle.leaf_hash(entry)
    note = sign_checkpoint(Checkpoint(origin=LOG_KEY.name, size=1, root=root), LOG_KEY)
    proof = LogProof(index=0, path=(), note=note.encode()).encode().decode("utf-8")
    return Inclusion(entry=decode_object(entry), proof=proof)


def event(slot: Slot, **changes: object) -> bytes:
    """The event of a slot; ``changes`` replace members of its data."""
    log = included(slot.attestation, slot.slot_us)
    members = {"attestation": slot.attestation.to_json(), "log": log.to_json(), **changes}
    data = {name: value for name, value in members.items() if value is not None}
    return _event(slot.slot_us, "slot", data)


def missed(slot_us: int, feed: str = BTC) -> bytes:
    """The event of a missed slot."""
    entry = MissedEntry(logged_us=slot_us + 1, feed=feed, slot_us=slot_us, fault="notary")
    return _event(slot_us, "missed", {"missed": entry.to_json()})


def gap_slots(count: int, reason: str = "venue_silent") -> list[Slot]:
    """Consecutive slots without any quote."""
    said: dict[str, Said] = dict.fromkeys(VENUES, reason)
    return [make_slot(START + at * GRID, said) for at in range(count)]


def _event(slot_us: int, name: str, data: dict[str, object]) -> bytes:
    return f"id: {slot_us}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


@dataclasses.dataclass
class SlotServer:
    """Answers each request by the next of ``turns``: a status, or bytes after which it hangs up.

    Of what is sent, only events from the ``from`` asked for; the last turn goes on for ever.
    """

    events: Sequence[tuple[int, bytes]]
    turns: list[int | None]
    port: int = 0
    asked: list[int | None] = dataclasses.field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "Authorization: Bearer token" in head or "authorization: Bearer token" in head
        query = parse_qs(urlsplit(head.split(" ")[1]).query)
        first = int(query["from"][0]) if "from" in query else None
        self.asked.append(first)
        cut = self.turns.pop(0) if self.turns else None
        if cut is not None and 100 <= cut <= 599:
            body = b'{"type":"urn:quotary:problem:refused","status":%d,"detail":"no"}' % cut
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (cut, len(body), body)
            )
        else:
            data = b"".join([body for at, body in self.events if first is None or at >= first])
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Connection: close\r\n\r\n" + data[: None if cut is None else -cut]
            )
            if cut is None:
                await writer.drain()
                await reader.read()
        await writer.drain()
        writer.close()


@asynccontextmanager
async def slot_server(
    events: Sequence[tuple[int, bytes]], *turns: int | None
) -> AsyncIterator[SlotServer]:
    """Runs the server until the end of the block."""
    server = SlotServer(events, list(turns))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
