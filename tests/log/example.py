"""A small log with an entry of every kind, which keeps every rule; docs/log.md shows it."""

from __future__ import annotations

import dataclasses
import hashlib

from attestation.document import Header
from attestation.encoding import JsonObject, encode
from attestation.hashing import digest, hash_string
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    Entry,
    FeedEntry,
    FeedVenue,
    KeyEntry,
    MissedEntry,
    OpenedEntry,
    PolicyEntry,
    SlotEntry,
    TickEntry,
    TradesEntry,
    logged_at,
)
from attestation.reasons import FAULTS
from tests.docs import worked_session as worked
from tests.docs.worked_session import PROVER, T0

FEED = "btc-usd"
GRID = 500_000
LATE = 1_000_000
VKEY = PROVER.verifying_key.vkey
POLICY: JsonObject = {"name": "example", "market": "BTC/USD", "grid_us": GRID}


def identifier(label: str) -> str:
    """16 bytes of hex that a label stands for."""
    return hashlib.sha256(label.encode()).hexdigest()[:32]


def header_hash(header: Header) -> str:
    return hash_string(header.encode())


def feed(**changes: object) -> FeedEntry:
    entry = FeedEntry(
        feed=FEED,
        venues=tuple(
            FeedVenue(venue=venue, instrument=instrument, venue_file=hash_string(venue.encode()))
            for venue, instrument in (("binance", "BTCUSDT"), ("kraken", "XBTUSD"))
        ),
        market="BTC/USD",
        grid_us=GRID,
        late_us=LATE,
        provers=(VKEY,),
        from_us=T0 + 1_000_000,
    )
    return dataclasses.replace(entry, **changes)


def opened(label: str, purpose: str, **changes: object) -> OpenedEntry:
    entry = OpenedEntry(
        session=identifier(label),
        prover=VKEY,
        purpose=purpose,
        venue="binance",
        host="data-api.binance.vision",
        mode="live" if purpose.startswith("live/") else "sealed",
        deadline_us=0,
    )
    return dataclasses.replace(entry, **changes)


def aborted(label: str, reason: str) -> AbortedEntry:
    return AbortedEntry(session=identifier(label), reason=reason, fault=FAULTS[reason])


def attested(label: str) -> AttestedEntry:
    return AttestedEntry(session=identifier(label), header=hash_string(label.encode()))


def slot(at: int, prev: int | None) -> SlotEntry:
    return SlotEntry(feed=FEED, slot_us=T0 + at, header=hash_string(b"slot %d" % at), prev=prev)


def missed(at: int, fault: str) -> MissedEntry:
    return MissedEntry(feed=FEED, slot_us=T0 + at, fault=fault)


def entries() -> list[Entry]:
    """The log's entries in order, each 100 ms after the one before or later."""
    session, _, _ = worked.session()
    second = session.session().id
    trade = "trade/t-1/open"
    deadline = T0 + 20_000_000
    planned: list[tuple[int, Entry]] = [
        (0, feed()),
        (100_000, KeyEntry(statement=worked.rotation())),
        (
            200_000,
            PolicyEntry(
                policy_id=digest(encode(POLICY)).hex(),
                document=POLICY,
                effective_us=T0 + 60_000_000,
            ),
        ),
        (300_000, opened("first", trade, deadline_us=deadline)),
        (400_000, aborted("first", "venue_refused")),
        (
            500_000,
            opened(
                "second", trade, session=second, deadline_us=deadline, retry_of=identifier("first")
            ),
        ),
        (
            600_000,
            AttestedEntry(session=second, header=header_hash(session.header)),
        ),
        (700_000, opened("stream", f"live/{FEED}/binance", deadline_us=deadline)),
        (800_000, attested("stream")),
        (900_000, TradesEntry(count=1, root=hash_string(b"trades"))),
        (1_100_000, slot(1_000_000, None)),
        (1_900_000, missed(1_500_000, "notary")),
        (2_100_000, slot(2_000_000, 10)),
        (2_200_000, ClosedEntry(session=identifier("stream"), reason="prover_closed", messages=7)),
        (3_200_000, TickEntry()),
    ]
    return [logged_at(entry, T0 + at) for at, entry in planned]
