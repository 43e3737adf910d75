"""Runs a feed with everything around it, from start-up to a clean end.

State of the world: before the READY line the store is open and its newest slots are on
the boards.  On SIGTERM or SIGINT the streams end with the slot to go on from, then the
feed's connections are closed, then the store takes what still waits; what the notaries
go on to sign meanwhile is asked for at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

from fastapi import APIRouter

from attestation.errors import UnavailableError
from prover.feed.records import Sink
from prover.feed.store import Store
from prover.serve.app import make_app
from prover.serve.config import split_address
from prover.serve.listening import HttpServer, bind
from prover.serve.measures import Measures
from prover.serve.metrics import FeedMetrics
from prover.serve.reading import FeedFacts, SlotReader
from prover.serve.service import Service
from prover.serve.status import FeedStatus
from prover.serve.ticks import TickBoard

STREAMS_SECONDS = 3.0
"""How long consumers may take to read the end of their streams."""
LOOK_SECONDS = 1.0
FOLLOW_SECONDS = 0.5


class Engine(Protocol):
    """What runs a feed's connections."""

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until told to stop; raises what nothing can be done about."""


Announce = Callable[[str], None]
"""Takes the READY line."""
Show = Callable[[FeedStatus], contextlib.AbstractAsyncContextManager[None]]
"""Shows a feed's status while the context lasts."""


class Beside(Protocol):
    """What runs and is served beside a feed."""

    router: APIRouter

    async def run(self) -> None:
        """Runs until cancelled; raises what nothing can be done about."""

    async def close(self) -> None:
        """Waits for what it is doing."""


class Parts:
    """What takes a feed's records: in ``sinks``, in the order in which it does."""

    def __init__(
        self, facts: FeedFacts, store: Store, reader: SlotReader, measures: Measures
    ) -> None:
        self.facts = facts
        self.store = store
        self.service = Service(facts, reader)
        self.ticks = TickBoard()
        self.measures = measures
        # First what must not be lost, then who waits for it, then who looks on.
        self.sinks: tuple[Sink, ...] = (
            store.take,
            self.service.take,
            self.ticks.take,
            measures.take,
        )

    async def stop_streams(self) -> None:
        """Ends every stream, each with the slot to go on from."""
        self.ticks.closed.set()
        await self.service.stop(STREAMS_SECONDS)

    async def watch_store(self) -> None:
        """Measures the store every second, until cancelled."""
        while True:
            self.look_at_store()
            await asyncio.sleep(LOOK_SECONDS)

    def look_at_store(self) -> None:
        """Measures the store."""
        store, value = self.store, self.measures.value
        value("store_available", 0 if store.trouble else 1)
        value("spool_bytes", store.spooled_bytes)
        value("waiting_records", store.waiting)
        value("store_bytes", store.disk_bytes)
        reconciled = store.reconciled
        if reconciled is not None:
            value("reconcile_difference", reconciled.missing)
            value("lost_records", reconciled.lost)


async def run_feed(
    parts: Parts,
    engine: Engine,
    *,
    listen: str | None,
    origins: frozenset[str],
    announce: Announce,
    show: Show | None = None,
    stop: asyncio.Event,
    trading: Beside | None = None,
) -> None:
    """Runs a feed, and serves it if there is an address to ``listen`` on, until stopped.

    Raises UnavailableError if it cannot listen, and what ends the engine.
    """
    engine_stop = asyncio.Event()
    measures = parts.measures
    async with contextlib.AsyncExitStack() as stack:
        listener = None if listen is None else bind(*split_address(listen))
        await parts.service.load()
        url = None
        if listener is not None:
            app = make_app(
                parts.service,
                metrics=measures.metrics,
                ticks=parts.ticks,
                status=measures.status,
                origins=origins,
            )
            if trading is not None:
                stack.push_async_callback(trading.close)
                app.include_router(trading.router)
            url = await stack.enter_async_context(serving(app, listener, parts.stop_streams))
        watching = asyncio.create_task(parts.watch_store())
        stack.push_async_callback(_end, watching)
        running = asyncio.create_task(engine.run(engine_stop))
        stack.push_async_callback(_end, running)
        tasks = {running}
        if trading is not None:
            tasks.add(asyncio.create_task(trading.run()))
            stack.push_async_callback(_end, *tasks)
        if show is not None:
            await stack.enter_async_context(show(measures.status))
        announce(ready_line(parts.facts, url))
        spare_collector()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await parts.stop_streams()
        engine_stop.set()
        await running
        for task in tasks:
            if task.done():
                task.result()


async def serve_store(
    service: Service,
    *,
    notaries: Callable[[], tuple[str, ...]],
    listen: str,
    origins: frozenset[str],
    announce: Announce,
    stop: asyncio.Event,
) -> None:
    """Serves what a store has, and no feed, until stopped.

    What another process goes on to store is served too, within ``FOLLOW_SECONDS``;
    ``notaries`` reads, in a worker thread, whose slots there are.
    Raises UnavailableError if it cannot listen or read.
    """
    listener = bind(*split_address(listen))
    await service.load()
    app = make_app(service, metrics=FeedMetrics(), origins=origins)

    async def end_streams() -> None:
        await service.stop(STREAMS_SECONDS)

    async with serving(app, listener, end_streams) as url:
        following = asyncio.create_task(_follow(service, notaries))
        announce(ready_line(service.feed, url))
        await stop.wait()
        await _end(following)


async def _follow(service: Service, notaries: Callable[[], tuple[str, ...]]) -> None:
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        with contextlib.suppress(UnavailableError):
            await service.catch_up(await asyncio.to_thread(notaries))


@contextlib.asynccontextmanager
async def serving(
    app: Any, listener: socket.socket, end_streams: Callable[[], Awaitable[None]]
) -> AsyncIterator[str]:
    """Serves an application on a listening socket; gives its URL."""
    server = HttpServer(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait(
        {task, asyncio.create_task(server.listening.wait())},
        return_when=asyncio.FIRST_COMPLETED,
    )
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await end_streams()
        server.should_exit = True
        await task
        listener.close()


@contextlib.contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    """Sets ``stop`` at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread's loop can take signals; elsewhere `stop` is set.
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def ready_line(feed: FeedFacts, url: str | None) -> str:
    """Returns the READY line: one of JSON."""
    ready: dict[str, object] = {
        "type": "ready",
        "feed": feed.feed,
        "market": feed.market,
        "venues": list(feed.venues),
    }
    if url is not None:
        ready |= {"url": url, "port": int(url.rpartition(":")[2])}
    return json.dumps(ready)


def spare_collector() -> None:
    """Keeps what start-up made out of garbage collections, and these rare.

    A message makes no cycles: walking all modules for them would only show in the latency.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
