"""The retry rule: what lets a place be tried again, and what ends it (docs/log.md)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import RefusedError
from attestation.venues import Rate
from notary.log.creation import create_log
from notary.log.published import PublishedFile
from notary.log.sequencer import Sequencer
from notary.pace import Pace
from notary.resolve import Endpoint, Resolver
from notary.store import Store
from notary.writer import offline
from tests.notary.rig import (
    Rig,
    Tunnel,
    Venue,
    VenueConnection,
    http_request,
    http_response,
    make_clock,
    running,
    until,
)
from tests.notary.test_log import KEY
from tests.notary.test_stages import (
    HASTY,
    close_unanswered,
    coded,
    half_and_close,
    half_and_stall,
    opened,
    reset,
    silent,
    too_often,
    unavailable,
)
from tests.tls13.certs import HOST

PLACE = {"adhoc": None, "trade": "t-1", "leg": "open"}
Answer = Callable[[VenueConnection, bytes], None]


@asynccontextmanager
async def logging(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    """Runs a notary that keeps a log."""
    clock, path = make_clock(), folder / "notary.db"
    published = PublishedFile(folder / "checkpoint")
    with offline(path) as database:
        create_log(database, KEY, published)
    store = Store(path, sequence=lambda base: Sequencer(base, KEY, published, clock.now_us))
    options = {"deadlines": HASTY, "store": store, "clock": clock, **options}
    async with running(folder, **options) as rig:
        yield rig


async def refused(rig: Rig, **changes: Any) -> str | None:
    """Asks for one more session of the place; returns the rule it is refused by."""
    made = rig.session(**PLACE, **changes)
    try:
        await rig.desk.check_place(made["id"])
    except RefusedError as error:
        return f"{error.rule} {error.http_status}"
    client = rig.client(made)
    await client.connect()
    client.flush()
    await until(lambda: rig.desk.registry.get(made["id"]).logged)
    # What waits behind it is durable: so is the row, if its place was free.
    await rig.context.store.check_place("adhoc/nothing", None, None)
    rig.desk.end_session(made["id"], made["token"])
    assert (await rig.row(made["id"]))["retry_of"] == changes.get("retry_of")
    return None


def busy(connection: VenueConnection, request: bytes) -> None:
    connection.write(http_response(b"{}").replace(b"200 OK", b"503 Busy"))
    connection.close()


async def ask(rig: Rig, session: dict[str, Any], client: Tunnel, request: bytes) -> None:
    await client.fetch(request)
    if session.get("mode") == "open":
        await until(lambda: bool(rig.venue.requests))
        await asyncio.sleep(0.02)
        with pytest.raises(RefusedError):
            await rig.attest(session, client)
    else:
        await opened(rig, session, client)


@pytest.mark.parametrize("mode", ["sealed", "open"])
@pytest.mark.parametrize(
    ("answer", "reason", "again"),
    [
        (unavailable, "venue_refused", True),
        (too_often, "venue_refused", True),
        (close_unanswered, "venue_closed", True),
        (reset, "venue_closed", True),
        (half_and_close, "venue_closed", True),
        (silent, "venue_silent", False),
        (half_and_stall, "venue_silent", False),
        (coded, "venue_malformed", False),
    ],
)
def test_place_is_tried_again_only_after_what_the_venue_did(
    tmp_path: Path, mode: str, answer: Answer, reason: str, again: bool
) -> None:
    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(answer)) as rig:
            session = rig.session(**PLACE, mode=mode) | {"mode": mode}
            await ask(rig, session, rig.client(session), http_request())
            row = await rig.ended(session["id"], reason)
            assert row["retriable"] == again
            assert await refused(rig) == "place 409"
            assert await refused(rig, retry_of=session["id"]) == (None if again else "place 409")

    asyncio.run(scene())


@pytest.mark.parametrize("status", ["400 No", "403 No", "404 No", "451 No", "302 Elsewhere"])
def test_other_answers_are_attested_and_use_the_place_up(tmp_path: Path, status: str) -> None:
    def answer(connection: VenueConnection, request: bytes) -> None:
        connection.write(http_response(b"{}").replace(b"200 OK", status.encode()))
        connection.close()

    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(answer)) as rig:
            session = rig.session(**PLACE)
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            await rig.attest(session, client, extensions=[])
            assert await refused(rig, retry_of=session["id"]) == "place 409"

    asyncio.run(scene())


def test_refusal_that_the_request_asked_for_earns_no_retry(tmp_path: Path) -> None:
    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(unavailable)) as rig:
            session = rig.session(**PLACE)
            request = http_request().replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
            await ask(rig, session, rig.client(session), request)
            await rig.ended(session["id"], "invalid")
            assert await refused(rig, retry_of=session["id"]) == "place 409"

    asyncio.run(scene())


def test_rate_limit_that_was_burnt_earns_no_retry(tmp_path: Path) -> None:
    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(too_often)) as rig:
            for _ in range(2):
                burning = rig.session()
                client = rig.client(burning)
                await client.fetch()
                await rig.seal(burning)
            session = rig.session(**PLACE)
            await ask(rig, session, rig.client(session), http_request())
            await rig.ended(session["id"], "invalid")
            assert await refused(rig, retry_of=session["id"]) == "place 409"

    asyncio.run(scene())


def test_refusal_outside_a_place_is_attested_as_it_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(busy)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            attestation = await rig.attest(session, client, extensions=[])
            assert attestation.http().status == 503

    asyncio.run(scene())


def test_venue_that_cannot_be_reached_may_be_tried_twice_again(tmp_path: Path) -> None:
    nobody = Resolver(connect_to={(HOST, 443): Endpoint(address="127.0.0.1", port=1)})

    async def scene() -> None:
        async with logging(tmp_path, resolver=nobody) as rig:
            earlier = None
            for _ in range(3):
                session = rig.session(**PLACE, retry_of=earlier)
                await rig.desk.check_place(session["id"])
                assert (await rig.client(session).connect()).startswith(b"HTTP/1.1 503 ")
                row = await rig.ended(session["id"], "venue_refused")
                assert (row["retriable"], row["retry_of"]) == (1, earlier)
                earlier = session["id"]
            assert await refused(rig, retry_of=earlier) == "place 409"
            assert rig.context.store.latest_head().checkpoint.size == 6

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("data", "close", "again"),
    [
        (b"", True, True),
        (b"", False, True),
        (b"\x15\x03\x03\x00\x02\x02\x28", True, False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, False),
    ],
)
def test_venue_that_sends_no_server_hello_may_be_tried_again(
    tmp_path: Path, data: bytes, close: bool, again: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(data)
        if close:
            writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        endpoint = Endpoint(address="127.0.0.1", port=server.sockets[0].getsockname()[1])
        async with logging(tmp_path, resolver=Resolver(connect_to={(HOST, 443): endpoint})) as rig:
            session = rig.session(**PLACE)
            client = rig.client(session)
            await client.connect()
            client.flush()
            found = rig.desk.registry.get(session["id"])
            await until(lambda: found.ended is not None)
            assert (await rig.row(session["id"]))["retriable"] == again
        server.close()

    asyncio.run(scene())


async def leave(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.connect()
    client.flush()
    await client.receive()
    client.close()


async def stall(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.handshake()


async def garble(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.handshake()
    client.flush()
    client.writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    await rig.seal(session)
    with pytest.raises(RefusedError):
        await rig.attest(session, client)


async def open_nothing(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.fetch()
    await rig.seal(session)


DEEDS: Mapping[str, Any] = {
    "leave": (leave, "prover_closed"),
    "stall": (stall, "timeout"),
    "garble": (garble, "invalid"),
    "open nothing": (open_nothing, "not_opened"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_nothing_a_prover_does_earns_a_retry(tmp_path: Path, deed: str) -> None:
    """The venue closes early each time: what the prover did counts all the same."""
    act, reason = DEEDS[deed]

    async def scene() -> None:
        async with logging(tmp_path, venue=Venue(close_unanswered)) as rig:
            session = rig.session(**PLACE)
            client = rig.client(session)
            await act(rig, session, client)
            row = await rig.ended(session["id"], reason)
            assert row["retriable"] == 0
            assert await refused(rig, retry_of=session["id"]) == "place 409"

    asyncio.run(scene())


def test_notary_whose_clock_is_behind_its_log_opens_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with logging(tmp_path) as rig:
            rig.session()
            head = rig.context.store.latest_head()
            ahead = rig.context.clock.now_us() + 2_000_000
            rig.context.ledger = object()  # type: ignore[assignment]
            rig.context.store.latest_head = (  # type: ignore[method-assign]
                lambda: dataclasses.replace(head, logged_us=ahead)
            )
            with pytest.raises(RefusedError) as caught:
                rig.session()
            assert (caught.value.rule, caught.value.http_status) == ("clock", 503)
            rig.context.ledger = None

    asyncio.run(scene())


def test_pace_remembers_what_was_too_much() -> None:
    rate, second = Rate(requests=2, seconds=10), 1_000_000
    pace = Pace()
    for at in (0, 6, 11):
        pace.note("a.example", at * second)
        assert not pace.exceeded("a.example", rate, at * second)
    pace.note("a.example", 15 * second)
    assert pace.exceeded("a.example", rate, 15 * second)
    assert pace.exceeded("a.example", rate, 500 * second)
    assert not pace.exceeded("b.example", rate, 15 * second)
    assert not pace.exceeded("a.example", rate, 700 * second)
