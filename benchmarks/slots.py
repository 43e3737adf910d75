"""What a feed's slots cost a notary: one of eleven venues, from its instant to its readers.

Live sessions are played, each with a new quote in each slot; store, log and signatures are
the notary's own.  CPU time is that of the process, its writer included.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from attestation.document import MessageRef
from attestation.keys import SEED_SIZE, SigningKey
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.venues import load_venue, venue_names
from benchmarks.figures import Figure
from notary.feeds import ClosedSlot, FeedBook, Lapsed
from notary.issue import Issued, accept_slot, sign
from notary.log.creation import create_log
from notary.log.ledger import Ledger
from notary.log.published import PublishedFile
from notary.log.publisher import Publisher
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer, inclusion_of
from notary.metrics import Metrics
from notary.signer import Signer
from notary.slot_board import SLOT, SlotEvent
from notary.slot_reader import PAGE, SlotReader
from notary.slot_store import MAX_MISSED, SlotStore
from notary.store import STORE_FILE, Store
from notary.writer import offline

SLOTS = 400
MISSED = 20 * MAX_MISSED
GRID = 500_000
_START = 1_768_478_400_000_000
_LOG = SigningKey(name="log.bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE))
_SIGNER = Signer(
    "bench.example",
    [SigningKey(name="bench.example", algorithm="ed25519", seed=b"\x01" * SEED_SIZE)],
)


@dataclasses.dataclass
class _Quote:
    bid: str
    ask: str
    exchange_us: int | None
    received_us: int
    messages: tuple[MessageRef, ...]


@dataclasses.dataclass
class _Observer:
    seen: _Quote | None = None
    malformed: bool = False


@dataclasses.dataclass(frozen=True)
class _Source:
    venue: str
    session: str
    opened: int
    observer: _Observer
    feed: str = "btc-usd"


@dataclasses.dataclass
class _Instant:
    """The notary's clock: it stands where it is put."""

    us: int = _START

    def __call__(self) -> int:
        return self.us


def measure() -> list[Figure]:
    """Attests slots, reads them again, and misses a run of others, in a temporary folder."""
    with TemporaryDirectory() as name:
        return asyncio.run(_measure(Path(name)))


async def _measure(folder: Path) -> list[Figure]:
    path, published = folder / STORE_FILE, folder / "checkpoint"
    with offline(path) as database:
        create_log(database, _LOG, PublishedFile(published))
    now = _Instant()

    def sequence(database: sqlite3.Connection) -> Sequencer:
        return Sequencer(database, _LOG, PublishedFile(published), now)

    store = Store(path, sequence=sequence)
    slots, feed = SlotStore(store), _feed()
    await slots.submit_entry(feed)
    book = FeedBook([feed], started_us=_START, clocks_agree=lambda: True)
    observers = _play(book, feed)
    waits: list[float] = []
    before = time.process_time()
    size = 0
    for number in range(1, SLOTS + 1):
        for observer in observers:
            observer.seen = _quote(now.us, number)
        now.us += GRID
        begun = time.perf_counter()
        (closed,) = book.take(now.us)
        assert isinstance(closed, ClosedSlot)
        size = len(await _attest(slots, closed, now))
        waits.append(time.perf_counter() - begun)
    spent = (time.process_time() - before) / SLOTS
    reading = await _read(path, store)
    missing = await _miss(slots, feed, now)
    store.close()
    return [
        Figure(
            name="slot of 11 venues, CPU",
            value=spent * 1e3,
            unit="ms",
            bar=5,
            note=f"closed, built, stored and logged with fsync, signed; {size} bytes to a reader",
        ),
        Figure(
            name="slot until handed out, p99",
            value=statistics.quantiles(waits, n=100)[98] * 1e3,
            unit="ms",
            bar=100,
            note=f"p50 {statistics.median(waits) * 1e3:.1f} ms, nothing else to do",
        ),
        Figure(
            name="stored slot read again",
            value=reading * 1e3,
            unit="ms",
            note=f"signed again and proven, in pages of {PAGE}",
        ),
        Figure(
            name="slot missed at a start",
            value=missing * 1e6,
            unit="us",
            note=f"a day of two a second is {missing * 172_800:.0f} s",
        ),
    ]


async def _attest(slots: SlotStore, closed: ClosedSlot, now: _Instant) -> bytes:
    accepted = accept_slot(
        closed,
        signer=_SIGNER,
        software="bench",
        identifier=os.urandom(16).hex(),
        seed=os.urandom(32),
        issued_us=now.us,
    )
    ticket = await slots.attest_slot(
        closed.feed.feed, closed.slot_us, accepted.header, accepted.encode()
    )
    issued = Issued(attestation=sign(accepted, _SIGNER), log=inclusion_of(ticket))
    return SlotEvent(closed.slot_us, SLOT, issued.encode()).encode()


async def _read(path: Path, store: Store) -> float:
    reader = LogReader(path)
    publisher = Publisher(
        store.latest_head, _LOG.verifying_key, reader, metrics=Metrics(), log=None
    )
    pages = SlotReader(path, _SIGNER, Ledger(reader, publisher))
    begun, count, from_us = time.perf_counter(), 0, 0
    while page := await pages.page("btc-usd", from_us, 2**53):
        count += len(page)
        from_us = page[-1].slot_us + 1
    spent = time.perf_counter() - begun
    pages.close()
    reader.close()
    return spent / count


async def _miss(slots: SlotStore, feed: FeedEntry, now: _Instant) -> float:
    first_us = now.us + GRID
    now.us += MISSED * GRID
    begun, count = time.perf_counter(), 0
    while count < MISSED:
        run = Lapsed(feed=feed, first_us=first_us + count * GRID, stop_us=now.us + GRID)
        count += len(await slots.miss_slots(run))
    return (time.perf_counter() - begun) / MISSED


def _feed() -> FeedEntry:
    usual = {name: load_venue(name) for name in venue_names()}
    return FeedEntry(
        feed="btc-usd",
        venues=tuple(
            [
                FeedVenue(venue=name, instrument=file.instrument("BTC/USD"), venue_file=file.hash)
                for name, file in usual.items()
            ]
        ),
        market="BTC/USD",
        grid_us=GRID,
        late_us=1_000_000,
        provers=(_LOG.verifying_key.vkey,),
        from_us=_START + GRID,
    )


def _play(book: FeedBook, feed: FeedEntry) -> list[_Observer]:
    observers = []
    for number, venue in enumerate(feed.venues):
        observer = _Observer()
        book.started(_Source(venue.venue, os.urandom(16).hex(), number, observer))
        observers.append(observer)
    return observers


def _quote(received_us: int, number: int) -> _Quote:
    reference = MessageRef(index=number, hash=f"sha256:{os.urandom(32).hex()}")
    return _Quote(f"96500.{number}1", f"96501.{number}1", received_us, received_us, (reference,))
