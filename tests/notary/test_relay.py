"""The relay end to end: what passes when, what is refused before any byte goes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation import merkle
from attestation.errors import RefusedError, UnavailableError
from attestation.hashing import hash_string, parse_hash
from notary.connection import Connection
from notary.limits import Deadlines
from notary.rows import OpenedRow
from notary.store import Store
from notary.transitions import State
from tests.notary.rig import (
    NOTARY,
    Rig,
    Venue,
    VenueConnection,
    answer_and_keep,
    http_request,
    http_response,
    running,
    until,
)


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
            seal = await rig.seal(session)
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
            seal = (await rig.seal(session)).seal
            assert seal.sent == hash_string(bytes(sent))
            assert seal.sent_size == len(sent)
            again = (await rig.seal(session)).seal
            assert again == seal

    asyncio.run(scene())


def test_body_tree_folds_to_the_root_of_our_own_merkle_code(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            for algorithm in ("sha256", "sha3-256"):
                session = rig.session()
                client = rig.client(session)
                await client.fetch()
                await rig.seal(session)
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
            await until(lambda: witness.gate.state == "held")
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
            future.set_exception(UnavailableError("disk", rule="store"))
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


def test_attestation_may_be_asked_for_before_the_response_is_there(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            request, response = http_request(close=False), http_response(close=False)
            await client.fetch(request)
            await client.read_response(len(response))
            await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            asked = asyncio.create_task(rig.attest(following, client))
            await until(lambda: rig.desk.registry.get(following["id"]).issuing is not None)
            assert len(rig.venue.requests) == 1
            client.send(request)
            await client.read_response(2 * len(response))
            second = await asked
            assert second.session().id == following["id"]
            assert (await rig.row(following["id"]))["state"] == "attested"

    asyncio.run(scene())


def test_request_that_does_not_fit_a_response_yet_to_come_may_be_made_again_once_it_is_there(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            request, response = http_request(close=False), http_response(close=False)
            await client.fetch(request)
            await client.read_response(len(response))
            await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            body = "response.header.no-such"
            other = [{"name": body, "direction": "received", "scheme": "hash", "salt": "ab" * 16}]
            early = asyncio.create_task(rig.attest(following, client, sections=other))
            await until(lambda: rig.desk.registry.get(following["id"]).issuing is not None)
            client.send(request)
            await client.read_response(2 * len(response))
            with pytest.raises(RefusedError) as caught:
                await early
            assert (caught.value.rule, caught.value.http_status) == ("request.early", 409)
            assert (await rig.attest(following, client)).session().id == following["id"]
            assert (await rig.row(following["id"]))["state"] == "attested"
            last = rig.session(mode="open", conn=session["id"])
            client.send(request)
            await client.read_response(3 * len(response))
            await until(lambda: witness_of(rig, last).gate.state is State.VERIFIED)
            with pytest.raises(RefusedError) as caught:
                await rig.attest(last, client, sections=other)
            assert caught.value.rule != "request.early"
            assert (await rig.row(last["id"]))["state"] == "aborted"

    asyncio.run(scene())


def witness_of(rig: Rig, session: dict[str, Any]) -> Connection:
    """Returns the connection of a session's turn."""
    witness = rig.desk.registry.get(session["id"]).witness
    assert witness is not None
    return witness


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
            await until(lambda: witness.gate.held)
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


def test_connection_is_not_kept_for_a_client_that_left(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            witness.client_ended()
            await rig.attest(session, client)
            assert not witness.alive
            assert rig.desk.registry.get(session["id"]).account.connections == 0

    asyncio.run(scene())


def test_ended_connection_keeps_no_records(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            seal = await rig.seal(session)
            await rig.attest(session, client)
            await client.read_to_end()
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            assert not witness.gate.sent.records
            assert not witness.gate.received.records
            assert await rig.seal(session) == seal

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [(b"GET /ticker", "timeout"), (http_request(close=False), "venue_silent")],
)
def test_silence_is_the_venues_fault_only_if_it_was_asked(
    tmp_path: Path, request_bytes: bytes, reason: str
) -> None:
    def answer_once(connection: VenueConnection, request: bytes) -> None:
        if len(venue.requests) == 1:
            connection.write(http_response(close=False))

    venue = Venue(answer_once)

    async def scene() -> None:
        deadlines = Deadlines(request_us=100_000, request_span_us=50_000, response_us=100_000)
        async with running(tmp_path, venue=venue, deadlines=deadlines) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            await rig.attest(session, client)
            following = rig.session(mode="open", conn=session["id"])
            client.send(request_bytes)
            await rig.ended(following["id"], reason)

    asyncio.run(scene())


def test_opening_without_request_is_attested_by_default(tmp_path: Path) -> None:
    async def scene() -> None:
        deadlines = Deadlines(opening_us=150_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            body = json.dumps({"opening": client.opening()}).encode()
            assert await rig.desk.attest(session["id"], session["token"], body) is None
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
            await rig.seal(session)
            both = await asyncio.gather(rig.attest(session, client), rig.attest(session, client))
            third = await rig.attest(session, client)
            assert both[0] == both[1] == third
            again = await rig.desk.attestation(third.header.id, session["token"])
            assert again.attestation == third

    asyncio.run(scene())


def test_second_opening_of_another_key_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            body = {"opening": client.opening()}
            place = session["id"], session["token"]
            assert await rig.desk.attest(*place, json.dumps(body).encode()) is None
            body["opening"]["private_key"] = "07" * 32
            with pytest.raises(RefusedError) as refused:
                await rig.desk.attest(*place, json.dumps(body).encode())
            assert (refused.value.rule, refused.value.http_status) == ("opening", 409)
            assert (await rig.attest(session, client)).session().id == session["id"]

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


def say_goodbye_and_stay(connection: VenueConnection, request: bytes) -> None:
    """Answers, sends close_notify and leaves the closing to the client."""
    connection.write(http_response())
    connection.side.close()
    connection.flush()


@pytest.mark.parametrize(
    ("venue", "deadlines"),
    [
        (say_goodbye_and_stay, Deadlines(quiet_us=50_000, response_us=60_000_000)),
        (answer_and_keep, Deadlines(request_us=100_000, response_us=100_000)),
    ],
)
def test_response_without_a_close_is_sealed_after_its_goodbye_or_its_time(
    tmp_path: Path, venue: Callable[[VenueConnection, bytes], None], deadlines: Deadlines
) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(venue), deadlines=deadlines) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            attestation = await rig.attest(session, client)
            assert attestation.http().status == 200

    asyncio.run(scene())
