"""Sessions that take turns on one connection: when another may follow, and how one is let go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import QuotaryError, RefusedError, UnavailableError
from notary.limits import Deadlines, SessionLimits
from notary.transitions import State
from notary.witness import Witness
from tests.notary.rig import (
    Rig,
    Tunnel,
    Venue,
    VenueConnection,
    answer_and_keep,
    attestation_request,
    http_request,
    http_response,
    running,
    until,
)

BRISK = Deadlines(request_us=400_000, response_us=400_000)
"""A seal comes soon where the venue keeps the connection."""
REQUEST, RESPONSE = http_request(close=False), http_response(close=False)


def silent(connection: VenueConnection, request: bytes) -> None:
    """Says nothing until the test does."""


def half(connection: VenueConnection, request: bytes) -> None:
    connection.write(RESPONSE[:-5])


def witness_of(rig: Rig, session: dict[str, Any]) -> Witness:
    """Returns the connection of a session."""
    witness = rig.desk.registry.get(session["id"]).witness
    assert isinstance(witness, Witness)
    return witness


def run(
    tmp_path: Path,
    play: Callable[[Rig, dict[str, Any], Tunnel], Awaitable[None]],
    *,
    mode: str = "open",
    answer: Callable[[VenueConnection, bytes], None] = answer_and_keep,
    **options: Any,
) -> None:
    """Plays a scene on a connection whose first session has asked."""

    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer), **options) as rig:
            session = rig.session(mode=mode)
            client = rig.client(session)
            await client.fetch(REQUEST)
            await until(lambda: bool(rig.venue.requests))
            await play(rig, session, client)

    asyncio.run(scene())


async def read(client: Tunnel, count: int = 1) -> None:
    await client.read_response(count * len(RESPONSE))


def cannot_follow(rig: Rig, session: dict[str, Any]) -> None:
    """Demands that no session may continue the connection of this one."""
    before = len(rig.desk.registry)
    with pytest.raises(RefusedError) as refused:
        rig.session(mode="open", conn=session["id"])
    assert (refused.value.rule, refused.value.http_status) == ("request.conn", 409)
    assert len(rig.desk.registry) == before


async def open_alone(rig: Rig, session: dict[str, Any], client: Tunnel) -> Any:
    """Opens and asks for nothing yet."""
    body = json.dumps({"opening": client.opening()}).encode()
    return await rig.desk.attest(session["id"], session["token"], body)


def test_sealed_connection_is_not_continued(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        cannot_follow(rig, session)

    run(tmp_path, play, mode="sealed", answer=silent)


@pytest.mark.parametrize("gone", ["venue", "client", "ended"])
def test_connection_is_not_continued_that_a_side_has_left(tmp_path: Path, gone: str) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        witness = witness_of(rig, session)
        if gone == "venue":
            witness.venue_ended()
        elif gone == "client":
            witness.client_ended()
        else:
            witness.end("prover_closed")
        assert witness.alive == (gone != "ended")
        cannot_follow(rig, session)

    run(tmp_path, play)


def test_connection_that_used_up_half_of_a_limit_is_not_continued(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        await rig.attest(session, client)
        gate = witness_of(rig, session).gate
        used = max(len(gate.sent.records), len(gate.received.records))
        gate._limits = SessionLimits(records=2 * used - 1)
        cannot_follow(rig, session)
        gate._limits = SessionLimits(records=2 * used)
        rig.session(mode="open", conn=session["id"])

    run(tmp_path, play)


def test_connection_carries_as_many_claims_as_allowed(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        await rig.attest(session, client)
        following = rig.session(mode="open", conn=session["id"])
        client.send(REQUEST)
        await read(client, 2)
        await rig.attest(following, client)
        cannot_follow(rig, session)

    run(tmp_path, play, limits=SessionLimits(claims=2))


def test_one_session_at_a_time_waits_for_its_turn(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        waiting = rig.session(mode="open", conn=session["id"])
        cannot_follow(rig, session)
        with pytest.raises(RefusedError) as refused:
            await rig.attest(waiting, client)
        assert (refused.value.rule, refused.value.http_status) == ("gate", 409)
        rig.venue.connections[0].write(RESPONSE)
        await read(client)
        assert (await rig.attest(session, client)).session().id == session["id"]
        rig.venue.answer = answer_and_keep
        client.send(REQUEST)
        await read(client, 2)
        assert (await rig.attest(waiting, client)).session().id == waiting["id"]

    run(tmp_path, play, answer=silent)


def test_connection_that_the_response_ends_is_not_continued(tmp_path: Path) -> None:
    """The venue said so, although it has not closed it yet."""
    last = http_response(close=True)

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await client.read_response(len(last))
        assert (await rig.attest(session, client)).http().status == 200
        assert not witness_of(rig, session).alive
        cannot_follow(rig, session)

    run(tmp_path, play, answer=lambda connection, request: connection.write(last))


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_session_that_waits_is_let_go_and_the_connection_goes_on(tmp_path: Path, how: str) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        waiting = rig.session(mode="open", conn=session["id"])
        found, witness = rig.desk.registry.get(waiting["id"]), witness_of(rig, session)
        if how == "cancelled":
            rig.desk.end_session(waiting["id"], waiting["token"])
        else:
            rig.desk._expire(found)
        assert found.ended == ("prover_closed" if how == "cancelled" else "timeout")
        assert witness.alive
        # Whose turn has come is not let go by a deadline of its waiting.
        witness.drop(rig.desk.registry.get(session["id"]), "timeout")
        assert rig.desk.registry.get(session["id"]).ended is None
        rig.venue.connections[0].write(RESPONSE)
        await read(client)
        await rig.attest(session, client)
        last = rig.session(mode="open", conn=session["id"])
        rig.venue.answer = answer_and_keep
        client.send(REQUEST)
        await read(client, 2)
        assert (await rig.attest(last, client)).session().id == last["id"]

    run(tmp_path, play, answer=silent)


def test_verified_claim_cannot_be_cancelled(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        assert await open_alone(rig, session, client) is None
        with pytest.raises(RefusedError) as refused:
            rig.desk.end_session(session["id"], session["token"])
        assert (refused.value.rule, refused.value.http_status) == ("gate", 409)
        assert (await rig.attest(session, client)).session().id == session["id"]

    run(tmp_path, play)


@pytest.mark.parametrize("sealed", [False, True])
def test_session_that_is_cancelled_was_left_before_its_seal_and_not_opened_after(
    tmp_path: Path, sealed: bool
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        if sealed:
            await rig.seal(session)
        rig.desk.end_session(session["id"], session["token"])
        await rig.ended(session["id"], "not_opened" if sealed else "prover_closed")

    run(tmp_path, play, mode="sealed", answer=silent, deadlines=BRISK)


def test_opening_without_a_request_is_answered_once_the_claim_is_verified(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        gate = witness_of(rig, session).gate
        asked = asyncio.create_task(open_alone(rig, session, client))
        await until(lambda: gate.state is State.OPENED)
        await asyncio.sleep(0)
        assert not asked.done()
        rig.venue.connections[0].write(RESPONSE)
        assert await asked is None
        assert gate.state is State.VERIFIED

    run(tmp_path, play, answer=silent)


def test_opening_that_opens_nothing_is_refused_with_or_without_a_request(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        body = {"opening": {"kind": "ephemeral", "private_key": "07" * 32}}
        with pytest.raises(RefusedError) as refused:
            await rig.desk.attest(session["id"], session["token"], json.dumps(body).encode())
        assert refused.value.rule is not None
        assert refused.value.rule.startswith("opening")
        await rig.ended(session["id"], "invalid")

    run(tmp_path, play)


@pytest.mark.parametrize("first", [True, False])
def test_response_that_the_venue_cuts_ends_an_opened_session_at_once(
    tmp_path: Path, first: bool
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        if not first:
            rig.venue.connections[0].write(RESPONSE)
            await read(client)
            await rig.attest(session, client)
            session = rig.session(mode="open", conn=session["id"])
            rig.venue.answer = half
            client.send(REQUEST)
            await until(lambda: len(rig.venue.requests) == 2)
            await client.read_response(2 * len(RESPONSE) - 5)
        else:
            half(rig.venue.connections[0], b"")
            await client.read_response(len(RESPONSE) - 5)
        asked = asyncio.create_task(open_alone(rig, session, client))
        gate = witness_of(rig, session).gate
        wanted = State.OPENED if first else State.RELEASED
        await until(lambda: gate.state is wanted)
        rig.venue.connections[0].transport.abort()
        with pytest.raises(RefusedError):
            await asked
        await rig.ended(session["id"], "venue_closed")

    run(tmp_path, play, answer=silent)


def test_venue_that_closes_after_the_seal_changes_nothing(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await rig.seal(session)
        witness = witness_of(rig, session)
        rig.venue.connections[0].close()
        await until(lambda: witness._venue_gone)
        assert witness.alive
        assert (await rig.attest(session, client)).http().status == 200

    run(tmp_path, play, mode="sealed", deadlines=BRISK)


def test_notary_that_stops_attests_what_is_verified_and_ends_the_rest(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        await open_alone(rig, session, client)
        following = rig.session(mode="open", conn=session["id"])
        client.send(REQUEST)
        rig.venue.answer = half
        await until(lambda: len(rig.venue.requests) == 2)
        await rig.desk.stop()
        assert (await rig.row(session["id"]))["state"] == "attested"
        await rig.ended(following["id"], "restart")
        with pytest.raises(RefusedError) as refused:
            rig.session()
        assert (refused.value.rule, refused.value.http_status) == ("overload", 503)

    run(tmp_path, play)


def test_request_of_another_session_is_refused_and_the_right_one_still_taken(
    tmp_path: Path,
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        body = {
            "opening": client.opening(),
            "request": attestation_request(session) | {"session": "0b" * 16},
        }
        for _ in range(2):
            with pytest.raises(RefusedError) as refused:
                await rig.desk.attest(session["id"], session["token"], json.dumps(body).encode())
            assert refused.value.rule == "request.session"
        assert (await rig.attest(session, client)).session().id == session["id"]

    run(tmp_path, play)


def test_open_session_has_no_seal(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        with pytest.raises(RefusedError) as refused:
            await asyncio.wait_for(rig.seal(session), 5)
        assert (refused.value.rule, refused.value.http_status) == ("gate", 409)

    run(tmp_path, play)


def test_verified_sealed_session_is_attested_and_released_whatever_ends_the_others(
    tmp_path: Path,
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await rig.seal(session)
        assert await open_alone(rig, session, client) is None
        rig.desk.end_all("clock")
        assert witness_of(rig, session).alive
        assert rig.desk.registry.get(session["id"]).ended is None
        assert (await rig.attest(session, client)).session().id == session["id"]
        assert await client.read_to_end() == RESPONSE

    run(tmp_path, play, mode="sealed", deadlines=BRISK)


def test_connection_that_the_venue_left_ends_with_its_claim(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        witness = witness_of(rig, session)
        witness.venue_ended()
        assert witness.alive
        assert (await rig.attest(session, client)).session().id == session["id"]
        assert not witness.alive

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("error", "reason", "fault"),
    [
        (UnavailableError("the disk is full", rule="disk"), "overload", "notary"),
        (RefusedError("it is wrong", rule="extension"), "invalid", "prover"),
    ],
)
def test_claim_that_cannot_be_kept_is_the_notarys_fault(
    tmp_path: Path, error: QuotaryError, reason: str, fault: str
) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        witness_of(rig, session)._issue_failed(error)
        assert (await rig.ended(session["id"], reason))["fault"] == fault

    run(tmp_path, play)
