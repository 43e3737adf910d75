"""The relay's front: CONNECT requests, refused before any byte goes to a venue."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, RefusedError
from notary.connect import MAX_HEAD, read_connect
from notary.limits import Deadlines, ProverLimits
from tests.notary.rig import STRANGER, Rig, running
from tests.tls13.certs import HOST

ID, TOKEN = "0a" * 16, "0b" * 16
BASIC = base64.b64encode(f"{ID}:{TOKEN}".encode()).decode()
GOOD = f"CONNECT {HOST}:443 HTTP/1.1\r\nProxy-Authorization: Basic {BASIC}\r\n\r\n".encode()


async def exchange(rig: Rig, data: bytes, *, end: bool = True) -> tuple[int, dict[str, Any]]:
    """Sends bytes to the relay; returns the refusal's status and problem."""
    reader, writer = await asyncio.open_connection(*rig.relay)
    writer.write(data)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split(b" ")[1]), json.loads(body)


def test_connect_is_read_in_any_pieces() -> None:
    for size in range(len(GOOD)):
        assert read_connect(GOOD[:size]) is None
    request = read_connect(GOOD + b"rest")
    assert request is not None
    assert (request.host, request.port) == (HOST, 443)
    assert (request.session, request.token, request.rest) == (ID, TOKEN, b"rest")
    assert TOKEN not in repr(request)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01",
        b"CONNECT  x:1 HTTP/1.1\r\n\r\n",
        GOOD.replace(b":443", b":0443"),
        GOOD.replace(b":443", b":65536"),
        GOOD.replace(b":443", b""),
        GOOD.replace(HOST.encode(), HOST.upper().encode()),
        GOOD.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
        GOOD.replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        GOOD.replace(b"\r\n\r\n", b"\r\nA: b\nC: d\r\n\r\n"),
        b"CONNECT " + b"a" * (MAX_HEAD + 1),
    ],
)
def test_malformed_connect_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_connect(data)


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        f"Proxy-Authorization: Bearer {BASIC}\r\n",
        f"Proxy-Authorization: Basic {BASIC}\r\nProxy-Authorization: Basic {BASIC}\r\n",
        "Proxy-Authorization: Basic !!!!\r\n",
        "Proxy-Authorization: Basic " + base64.b64encode(b"a:b").decode() + "\r\n",
    ],
)
def test_missing_or_doubtful_credentials_are_refused_with_407(credentials: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_connect(f"CONNECT {HOST}:443 HTTP/1.1\r\n{credentials}\r\n".encode())
    assert refused.value.http_status == 407


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_named_error(data: bytes) -> None:
    for candidate in (data, b"CONNECT " + data + b"\r\n\r\n"):
        with contextlib.suppress(MalformedError, RefusedError):
            read_connect(candidate)


@pytest.mark.parametrize(
    "line",
    [
        b"a:" + b" " * 8_000 + b"\x01",
        b"a:" + b"\t" * 8_000 + b"\x01",
        b"a:" + b"x " * 4_000 + b"\x01",
        b"a:" + b"x" * 8_000 + b"\x01",
        b"a" * 8_000,
    ],
    ids=["blanks", "tabs", "words", "one word", "no colon"],
)
def test_head_made_to_be_slow_is_refused_as_fast_as_any(line: bytes) -> None:
    """The notary has one thread: blanks in a header once held it up for minutes."""
    gc.collect()  # not while it is timed: the garbage is other tests'
    started = time.thread_time()
    with pytest.raises(MalformedError) as caught:
        read_connect(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode() + line + b"\r\n\r\n")
    assert time.thread_time() - started < 0.1
    assert caught.value.rule == "relay"


@pytest.mark.parametrize("value", [b"", b" ", b" \t ", b"x", b" x\ty  z ", b"\xff"])
def test_blanks_around_a_header_are_no_part_of_it(value: bytes) -> None:
    line = b"\r\nX-Any:" + value
    assert read_connect(GOOD.replace(b"\r\n\r\n", line + b"\r\n\r\n")) == read_connect(GOOD)
    padded = GOOD.replace(b"Basic", b" \tBasic").replace(b"\r\n\r\n", b" \t\r\n\r\n")
    assert read_connect(padded) == read_connect(GOOD)


def test_each_refusal_is_a_problem_and_reaches_no_venue(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            secret = base64.b64encode(f"{session['id']}:{session['token']}".encode())
            wrong = base64.b64encode(f"{session['id']}:{'0' * 32}".encode())
            cases = [
                (b"GET / HTTP/1.1\r\n\r\n", 400, "relay"),
                (b"\x16\x03\x01\x02\x00\x01\x00", 400, "relay"),
                (GOOD.replace(b"Proxy-Auth", b"X-Auth"), 407, "token"),
                (GOOD, 403, "token"),
                (GOOD.replace(BASIC.encode(), wrong), 403, "token"),
                (GOOD.replace(BASIC.encode(), secret).replace(b":443", b":22"), 403, "W14"),
                (
                    GOOD.replace(BASIC.encode(), secret).replace(HOST.encode(), b"evil.example"),
                    403,
                    "W14",
                ),
            ]
            for data, status, rule in cases:
                found, problem = await exchange(rig, data)
                assert (found, problem["rule"]) == (status, rule)
                assert problem["status"] == status
            assert rig.venue.connections == []

    asyncio.run(scene())


def test_session_has_one_connection_only(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            first, second = rig.client(session), rig.client(session)
            assert (await first.connect()).startswith(b"HTTP/1.1 200 ")
            assert (await second.connect()).startswith(b"HTTP/1.1 409 ")
            assert len(rig.venue.connections) == 1

    asyncio.run(scene())


def test_slow_connect_is_ended(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, deadlines=Deadlines(hello_us=50_000)) as rig:
            status, problem = await exchange(rig, b"CONNECT api.")
            assert (status, problem["rule"]) == (408, "W13")

    asyncio.run(scene())


def test_client_that_never_says_hello_is_ended(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, deadlines=Deadlines(hello_us=50_000)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.connect()
            assert await client.read_to_end() == b""
            assert rig.desk.registry.get(session["id"]).ended == "timeout"
            assert rig.venue.raw_received == 0

    asyncio.run(scene())


def test_idle_connection_makes_room_and_is_told_why(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, connections=2) as rig:
            idle = [await asyncio.open_connection(*rig.relay) for _ in range(3)]
            answer = await idle[0][0].read()
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["rule"] == "limits.connections"
            for _, writer in idle:
                writer.close()

    asyncio.run(scene())


def test_address_over_its_share_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, address_connections=1) as rig:
            _, writer = await asyncio.open_connection(*rig.relay)
            status, problem = await exchange(rig, b"")
            assert (status, problem["rule"]) == (429, "limits.address_connections")
            other = await asyncio.open_connection(*rig.relay, local_addr=("127.0.0.2", 0))
            other[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await other[0].read()).startswith(b"HTTP/1.1 400 ")
            for closing in (writer, other[1]):
                closing.close()

    asyncio.run(scene())


def test_strangers_tunnels_leave_room_for_known_provers(tmp_path: Path) -> None:
    async def scene() -> None:
        unknown = ProverLimits()
        async with running(tmp_path, connections=2, unknown_limits=unknown) as rig:
            strangers = [rig.client(rig.session(key=STRANGER)) for _ in range(2)]
            assert (await strangers[0].connect()).startswith(b"HTTP/1.1 200 ")
            assert (await strangers[1].connect()).startswith(b"HTTP/1.1 429 ")
            own = rig.client(rig.session())
            assert (await own.connect()).startswith(b"HTTP/1.1 200 ")
            for client in (*strangers, own):
                client.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x17\x03\x03\x00\x20" + b"x" * 32,
        b"\x80\x2e\x01\x03\x01",
    ],
)
def test_bytes_that_are_no_client_hello_never_reach_the_venue(tmp_path: Path, data: bytes) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.connect()
            client.writer.write(data)
            assert await client.read_to_end() == b""
            assert rig.desk.registry.get(session["id"]).ended == "violation"
            assert rig.venue.raw_received == 0

    asyncio.run(scene())


def test_hello_for_another_host_never_reaches_the_venue(tmp_path: Path) -> None:
    """Domain fronting: the SNI must be the session's host (W2)."""

    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            client.tls = type(client.tls)("other.example")
            await client.connect()
            client.flush()
            assert await client.read_to_end() == b""
            assert rig.venue.raw_received == 0

    asyncio.run(scene())


def test_hello_byte_by_byte_passes_as_a_whole(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.connect()
            hello = client.tls.take()
            for value in hello[:-1]:
                client.writer.write(bytes([value]))
                await client.writer.drain()
            await asyncio.sleep(0.01)
            assert rig.venue.raw_received == 0
            client.writer.write(hello[-1:])
            while not client.tls.established:
                assert await client.receive()
            assert rig.venue.raw_received == len(hello)

    asyncio.run(scene())
