"""What the control API and the relay may ask of the desk, and of whom."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import MalformedError, RefusedError, UnavailableError
from attestation.log.entry import TickEntry
from notary.connect import ConnectRequest
from notary.crowd import Guest
from notary.desk import TICK_US, read_attest
from notary.sessions import token_hash
from notary.store import Store
from tests.notary.rig import PROVER, STRANGER, Rig, Tunnel
from tests.notary.test_continuing import BRISK, run
from tests.notary.test_retries import logging
from tests.notary.test_sessions import in_rig
from tests.tls13.certs import HOST

NOBODY = "0" * 32


def connect(granted: dict[str, Any], /, **changes: Any) -> ConnectRequest:
    members = {"session": granted["id"], "token": granted["token"], "host": HOST, "port": 443}
    return ConnectRequest(**{**members, "rest": b"", **changes})


def refusal(error: pytest.ExceptionInfo[RefusedError]) -> tuple[str | None, int]:
    return error.value.rule, error.value.http_status


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"host": "other.example"}, ("W14", 403)),
        ({"port": 8443}, ("W14", 403)),
        ({"token": NOBODY}, ("token", 403)),
        ({"session": NOBODY}, ("token", 403)),
    ],
)
def test_session_is_claimed_for_its_own_server_by_its_own_token(
    tmp_path: Path, changes: dict[str, Any], refused: tuple[str, int]
) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session()
        with pytest.raises(RefusedError) as error:
            rig.desk.claim_session(connect(session, **changes))
        assert refusal(error) == refused
        found = rig.desk.registry.get(session["id"])
        assert (found.connected, found.timer is not None) == (False, True)
        assert rig.desk.claim_session(connect(session)) is found
        assert (found.connected, found.timer) == (True, None)

    in_rig(tmp_path, scene)


def test_session_is_claimed_once(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session()
        rig.desk.claim_session(connect(session))
        continuing = rig.session()
        found: Any = rig.desk.registry.get(continuing["id"])
        found.witness = object()
        for taken in (session, continuing):
            with pytest.raises(RefusedError) as error:
                rig.desk.claim_session(connect(taken))
            assert refusal(error) == ("session", 409)
        found.witness = None
        assert rig.desk.claim_session(connect(continuing)) is found

    in_rig(tmp_path, scene)


def test_session_that_ended_is_not_claimed(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session()
        rig.desk.end_session(session["id"], session["token"])
        with pytest.raises(RefusedError, match="prover_closed"):
            rig.desk.claim_session(connect(session))
        with pytest.raises(RefusedError, match="prover_closed"):
            rig.desk.end_session(session["id"], session["token"])

    in_rig(tmp_path, scene)


def test_notary_that_stops_takes_no_connection(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session()
        rig.desk._stopping = True
        with pytest.raises(RefusedError) as error:
            rig.desk.claim_session(connect(session))
        assert refusal(error) == ("overload", 503)
        with pytest.raises(RefusedError) as error:
            rig.session()
        assert refusal(error) == ("overload", 503)
        assert not rig.desk.registry.get(session["id"]).connected

    in_rig(tmp_path, scene)


def test_notary_whose_store_is_in_trouble_admits_nothing(tmp_path: Path) -> None:
    class Troubled(Store):
        @property
        def trouble(self) -> UnavailableError | None:
            return UnavailableError("the disk is full", rule="store")

    def scene(rig: Rig) -> None:
        with pytest.raises(UnavailableError, match="the disk is full"):
            rig.session()
        assert len(rig.desk.registry) == 0

    in_rig(tmp_path, scene, store=Troubled(tmp_path / "notary.db"))


def test_known_provers_session_is_known_to_the_relay(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        for key, is_known in ((PROVER, True), (STRANGER, False)):
            guest = Guest("192.0.2.1", lambda error: None)
            session = rig.desk.create_session(rig.envelope(key), guest)
            assert guest.known == is_known
            assert rig.desk.is_known(str(session["id"])) == is_known
        assert not rig.desk.is_known(NOBODY)

    in_rig(tmp_path, scene)


def test_attestation_is_for_its_sessions_token_alone(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await rig.seal(session)
        body = json.dumps({"opening": client.opening()}).encode()
        for content in (body, b"{}"):
            with pytest.raises(RefusedError) as error:
                await rig.desk.attest(session["id"], NOBODY, content)
            assert refusal(error) == ("token", 403)
        with pytest.raises(RefusedError) as error:
            await rig.desk.seal(session["id"], NOBODY)
        assert refusal(error) == ("token", 403)
        attestation = await rig.attest(session, client)
        with pytest.raises(RefusedError) as error:
            await rig.desk.attest(session["id"], NOBODY, body)
        assert refusal(error) == ("token", 403)
        again = await rig.desk.attestation(attestation.header.id, session["token"])
        assert again.attestation == attestation
        for identifier, token in ((attestation.header.id, NOBODY), (NOBODY, session["token"])):
            with pytest.raises(RefusedError) as error:
                await rig.desk.attestation(identifier, token)
            assert refusal(error) == ("id", 404)
        with pytest.raises(RefusedError) as error:
            rig.desk.end_session(session["id"], session["token"])
        assert refusal(error) == ("session", 409)

    run(tmp_path, play, mode="sealed", deadlines=BRISK)


def test_lost_answer_is_given_again_once_the_session_is_forgotten(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        await rig.seal(session)
        attestation = await rig.attest(session, client)
        await client.read_to_end()
        await rig.context.flush()
        rig.desk.registry.prune(rig.context.clock.now_us() + 10**9)
        assert rig.desk.registry.known(session["id"]) is None
        again = await rig.attest(session, client)
        assert again == attestation
        body = json.dumps({"opening": client.opening()}).encode()
        for identifier, token in ((session["id"], NOBODY), (NOBODY, session["token"])):
            with pytest.raises(RefusedError) as error:
                await rig.desk.attest(identifier, token, body)
            assert refusal(error) == ("session", 404)

    run(tmp_path, play, mode="sealed", deadlines=BRISK)


def test_session_without_a_connection_is_neither_sealed_nor_opened(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session(binding="template", form="quotary")
        commitment = json.dumps({"commitment": "sha256:" + "00" * 32}).encode()
        with pytest.raises(RefusedError) as error:
            rig.desk.commit(session["id"], session["token"], commitment)
        assert refusal(error) == ("gate", 409)
        rig.desk._expire(rig.desk.registry.get(session["id"]))
        assert rig.desk.registry.get(session["id"]).ended == "timeout"
        with pytest.raises(RefusedError) as error:
            rig.desk.commit(session["id"], session["token"], commitment)
        assert refusal(error) == ("session", 409)

    in_rig(tmp_path, scene)


def test_second_of_a_healthy_clock_ends_nothing_and_forgets_what_is_over(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session, ended = rig.session(), rig.session()
        rig.desk.end_session(ended["id"], ended["token"])
        found = rig.desk.registry.get(ended["id"])
        rig.desk.tick()
        assert rig.desk.registry.get(session["id"]).ended is None
        assert rig.desk.registry.known(ended["id"]) is found
        found.ended_us -= 10**9
        rig.desk.tick()
        assert rig.desk.registry.known(ended["id"]) is None

    in_rig(tmp_path, scene)


def test_failed_connection_ends_a_session_once(tmp_path: Path) -> None:
    async def play(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
        other = rig.desk.registry.get(rig.session()["id"])
        rig.desk.connect_failed(other, "venue_refused")
        rig.desk.connect_failed(other, "prover_closed")
        row = await rig.row(other.id)
        assert (row["state"], row["reason"]) == ("aborted", "venue_refused")
        assert other.ended == "venue_refused"

    run(tmp_path, play)


def test_quiet_log_gets_a_tick_and_one_that_is_not_gets_none(tmp_path: Path) -> None:
    async def scene() -> None:
        async with logging(tmp_path) as rig:
            store: Any = rig.context.store
            head, ticks = store.latest_head(), []

            def note(make: object) -> asyncio.Future[None]:
                ticks.append(make)
                written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                written.set_result(None)
                return written

            store.log_entry = note
            for ledger, quiet_us, ticked in (
                (None, 10 * TICK_US, 0),
                (object(), TICK_US // 2, 0),
                (object(), TICK_US, 1),
            ):
                rig.context.ledger = ledger  # type: ignore[assignment]
                logged_us = rig.context.clock.now_us() - quiet_us
                store.latest_head = lambda at=logged_us: dataclasses.replace(head, logged_us=at)
                rig.desk.tick()
                assert len(ticks) == ticked
            assert ticks == [TickEntry]
            rig.context.ledger = None

    asyncio.run(scene())


def test_lost_answer_is_given_again_with_a_proof_of_today(tmp_path: Path) -> None:
    proof: Any = object()
    asked = []

    class Shown:
        async def inclusion(self, place: int) -> Any:
            asked.append(place)
            return proof

    async def scene() -> None:
        async with logging(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            attestation = await rig.attest(session, client)
            rig.context.ledger = Shown()  # type: ignore[assignment]
            again = await rig.desk.attestation(attestation.header.id, session["token"])
            assert (again.attestation, again.log) == (attestation, proof)
            stored = await rig.context.store.attestation(
                attestation.header.id, token_hash(session["token"])
            )
            assert stored is not None
            assert asked == [stored.entry]
            rig.context.ledger = None

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"{}", "body"),
        (b'{"opening":{},"more":1}', "body"),
        (b'{"more":1}', "body"),
        (b"[]", "body"),
        (b'{"opening":{}}', "opening.kind"),
        (b'{"opening":{"kind":"ephemeral","private_key":"5E5E"}}', "opening.private_key"),
        (b'{"opening":{"kind":"ephemeral","private_key":5}}', "opening.private_key"),
    ],
)
def test_what_is_no_opening_and_no_request_is_malformed_and_not_repeated(
    body: bytes, rule: str
) -> None:
    with pytest.raises(MalformedError) as error:
        read_attest(body)
    assert error.value.rule == rule
    assert "5E5E" not in str(error.value)
    assert error.value.found is None
