"""What storing a feed takes: how many records a second, and how soon each is stored.

Eleven venues' messages of 200 bytes, and each half second a slot that names one of each.
"""

from __future__ import annotations

import tempfile
import time
from itertools import count
from pathlib import Path

from attestation.document import (
    Attestation,
    Field,
    Header,
    MessageRef,
    NotaryField,
    ObservationField,
    SlotField,
)
from attestation.hashing import hash_string
from attestation.venues import venue_names
from benchmarks.figures import Figure
from prover.feed.records import Received, Record, Slot
from prover.feed.store import Store

RATE = 1_100
"""Messages a second: eleven venues at a hundred each."""
SECONDS = 10
BURST = 30_000
GRID_US = 500_000
_START_US = 1_768_478_400_000_000


def measure() -> list[Figure]:
    """Stores a burst as fast as it goes, then messages at the expected rate."""
    with tempfile.TemporaryDirectory() as name:
        burst = _burst(Path(name) / "burst")
        waits = sorted(_paced(Path(name) / "paced"))
    per_record = Figure(
        name="record stored, busy",
        value=burst * 1e6,
        unit="us",
        note=f"{1e-3 / burst:.0f} k/s, 200 B messages and slots of eleven venues",
    )
    return [per_record, *(_percentile(waits, percent) for percent in (50, 95, 99))]


def _percentile(waits: list[float], percent: int) -> Figure:
    return Figure(
        name=f"received -> stored, p{percent}",
        value=waits[-(-len(waits) * percent // 100) - 1] * 1e3,
        unit="ms",
        bar=50.0 if percent == 99 else None,
        note=f"at {RATE:,} messages a second for {SECONDS} s",
    )


def _burst(folder: Path) -> float:
    """Returns the wall seconds per record of as many as there are."""
    store = Store(folder, now_us=lambda: _START_US)
    feed = FeedRecords(_START_US)
    records = [record for _ in range(BURST // RATE) for record in feed.second()]
    begun = time.perf_counter()
    for record in records:
        store.take(record)
    if not store.flush(120):
        raise AssertionError("the burst was not stored in two minutes")
    seconds = time.perf_counter() - begun
    stored = sum(row.stored for row in store.reconcile().rows)
    store.close()
    if stored != len(records):
        raise AssertionError(f"{stored} of {len(records)} records were stored")
    return seconds / len(records)


def _paced(folder: Path) -> list[float]:
    """Returns the seconds that each record took."""
    waits: list[float] = []
    store = Store(folder, on_stored=waits.append)
    feed = FeedRecords(_START_US)
    begun, given = time.perf_counter(), 0
    for _ in range(SECONDS):
        second = feed.second()
        for record in second:
            due = begun + given / len(second)
            while (left := due - time.perf_counter()) > 0:
                time.sleep(min(left, 0.001))
            store.take(record)
            given += 1
    if not store.flush(60):
        raise AssertionError("not everything was stored")
    store.close()
    if len(waits) != given:
        raise AssertionError(f"{len(waits)} of {given} records were stored")
    return waits


class FeedRecords:
    """A feed's records, second by second, after an instant; nobody verifies its slots."""

    def __init__(self, start_us: int) -> None:
        self._venues = venue_names()
        self._sessions = {venue: f"{number:032x}" for number, venue in enumerate(self._venues)}
        self._indices = {venue: count() for venue in self._venues}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._slot_us = start_us

    def second(self) -> list[Record]:
        """Returns a second's messages, and after each half its slot."""
        records: list[Record] = []
        for _ in range(2):
            for number in range(RATE // 2):
                records.append(self._message(self._venues[number % len(self._venues)]))
            self._slot_us += GRID_US
            records.append(self.slot(self._slot_us))
        return records

    def _message(self, venue: str) -> Received:
        index = next(self._indices[venue])
        text = f'{{"u":{index},"s":"BTCUSDT","b":"{64_000 + index % 97}.10","a":"64100.{index}"'
        payload = (text.ljust(199, "0") + "}").encode()
        self._last[venue] = index, payload
        return Received(
            notary="notary.example",
            venue=venue,
            session=self._sessions[venue],
            index=index,
            received_us=self._slot_us,
            payload=payload,
        )

    def slot(self, slot_us: int) -> Slot:
        """Returns the slot of an instant, on the latest message of each venue."""
        head = SlotField(feed="btc-usd", market="BTC/USD", slot_us=slot_us, venues=self._venues)
        fields = [Field(name="slot", value=head.to_json())]
        for venue in self._venues:
            index, payload = self._last.get(venue, (0, b""))
            observation = ObservationField(
                venue=venue,
                instrument="BTCUSDT",
                bid="64000.1",
                ask="64100.2",
                received_us=slot_us - 1,
                session=self._sessions[venue],
                messages=(MessageRef(index=index, hash=hash_string(payload)),),
            )
            fields.append(Field(name="observation", value=observation.to_json()))
        notary = NotaryField(name="notary.example", vkey="-", software="benchmark")
        fields.append(Field(name="notary", value=notary.to_json()))
        # Nobody verifies it here: its size is what counts.
        header = Header(
            id=f"{slot_us:032x}",
            key="notary.example+00000000",
            root=hash_string(fields[1].encode()),
            size=len(fields),
            issued_us=slot_us + 20_000,
        )
        attestation = Attestation(
            header=header, signature="ab" * 64, fields=tuple(fields), seed="cd" * 32
        )
        return Slot(notary="notary.example", attestation=attestation)
