"""Sessions that end without an attestation: why, by whose fault, and that nothing passes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from attestation.errors import RefusedError
from notary.limits import Deadlines, SessionLimits
from notary.resolve import Endpoint, Resolver
from tests.notary.rig import (
    BODY,
    Venue,
    VenueConnection,
    answer_and_close,
    http_request,
    http_response,
    running,
    until,
)
from tests.tls13.certs import HOST


def test_never_opened_seal_ends_as_not_opened(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, deadlines=Deadlines(opening_us=50_000)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            client.close()
            row = await rig.ended(session["id"], "not_opened")
            assert (row["state"], row["fault"]) == ("aborted", "prover")

    asyncio.run(scene())


def test_deletion_after_the_seal_counts_as_not_opened(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            rig.desk.end_session(session["id"], session["token"])
            assert (await rig.row(session["id"]))["reason"] == "not_opened"

    asyncio.run(scene())


@pytest.mark.parametrize("request_bytes", [http_request(), b""])
def test_part_of_a_client_record_is_not_the_venues_fault(
    tmp_path: Path, request_bytes: bytes
) -> None:
    async def scene() -> None:
        deadlines = Deadlines(request_us=50_000, request_span_us=50_000, response_us=50_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.handshake()
            client.tls.write(request_bytes)
            client.writer.write(client.tls.take() + b"\x17\x03\x03")
            row = await rig.ended(session["id"], "violation")
            assert row["fault"] == "prover"

    asyncio.run(scene())


@pytest.mark.parametrize("request_bytes", [http_request() * 2, http_request()[:30]])
def test_bad_request_is_not_the_fault_of_a_venue_that_closes(
    tmp_path: Path, request_bytes: bytes
) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(request_bytes)
            await client.read_to_end()
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == "W8"
            assert (await rig.ended(session["id"], "invalid"))["fault"] == "prover"

    asyncio.run(scene())


def test_foreign_key_ends_the_session_as_invalid(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client, other = rig.client(session), rig.client(session, seed=9)
            await client.fetch()
            await rig.seal(session)
            other.tls.group = client.tls.group
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, other)
            assert refused.value.rule == "opening.private_key"
            assert await client.read_to_end() == b""
            assert (await rig.row(session["id"]))["reason"] == "invalid"

    asyncio.run(scene())


def test_unknown_extension_is_refused_and_nothing_is_attested(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client, extensions=[{"id": "weather/v1"}])
            assert refused.value.rule == "extension.id"
            assert await client.read_to_end() == b""
            assert (await rig.row(session["id"]))["reason"] == "invalid"

    asyncio.run(scene())


def test_quote_value_other_than_the_derived_one_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            wished = [{"id": "quote/v1", "value": {"bid": "1"}}]
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client, extensions=wished)
            assert refused.value.rule == "extension.value"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (http_response(headers="Age: 600\r\n"), "W11"),
        (http_response(BODY.replace(b"BTCUSDT", b"ETHUSDT")), "W11"),
        (http_response() + b"x", "W8"),
        (http_response()[:-1], "W8"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http_response(), "W9"),
        (http_response(headers="Content-Encoding: gzip\r\n"), "W9"),
        (http_response(headers="Transfer-Encoding: chunked\r\n"), "W9"),
    ],
)
def test_bad_response_is_never_attested(tmp_path: Path, answer: bytes, rule: str) -> None:
    def respond(connection: VenueConnection, request: bytes) -> None:
        connection.write(answer)
        connection.close()

    async def scene() -> None:
        async with running(tmp_path, venue=Venue(respond)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == rule
            assert await client.read_to_end() == b""

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("request_bytes", "rule"),
    [
        (http_request("/other"), "W14"),
        (http_request().replace(b"GET", b"POST"), "W14"),
        (http_request() + http_request(), "W8"),
        (http_request().replace(b"Host: api", b"Host: evil"), "W10"),
        (http_request().replace(b"\r\nConnection", b":443\r\nConnection"), "W10"),
        (http_request().replace(b"GET /", b"GET https://api.venue.example/"), "W10"),
    ],
)
def test_bad_request_is_never_attested(tmp_path: Path, request_bytes: bytes, rule: str) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch(request_bytes)
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == rule

    asyncio.run(scene())


def test_response_before_the_request_is_refused(tmp_path: Path) -> None:
    """The venue speaks when it has the client's Finished, before any request."""

    async def scene() -> None:
        deadlines = Deadlines(quiet_us=100_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.handshake()
            client.flush()
            await until(lambda: rig.venue.connections[0].side.established)
            rig.venue.answer = lambda connection, request: connection.close()
            rig.venue.connections[0].write(http_response())
            await asyncio.sleep(0.02)
            client.send(http_request())
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == "W8"

    asyncio.run(scene())


def test_request_spread_over_too_long_a_time_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        deadlines = Deadlines(request_span_us=20_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            rig.venue.answer = lambda connection, request: None
            request = http_request()
            await client.fetch(request[:30])
            await client.writer.drain()
            await asyncio.sleep(0.1)
            rig.venue.answer = answer_and_close
            client.send(request[30:])
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == "W13"

    asyncio.run(scene())


def test_request_in_one_byte_records_is_attested_within_the_record_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        gathered = bytearray()

        def gather(connection: VenueConnection, data: bytes) -> None:
            gathered.extend(data)
            if gathered == http_request():
                connection.write(http_response())
                connection.close()

        async with running(tmp_path, venue=Venue(gather)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.handshake()
            client.send(http_request(), size=1)
            await rig.seal(session)
            attestation = await rig.attest(session, client)
            assert attestation.connection().sent_records > len(http_request())

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("limits", "size"),
    [(SessionLimits(records=64), 1), (SessionLimits(sent_bytes=4_000), 16)],
)
def test_more_records_or_bytes_than_allowed_end_the_session(
    tmp_path: Path, limits: SessionLimits, size: int
) -> None:
    async def scene() -> None:
        async with running(tmp_path, limits=limits) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.handshake()
            client.send(b"G" * 4_000, size=size)
            await client.read_to_end()
            assert (await rig.ended(session["id"], "violation"))["fault"] == "prover"

    asyncio.run(scene())


def test_response_larger_than_allowed_ends_the_session(tmp_path: Path) -> None:
    def flood(connection: VenueConnection, request: bytes) -> None:
        connection.write(http_response(b"x" * 200_000))

    async def scene() -> None:
        limits = SessionLimits(received_bytes=100_000)
        async with running(tmp_path, venue=Venue(flood), limits=limits) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.ended(session["id"], "violation")
            with pytest.raises(RefusedError):
                await rig.seal(session)

    asyncio.run(scene())


def test_venue_silent_in_the_handshake_ends_the_session_within_its_deadline(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        endpoint = Endpoint(address="127.0.0.1", port=silent.sockets[0].getsockname()[1])
        resolver = Resolver(connect_to={(HOST, 443): endpoint})
        deadlines = Deadlines(flight_us=50_000)
        async with running(tmp_path, resolver=resolver, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.connect()
            client.flush()
            assert await client.read_to_end() == b""
            assert (await rig.ended(session["id"], "venue_silent"))["fault"] == "venue"
        silent.close()

    asyncio.run(scene())


def test_session_tickets_alone_are_no_response(tmp_path: Path) -> None:
    """Without keys tickets look like an answer: the seal is made, the claim is not."""

    async def scene() -> None:
        deadlines = Deadlines(request_us=100_000, response_us=100_000)
        venue = Venue(lambda connection, request: None)
        async with running(tmp_path, venue=venue, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == "W8"

    asyncio.run(scene())


def test_unreachable_venue_is_a_problem_and_an_aborted_session(tmp_path: Path) -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async def scene() -> None:
        async with running(tmp_path, resolver=Resolver(lookup=nowhere)) as rig:
            session = rig.session()
            answer = await rig.client(session).connect()
            assert answer.startswith(b"HTTP/1.1 503 ")
            row = await rig.row(session["id"])
            assert (row["state"], row["reason"]) == ("aborted", "venue_refused")

    asyncio.run(scene())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "10.1.2.3", "64:ff9b::7f00:1", "0.0.0.0"],
)
def test_private_address_is_refused_before_anything_is_connected(
    tmp_path: Path, address: str
) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return [address]

    async def scene() -> None:
        async with running(tmp_path, resolver=Resolver(lookup=lookup)) as rig:
            session = rig.session(venue=None, instrument=None, host="intern.example", port=443)
            client = rig.client(session)
            answer = await client.connect()
            assert answer.startswith(b"HTTP/1.1 403 ")
            problem = json.loads(await client.reader.read())
            assert problem["rule"] == "address"
            assert rig.venue.connections == []

    asyncio.run(scene())


def test_name_is_resolved_once_and_that_address_is_used(tmp_path: Path) -> None:
    """Rebinding: a second answer of the resolver is never asked for."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async def scene() -> None:
        endpoint = await Resolver(lookup=lookup).resolve("intern.example", 443)
        assert (endpoint.address, asked) == ("93.184.215.14", ["intern.example"])

    asyncio.run(scene())
