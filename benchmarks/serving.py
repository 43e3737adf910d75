"""What serving a feed takes: a slot of eleven venues to many consumers, some of whom read nothing.

The server runs in this process, the consumers in another; a slot is posted at its instant,
which is its id, so that a consumer knows how old it is.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from attestation.venues import venue_names
from benchmarks.figures import Figure
from benchmarks.storing import GRID_US, FeedRecords
from prover.feed.candles import Candles
from prover.feed.records import Received, Slot, Started
from prover.serve.app import make_app
from prover.serve.listening import bind
from prover.serve.metrics import FeedMetrics
from prover.serve.reading import FeedFacts, Settled
from prover.serve.server import serving
from prover.serve.service import Service

CONSUMERS = 200
STALLED = 20
"""So many more read nothing at all."""
SLOTS = 20
FEED = FeedFacts(
    feed="btc-usd",
    market="BTC/USD",
    venues=tuple(venue_names()),
    grid_us=GRID_US,
    late_us=1_000_000,
)


class NothingStored:
    """A store that is empty: consumers follow live slots alone."""

    def slots(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int
    ) -> list[Settled]:
        return []

    def slot_before(self, feed: str, notary: str, slot_us: int) -> Slot | None:
        return None

    def newest(self, feed: str, notary: str) -> int | None:
        return None

    def fill_candles(
        self, candles: Candles, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> None:
        return None

    def message(self, hash: str) -> Received | None:
        return None

    def session(self, session: str) -> Started | None:
        return None


def measure() -> list[Figure]:
    """Serves slots at their pace, and tells what it took and how soon consumers had them."""
    cpu, ages = asyncio.run(_serve())
    ordered = sorted(ages)
    if len(ordered) != CONSUMERS * SLOTS:
        raise AssertionError(f"{len(ordered)} of {CONSUMERS * SLOTS} slots were read")
    note = f"{CONSUMERS} consumers, and {STALLED} that read nothing"
    return [
        Figure(name=f"slot served to {CONSUMERS}, CPU", value=cpu * 1e3, unit="ms", note=note),
        Figure(
            name="slot at a consumer, p99",
            value=ordered[-(-len(ordered) * 99 // 100) - 1] / 1e3,
            unit="ms",
            note=f"from its instant, no notary; p50 {ordered[len(ordered) // 2] / 1e3:.1f} ms",
        ),
    ]


async def _serve() -> tuple[float, list[int]]:
    """Returns CPU seconds per slot, and the age in microseconds of each slot where it was read."""
    service = Service(FEED, NothingStored())
    app = make_app(service, metrics=FeedMetrics())

    async def end() -> None:
        await service.stop(1)

    async with serving(app, bind("127.0.0.1", 0), end) as url:
        records = FeedRecords(time.time_ns() // 1_000 // GRID_US * GRID_US)
        command = [sys.executable, "-m", "benchmarks.serving", url.rpartition(":")[2]]
        consumers = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        reading = asyncio.create_task(consumers.communicate())
        spent: list[float] = []
        while not reading.done():
            slot = await _next(records)
            everybody = service.streams.open == CONSUMERS + STALLED
            begun = time.process_time()
            service.take(slot)
            await asyncio.sleep(GRID_US / 1e6 / 2)
            if everybody:
                spent.append(time.process_time() - begun)
        ages: list[int] = json.loads(reading.result()[0])
    return statistics.median(spent), ages


async def _next(records: FeedRecords) -> Slot:
    """Returns the slot of the next instant of the grid, at that instant."""
    slot_us = (time.time_ns() // 1_000 // GRID_US + 1) * GRID_US
    slot = records.slot(slot_us)
    await asyncio.sleep(max(slot_us / 1e6 - time.time(), 0))
    return slot


async def _consume(port: int) -> list[int]:
    async def read() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/slots/events HTTP/1.1\r\nHost: feed\r\n\r\n")
        ages: list[int] = []
        while len(ages) < SLOTS:
            line = await reader.readline()
            if line.startswith(b"id: "):
                ages.append(time.time_ns() // 1_000 - int(line[4:]))
        return ages

    async def stall() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/slots/events HTTP/1.1\r\nHost: feed\r\n\r\n")
        await asyncio.sleep(3_600)

    stalled = [asyncio.create_task(stall()) for _ in range(STALLED)]
    found: Sequence[list[int]] = await asyncio.gather(*[read() for _ in range(CONSUMERS)])
    for task in stalled:
        task.cancel()
    return [age for ages in found for age in ages]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_consume(int(sys.argv[1])))))
