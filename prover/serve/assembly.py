"""From a configuration to what runs: notaries, store, feed, server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

from attestation.errors import UnavailableError, UsageError
from attestation.trust import Trust
from prover.feed.candles import Candles
from prover.feed.engine import Feed, FeedConfig
from prover.feed.records import Received, Slot, Started
from prover.feed.store import Store
from prover.feed.store_expiry import Retention
from prover.feed.store_reads import StoreReader
from prover.key_file import read_key_file
from prover.notary_client import Notary
from prover.serve.app import system_now_us
from prover.serve.config import FeedSettings, split_address
from prover.serve.measures import Measures
from prover.serve.metrics import FeedMetrics
from prover.serve.reading import FeedFacts, Settled
from prover.serve.server import Announce, Parts, Show, run_feed, serve_store, signals
from prover.serve.service import Service
from prover.serve.status import FeedStatus
from prover.serve.trading import Trading


class SettledReader:
    """A store's read side that answers for all slots, or not at all.

    While the store's writer has records elsewhere - in its spool - slots may be missing
    that are known: their absence must not be told for knowledge.
    """

    def __init__(self, store: Store, reader: StoreReader) -> None:
        self._store, self._reader = store, reader

    def slots(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int
    ) -> list[Settled]:
        """As ``StoreReader.slots``; raises UnavailableError while slots are in the spool."""
        self._check()
        return self._reader.slots(feed, notary, from_us=from_us, to_us=to_us, limit=limit)

    def slot_before(self, feed: str, notary: str, slot_us: int) -> Slot | None:
        """As ``StoreReader.slot_before``; raises UnavailableError as ``slots`` does."""
        self._check()
        return self._reader.slot_before(feed, notary, slot_us)

    def newest(self, feed: str, notary: str) -> int | None:
        """As ``StoreReader.newest``."""
        return self._reader.newest(feed, notary)

    def fill_candles(
        self, candles: Candles, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> None:
        """As ``StoreReader.fill_candles``."""
        self._reader.fill_candles(candles, feed, notary, from_us=from_us, to_us=to_us)

    def message(self, hash: str) -> Received | None:
        """As ``StoreReader.message``."""
        return self._reader.message(hash)

    def session(self, session: str) -> Started | None:
        """As ``StoreReader.session``."""
        return self._reader.session(session)

    def _check(self) -> None:
        if self._store.trouble is not None or self._store.spooled_bytes:
            raise UnavailableError("the newest records wait in the spool", rule="store")


async def run_configured(
    settings: FeedSettings,
    *,
    listen: str | None,
    announce: Announce,
    show: Show | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Runs the configured feed, and serves it if there is an address to ``listen`` on.

    Raises UsageError for files that do not serve, UnavailableError for a store or address
    that cannot be had.
    """
    stop = stop or asyncio.Event()
    key, trust, roots = read_key_file(settings.key), _trust(settings.trust), _roots(settings)
    facts = facts_of(settings)
    measures = Measures(FeedMetrics(), FeedStatus(facts), system_now_us)
    async with contextlib.AsyncExitStack() as stack:
        # From here on whatever ends the process lets the store take what waits.
        stack.enter_context(signals(stop))
        store = await asyncio.to_thread(
            Store,
            settings.data,
            spool=settings.spool,
            retention=Retention(evidence_days=settings.evidence_days),
            on_stored=measures.stored,
        )
        stack.push_async_callback(asyncio.to_thread, store.close)
        reader = stack.enter_context(contextlib.closing(StoreReader(settings.data)))
        facts = dataclasses.replace(facts, notaries=_stored_notaries(settings, reader))
        for notary in facts.notaries:
            measures.status.meet(notary)
        parts = Parts(facts, store, SettledReader(store, reader), measures)
        notaries = [
            stack.enter_context(Notary(url, prover_key=key, trust=trust, roots_pem=roots))
            for url in settings.notaries
        ]
        feed = Feed(
            engine_config(settings, roots),
            notaries,
            parts.sinks,
            metrics=measures,
            resume=store.latest_slot,
            recall=lambda *place: _recall(reader, *place),
        )
        measures.status.engine = feed
        trading = None
        if settings.trades is not None and listen is not None:
            trading = Trading(
                settings,
                feed.config.plan(key.verifying_key.vkey),
                notaries,
                key=key,
                trust=trust,
            )
        await run_feed(
            parts,
            feed,
            trading=trading,
            listen=listen,
            origins=frozenset(settings.origins),
            announce=announce,
            show=show,
            stop=stop,
        )


def engine_config(settings: FeedSettings, roots: bytes | None) -> FeedConfig:
    """Returns what the feed itself is to know."""
    development = settings.development
    connect_to = None if development is None else development.connect_to
    return FeedConfig(
        feed=settings.name,
        market=settings.market,
        venues=tuple(settings.listed),
        grid_us=settings.grid_ms * 1_000,
        late_us=settings.late_ms * 1_000,
        incidents=settings.data / "incidents",
        secrets=settings.data / "secrets",
        roots_pem=roots,
        connect_to=None if connect_to is None else split_address(connect_to),
        # Trades take live quotes alone: one by REST would count as withheld.
        rest_fallback=settings.trades is None,
    )


async def serve_stored(
    settings: FeedSettings, *, announce: Announce, stop: asyncio.Event | None = None
) -> None:
    """Serves what the configured store has of the configured feed, and runs none.

    Raises UsageError if it has nothing of it, UnavailableError if it cannot be read.
    """
    reader, stop = StoreReader(settings.data), stop or asyncio.Event()
    with contextlib.closing(reader), signals(stop):
        facts = await asyncio.to_thread(stored_facts, settings, reader)
        await serve_store(
            Service(facts, reader),
            notaries=lambda: _stored_notaries(settings, reader),
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


def facts_of(settings: FeedSettings, notaries: tuple[str, ...] = ()) -> FeedFacts:
    """Returns what the configuration says of a feed, with the names of its notaries."""
    return FeedFacts(
        feed=settings.name,
        market=settings.market,
        venues=tuple(settings.listed),
        notaries=notaries,
        grid_us=settings.grid_ms * 1_000,
        late_us=settings.late_ms * 1_000,
    )


def _stored_notaries(settings: FeedSettings, reader: StoreReader) -> tuple[str, ...]:
    """Returns whose slots are stored; a store that is away is no reason not to feed."""
    try:
        return tuple([s.notary for s in reader.streams() if s.feed == settings.name])
    except UnavailableError:
        return ()


def _recall(reader: StoreReader, notary: str, session: str, index: int) -> bytes | None:
    """Returns a message that was kept; None for one that was not, or cannot be read now."""
    try:
        found = reader.message_at(notary, session, index)
    except UnavailableError:
        return None
    return None if found is None else found.payload


def _trust(path: Path) -> Trust:
    if not path.exists():
        raise UsageError(f"no trust file at {path}", rule="trust")
    return Trust.parse(path.read_bytes())


def _roots(settings: FeedSettings) -> bytes | None:
    """Returns the roots of simulated venues beside certifi's, None for certifi's alone."""
    if settings.development is None or not settings.development.roots:
        return None
    return b"\n".join([path.read_bytes() for path in settings.development.roots])
