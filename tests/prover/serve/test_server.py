"""A feed with everything around it: started, shown, served, stopped; and a store alone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.errors import UnavailableError, UsageError
from prover.feed.records import Record, Sink
from prover.feed.store import Store
from prover.feed.store_database import DATABASE_FILE
from prover.feed.store_reads import StoreReader
from prover.serve import server
from prover.serve.app import make_app
from prover.serve.assembly import SettledReader, serve_stored
from prover.serve.config import FeedSettings, load_config
from prover.serve.measures import Measures
from prover.serve.metrics import FeedMetrics
from prover.serve.server import Parts, run_feed
from prover.serve.service import Service
from prover.serve.status import FeedStatus
from tests.prover.serve.feeding import ALPHA, BETA, FEED, MemoryStore, a_miss, a_slot, at, until


class Script:
    """An engine that emits what a test gives it, until it is cancelled or told to fail."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self.ended = False
        self.failure: asyncio.Future[None] | None = None

    def take(self, record: Record) -> None:
        for sink in self._sinks:
            sink(record)

    async def run(self, stop: asyncio.Event) -> None:
        self.failure = asyncio.get_running_loop().create_future()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({self.failure, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self.ended = True
        if self.failure.done():
            self.failure.result()


def open_store(folder: Path) -> Store:
    """At the time of the slots: else they would have expired."""
    return Store(folder, now_us=lambda: at(100))


def parts_of(store: Store, folder: Path) -> Parts:
    measures = Measures(FeedMetrics(), FeedStatus(FEED), lambda: at(100))
    return Parts(FEED, store, StoreReader(folder), measures)


def stored(folder: Path, *records: Record) -> None:
    store = open_store(folder)
    for record in records:
        store.take(record)
    store.close()


def settings(folder: Path, **more: Any) -> FeedSettings:
    given = {
        "name": FEED.feed,
        "market": FEED.market,
        "venues": FEED.venues,
        "notaries": ["http://127.0.0.1:9"],
        "data": folder,
        "listen": "127.0.0.1:0",
    }
    return load_config(None, {**given, **more}, development=False)


def test_a_feed_is_served_from_its_first_record_on_and_stored_when_it_has_ended(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        store = open_store(tmp_path)
        parts = parts_of(store, tmp_path)
        engine = Script(parts.sinks)
        stop = asyncio.Event()
        said: list[str] = []
        running = asyncio.create_task(
            run_feed(
                parts,
                engine,
                listen="127.0.0.1:0",
                origins=frozenset(),
                announce=said.append,
                stop=stop,
            )
        )
        await until(lambda: bool(said))
        ready = json.loads(said[0])
        assert (ready["type"], ready["feed"]) == ("ready", FEED.feed)
        async with httpx.AsyncClient(base_url=ready["url"]) as client:
            for number in range(3):
                engine.take(a_slot(number))
            page = (await client.get("/v1/slots", params={"from": at(0)})).json()
            assert [row["slot_us"] for row in page["slots"]] == [at(0), at(1), at(2)]
            metrics = (await client.get("/metrics")).text
            assert f'quotary_slots_total{{notary="{ALPHA}"}} 3.0' in metrics
            assert "quotary_store_available 1.0" in metrics
        stop.set()
        await running
        assert engine.ended
        store.close()

    asyncio.run(go())
    assert len(StoreReader(tmp_path).slots(FEED.feed, ALPHA, from_us=0, to_us=2**53, limit=9)) == 3


def test_what_ends_the_engine_ends_the_server_with_its_error(tmp_path: Path) -> None:
    async def go() -> None:
        store = open_store(tmp_path)
        parts = parts_of(store, tmp_path)
        engine = Script(parts.sinks)
        said: list[str] = []
        running = asyncio.create_task(
            run_feed(
                parts,
                engine,
                listen=None,
                origins=frozenset(),
                announce=said.append,
                stop=asyncio.Event(),
            )
        )
        await until(lambda: bool(said) and engine.failure is not None)
        assert engine.failure is not None
        engine.failure.set_exception(UsageError("the feed is another's", rule="feed"))
        try:
            with pytest.raises(UsageError, match="another's"):
                await running
        finally:
            store.close()

    asyncio.run(go())


def test_while_the_store_is_away_new_slots_are_served_and_old_ones_refused_not_forgotten(
    tmp_path: Path,
) -> None:
    stored(tmp_path, *(a_slot(n) for n in range(100)))

    async def go() -> None:
        store = open_store(tmp_path)
        reader = StoreReader(tmp_path)
        measures = Measures(FeedMetrics(), FeedStatus(FEED), lambda: at(200))
        parts = Parts(
            dataclasses.replace(FEED, notaries=(ALPHA,)),
            store,
            SettledReader(store, reader),
            measures,
        )
        await parts.service.load()
        other = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        engine = Script(parts.sinks)
        for number in range(100, 110):
            engine.take(a_slot(number))
        await until(lambda: store.trouble is not None)
        parts.look_at_store()
        assert measures.status.to_json(at(110))["store"]["store_available"] == 0  # type: ignore[index,call-overload]
        app = make_app(parts.service, metrics=measures.metrics)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
            new = await client.get("/v1/slots", params={"from": at(90), "limit": 500})
            assert len(new.json()["slots"]) == 20
            old = await client.get("/v1/slots", params={"from": at(0)})
            assert (old.status_code, old.json()["rule"]) == (503, "store_away")
            other.execute("ROLLBACK")
            await until(lambda: store.trouble is None and not store.spooled_bytes)
            all_of_them = await client.get("/v1/slots", params={"from": at(0), "limit": 500})
            found = [row["slot_us"] for row in all_of_them.json()["slots"]]
            assert found == [at(n) for n in range(110)]
        other.close()
        await asyncio.to_thread(store.close)

    asyncio.run(go())


def test_what_was_stored_is_found_also_where_the_store_was_away_at_the_start() -> None:
    store = MemoryStore()
    store.add(*(a_slot(n) for n in range(8)))

    async def go() -> list[int]:
        service = Service(FEED, store)
        store.away = True
        await service.load()
        with pytest.raises(UnavailableError):
            service.board(None)
        for number in range(8, 12):
            service.take(a_slot(number))
        store.away = False
        app = make_app(service, metrics=FeedMetrics())
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
            page = (await client.get("/v1/slots", params={"from": at(0)})).json()
        return [row["slot_us"] for row in page["slots"] if "presentation" in row]

    assert asyncio.run(go()) == [at(n) for n in range(12)]


def test_a_consumer_that_takes_nothing_keeps_no_server_from_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STREAMS_SECONDS", 0.1)

    async def go() -> None:
        store = open_store(tmp_path)
        parts = parts_of(store, tmp_path)
        engine, stop, said = Script(parts.sinks), asyncio.Event(), list[str]()
        running = asyncio.create_task(
            run_feed(
                parts,
                engine,
                listen="127.0.0.1:0",
                origins=frozenset(),
                announce=said.append,
                stop=stop,
            )
        )
        await until(lambda: bool(said))
        for number in range(590):
            engine.take(a_slot(number))
        with socket.create_connection(("127.0.0.1", json.loads(said[0])["port"])) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            request = f"GET /v1/slots/events?from={at(0)} HTTP/1.1\r\nHost: feed\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(_unblocked(stalled), request.encode())
            await until(lambda: bool(parts.service.streams.open))
            for _ in range(5_000):  # more turns than there are slots: the stream is stuck
                await asyncio.sleep(0)
            stop.set()
            async with asyncio.timeout(30):
                await running
        store.close()

    asyncio.run(go())
    assert caplog.text == ""


def _unblocked(connection: socket.socket) -> socket.socket:
    connection.setblocking(False)
    return connection


def test_an_address_that_is_taken_is_said_before_anything_runs(tmp_path: Path) -> None:
    async def go() -> None:
        store = open_store(tmp_path)
        try:
            parts = parts_of(store, tmp_path)
            engine = Script(parts.sinks)
            with pytest.raises(UnavailableError, match=r"cannot listen on 192\.0\.2\.1 port 7"):
                await run_feed(
                    parts,
                    engine,
                    listen="192.0.2.1:7",
                    origins=frozenset(),
                    announce=lambda _: None,
                    stop=asyncio.Event(),
                )
            assert engine.failure is None
        finally:
            store.close()

    asyncio.run(go())


def test_after_a_restart_stored_slots_and_new_ones_are_one_history(tmp_path: Path) -> None:
    stored(tmp_path, *(a_slot(n) if n != 3 else a_miss(3) for n in range(8)))

    async def go() -> list[int]:
        store = open_store(tmp_path)
        parts = parts_of(store, tmp_path)
        await parts.service.load()
        for number in range(6, 12):  # some are asked for again
            parts.service.take(a_slot(number))
        board = parts.service.board(None)
        page = await parts.service.find(board, at(4))
        assert page is not None and page.previous is not None
        assert (page.previous.slot_us, page.missed[0].slot_us) == (at(2), at(3))
        numbers = [n for n in range(12) if board.get(at(n)) is not None]
        store.close()
        return numbers

    assert asyncio.run(go()) == list(range(12))


def test_a_store_alone_is_served_while_another_process_writes_to_it(tmp_path: Path) -> None:
    stored(tmp_path, *(a_slot(n, notary=BETA) for n in range(4)))

    async def go() -> None:
        stop, said = asyncio.Event(), list[str]()
        running = asyncio.create_task(
            serve_stored(settings(tmp_path), announce=said.append, stop=stop)
        )
        await until(lambda: bool(said))
        url = json.loads(said[0])["url"]
        writing = open_store(tmp_path)
        writing.take(a_slot(4, notary=BETA))
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            asked = {"from": at(2), "notary": BETA}
            async with client.stream("GET", "/v1/slots/events", params=asked) as answer:
                seen = []
                async for line in answer.aiter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line.removeprefix("id: ")))
                    if seen[-1:] == [at(4)]:
                        break
            assert seen == [at(2), at(3), at(4)]
            # Of a notary that the store did not have before.
            writing.take(a_slot(4))
            found = 0
            while found != 200:
                asked = {"from": at(4), "notary": ALPHA}
                found = (await client.get("/v1/slots", params=asked)).status_code
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/status")).status_code == 404
        stop.set()
        await running
        writing.close()

    asyncio.run(go())


def test_a_store_without_the_feed_is_not_served(tmp_path: Path) -> None:
    stored(tmp_path, a_slot(0))

    async def go(folder: Path, name: str) -> None:
        await serve_stored(settings(folder, name=name), announce=lambda _: None)

    with pytest.raises(UsageError) as error:
        asyncio.run(go(tmp_path, "eth-usd"))
    assert error.value.wanted == [FEED.feed]
    with pytest.raises(UnavailableError):
        asyncio.run(go(tmp_path / "nothing", FEED.feed))


def test_the_newest_slot_of_a_store_is_the_newest_whether_attested_or_missed(
    tmp_path: Path,
) -> None:
    stored(tmp_path, *(a_slot(n, notary=BETA) for n in range(3)), a_slot(7), a_miss(5))
    reader = StoreReader(tmp_path)
    assert reader.newest(FEED.feed, ALPHA) == at(7)
    assert reader.newest(FEED.feed, BETA) == at(2)
    assert reader.newest("eth-usd", ALPHA) is None


def test_the_stores_thread_may_measure_while_the_screen_is_drawn(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    parts = parts_of(store, tmp_path)
    threads = [
        threading.Thread(target=lambda: [parts.measures.stored(0.001) for _ in range(5_000)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert (
            parts.measures.status.hops.percentiles().get("stored", {"p99_us": 1_000})["p99_us"]
            == 1_000
        )
        parts.measures.metrics.render()
    store.close()
    counted = parts.measures.metrics.render().decode()
    assert 'quotary_hop_seconds_count{hop="stored"} 10000.0' in counted
