"""The latest quote of each venue, for display: what comes in between is left out."""

from __future__ import annotations

import asyncio

from attestation.encoding import JsonObject, encode
from prover.feed.records import Record, Tick
from prover.serve.documents import Venues
from prover.serve.sending import HEARTBEAT, Chunks, server_sent_event
from prover.serve.stream import HEARTBEAT_SECONDS


class TickBoard:
    """One quote per venue, the last one that any notary's connection brought."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, Tick]] = {}
        self._version = 0
        self.closed = asyncio.Event()

    def take(self, record: Record) -> None:
        """Keeps a tick instead of the one before it (a ``prover.feed.records.Sink``)."""
        if isinstance(record, Tick):
            kept = self._latest.get(record.venue)
            if kept is None or kept[1].received_us <= record.received_us:
                self._version += 1
                self._latest[record.venue] = self._version, record

    def since(self, version: int) -> tuple[int, list[Tick]]:
        """Returns the version now, and the quotes that are newer than the one given."""
        newer = sorted(item for item in self._latest.items() if item[1][0] > version)
        return self._version, [tick for _, (_, tick) in newer]

    async def events(self, venues: Venues | None, seconds: float) -> Chunks:
        """Yields each venue's latest quote, no more often than every ``seconds``."""
        version, silent = 0, 0.0
        while not self.closed.is_set():
            version, ticks = self.since(version)
            sent = False
            for tick in ticks:
                if venues is None or tick.venue in venues:
                    sent = True
                    yield server_sent_event("tick", encode(tick_json(tick)))
            silent = 0.0 if sent else silent + seconds
            if silent >= HEARTBEAT_SECONDS:
                silent = 0.0
                yield HEARTBEAT
            try:
                async with asyncio.timeout(seconds):
                    await self.closed.wait()
            except TimeoutError:
                continue


def tick_json(tick: Tick) -> JsonObject:
    """Returns a tick's document, marked as what it is."""
    document = tick.to_json()
    del document["type"]
    return {"indicative": True, **document}
