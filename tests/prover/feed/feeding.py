"""A notary with a log, and feeds of the simulated venues through it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from attestation.document import Attestation, GapField, ObservationField
from attestation.keys import SigningKey
from attestation.venues import shipped_venues, venue_names
from examples.venues.server import ThreadedVenueServer
from prover.feed.engine import Feed, FeedConfig
from prover.feed.records import Record, Slot
from prover.feed.registration import FeedPlan, register
from prover.flow import run
from prover.notary_client import Notary
from tests.prover.feed.direct import MARKET, Tape
from tests.prover.stage import PROVER, RunningNotary, running_notary

FEED = "btc-usd"
NAMES = venue_names()
LOG_KEY = SigningKey(name="log.example/a", algorithm="ed25519", seed=b"\x0a" * 32)


def client_of(running: RunningNotary) -> Notary:
    """A prover's view of a running notary."""
    return Notary(running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem)


@contextmanager
def notary_with_log(folder: Path, venues: ThreadedVenueServer) -> Iterator[RunningNotary]:
    """Runs a notary that keeps a log."""
    with running_notary(folder, venues, log=LOG_KEY) as running:
        yield running


@contextmanager
def notary_with_feed(folder: Path, venues: ThreadedVenueServer) -> Iterator[RunningNotary]:
    """Runs a notary whose log has the feed of every venue."""
    with notary_with_log(folder, venues) as running, client_of(running) as client:
        plan = FeedPlan(
            feed=FEED,
            market=MARKET,
            venues=tuple(shipped_venues()),
            provers=(PROVER.verifying_key.vkey,),
        )
        run(register(client, plan, wall_us), client.timeouts)
        yield running


def wall_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000


def altered(attestation: Attestation, index: int, **members: Any) -> Attestation:
    """The attestation with other members in one field, and nothing else changed."""
    fields = list(attestation.fields)
    fields[index] = dataclasses.replace(fields[index], value={**fields[index].value, **members})
    return dataclasses.replace(attestation, fields=tuple(fields))


class Counts:
    """Metrics as a test reads them."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()

    def count(self, name: str, /, **labels: str) -> None:
        self.counted[name, frozenset(labels.items())] += 1

    def value(self, name: str, value: float, /, **labels: str) -> None:
        assert 0 <= value <= 1 or not name.endswith("_ratio")

    def hop(self, hop: str, seconds: float, /, **labels: str) -> None:
        pass

    def total(self, name: str, **labels: str) -> int:
        return sum(
            count
            for (found, shown), count in self.counted.items()
            if found == name and labels.items() <= dict(shown).items()
        )


@dataclasses.dataclass
class Fed:
    """A feed at work."""

    feed: Feed
    tape: Tape
    counts: Counts

    @property
    def slots(self) -> list[Slot]:
        return [one for one in self.tape.records if isinstance(one, Slot)]

    async def slot(self, wanted: Callable[[dict[str, ObservationField | GapField]], bool]) -> Slot:
        """Waits for a slot from now on whose fields are as wanted."""
        seen = len(self.slots)

        def found() -> bool:
            nonlocal seen
            slots = self.slots
            while seen < len(slots):
                if wanted(slots[seen].fields):
                    return True
                seen += 1
            return False

        await self.tape.until(lambda _: found())
        return self.slots[seen]


@asynccontextmanager
async def feeding(
    server: ThreadedVenueServer,
    notaries: Sequence[Notary],
    *,
    sinks: Sequence[Callable[[Record], None]] = (),
    resume: Callable[[str, str], int | None] = lambda notary, feed: None,
    **changes: Any,
) -> AsyncIterator[Fed]:
    """Runs a feed until the end of the block, and closes it cleanly."""
    members: dict[str, Any] = {
        "feed": FEED,
        "market": MARKET,
        "venues": NAMES,
        "grid_us": 200_000,
        "late_us": 1_000_000,
        "roots_pem": server.ca_pem,
        "connect_to": ("127.0.0.1", server.port),
        "rest_fallback": False,
    }
    tape, counts = Tape(), Counts()
    config = FeedConfig(**{**members, **changes})
    feed = Feed(config, notaries, [tape, *sinks], metrics=counts, resume=resume)
    stop = asyncio.Event()
    task = asyncio.create_task(feed.run(stop))
    try:
        yield Fed(feed, tape, counts)
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task
