"""A side that leaves, or goes on where it must not: what ends, what stays, what passes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from notary.transitions import State
from tests.notary.rig import Rig, Tunnel, answer_and_keep, running, until
from tests.notary.test_continuing import BRISK, REQUEST, RESPONSE, read, run, silent, witness_of


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_client_that_leaves_while_its_records_are_held_has_left(tmp_path: Path, mode: str) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session(mode=mode, binding="template", form="quotary")
            client = rig.client(session)
            await client.handshake()
            client.flush()
            await until(lambda: witness_of(rig, session).gate.state is State.HELD)
            client.close()
            await rig.ended(session["id"], "prover_closed")
            assert rig.venue.requests == []

    asyncio.run(scene())


def test_client_that_leaves_before_the_seal_has_left(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        client.close()
        await rig.ended(session["id"], "prover_closed")

    run(tmp_path, play, mode="sealed", answer=silent)


def test_client_that_leaves_between_claims_ends_the_connection(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        await rig.attest(session, client)
        witness = witness_of(rig, session)
        assert witness.alive
        client.close()
        await until(lambda: not witness.alive)
        assert (await rig.row(session["id"]))["state"] == "attested"

    run(tmp_path, play)


def test_what_the_venue_says_after_the_seal_is_no_part_of_the_session(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        seal = (await rig.seal(session)).seal
        rig.venue.connections[0].side.write(b"more")
        witness = witness_of(rig, session)
        witness.venue_bytes(rig.venue.connections[0].side.take())
        assert witness.gate.received.size == seal.received_size
        attestation = await rig.attest(session, client)
        assert attestation.connection().received_bytes == seal.received_size
        assert await client.read_to_end() == RESPONSE

    run(tmp_path, play, mode="sealed", deadlines=BRISK)


def test_request_right_behind_a_response_waits_for_the_next_session(tmp_path: Path) -> None:
    """In the loop's same turn: what came before is verified first, and so closes the gate."""

    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await read(client)
        await rig.attest(session, client)
        following = rig.session(mode="open", conn=session["id"])
        rig.venue.answer = silent
        client.send(REQUEST)
        await until(lambda: len(rig.venue.requests) == 2)
        witness, side = witness_of(rig, session), rig.venue.connections[0].side
        side.write(RESPONSE)
        client.tls.write(REQUEST)
        witness.venue_bytes(side.take())
        witness.client_bytes(client.tls.take())
        assert witness.gate.state is State.VERIFIED
        assert len(witness.gate.held) == 1
        await read(client, 2)
        await rig.attest(following, client)
        rig.venue.answer = answer_and_keep
        last = rig.session(mode="open", conn=session["id"])
        await read(client, 3)
        assert (await rig.attest(last, client)).session().id == last["id"]
        assert rig.venue.requests == [REQUEST] * 3

    run(tmp_path, play)


def test_seal_stays_what_it_was_once_the_session_is_attested(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        seal = await rig.seal(session)
        await rig.attest(session, client)
        assert await rig.seal(session) == seal

    run(tmp_path, play, mode="sealed", deadlines=BRISK)
