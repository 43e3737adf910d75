"""64 MB and slow requests, over real sockets: refused early, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prover.serve import patience as prover_patience
from prover.serve.app import add_problems
from prover.serve.listening import bind
from prover.serve.routes import trades
from prover.serve.server import serving
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.verifier.test_described import make_app
from verifier import patience as verifier_patience
from verifier import receiving
from verifier.service import server_config

MEGABYTE = 2**20
BODY = 64 * MEGABYTE
SOON = 60.0
"""Seconds that a busy machine may take for anything."""
Serving = Callable[[Path], AbstractAsyncContextManager[tuple[str, str]]]


@contextlib.asynccontextmanager
async def trading(path: Path) -> AsyncIterator[tuple[str, str]]:
    """``prover serve``'s trades; yields URL and the path that takes bodies."""
    house = House.open(Stage(honest(), path))
    app = FastAPI()
    app.include_router(trades.trade_routes(house.desk, house.bundles))
    add_problems(app)

    async def nothing() -> None:
        pass

    try:
        async with serving(app, bind("127.0.0.1", 0), nothing) as url:
            yield url, "/v1/trades"
    finally:
        await house.close()


@contextlib.asynccontextmanager
async def verifying(path: Path) -> AsyncIterator[tuple[str, str]]:
    """``verifier serve``'s application, served as it serves it."""
    del path
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(server_config(make_app()))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(SOON):
        # uvicorn tells it by nothing else.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", "/v1/settlements/verify"
    finally:
        server.should_exit = True
        await task
        listener.close()


BOTH = pytest.mark.parametrize("serve", [trading, verifying])


@pytest.fixture
def hasty() -> Iterator[pytest.MonkeyPatch]:
    """Waits little for a head, until it is undone."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (prover_patience, verifier_patience):
            patch.setattr(module, "HEAD_SECONDS", 0.3)
        yield patch


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits little for a body."""
    monkeypatch.setattr(trades, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(receiving.Receiver.__init__, "__kwdefaults__", {"room": 8, "seconds": 0.3})


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


def head(path: str, *lines: str) -> bytes:
    fixed = (f"POST {path} HTTP/1.1", "host: here", "content-type: application/json")
    return "\r\n".join([*fixed, "idempotency-key: key", *lines, "", ""]).encode()


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(SOON):
        return int((await reader.readline()).split()[1])


async def ended(reader: asyncio.StreamReader) -> None:
    """Waits until the server has closed the connection."""
    async with asyncio.timeout(SOON):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass


async def pour(writer: asyncio.StreamWriter, size: int) -> int:
    """Sends bytes until the other side is gone; returns how many it took."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SOON):
            while sent < size and not writer.is_closing():
                writer.write(b" " * MEGABYTE)
                await writer.drain()
                sent += MEGABYTE
    return sent


async def answers(url: str) -> None:
    """Another client is served meanwhile."""
    async with httpx.AsyncClient(base_url=url, timeout=SOON) as client:
        assert (await client.get("/nowhere")).status_code == 404


@BOTH
def test_a_body_declared_too_large_is_refused_before_it_comes(
    tmp_path: Path, serve: Serving
) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, path):
            reader, writer = await connect(url)
            writer.write(head(path, f"content-length: {BODY}") + b" " * 65_536)
            assert await status(reader) == 413
            # What comes all the same is not taken to its end.
            assert await pour(writer, BODY) < BODY
            writer.close()
            await answers(url)

    asyncio.run(play())


@BOTH
def test_a_body_without_end_is_refused_once_it_is_too_large(tmp_path: Path, serve: Serving) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, path):
            reader, writer = await connect(url)
            writer.write(head(path, "transfer-encoding: chunked"))
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < BODY and not writer.is_closing():
                    writer.write(b"100000\r\n" + b" " * MEGABYTE + b"\r\n")
                    await writer.drain()
                    sent += MEGABYTE
            assert sent < BODY
            # The answer may be lost with the connection that it closes, but for none other.
            with contextlib.suppress(ConnectionError, IndexError):
                assert await status(reader) == 413
            await answers(url)

    asyncio.run(play())


@BOTH
def test_a_head_that_is_too_large_is_refused(tmp_path: Path, serve: Serving) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, path):
            reader, writer = await connect(url)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: here\r\nmore: ".encode())
            assert await pour(writer, BODY) < BODY
            with contextlib.suppress(ConnectionError, IndexError):
                assert await status(reader) == 400
            await answers(url)

    asyncio.run(play())


@BOTH
@pytest.mark.parametrize("begun", [b"", b"POST /v1/tr", b"GET / HTTP/1.1\r\nhost: here\r\n"])
def test_a_client_that_does_not_finish_its_head_is_let_go(
    tmp_path: Path, serve: Serving, begun: bytes, hasty: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, _):
            reader, writer = await connect(url)
            writer.write(begun)
            # A byte now and then is no progress.
            dribble = asyncio.create_task(drip(writer)) if begun else None
            await ended(reader)
            if dribble is not None:
                dribble.cancel()
            hasty.undo()
            await answers(url)

    asyncio.run(play())


async def drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)


@BOTH
@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_finish_its_body_is_answered_and_let_go(
    tmp_path: Path, serve: Serving
) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, path):
            reader, writer = await connect(url)
            writer.write(head(path, "content-length: 1000") + b"{")
            # By bytes alone it would be whole after twenty seconds.
            dribble = asyncio.create_task(drip(writer))
            assert await status(reader) == 408
            await ended(reader)
            dribble.cancel()
            await answers(url)

    asyncio.run(play())


@BOTH
def test_deep_bodies_are_refused_as_no_documents(tmp_path: Path, serve: Serving) -> None:
    async def play() -> None:
        async with serve(tmp_path) as (url, path), httpx.AsyncClient(base_url=url) as client:
            for deep in (b"[" * 4_000, b'{"a":' * 800, b"[" * 2_000 + b"]" * 2_000):
                answer = await client.post(
                    path,
                    content=deep,
                    headers={"content-type": "application/json", "idempotency-key": "key"},
                )
                assert answer.status_code == 400, answer.text
                assert json.loads(answer.content)["status"] == 400

    asyncio.run(play())


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The server's connections that have ended; idle ones end soon."""
    ended: list[object] = []
    made, gone = HttpToolsProtocol.connection_made, HttpToolsProtocol.connection_lost

    def connection_made(self: HttpToolsProtocol, transport: asyncio.Transport) -> None:
        self.timeout_keep_alive = 0.3  # type: ignore[assignment]
        made(self, transport)

    def connection_lost(self: HttpToolsProtocol, error: Exception | None) -> None:
        ended.append(self)
        gone(self, error)

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", connection_made)
    monkeypatch.setattr(HttpToolsProtocol, "connection_lost", connection_lost)
    return ended


async def until_lost(lost: list[object]) -> None:
    async with asyncio.timeout(SOON):
        while not lost:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@BOTH
def test_a_body_that_ends_after_its_answer_leaves_an_idle_connection(
    tmp_path: Path, serve: Serving, lost: list[object]
) -> None:
    """Which ends like any other; it would stay for ever."""

    async def play() -> None:
        async with serve(tmp_path) as (url, _):
            reader, writer = await connect(url)
            writer.write(head("/nowhere", "content-length: 100000"))
            assert await status(reader) == 404
            writer.write(b" " * 100_000)
            await until_lost(lost)
            writer.close()

    asyncio.run(play())


@BOTH
def test_requests_far_ahead_of_their_answers_are_refused(tmp_path: Path, serve: Serving) -> None:
    """A few bytes each, kilobytes of memory."""
    request = b"GET /nowhere HTTP/1.1\r\nhost: here\r\n\r\n"

    async def play() -> None:
        async with serve(tmp_path) as (url, _):
            reader, writer = await connect(url)
            writer.write(request * 32)
            for _ in range(32):
                assert await status(reader) == 404
                await reader.readuntil(b"}")
            writer.write(request * 5_000)
            told = b""
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(SOON):
                    told = await reader.read()
            assert told.count(b" 404 ") < 5_000 // 2
            await answers(url)

    asyncio.run(play())


@BOTH
def test_a_client_that_does_not_read_its_answers_is_let_go(
    tmp_path: Path, serve: Serving, monkeypatch: pytest.MonkeyPatch, lost: list[object]
) -> None:
    for module in (prover_patience, verifier_patience):
        monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    request = b"GET /openapi.json HTTP/1.1\r\nhost: here\r\n\r\n"

    async def play() -> None:
        async with serve(tmp_path) as (url, _):
            host, port = url.removeprefix("http://").split(":")
            with socket.socket() as greedy:
                greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                greedy.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(greedy, (host, int(port)))
                # So many bytes at the least that no buffer takes them all.
                while not lost:
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        async with asyncio.timeout(0.05):
                            await loop.sock_sendall(greedy, request * 8)
                    await asyncio.sleep(0.01)
            await answers(url)

    async def bounded() -> None:
        async with asyncio.timeout(SOON):
            await play()

    asyncio.run(bounded())
