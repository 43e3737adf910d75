"""Connections to the control API: each that is refused is told why, at little cost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import notary.control
from attestation.encoding import encode
from attestation.keys import SigningKey
from attestation.request import SessionRequest
from notary.app import HotPath, make_app
from notary.control import MAX_HEAD, control_protocol
from notary.crowd import Crowd
from notary.limits import ProverLimits
from notary.listening import ControlServer
from tests.notary.rig import Rig, running
from tests.steady import keep_steady

INFO = b"GET /v1/info HTTP/1.1\r\nHost: n\r\n\r\n"


@asynccontextmanager
async def controlled(folder: Path, crowd: Crowd, **options: Any) -> AsyncIterator[tuple[Rig, int]]:
    """A notary with its control API on a port of loopback."""
    async with running(folder, **options) as rig:
        app = HotPath(make_app(rig.desk, {"name": "n"}), rig.desk)
        server = ControlServer(app, control_protocol(crowd, rig.context.metrics))
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.listening.wait()
        try:
            yield rig, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class Client:
    """A connection from one address of loopback, byte by byte."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._place = ("127.0.0.1", port)
        self._address = address

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(
            *self._place, local_addr=(self._address, 0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def answer(self, data: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Sends bytes and reads one whole answer."""
        self.writer.write(data)
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await self.reader.readexactly(size)
        return int(head.split()[1]), json.loads(body)

    async def closed(self) -> bool:
        """Waits for the end of the stream."""
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


def crowd(**changes: int) -> Crowd:
    return Crowd(**{"most": 100, "per_address": 100, "strangers": 50, **changes})


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        keep_steady()
        await scene()

    asyncio.run(main())


def test_idle_connection_makes_room_and_is_told_why(tmp_path: Path) -> None:
    async def scene() -> None:
        async with controlled(tmp_path, crowd(most=2)) as (_, port):
            async with Client(port) as idle, Client(port) as second, Client(port) as third:
                status, problem = await idle.answer()
                assert (status, problem["rule"]) == (429, "limits.connections")
                assert await idle.closed()
                assert (await second.answer(INFO))[0] == 200
                assert (await third.answer(INFO))[0] == 200

    run(scene)


def test_address_over_its_share_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async def scene() -> None:
        async with controlled(tmp_path, crowd(per_address=1)) as (_, port):
            async with Client(port) as one, Client(port) as two, Client(port, "127.0.0.2") as other:
                status, problem = await two.answer()
                assert (status, problem["rule"]) == (429, "limits.address_connections")
                assert (await one.answer(INFO))[0] == 200
                assert (await other.answer(INFO))[0] == 200

    run(scene)


def test_connection_of_a_known_prover_is_kept_while_strangers_crowd_in(tmp_path: Path) -> None:
    async def scene() -> None:
        async with controlled(tmp_path, crowd(most=3)) as (rig, port):
            async with Client(port) as known:
                body = rig.envelope()
                head = f"POST /v1/sessions HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}"
                status, _ = await known.answer(head.encode() + b"\r\n\r\n" + body)
                assert status == 201
                strangers = [Client(port, f"127.0.0.{number}") for number in range(2, 12)]
                for stranger in strangers:
                    await stranger.__aenter__()
                    assert (await stranger.answer(INFO))[0] == 200
                assert (await known.answer(INFO))[0] == 200
                for stranger in strangers:
                    await stranger.__aexit__()

    run(scene)


@pytest.mark.parametrize(
    "begun", [b"", b"GET /v1/info HT", INFO[:-2], b"POST /v1/sessions HTTP/1.1\r\nHost: n\r\n"]
)
def test_request_that_does_not_come_in_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(notary.control, "REQUEST_SECONDS", 0.1)

    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port):
            async with Client(port) as slow:
                status, problem = await slow.answer(begun)
                assert (status, problem["rule"]) == (408, "http")
                assert await slow.closed()

    run(scene)


def test_second_request_has_its_time_from_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notary.control, "REQUEST_SECONDS", 0.1)

    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port):
            async with Client(port) as slow:
                assert (await slow.answer(INFO))[0] == 200
                await asyncio.sleep(0.3)
                assert (await slow.answer(INFO))[0] == 200
                assert (await slow.answer(b"GET"))[0] == 408

    run(scene)


def test_endless_head_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with controlled(tmp_path, crowd()) as (_, port):
            async with Client(port) as endless:
                lines = b"X: " + b"x" * 1_000 + b"\r\n"
                status, problem = await endless.answer(INFO[:-2] + lines * (MAX_HEAD // 1_000 + 1))
                assert (status, problem["wanted"]) == (431, MAX_HEAD)

    run(scene)


def test_stranger_with_many_keys_is_metered_by_its_address_and_among_all(tmp_path: Path) -> None:
    """Keys are free.  What strangers use up is not the known provers'."""

    def envelope(rig: Rig) -> bytes:
        key = SigningKey(name="s.example", algorithm="ed25519", seed=os.urandom(32))
        request = SessionRequest(
            notary="notary.test.example",
            at_us=rig.context.clock.now_us(),
            nonce=os.urandom(16).hex(),
            prover=key.verifying_key.vkey,
            mode="sealed",
            binding="full",
            venue="testvenue",
            instrument="BTCUSDT",
            adhoc="test",
        )
        signature = key.sign(request.encode()).hex()
        return encode({"request": request.to_json(), "signature": signature})

    async def scene() -> None:
        limits = {
            "address_limits": ProverLimits(sessions=2),
            "strangers_limits": ProverLimits(sessions=3),
        }
        async with controlled(tmp_path, crowd(), admission=limits) as (rig, port):

            async def ask(body: bytes, address: str) -> tuple[int, str | None]:
                async with Client(port, address) as client:
                    head = f"POST /v1/sessions HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}"
                    status, answer = await client.answer(head.encode() + b"\r\n\r\n" + body)
                    return status, answer.get("rule")

            one, two = "127.0.0.2", "127.0.0.3"
            over = (429, "limits.sessions")
            assert [await ask(envelope(rig), one) for _ in range(3)] == [
                (201, None),
                (201, None),
                over,
            ]
            assert [await ask(envelope(rig), two) for _ in range(2)] == [(201, None), over]
            for _ in range(5):
                assert await ask(rig.envelope(), one) == (201, None)
            rig.desk.end_all("restart")
            assert await ask(envelope(rig), one) == (201, None)

    run(scene)


class Slow:
    """An application whose attestations are made when told, and that says what it began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.durable = asyncio.Event()
        self.changed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].rpartition("/")[2]
        self.begun.append(name)
        self.changed.set()
        if name == "attestations":
            await self.durable.wait()
        await receive()
        content = json.dumps({"name": name}).encode()
        await scope["state"]["answer"](201, [(b"content-type", b"a/b")], content)

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    async def until_begun(self, *names: str) -> None:
        await self.until(lambda: len(self.begun) >= len(names))
        assert self.begun == list(names)


@asynccontextmanager
async def slow() -> AsyncIterator[tuple[Slow, int]]:
    app = Slow()
    server = ControlServer(app, control_protocol(crowd()))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield app, listener.getsockname()[1]
    finally:
        app.durable.set()
        server.should_exit = True
        await serving


def post(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\n\r\n{{}}".encode()


ATTEST, NEXT = post("/v1/sessions/aa/attestations"), post("/v1/sessions")


@pytest.mark.parametrize("second", [ATTEST, NEXT, post("/v1/sessions/aa/seal"), INFO])
def test_nothing_is_begun_before_its_turn(second: bytes) -> None:
    async def scene() -> None:
        async with slow() as (app, port), Client(port) as client:
            client.writer.write(ATTEST + second)
            await app.until_begun("attestations")
            for _ in range(50):
                await asyncio.sleep(0)
            assert app.begun == ["attestations"]
            app.durable.set()
            assert (await client.answer())[1]["name"] == "attestations"
            assert (await client.answer())[0] == 201

    run(scene)


def test_answer_is_one_piece_with_its_length() -> None:
    async def scene() -> None:
        async with slow() as (_, port), Client(port) as client:
            client.writer.write(NEXT.replace(b"Host: n", b"Host: n\r\nConnection: close"))
            async with asyncio.timeout(10):
                answer = await client.reader.read()
        assert answer == (
            b"HTTP/1.1 201 Created\r\ncontent-type: a/b\r\ncontent-length: 20\r\n"
            b'connection: close\r\n\r\n{"name": "sessions"}'
        )

    run(scene)
