"""Orders reach the trades API once or are said to have no answer, whatever a connection does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from attestation.errors import UnavailableError, UsageError
from examples.game import orders
from examples.game.orders import OrderLine

ORDER = {"nonce": "0a" * 16, "side": "up"}
GOOD = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[OrderLine]:
    """A line to a server that does as it is told."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line = OrderLine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base/", "a token")
    try:
        yield line
    finally:
        line.close()
        server.close()


async def heard(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Reads one request: its head and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    size = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
    return head, await reader.readexactly(size)


def test_orders_share_kept_connections_and_name_token_and_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than this process may stand still.
    monkeypatch.setattr(orders, "KEPT_SECONDS", 60.0)
    heads: list[str] = []
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        with contextlib.suppress(EOFError):
            while True:
                head, body = await heard(reader)
                heads.append(head)
                assert body == b'{"nonce": "' + b"0a" * 16 + b'", "side": "up"}'
                writer.write(GOOD)
        writer.close()

    async def place() -> None:
        async with served(serve) as line:
            for _ in range(3):
                answer = await line.post(ORDER)
                assert (answer.status, answer.body) == (202, b"{}")
            assert len(connections) == 1
            await asyncio.gather(*(line.post(ORDER) for _ in range(100)))
            assert len(connections) <= orders.CONNECTIONS

    asyncio.run(place())
    assert len(heads) == 103
    assert {head.partition("Host: ")[0] for head in heads} == {"POST /base/v1/trades HTTP/1.1\r\n"}
    assert all("Authorization: Bearer a token\r\n" in head for head in heads)
    assert all(f"Idempotency-Key: {'0a' * 16}\r\n" in head for head in heads)


def test_an_order_on_a_connection_that_was_closed_meanwhile_is_sent_again() -> None:
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await heard(reader)
        writer.write(GOOD)
        if len(connections) == 1:
            # Closed as the next order comes, after it was read.
            await heard(reader)
        writer.close()

    async def place() -> None:
        async with served(serve) as line:
            for _ in range(2):
                assert (await line.post(ORDER)).status == 202

    asyncio.run(place())
    assert len(connections) == 2


def test_a_connection_that_the_server_ends_with_its_answer_is_not_used_again() -> None:
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await heard(reader)
        writer.write(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        with contextlib.suppress(EOFError):
            await heard(reader)
        writer.close()

    async def place() -> None:
        async with served(serve) as line:
            for _ in range(2):
                assert (await line.post(ORDER)).status == 202

    asyncio.run(place())
    assert len(connections) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 202 Accepted\r\nContent-Le",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 202 Accepted\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 202 Accepted\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000000\r\n\r\n{}",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 202 Accepted\r\nno field\r\n\r\n{}",
        b"HTTP/1.1\r\n\r\n",
        b"SSH-2.0-server\r\n\r\n",
        b"x" * 200_000,
    ],
)
def test_what_is_no_answer_is_said_to_be_none_and_the_next_order_is_taken(answer: bytes) -> None:
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await heard(reader)
        writer.write(answer if len(connections) == 1 else GOOD)
        writer.close()

    async def place() -> None:
        async with served(serve) as line:
            with pytest.raises(UnavailableError):
                await line.post(ORDER)
            assert (await line.post(ORDER)).status == 202

    asyncio.run(place())


def test_an_answer_that_does_not_come_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orders, "ANSWER_SECONDS", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def place() -> None:
        async with served(serve) as line:
            # More than there are connections: none of them is lost.
            found = await asyncio.gather(
                *(line.post(ORDER) for _ in range(2 * orders.CONNECTIONS)), return_exceptions=True
            )
            assert all(isinstance(one, UnavailableError) for one in found)

    asyncio.run(place())


def test_nobody_there_is_no_answer() -> None:
    async def place() -> None:
        with pytest.raises(UnavailableError):
            await OrderLine("http://127.0.0.1:9", None).post(ORDER)

    asyncio.run(place())


def test_a_token_that_would_be_more_than_a_header_field_is_refused() -> None:
    for token in ("a\r\nhost: other", "\u00e9"):
        with pytest.raises(UsageError):
            OrderLine("http://127.0.0.1:9", token)
    with pytest.raises(UsageError):
        OrderLine("127.0.0.1:9", None)
