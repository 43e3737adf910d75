"""Streams over real sockets: server-sent events, WebSocket, slow consumers, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from attestation.errors import IncompleteError
from examples.read_slots import attested_quotes
from prover.feed.records import Tick
from prover.serve import sending
from prover.serve.app import make_app
from prover.serve.metrics import FeedMetrics
from prover.serve.service import Service
from prover.serve.stream import MAX_BEHIND
from prover.serve.ticks import TickBoard
from tests.prover.serve.feeding import (
    ALPHA,
    FEED,
    TRUST,
    MemoryStore,
    a_miss,
    a_slot,
    at,
    served,
    until,
)
from verifier import VerifiedQuote

Event = dict[str, Any]


class Feed:
    """A served feed whose slots are posted by hand."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.service = Service(FEED, self.store)
        self.ticks = TickBoard()
        self.app: FastAPI = make_app(self.service, metrics=FeedMetrics(), ticks=self.ticks)

    def post(self, *numbers: int) -> None:
        for number in numbers:
            slot = a_miss(number) if number % 5 == 4 else a_slot(number)
            self.store.add(slot)
            self.service.take(slot)


def run(test: Callable[[Feed, str], Coroutine[Any, Any, None]]) -> None:
    async def go() -> None:
        feed = Feed()
        async with asyncio.timeout(60), served(feed.app) as url:
            await test(feed, url)

    asyncio.run(go())


@contextlib.asynccontextmanager
async def events(
    url: str, headers: dict[str, str] | None = None, **parameters: Any
) -> AsyncIterator[AsyncIterator[Event]]:
    """Reads server-sent events as (event, id, data)."""

    async def read(answer: httpx.Response) -> AsyncIterator[Event]:
        event: Event = {}
        async for line in answer.aiter_lines():
            if not line and "data" in event:
                yield event
            if not line:
                event = {}
            name, _, value = line.partition(": ")
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = json.loads(value)

    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        async with client.stream(
            "GET", "/v1/slots/events", params=parameters, headers=headers
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield read(answer)


async def take(source: AsyncIterator[Any], count: int) -> list[Any]:
    return [await anext(source) for _ in range(count)]


def ws(url: str, query: str = "") -> str:
    return f"ws{url.removeprefix('http')}/v1/slots/ws{query}"


def test_an_event_stream_goes_from_history_into_live_slots() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(0, 1, 2, 3, 4)
        async with events(url, **{"from": at(1)}) as stream:
            found = await take(stream, 4)
            feed.post(5)
            found += await take(stream, 1)
        assert [event["data"]["slot_us"] for event in found] == [at(n) for n in range(1, 6)]
        assert [event["id"] for event in found] == [str(at(n)) for n in range(1, 6)]
        assert [event["event"] for event in found] == ["slot", "slot", "slot", "missed", "slot"]

    run(test)


def test_a_consumer_that_reconnects_goes_on_after_its_last_event() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(*range(20))
        seen: list[int] = []
        headers: dict[str, str] = {}
        for count in (1, 3, 2, 7, 7):
            # As a browser does it: the same address, and the id it had last.
            async with events(url, headers, **{"from": at(0)}) as stream:
                found = await take(stream, count)
            seen += [event["data"]["slot_us"] for event in found]
            headers = {"Last-Event-ID": found[-1]["id"]}
        assert seen == [at(n) for n in range(20)]

    run(test)


def test_a_web_socket_goes_from_history_into_live_slots_of_the_venues_asked_for() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(0, 1, 2)
        query = f"?from={at(1)}&venues=kraken"
        async with websockets.connect(ws(url, query), compression=None) as stream:
            found = [json.loads(await stream.recv()) for _ in range(2)]
            feed.post(3, 4)
            found += [json.loads(await stream.recv()) for _ in range(2)]
        assert [message["slot_us"] for message in found] == [at(n) for n in range(1, 5)]
        assert [message["event"] for message in found] == ["slot", "slot", "slot", "missed"]
        fields = found[0]["presentation"]["fields"]
        assert [field["value"].get("venue") for field in fields[1:-1]] == ["kraken"]

    run(test)


def test_a_web_socket_outlives_the_connection_being_idle_for_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where something was asked on the connection before."""
    made = HttpToolsProtocol.connection_made

    def connection_made(self: HttpToolsProtocol, transport: asyncio.Transport) -> None:
        self.timeout_keep_alive = 0.1  # type: ignore[assignment]
        made(self, transport)

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", connection_made)
    asked = b"GET /nowhere HTTP/1.1\r\nhost: feed\r\n\r\n"
    upgrade = (
        f"GET /v1/slots/ws?from={at(0)} HTTP/1.1\r\nhost: feed\r\nupgrade: websocket\r\n"
        "connection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def test(feed: Feed, url: str) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(asked)
        assert b" 404 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(upgrade.encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.4)
        feed.post(0)
        await reader.readuntil(str(at(0)).encode())
        writer.close()

    run(test)


@pytest.mark.parametrize(
    ("query", "status", "rule"),
    [
        ("?from=x", 422, "from"),
        ("?venues=nasdaq", 422, "venues"),
        ("?form=1", 422, "form"),
        ("?from=1&from=2", 422, "query"),
        ("?notary=gamma.example", 404, "notary"),
    ],
)
def test_a_web_socket_that_cannot_be_had_is_refused_with_a_problem(
    query: str, status: int, rule: str
) -> None:
    async def test(feed: Feed, url: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(ws(url, query))
        response = refused.value.response
        assert response.status_code == status
        assert json.loads(response.body or b"")["rule"] == rule

    run(test)


def test_other_sites_pages_may_not_open_web_sockets() -> None:
    async def test(feed: Feed, url: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(ws(url), origin=Origin("http://elsewhere.example"))
        assert refused.value.response.status_code == 403
        # A page of this server itself may, and a program, which names no origin.
        for origin in (Origin(url), None):
            async with websockets.connect(ws(url), origin=origin) as stream:
                await stream.ping()

    run(test)


def test_a_slow_consumer_is_cut_and_told_where_to_go_on_while_others_get_every_slot() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(0)
        parts = urlsplit(url)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (parts.hostname, parts.port))
        await loop.sock_sendall(slow, b"GET /v1/slots/events HTTP/1.1\r\nHost: feed\r\n\r\n")
        with slow:
            async with events(url) as fast:
                await until(lambda: feed.service.streams.open == 2)
                last = 0
                # Far more than the buffers of both ends hold.
                while last < 8 * MAX_BEHIND:
                    feed.post(*range(last + 1, last + 21))
                    found = await take(fast, 20)
                    assert [e["data"]["slot_us"] for e in found] == [
                        at(n) for n in range(last + 1, last + 21)
                    ]
                    last += 20
            text = await _drain(slow)
        *slots, cut = [block for block in text.split("\n\n") if "event: " in block]
        told = json.loads(cut.partition("data: ")[2])
        assert cut.startswith("event: cut\n")
        assert told["reason"] == "slow"
        ids = [int(block.split("\n")[0].removeprefix("id: ")) for block in slots]
        assert ids == [at(n) for n in range(1, len(ids) + 1)]
        assert told["from"] == ids[-1] + FEED.grid_us
        async with events(url, **{"from": told["from"]}) as resumed:
            first = await anext(resumed)
        assert first["data"]["slot_us"] == told["from"]

    run(test)


async def _drain(slow: socket.socket) -> str:
    """Reads to the end; returns the text of the chunks."""
    loop, raw = asyncio.get_running_loop(), b""
    while not raw.endswith(b"\r\n0\r\n\r\n"):
        data = await loop.sock_recv(slow, 65_536)
        assert data, "the connection ended early"
        raw += data
    body, text = raw.partition(b"\r\n\r\n")[2], b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        text += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return text.decode()


async def _collect(connection: websockets.ClientConnection, seen: list[int]) -> None:
    while True:
        seen.append(json.loads(await connection.recv())["slot_us"])


def test_a_slow_web_socket_is_closed_with_the_slot_to_go_on_from() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(0)
        connection = await websockets.connect(ws(url), compression=None, max_queue=1)
        await until(lambda: feed.service.streams.open == 1)
        feed.post(*range(1, 12 * MAX_BEHIND))
        seen: list[int] = []
        with pytest.raises(ConnectionClosed) as closed:
            await _collect(connection, seen)
        assert seen == [at(n) for n in range(1, len(seen) + 1)]
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert closed.value.rcvd.reason == f"slow; from={at(len(seen) + 1)}"

    run(test)


def test_a_consumer_that_takes_nothing_at_all_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "STALL_SECONDS", 0.2)

    async def test(feed: Feed, url: str) -> None:
        feed.post(*range(500))
        parts = urlsplit(url)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalled.setblocking(False)
        loop = asyncio.get_running_loop()
        with stalled:
            await loop.sock_connect(stalled, (parts.hostname, parts.port))
            request = f"GET /v1/slots/events?from={at(0)} HTTP/1.1\r\nHost: feed\r\n\r\n"
            await loop.sock_sendall(stalled, request.encode())
            await until(lambda: feed.service.streams.open == 1)
            number = 500
            while feed.service.streams.open:
                # History is longer than any buffer.
                feed.post(number)
                number += 1
                await asyncio.sleep(0.001)

    run(test)


def test_consumers_that_leave_are_forgotten() -> None:
    async def test(feed: Feed, url: str) -> None:
        async with events(url), websockets.connect(ws(url)):
            await until(lambda: feed.service.streams.open == 2)
        await until(lambda: not feed.service.streams.open)

    run(test)


def test_streams_beyond_the_limit_are_refused() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.service.streams = sending.Streams(1)
        async with websockets.connect(ws(url)):
            await until(lambda: feed.service.streams.open == 1)
            async with httpx.AsyncClient(base_url=url) as client:
                answer = await client.get("/v1/slots/events")
            assert (answer.status_code, answer.json()["rule"]) == (429, "streams")

    run(test)


def test_a_server_that_stops_ends_every_stream_with_the_slot_to_go_on_from() -> None:
    async def test(feed: Feed, url: str) -> None:
        feed.post(0, 1)
        async with (
            events(url, **{"from": at(0)}) as stream,
            websockets.connect(ws(url, f"?from={at(0)}")) as connection,
        ):
            await take(stream, 2)
            for _ in range(2):
                await connection.recv()
            stopping = asyncio.create_task(feed.service.stop(5))
            (cut,) = await take(stream, 1)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            await stopping
        assert (cut["event"], cut["data"]["from"]) == ("cut", at(2))
        assert "id" not in cut
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1001,
            f"stopping; from={at(2)}",
        )

    run(test)


def test_ticks_are_conflated_to_the_latest_of_each_venue_and_marked() -> None:
    async def test(feed: Feed, url: str) -> None:
        for number in range(1_000):
            for venue in ("kraken", "okx"):
                tick = Tick(
                    notary=ALPHA,
                    venue=venue,
                    instrument="BTC/USD",
                    bid=str(64_000 + number),
                    ask=str(64_001 + number),
                    received_us=at(0) + number,
                )
                feed.ticks.take(tick)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            async with client.stream("GET", "/v1/ticks", params={"venues": "kraken"}) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        found = json.loads(line.removeprefix("data: "))
                        break
        assert (found["venue"], found["bid"], found["indicative"]) == ("kraken", "64999", True)

    run(test)


def test_the_example_verifies_every_quote_and_every_gap_it_reads() -> None:
    async def test(feed: Feed, url: str) -> None:
        for number, gaps in enumerate(({}, {"kraken": "venue_silent"}, {})):
            feed.service.take(a_slot(number, gaps=gaps))
        quotes = attested_quotes(url, TRUST, "kraken", at(0))
        found = [await asyncio.to_thread(next, quotes) for _ in range(3)]
        await asyncio.to_thread(quotes.close)
        assert [slot_us for slot_us, _ in found] == [at(0), at(1), at(2)]
        first, gap, last = (answer for _, answer in found)
        assert isinstance(gap, IncompleteError)
        assert gap.rule == "slot.gap"
        for quote in (first, last):
            assert isinstance(quote, VerifiedQuote)
            assert (quote.venue, quote.bid, quote.ask) == ("kraken", "64000.1", "64000.2")

    run(test)
