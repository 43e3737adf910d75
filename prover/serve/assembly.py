"""From a configuration to what runs: notaries, store, feed, server."""

from __future__ import annotations

import asyncio
import contextlib

from attestation.errors import UsageError
from prover.feed.store_reads import StoreReader
from prover.serve.config import FeedSettings
from prover.serve.reading import FeedFacts
from prover.serve.server import Announce, serve_store
from prover.serve.service import Service


async def serve_stored(
    settings: FeedSettings, *, announce: Announce, stop: asyncio.Event | None = None
) -> None:
    """Serves what the configured store has of the configured feed, and runs none.

    Raises UsageError if it has nothing of it, UnavailableError if it cannot be read.
    """
    reader = StoreReader(settings.data)
    with contextlib.closing(reader):
        facts = await asyncio.to_thread(stored_facts, settings, reader)
        await serve_store(
            Service(facts, reader),
            listen=settings.listen,
            origins=frozenset(settings.origins),
            announce=announce,
            stop=stop,
        )


def stored_facts(settings: FeedSettings, reader: StoreReader) -> FeedFacts:
    """Returns what a store says of the configured feed: its notaries are those it has."""
    found = [stream for stream in reader.streams() if stream.feed == settings.name]
    if not found:
        known = sorted({stream.feed for stream in reader.streams()})
        raise UsageError(
            "the store has no such feed", rule="name", found=settings.name, wanted=known
        )
    return facts_of(settings, tuple([stream.notary for stream in found]))


def facts_of(settings: FeedSettings, notaries: tuple[str, ...]) -> FeedFacts:
    """Returns what the configuration says of a feed, with the names of its notaries."""
    return FeedFacts(
        feed=settings.name,
        market=settings.market,
        venues=tuple(settings.listed),
        notaries=notaries,
        grid_us=settings.grid_ms * 1_000,
        late_us=settings.late_ms * 1_000,
    )
