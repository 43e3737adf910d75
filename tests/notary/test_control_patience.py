"""Clients of the control API that take their time: each is let go, and nobody else waits."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import notary.control
from notary.control import MAX_AHEAD, control_protocol
from notary.envelope import MAX_BODY
from notary.listening import ControlServer
from tests.notary.rig import until
from tests.notary.test_control import INFO, Client, controlled, crowd, run

BEGUN_BODY = b"POST /v1/sessions HTTP/1.1\r\nHost: n\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("begun", [INFO[:-2] + b"X: ", BEGUN_BODY], ids=["head", "body"])
def test_request_begun_behind_another_has_no_more_time_than_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """However it trickles in."""
    monkeypatch.setattr(notary.control, "REQUEST_SECONDS", 0.2)

    async def trickle(client: Client) -> None:
        while True:
            client.writer.write(b"x")
            await asyncio.sleep(0.02)

    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port), Client(port) as slow:
            assert (await slow.answer(INFO + begun))[0] == 200
            trickling = asyncio.create_task(trickle(slow))
            # What it still sends may cost it the answer that says why.
            with suppress(ConnectionError):
                async with asyncio.timeout(10):
                    told = await slow.reader.read()
                assert not told or b" 408 " in told
            trickling.cancel()

    run(scene)


def too_large(size: int) -> bytes:
    return b"POST /v1/sessions HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % size


def test_body_that_ends_after_its_answer_leaves_nothing_under_way(tmp_path: Path) -> None:
    """The connection idles: it makes room for others, and serves on until then."""
    size = 2 * MAX_BODY

    async def scene() -> None:
        async with controlled(tmp_path, crowd(most=2)) as (_, port), Client(port) as late:
            status, problem = await late.answer(too_large(size) + bytes(MAX_BODY + 1))
            assert (status, problem["rule"]) == (400, "body")
            late.writer.write(bytes(size - MAX_BODY - 1))
            assert (await late.answer(INFO))[0] == 200
            await late.answer(too_large(size) + bytes(MAX_BODY + 1))
            late.writer.write(bytes(size - MAX_BODY - 1))
            await asyncio.sleep(0.05)
            async with Client(port) as second, Client(port) as third:
                assert (await late.answer())[1]["rule"] == "limits.connections"
                assert (await second.answer(INFO))[0] == 200
                assert (await third.answer(INFO))[0] == 200

    run(scene)


@pytest.mark.parametrize("endless", [True, False])
def test_rest_of_an_answered_body_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endless: bool
) -> None:
    """Neither for megabytes of it, nor for a byte now and then."""
    if endless:
        monkeypatch.setattr(notary.control, "MAX_UNREAD", 256 * 1024)
    else:
        monkeypatch.setattr(notary.control, "REQUEST_SECONDS", 0.2)

    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port), Client(port) as client:
            head = too_large(1 << 40)
            assert (await client.answer(head + bytes(MAX_BODY + 1)))[0] == 400
            with suppress(ConnectionError):
                async with asyncio.timeout(10):
                    while not client.reader.at_eof():
                        client.writer.write(bytes(65_536 if endless else 1))
                        await client.writer.drain()
                        await asyncio.sleep(0.001 if endless else 0.02)

    run(scene)


def test_requests_far_ahead_of_their_answers_are_refused(tmp_path: Path) -> None:
    """A few bytes each, kilobytes of memory."""

    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port):
            async with Client(port) as modest:
                modest.writer.write(INFO * MAX_AHEAD)
                for _ in range(MAX_AHEAD):
                    assert (await modest.answer())[0] == 200
            async with Client(port) as greedy:
                greedy.writer.write(INFO * 5_000)
                with suppress(ConnectionError):
                    async with asyncio.timeout(10):
                        told = await greedy.reader.read()
                    assert b" 400 " in told
                    assert told.count(b"HTTP/1.1 200 ") <= 1

    run(scene)


ANSWER = bytes(16 * 1024 * 1024)


@asynccontextmanager
async def generous() -> AsyncIterator[tuple[ControlServer, int]]:
    """A control API whose every answer is large."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if not await scope["state"]["answer"](200, [], ANSWER):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": ANSWER})

    server = ControlServer(app, control_protocol(crowd()))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("last", [False, True], ids=["kept alive", "to be closed"])
def test_client_that_does_not_read_its_answer_is_let_go(
    monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    monkeypatch.setattr(notary.control, "STALL_SECONDS", 0.2)
    request = INFO.replace(b"Host: n", b"Host: n\r\nConnection: close") if last else INFO

    async def scene() -> None:
        async with generous() as (server, port):
            with socket.socket() as greedy:
                greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                greedy.setblocking(False)
                await asyncio.get_running_loop().sock_connect(greedy, ("127.0.0.1", port))
                greedy.send(request)
                connections = server.server_state.connections
                await until(lambda: bool(connections))
                await until(lambda: not connections)

    run(scene)


def test_client_that_reads_slowly_gets_all_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notary.control, "STALL_SECONDS", 0.5)

    async def scene() -> None:
        async with generous() as (_, port), Client(port) as slow:
            slow.writer.write(INFO.replace(b"Host: n", b"Host: n\r\nConnection: close"))
            size = 0
            while data := await slow.reader.read(512 * 1024):
                size += len(data)
                await asyncio.sleep(0.02)
            assert size > len(ANSWER)

    run(scene)


IDLE = 2_000
SECONDS = 1.5


def test_two_thousand_slow_clients_are_let_go_in_time_and_an_honest_one_notices_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say nothing, or half of a head, or half of a body."""
    monkeypatch.setattr(notary.control, "REQUEST_SECONDS", SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE + 500
    count = IDLE if hard == resource.RLIM_INFINITY else min(IDLE, (hard - 500) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, 2 * count + 500)), hard))
    house = crowd(most=3 * IDLE, per_address=IDLE, strangers=IDLE // 2)
    said = (b"", b"GET /v1/info HTTP/1.1\r\nHost", BEGUN_BODY)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        async with controlled(tmp_path, house) as (rig, port), Client(port) as honest:
            slow = []
            for number in range(count):
                connection = socket.socket()
                connection.setblocking(False)
                connection.bind((f"127.0.{number % 100}.2", 0))
                slow.append(connection)
                await loop.sock_connect(connection, ("127.0.0.1", port))
                await loop.sock_sendall(connection, said[number % 3])
                if number % 50 == 0:
                    body = rig.envelope()
                    head = b"POST /v1/sessions HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n"
                    assert (await honest.answer(head % len(body) + body))[0] == 201
            await until(lambda: len(house) <= 1)
            assert (await honest.answer(INFO))[0] == 200
            for connection in slow:
                assert b" 408 " in connection.recv(100)
                connection.close()

    try:
        run(scene)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
