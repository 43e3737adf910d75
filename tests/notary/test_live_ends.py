"""How live sessions end by their venue, by the notary, and in order; and what is known of them."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

import notary.blame
import notary.relay
from attestation.errors import QuotaryError, RefusedError
from attestation.subscription import subscription
from attestation.venues import shipped_venues
from attestation.websocket import MessageReader
from examples.venues.faults import Fault
from examples.venues.server import VenueServer
from notary.backlog import MAX_UNVERIFIED
from notary.backup import Source, make_backup, verify_backup
from notary.limits import Deadlines, ProverLimits, SessionLimits
from notary.transitions import State
from tests.notary.live_client import LooseTls
from tests.notary.live_rig import FEED, LiveRig, entries, live_running
from tests.notary.rig import until


def gap_reason(rig: LiveRig, venue: str = "kraken") -> str | None:
    """Why a slot would have no quote of a venue; None if it has one."""
    state = rig.feeds._feeds[FEED].states[venue]
    now = rig.context.clock.now_us()
    if state.observe(now) is not None:
        return None
    return state.missing(now, rig.feeds._trouble)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("disconnect:cut", "venue_closed"),
        ("disconnect:close", "venue_closed"),
        ("close:1001", "venue_closed"),
        ("oversized", "venue_malformed"),
    ],
)
def test_venue_that_ends_its_channel_is_named(tmp_path: Path, fault: str, reason: str) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, venues=["kraken", "okx"]) as rig:
            bystander, _ = await rig.start("okx")
            client, _ = await rig.start()
            await until(lambda: gap_reason(rig) is None)
            rig.venues.faults.set("kraken", Fault.parse(f"{fault}*1"))
            await client.read_to_end()
            row = await rig.ended(client, reason)
            assert (row["state"], row["fault"]) == ("closed", "venue")
            assert row["messages"] >= len(client.messages)
            assert gap_reason(rig) == reason
            await bystander.read(len(bystander.updates) + 2)
            # It recovers by itself.
            again, _ = await rig.start()
            await again.read(2)
            assert gap_reason(rig) is None

    asyncio.run(scene())
    closed = next(entry for entry in entries(tmp_path / "notary.db") if entry.kind == "closed")
    assert closed.to_json()["reason"] == reason


@pytest.mark.parametrize(
    ("opens", "reason"), [(False, "not_opened"), (True, "timeout")], ids=["held", "released"]
)
def test_slots_are_not_the_venues_gaps_where_the_prover_kept_it_waiting_until_it_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool, reason: str
) -> None:
    """After its Finished it opens nothing, or asks for nothing: a venue does not wait for ever."""

    async def scene(stalls: bool) -> None:
        folder = tmp_path / str(stalls)
        folder.mkdir()
        monkeypatch.setattr(notary.blame, "STALL_US", 20_000 if stalls else 60_000_000)
        async with live_running(folder) as rig:
            client = rig.client()
            await client.handshake()
            session = rig.desk.registry.get(client.granted.session["id"])
            witness = session.witness
            assert witness is not None
            await until(lambda: witness.gate.state is State.HELD and witness.gate.permitted)
            attesting = asyncio.create_task(rig.attest(client)) if opens else None
            if attesting is not None:
                await until(lambda: witness.gate.times.released_us is not None)
            await asyncio.sleep(0.03)
            witness.venue_ended()
            await rig.ended(client, reason if stalls else "venue_closed")
            assert gap_reason(rig) == (reason if stalls else "venue_closed")
            if attesting is not None:
                with pytest.raises(RefusedError):
                    await attesting

    asyncio.run(scene(stalls=True))
    asyncio.run(scene(stalls=False))


@pytest.mark.parametrize("fault", ["gzip", "malformed:nan", "wrong_instrument"])
def test_message_that_cannot_be_read_makes_a_gap_and_ends_nothing(
    tmp_path: Path, fault: str
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            await until(lambda: gap_reason(rig) is None)
            rig.venues.faults.set("kraken", Fault.parse(fault))
            reading = asyncio.create_task(client.read(1_000_000))
            await until(lambda: gap_reason(rig) == "venue_malformed")
            rig.venues.faults.clear()
            await until(lambda: gap_reason(rig) is None)
            assert not reading.done()
            reading.cancel()
            assert (await rig.row(client))["state"] == "started"

    asyncio.run(scene())


def test_silent_venue_ends_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            rig.venues.faults.set("kraken", Fault.parse("silence"))
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client))
            rig.venues.faults.set("kraken", None)
            await client.upgrade()
            rig.venues.faults.set("kraken", Fault.parse("silence"))
            await client.subscribe()
            assert await attesting is not None
            assert gap_reason(rig) == "venue_silent"
            rig.venues.faults.clear()
            await client.read(1)
            await until(lambda: gap_reason(rig) is None)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("venue", "fault", "reason"),
    [
        ("kraken", "status:503", "venue_refused"),
        ("kraken", "status:429", "venue_refused"),
        ("kraken", "status:451", "venue_refused"),
        ("kucoin", "status:503", "venue_refused"),
        # The prover chose the token that was refused.
        ("kucoin", "status:401", "invalid"),
    ],
)
def test_venue_that_does_not_upgrade_is_named(
    tmp_path: Path, venue: str, fault: str, reason: str
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, venues=[venue]) as rig:
            rig.venues.faults.set(venue, Fault.parse(fault))
            client = rig.client(venue)
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client))
            await client.upgrade()
            await client.read_to_end()
            row = await rig.ended(client, reason)
            assert row["state"] == "aborted"
            with pytest.raises(RefusedError):
                await attesting
            assert gap_reason(rig, venue) == reason

    asyncio.run(scene())


def test_refusal_is_the_provers_where_this_notary_connected_too_often(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            for _ in range(151):
                rig.context.pace.note("ws.kraken.com", rig.context.clock.now_us())
            rig.venues.faults.set("kraken", Fault.parse("status:429"))
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client))
            await client.upgrade()
            await rig.ended(client, "invalid")
            with pytest.raises(RefusedError):
                await attesting

    asyncio.run(scene())


@pytest.mark.parametrize("kind", ["other_host", "unknown_authority", "expired"])
def test_false_certificate_is_the_venues_although_the_client_takes_it(
    tmp_path: Path, kind: str
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            rig.venues.faults.set("kraken", Fault.parse(f"wrong_certificate:{kind}"))
            client = rig.client(tls=LooseTls("ws.kraken.com"))
            await client.handshake()
            with pytest.raises(QuotaryError, match="W4"):
                await rig.attest(client)
            row = await rig.ended(client, "venue_tls")
            assert row["state"] == "aborted"
            assert rig.venues.served("kraken") == 0

    asyncio.run(scene())


def test_opening_without_a_request_gives_the_bare_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, deadlines=Deadlines(opening_us=1_000_000)) as rig:
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client, wish=False))
            await client.upgrade()
            await client.subscribe()
            assert await attesting is None
            session = rig.desk.registry.get(client.granted.session["id"])
            await until(lambda: session.issued is not None)
            issued = await rig.attest(client)
            assert issued is session.issued
            assert issued is not None
            assert issued.attestation.sections() == {}
            await client.read(1)
            await until(lambda: gap_reason(rig) is None)

    asyncio.run(scene())


def test_opening_may_come_before_the_finished(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            tls = LooseTls("ws.kraken.com", hold_finished=True)
            client = rig.client(tls=tls)
            await client.connect()
            session = rig.desk.registry.get(client.granted.session["id"])
            client.flush()
            while not hasattr(tls.peer, "client_application"):
                assert await client.receive()
            assert session.witness is not None
            assert session.witness.gate.state == "flight"
            attesting = asyncio.create_task(rig.attest(client))
            await asyncio.sleep(0)
            tls.peer.send_finished()
            client.flush()
            await client.upgrade()
            await client.subscribe()
            assert await attesting is not None

    asyncio.run(scene())


def test_another_opening_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, attestation = await rig.start()
            again = await rig.attest(client)
            assert again is not None
            assert again.attestation == attestation
            other = rig.client()
            await other.handshake()
            attesting = asyncio.create_task(rig.attest(other))
            await other.upgrade()
            key = {"kind": "ephemeral", "private_key": "22" * 32}
            with pytest.raises(RefusedError) as refused:
                await rig.attest(other, opening=key)
            assert (refused.value.rule, refused.value.http_status) == ("opening", 409)
            await other.subscribe()
            assert await attesting is not None

    asyncio.run(scene())


def test_prover_may_end_its_session_and_is_told_why_it_ended(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            session = client.granted.session
            rig.desk.end_session(session["id"], session["token"])
            await rig.ended(client, "prover_closed")
            with pytest.raises(RefusedError) as refused:
                rig.desk.end_session(session["id"], session["token"])
            assert (refused.value.rule, refused.value.found) == ("session", "prover_closed")
            # The start that was attested can still be had.
            assert await rig.attest(client) is not None

    asyncio.run(scene())


def test_close_frame_of_the_client_reaches_the_venue(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            client.say(b"\x03\xe8", "close")
            await client.read_to_end()
            await rig.ended(client, "prover_closed")

    asyncio.run(scene())


def test_notary_that_stops_closes_what_was_started_and_aborts_what_was_not(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            started, _ = await rig.start()
            begun = rig.client()
            await begun.handshake()
            session = rig.desk.registry.get(begun.granted.session["id"])
            await until(lambda: session.logged)
            await rig.desk.stop()
            rows = [await rig.row(client) for client in (started, begun)]
            assert [(row["state"], row["reason"]) for row in rows] == [
                ("closed", "restart"),
                ("aborted", "restart"),
            ]
            assert rows[0]["messages"] > 0

    asyncio.run(scene())


def test_backup_holds_live_sessions_begun_started_and_closed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            closed, _ = await rig.start()
            await rig.start()
            closed.close()
            await rig.ended(closed, "prover_closed")
            begun = rig.client()
            await begun.handshake()
            session = rig.desk.registry.get(begun.granted.session["id"])
            await until(lambda: session.logged)
            await rig.context.flush()
            source = Source(data=tmp_path, name="n.example", software="test", key_files=())
            manifest = make_backup(source, tmp_path / "copy", now_us=rig.context.clock.now_us())
            assert (manifest.sessions, manifest.attestations) == (3, 2)
            assert verify_backup(tmp_path / "copy") == manifest

    asyncio.run(scene())


def test_clocks_that_part_end_live_sessions(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            wall = rig.context.clock.wall_ns
            rig.context.clock.wall_ns = lambda: wall() + 200_000_000
            rig.desk.tick()
            row = await rig.ended(client, "clock")
            assert (row["state"], row["fault"]) == ("closed", "notary")
            rig.context.clock.wall_ns = wall

    asyncio.run(scene())


def test_end_while_the_start_is_written_closes_what_is_then_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client))
            store, wait = rig.context.store, asyncio.Event()
            attest = store.attest_session

            def slowly(*args: Any, **more: Any) -> asyncio.Future[Any]:
                async def run() -> Any:
                    client.close()
                    await until(lambda: witness is not None and not witness.alive)
                    wait.set()
                    return await attest(*args, **more)

                witness = rig.desk.registry.get(client.granted.session["id"]).witness
                return asyncio.ensure_future(run())

            monkeypatch.setattr(store, "attest_session", slowly)
            await client.upgrade()
            await client.subscribe()
            assert await attesting is not None
            assert wait.is_set()
            row = await rig.ended(client, "prover_closed")
            assert row["state"] == "closed"
            assert gap_reason(rig) == "prover_closed"

    asyncio.run(scene())
    kinds = [entry.kind for entry in entries(tmp_path / "notary.db")]
    assert kinds == ["feed", "opened", "attested", "closed"]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_peers_of_a_live_session_are_probed_and_written_to_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], Any]
) -> None:
    probed: list[socket.socket] = []
    keep_alive = notary.relay._keep_alive

    def watch(transport: asyncio.Transport | None) -> None:
        keep_alive(transport)
        assert transport is not None
        probed.append(transport.get_extra_info("socket"))

    monkeypatch.setattr(notary.relay, "_keep_alive", watch)

    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            await rig.start()
            assert len(probed) == 2
            for one in probed:
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scene())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_client_that_pauses_gets_every_byte_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], Any]
) -> None:
    """What the socket does not take at once is written later, and nothing overtakes it."""
    keep_alive = notary.relay._keep_alive

    def narrow(transport: asyncio.Transport | None) -> None:
        keep_alive(transport)
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)

    monkeypatch.setattr(notary.relay, "_keep_alive", narrow)

    async def scene() -> None:
        async with live_running(tmp_path, server=VenueServer(rate=200)) as rig:
            client = rig.client()
            await client.handshake()
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192
            )
            attesting = asyncio.create_task(rig.attest(client))
            await client.upgrade()
            await client.subscribe()
            assert await attesting is not None
            session = rig.desk.registry.get(client.granted.session["id"])
            assert session.witness is not None
            legs = session.witness._legs  # type: ignore[attr-defined]
            rig.venues.faults.set("kraken", Fault.parse("oversized:20000"))
            await until(lambda: legs.unsent > 100_000)
            rig.venues.faults.clear()
            # TLS itself tells a byte that is missing, or in another place.
            while sum(len(message.data) > 20_000 for message in client.messages) < 5:
                assert await client.receive()
            await client.read(len(client.updates) + 3)
            assert session.ended is None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scene())


def test_use_is_charged_as_it_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = ProverLimits(seconds_burst=1.5, seconds_rate=0.1, sessions=100_000, burst=100_000)
        async with live_running(tmp_path, prover_limits=limits) as rig:
            client, _ = await rig.start()
            reading = asyncio.create_task(client.read(1_000_000))

            def refusal() -> str | None:
                try:
                    rig.session()
                except RefusedError as error:
                    return error.rule
                return None

            await until(lambda: refusal() is not None)
            assert refusal() == "limits.seconds"
            # Who is over its limit keeps what it has.
            assert not reading.done()
            reading.cancel()

    asyncio.run(scene())


def test_venue_that_floods_is_cut_off_by_the_notarys_own_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = SessionLimits(live_received_rate=2_000)
        async with live_running(tmp_path, limits=limits) as rig:
            client, _ = await rig.start()
            rig.venues.faults.set("kraken", Fault.parse("oversized:16000"))
            await client.read_to_end()
            row = await rig.ended(client, "overload")
            assert (row["state"], row["fault"]) == ("closed", "notary")

    asyncio.run(scene())


def test_hops_sessions_and_messages_are_counted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            await client.read(5)
            value = rig.context.metrics.registry.get_sample_value
            assert value("quotary_notary_live_sessions", {"venue": "kraken"}) == 1
            messages = value("quotary_notary_live_messages_total", {"venue": "kraken"})
            assert messages is not None
            assert messages >= len(client.messages)
            for hop in ("relayed", "verified", "observed"):
                count = value("quotary_hop_seconds_count", {"hop": hop})
                assert count is not None
                assert count >= 5
            client.close()
            await rig.ended(client, "prover_closed")
            assert value("quotary_notary_live_sessions", {"venue": "kraken"}) == 0

    asyncio.run(scene())


def test_memory_does_not_grow_with_what_passed(tmp_path: Path) -> None:
    async def scene() -> None:
        # Far fewer records and bytes than a session may have are those before the release.
        limits = SessionLimits(records=100, received_bytes=16_384)
        server = VenueServer(rate=1_000)
        async with live_running(tmp_path, server=server, limits=limits) as rig:
            client, _ = await rig.start()
            await client.read(1_500)
            session = rig.desk.registry.get(client.granted.session["id"])
            assert session.witness is not None
            gate = session.witness.gate
            assert gate.received.size > 100_000
            # What came last may wait to be verified (tests/notary/test_backlog.py).
            waiting = sum([len(record.raw) for record in gate.received.records])
            assert waiting <= MAX_UNVERIFIED
            assert gate.sent.records == []

    asyncio.run(scene())


def test_upgrade_and_subscription_can_be_committed_to(tmp_path: Path) -> None:
    def wish(name: str, direction: str) -> dict[str, str]:
        return {"name": name, "direction": direction, "scheme": "hash", "salt": "ab" * 16}

    names = ("request.line", "request.header.host", "response.status", "response.headers")
    sections = [wish(name, "sent" if name.startswith("req") else "received") for name in names]
    sections.append(wish("message.0", "sent"))

    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client = rig.client()
            sent = bytearray()
            send = client.send

            def record(data: bytes) -> None:
                sent.extend(data)
                send(data)

            client.send = record  # type: ignore[method-assign]
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client, sections=sections))
            await client.upgrade()
            await client.subscribe()
            issued = await attesting
            assert issued is not None
            found = {field.name: field for field in issued.attestation.sections().values()}
            assert set(found) == {*names, "message.0"}
            directions = {"sent": bytes(sent), "received": client.head}
            for field in found.values():
                data = directions[field.direction][field.start : field.end]
                digest = hashlib.sha256(bytes.fromhex("ab" * 16) + data).hexdigest()
                assert field.digest == f"sha256:{digest}"
            (message,) = MessageReader(masked=True).feed(
                bytes(sent)[found["message.0"].start : found["message.0"].end]
            )
            assert (message.data,) == subscription(shipped_venues()["kraken"], "XXBTZUSD", time_s=0)

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["message.1", "message.00", "message.x", "response.body"])
def test_section_that_is_not_there_refuses_the_start(tmp_path: Path, name: str) -> None:
    direction = "received" if name == "response.body" else "sent"
    wish = {"name": name, "direction": direction, "scheme": "tree", "salt": "ab" * 32}

    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client, sections=[wish | {"split": "json"}]))
            await client.upgrade()
            await client.subscribe()
            with pytest.raises(RefusedError):
                await attesting
            await rig.ended(client, "invalid")

    asyncio.run(scene())
