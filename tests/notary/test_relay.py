"""The relay end to end: what passes when, what is refused before any byte goes out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from attestation import merkle
from attestation.errors import RefusedError
from attestation.hashing import hash_string, parse_hash
from notary.limits import Deadlines, SessionLimits
from notary.resolve import Endpoint, Resolver
from notary.store import OpenedRow, Store
from tests.notary.rig import (
    BODY,
    NOTARY,
    Venue,
    VenueConnection,
    answer_and_close,
    answer_and_keep,
    http_request,
    http_response,
    running,
    until,
)
from tests.tls13.certs import HOST


class HeldStore(Store):
    """A store whose ``opened`` rows become durable when the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = asyncio.Event()

    def open_session(self, row: OpenedRow) -> asyncio.Future[None]:
        async def later() -> None:
            await self.go.wait()
            await super(HeldStore, self).open_session(row)

        return asyncio.ensure_future(later())


def test_sealed_session_is_attested_and_its_response_released_after(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            seal = await rig.desk.seal(session["id"])
            assert not client.tls.application
            attestation = await rig.attest(session, client)
            assert await client.read_to_end() == http_response()
            NOTARY.verifying_key.verify(
                bytes.fromhex(attestation.signature), attestation.header.encode()
            )
            attestation.check_root()
            connection = attestation.connection()
            assert connection.sent_bytes == seal.seal.sent_size
            assert connection.received_bytes == seal.seal.received_size
            (quote,) = attestation.extensions().values()
            assert (quote.value["bid"], quote.value["ask"]) == ("64000.1", "64000.2")
            assert (await rig.row(session["id"]))["state"] == "attested"

    asyncio.run(scene())


def test_seal_covers_every_raw_byte_of_both_directions(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            sent = bytearray()
            take = client.tls.take

            def tapped() -> bytes:
                data = take()
                sent.extend(data)
                return data

            client.tls.take = tapped  # type: ignore[method-assign]
            await client.fetch()
            seal = (await rig.desk.seal(session["id"])).seal
            assert seal.sent == hash_string(bytes(sent))
            assert seal.sent_size == len(sent)
            again = (await rig.desk.seal(session["id"])).seal
            assert again == seal

    asyncio.run(scene())


def test_body_tree_folds_to_the_root_of_our_own_merkle_code(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            for algorithm in ("sha256", "sha3-256"):
                session = rig.session()
                client = rig.client(session)
                await client.fetch()
                await rig.desk.seal(session["id"])
                attestation = await rig.attest(session, client, hash=algorithm)
                name, root = parse_hash(attestation.header.root)
                assert (name, root) == (algorithm, merkle.root(attestation.leaves(), algorithm))

    asyncio.run(scene())


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_no_byte_passes_after_the_hello_flight_until_the_opened_row_is_durable(
    tmp_path: Path, mode: str
) -> None:
    async def scene() -> None:
        store = HeldStore(tmp_path / "notary.db")
        async with running(tmp_path, store=store) as rig:
            session = rig.session(mode=mode)
            client = rig.client(session)
            await client.handshake()
            before = rig.venue.raw_received
            client.send(http_request())
            await client.writer.drain()
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            await until(lambda: witness.state == "held")
            assert rig.venue.raw_received == before
            assert rig.venue.requests == []
            store.go.set()
            await until(lambda: bool(rig.venue.requests))
            assert rig.venue.requests == [http_request()]

    asyncio.run(scene())


def test_failing_opened_row_ends_the_session_and_nothing_passes(tmp_path: Path) -> None:
    class Failing(Store):
        def open_session(self, row: OpenedRow) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(RefusedError("disk", rule="store"))
            return future

        def abort_session(self, session: str, reason: str, now_us: int) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_result(None)
            return future

    async def scene() -> None:
        async with running(tmp_path, store=Failing(tmp_path / "notary.db")) as rig:
            session = rig.session()
            client = rig.client(session)
            answer = await client.connect()
            assert answer.startswith(b"HTTP/1.1 200 ")
            client.flush()
            await client.read_to_end()
            assert rig.desk.registry.get(session["id"]).ended == "overload"
            assert rig.venue.requests == []

    asyncio.run(scene())


def test_open_response_passes_at_once_and_is_attested_after(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch()
            assert await client.read_to_end() == http_response()
            attestation = await rig.attest(session, client)
            assert attestation.session().mode == "open"
            assert attestation.connection().sealed_us is None

    asyncio.run(scene())


def test_kept_alive_claims_are_sessions_of_their_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            request, response = http_request(close=False), http_response(close=False)
            await client.fetch(request)
            await client.read_response(len(response))
            first = await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            client.send(request)
            await client.read_response(2 * len(response))
            second = await rig.attest(following, client)
            assert second.session().conn == session["id"]
            assert second.header.id != first.header.id
            connection = second.connection()
            assert connection.opened_us <= connection.released_us <= connection.request_first_us
            assert connection.received_bytes > first.connection().received_bytes
            assert (await rig.row(following["id"]))["state"] == "attested"

    asyncio.run(scene())


def test_second_request_is_held_until_the_next_session_is_durable(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            request, response = http_request(close=False), http_response(close=False)
            await client.fetch(request)
            await client.read_response(len(response))
            await rig.attest(session, client)
            client.send(request)
            await client.writer.drain()
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            await until(lambda: witness.holds)
            assert len(rig.venue.requests) == 1
            following = rig.session(mode="open", conn=session["id"])
            await client.read_response(2 * len(response))
            assert len(rig.venue.requests) == 2
            await rig.attest(following, client)

    asyncio.run(scene())


def test_application_data_of_the_venue_between_claims_ends_the_connection(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            rig.venue.connections[0].write(b"HTTP/1.1 200 OK\r\n")
            await client.read_to_end()
            assert (await rig.ended(following["id"], "invalid"))["state"] == "aborted"

    asyncio.run(scene())


def test_opening_without_request_is_attested_by_default(tmp_path: Path) -> None:
    async def scene() -> None:
        deadlines = Deadlines(opening_us=150_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.desk.seal(session["id"])
            body = json.dumps({"opening": client.opening()}).encode()
            assert await rig.desk.attest(session["id"], body) is None
            assert await client.read_to_end() == http_response()
            repeated = await rig.attest(session, client)
            assert [field.name for field in repeated.fields] == [
                "session",
                "connection",
                "server",
                "http",
                "notary",
            ]

    asyncio.run(scene())


def test_repeated_opening_returns_the_same_attestation(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.desk.seal(session["id"])
            both = await asyncio.gather(rig.attest(session, client), rig.attest(session, client))
            third = await rig.attest(session, client)
            assert both[0] == both[1] == third
            assert await rig.desk.attestation(third.header.id) == third

    asyncio.run(scene())


def test_opening_before_the_seal_is_refused(tmp_path: Path) -> None:
    def never(connection: VenueConnection, request: bytes) -> None:
        connection.write(http_response()[:20])

    async def scene() -> None:
        async with running(tmp_path, venue=Venue(never)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            with pytest.raises(RefusedError) as refused:
                await rig.attest(session, client)
            assert (refused.value.rule, refused.value.http_status) == ("gate", 409)

    asyncio.run(scene())


def test_response_without_a_close_is_sealed_after_a_quiet_time(tmp_path: Path) -> None:
    async def scene() -> None:
        deadlines = Deadlines(quiet_us=50_000)
        async with running(tmp_path, venue=Venue(answer_and_keep), deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.desk.seal(session["id"])
            attestation = await rig.attest(session, client)
            assert attestation.http().status == 200

    asyncio.run(scene())


def test_never_opened_seal_ends_as_not_opened(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, deadlines=Deadlines(opening_us=50_000)) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
            rig.desk.end_session(session["id"])
            assert (await rig.row(session["id"]))["reason"] == "not_opened"

    asyncio.run(scene())


def test_foreign_key_ends_the_session_as_invalid(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client, other = rig.client(session), rig.client(session, seed=9)
            await client.fetch()
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.desk.seal(session["id"])
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
            await rig.ended(session["id"], "venue_tls")
            with pytest.raises(RefusedError):
                await rig.desk.seal(session["id"])

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
        deadlines = Deadlines(quiet_us=50_000)
        venue = Venue(lambda connection, request: None)
        async with running(tmp_path, venue=venue, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.desk.seal(session["id"])
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
