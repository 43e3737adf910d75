"""A venue or a prover that fails at each stage: the reason, and so the fault, is the right one.

The venue's fault is what the notary saw itself, or what the prover showed by its
opening: a plain request, whole and in time, that was not answered well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import notary.blame
from attestation.errors import RefusedError, UnavailableError
from attestation.reasons import FAULTS
from notary.clock import Clock
from notary.limits import Deadlines
from notary.relay import VenueLeg
from notary.resolve import Endpoint, Resolver
from notary.transitions import State
from tests.notary.rig import (
    Rig,
    Tunnel,
    Venue,
    VenueConnection,
    answer_and_close,
    answer_and_keep,
    http_request,
    http_response,
    make_clock,
    running,
    until,
)
from tests.tls13.certs import HOST

HASTY = Deadlines(
    flight_us=300_000,
    request_us=200_000,
    response_us=200_000,
    quiet_us=50_000,
    opening_us=300_000,
)
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"
Play = Callable[[Rig, dict[str, Any], Tunnel], Awaitable[None]]


def played(
    tmp_path: Path,
    play: Play,
    reason: str,
    *,
    venue: Venue | None = None,
    mode: str = "sealed",
    **options: Any,
) -> None:
    """Plays a scene and demands the reason that its session ended with."""

    async def scene() -> None:
        options.setdefault("deadlines", HASTY)
        async with running(tmp_path, venue=venue, **options) as rig:
            session = rig.session(mode=mode)
            client = rig.client(session)
            await play(rig, session, client)
            await rig.ended(session["id"], reason)
            assert rig.desk.registry.get(session["id"]).issued is None

    asyncio.run(scene())


async def opened(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    """Waits for the seal and opens, which must be refused, and told if it is the venue's fault."""
    await rig.seal(session)
    with pytest.raises(RefusedError) as refused:
        await rig.attest(session, client)
    reason = rig.desk.registry.get(session["id"]).ended
    assert reason is not None
    if FAULTS[reason] == "venue" and refused.value.rule != "W11":
        assert refused.value.detail.endswith(reason)


# Before the handshake is over.


def raw_venue(
    tmp_path: Path, act: Callable[[asyncio.StreamWriter, bytes], None], reason: str
) -> None:
    """A venue that is no TLS server: ``act`` is called with the ClientHello."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act(writer, await reader.read(65_536))

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        endpoint = Endpoint(address="127.0.0.1", port=server.sockets[0].getsockname()[1])
        resolver = Resolver(connect_to={(HOST, 443): endpoint})
        async with running(tmp_path, resolver=resolver, deadlines=HASTY) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.connect()
            client.flush()
            await rig.ended(session["id"], reason)
        server.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("data", "close", "reason"),
    [
        (b"", "fin", "venue_closed"),
        (b"", "reset", "venue_closed"),
        (b"", "stall", "venue_silent"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "fin", "venue_tls"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "stall", "venue_tls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "fin", "venue_tls"),
        (b"\x16\x03\x03", "fin", "venue_closed"),
        (b"\x16\x03\x03", "stall", "venue_silent"),
    ],
)
def test_venue_that_does_not_answer_the_hello_is_to_blame(
    tmp_path: Path, data: bytes, close: str, reason: str
) -> None:
    def act(writer: asyncio.StreamWriter, hello: bytes) -> None:
        if data:
            writer.write(data)
        if close == "fin":
            writer.close()
        elif close == "reset":
            writer.transport.abort()

    raw_venue(tmp_path, act, reason)


def test_venue_that_refuses_the_connection_is_to_blame(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        answer = await client.connect()
        assert answer.startswith(b"HTTP/1.1 503 ")

    nobody = Resolver(connect_to={(HOST, 443): Endpoint(address="127.0.0.1", port=1)})
    played(tmp_path, play, "venue_refused", resolver=nobody)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, "overload"),
        (errno.ENOBUFS, "overload"),
        (errno.ECONNREFUSED, "venue_refused"),
        (errno.EHOSTUNREACH, "venue_refused"),
    ],
)
def test_lack_of_sockets_is_the_notarys_own_fault(tmp_path: Path, number: int, reason: str) -> None:
    async def dial(endpoint: Endpoint) -> VenueLeg:
        raise OSError(number, "it fails")

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        assert (await client.connect()).startswith(b"HTTP/1.1 503 ")

    played(tmp_path, play, reason, dial=dial)


def test_prover_that_does_not_finish_the_handshake_is_to_blame(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.handshake()
        assert await client.read_to_end() == b""

    played(tmp_path, play, "timeout")


@pytest.mark.parametrize("finishes", [False, True])
@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_venue_that_gives_up_a_handshake_is_not_to_blame_if_the_prover_kept_it_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, finishes: bool
) -> None:
    """Before its Finished, or after it without the commitment that the gate waits for."""
    monkeypatch.setattr(notary.blame, "STALL_US", 50_000)

    async def scene(stalls: bool) -> None:
        folder = tmp_path / str(stalls)
        folder.mkdir()
        monkeypatch.setattr(notary.blame, "STALL_US", 20_000 if stalls else 60_000_000)
        async with running(folder) as rig:
            session = rig.session(mode=mode, binding="template", form="quotary")
            client = rig.client(session)
            await client.handshake()
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            gate = witness.gate
            if finishes:
                client.flush()
                await until(lambda: gate.state is State.HELD)
            await until(lambda: gate.permitted)
            await asyncio.sleep(0.03)
            witness.venue_ended()
            await rig.ended(session["id"], "timeout" if stalls else "venue_closed")

    asyncio.run(scene(stalls=True))
    asyncio.run(scene(stalls=False))


@pytest.mark.parametrize("late", ["alert", "second hello"])
def test_prover_that_breaks_the_handshake_off_is_to_blame(tmp_path: Path, late: str) -> None:
    """Neither reaches the venue, which would end the connection and seem to be at fault."""

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.connect()
        hello = client.tls.take()
        client.writer.write(hello)
        await until(lambda: rig.venue.raw_received == len(hello))
        await client.receive()
        alert = b"\x15\x03\x03\x00\x02\x02\x28"
        client.writer.write(
            alert if late == "alert" else hello.replace(b"\x03\x01", b"\x03\x03", 1)
        )
        await client.read_to_end()
        assert rig.venue.raw_received == len(hello)

    played(tmp_path, play, "violation")


# Sealed: after the release.


@pytest.mark.parametrize(
    ("mode", "opens", "reason"),
    [
        ("sealed", True, "invalid"),
        ("sealed", False, "not_opened"),
        ("open", True, "timeout"),
        ("open", False, "not_opened"),
    ],
)
def test_prover_that_finishes_and_does_not_ask_is_to_blame(
    tmp_path: Path, mode: str, opens: bool, reason: str
) -> None:
    """The venue's session tickets look like an answer, its silence like a fault of its own."""

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.handshake()
        client.flush()
        if opens and mode == "sealed":
            await opened(rig, session, client)
        elif opens:
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            await until(lambda: witness.gate.times.released_us is not None)
            with pytest.raises(RefusedError):
                await rig.attest(session, client)

    played(tmp_path, play, reason, mode=mode)


def silent(connection: VenueConnection, request: bytes) -> None:
    """Says nothing."""


def close_unanswered(connection: VenueConnection, request: bytes) -> None:
    connection.close()


def reset(connection: VenueConnection, request: bytes) -> None:
    connection.transport.abort()


def half_and_stall(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response()[:-5])


def half_and_close(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response()[:-5])
    connection.transport.close()


def too_late(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response()[:-5])
    asyncio.get_running_loop().call_later(0.5, connection.write, http_response()[-5:])


def coded(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response(headers="Content-Encoding: gzip\r\n"))
    connection.close()


def unavailable(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response(b"busy").replace(b"200 OK", b"503 Busy"))
    connection.close()


def too_often(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response(b"{}").replace(b"200 OK", b"429 Slow"))
    connection.close()


FAILURES = [
    (silent, "venue_silent"),
    (close_unanswered, "venue_closed"),
    (reset, "venue_closed"),
    (half_and_stall, "venue_silent"),
    (half_and_close, "venue_closed"),
    (too_late, "venue_silent"),
    (coded, "venue_malformed"),
    (unavailable, "venue_malformed"),
    (too_often, "invalid"),
]


@pytest.mark.parametrize(
    ("mode", "answer", "reason"),
    [("sealed", *failure) for failure in FAILURES]
    # An open session's key is opened when its response is complete.
    + [("open", *failure) for failure in FAILURES if failure[0] is not too_late],
)
def test_venue_that_was_asked_and_fails_is_to_blame(
    tmp_path: Path, mode: str, answer: Callable[[VenueConnection, bytes], None], reason: str
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch()
        if mode == "sealed":
            await opened(rig, session, client)
            return
        await until(lambda: bool(rig.venue.requests))
        await asyncio.sleep(0.02)
        with pytest.raises(RefusedError):
            await rig.attest(session, client)

    played(tmp_path, play, reason, venue=Venue(answer), mode=mode)


@pytest.mark.parametrize(("answer", "reason"), FAILURES)
def test_prover_that_was_not_answered_and_opens_nothing_is_to_blame(
    tmp_path: Path, answer: Callable[[VenueConnection, bytes], None], reason: str
) -> None:
    """Without its opening nobody knows what it asked."""

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch()
        await rig.seal(session)

    played(tmp_path, play, "not_opened", venue=Venue(answer))


def test_client_that_leaves_after_the_seal_hinders_nothing(tmp_path: Path) -> None:
    """Sealed, what came is settled: the venue's silence stays its own."""

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch()
        await rig.seal(session)
        witness: Any = rig.desk.registry.get(session["id"]).witness
        client.close()
        await until(lambda: bool(witness._client_gone))
        await opened(rig, session, client)

    played(tmp_path, play, "venue_silent", venue=Venue(silent))


PLAIN = http_request()
PROVOCATIONS = [
    PLAIN.replace(b"Connection", b"Accept-Encoding: gzip\r\nConnection"),
    PLAIN.replace(b"Connection", b"Range: bytes=0-1\r\nConnection"),
    PLAIN.replace(b"Connection", b"Expect: 100-continue\r\nConnection"),
    http_request("/slow"),
    PLAIN[:-2],
    PLAIN * 2,
]


@pytest.mark.parametrize("request_bytes", PROVOCATIONS)
@pytest.mark.parametrize("answer", [silent, close_unanswered, coded])
def test_prover_that_asked_for_the_failure_is_to_blame(
    tmp_path: Path, answer: Callable[[VenueConnection, bytes], None], request_bytes: bytes
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch(request_bytes)
        await opened(rig, session, client)

    played(tmp_path, play, "invalid", venue=Venue(answer))


def test_prover_that_says_goodbye_before_the_answer_is_to_blame(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.handshake()
        client.tls.write(PLAIN)
        client.tls.close()
        client.flush()
        await opened(rig, session, client)

    played(tmp_path, play, "invalid", venue=Venue(close_unanswered))


@pytest.mark.parametrize("close", [True, False])
def test_part_of_a_record_of_the_venue_is_no_response(tmp_path: Path, close: bool) -> None:
    def answer(connection: VenueConnection, request: bytes) -> None:
        connection.transport.write(b"\x17\x03\x03\x01\x00half")
        if close:
            connection.transport.close()

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch()
        with pytest.raises(RefusedError) as refused:
            await rig.seal(session)
        assert refused.value.rule == "W1"

    played(tmp_path, play, "venue_closed" if close else "venue_silent", venue=Venue(answer))


def test_response_slower_than_the_session_tickets_is_waited_for(tmp_path: Path) -> None:
    def slowly(connection: VenueConnection, request: bytes) -> None:
        asyncio.get_running_loop().call_later(0.2, answer_and_close, connection, request)

    async def scene() -> None:
        deadlines = Deadlines(quiet_us=20_000)
        async with running(tmp_path, venue=Venue(slowly), deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            assert (await rig.attest(session, client)).http().status == 200

    asyncio.run(scene())


# Open: the response passes at once, and the client can hinder it.


def test_client_that_left_before_the_answer_is_to_blame(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.fetch()
        client.writer.write_eof()
        await client.read_to_end()
        with pytest.raises(RefusedError):
            await rig.attest(session, client)

    def gone(connection: VenueConnection, request: bytes) -> None:
        """Closes when the client does."""

    played(tmp_path, play, "prover_closed", venue=Venue(gone), mode="open")


def test_client_that_does_not_read_is_to_blame_for_a_slow_response(tmp_path: Path) -> None:
    large = http_response(b"x" * 3_000_000)

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.handshake()
        witness = rig.desk.registry.get(session["id"]).witness
        assert witness is not None
        legs: Any = witness._legs
        for transport in (legs.transport, client.writer.transport):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.send(PLAIN)
        await until(lambda: bool(legs.slow))
        body = json.dumps({"opening": client.opening()}).encode()
        with pytest.raises(RefusedError):
            await rig.desk.attest(session["id"], session["token"], body)

    def flood(connection: VenueConnection, request: bytes) -> None:
        connection.write(large)

    # The handshake waits for the sockets to be made small.
    patient = dataclasses.replace(HASTY, flight_us=5_000_000)
    played(tmp_path, play, "prover_slow", venue=Venue(flood), mode="open", deadlines=patient)


def test_kept_connection_that_ends_before_it_was_asked_is_not_the_venues_fault(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            rig.venue.connections[0].close()
            row = await rig.ended(following["id"], "timeout")
            assert row["fault"] == "prover"

    asyncio.run(scene())


# The notary's own weather.


@pytest.mark.parametrize("step_ms", [60, -60, 3_600_000])
@pytest.mark.parametrize("stage", ["held back", "sealed"])
def test_clock_that_is_stepped_ends_what_is_under_way_and_is_well_again(
    tmp_path: Path, step_ms: int, stage: str
) -> None:
    base = make_clock()
    stepped = {"ns": 0}
    clock = Clock(lambda: base.wall_ns() + stepped["ns"], base.monotonic_ns)

    async def scene() -> None:
        venue = Venue(silent if stage == "held back" else answer_and_close)
        async with running(tmp_path, venue=venue, clock=clock) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            if stage == "sealed":
                await rig.seal(session)
            else:
                await until(lambda: bool(rig.venue.requests))
            stepped["ns"] = step_ms * 1_000_000
            rig.desk.tick()
            row = await rig.ended(session["id"], "clock")
            assert row["fault"] == "notary"
            with pytest.raises(RefusedError):
                await rig.attest(session, client)
            assert await client.read_to_end() == b""
            with pytest.raises(UnavailableError) as refused:
                rig.session()
            assert refused.value.rule == "clock"
            stepped["ns"] = 0
            rig.desk.tick()
            rig.venue.answer = answer_and_close
            following = rig.session()
            client = rig.client(following)
            await client.fetch()
            await rig.seal(following)
            assert (await rig.attest(following, client)).http().status == 200

    asyncio.run(scene())
