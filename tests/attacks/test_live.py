"""Row 43: a live session's prover says what it may not, nothing where it must, or does not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from attestation.subscription import subscription
from attestation.venues import load_venue
from attestation.websocket import client_frame
from examples.venues.faults import Fault
from examples.venues.server import VenueServer
from notary.limits import Deadlines, SessionLimits
from tests.notary.live_client import LiveClient
from tests.notary.live_rig import FEED, LiveRig, entries, live_running
from tests.notary.rig import until

Misdeed = Callable[[LiveClient], None]


def log_of(folder: Path) -> list[str]:
    return [entry.kind for entry in entries(folder / "notary.db")]


def unsubscribe(client: LiveClient) -> None:
    client.say(b'{"method":"unsubscribe","params":{"channel":"ticker","symbol":["BTC/USD"]}}')


def subscribe_to_another(client: LiveClient) -> None:
    client.say(
        b'{"method":"subscribe","params":{"channel":"ticker","symbol":["ETH/USD"],'
        b'"event_trigger":"bbo"}}'
    )


def subscribe_again(client: LiveClient) -> None:
    for text in subscription(load_venue("kraken"), "XXBTZUSD", time_s=0):
        client.say(text)


def keep_alive_with_a_blank_more(client: LiveClient) -> None:
    client.say(b'{"method": "ping"}')


def binary_keep_alive(client: LiveClient) -> None:
    client.say(b'{"method":"ping"}', "binary")


def ping_that_the_file_has_not(client: LiveClient) -> None:
    client.say(b"", "ping")


def pong_that_answers_nothing(client: LiveClient) -> None:
    client.say(b"made up", "pong")


def frame_without_mask(client: LiveClient) -> None:
    text = b'{"method":"ping"}'
    client.send(bytes((0x81, len(text))) + text)


def frame_with_a_reserved_bit(client: LiveClient) -> None:
    frame = client_frame("text", b'{"method":"ping"}', bytes(4))
    client.send(bytes((frame[0] | 0x40,)) + frame[1:])


def request_behind_the_upgrade(client: LiveClient) -> None:
    client.send(b"GET /v2 HTTP/1.1\r\nHost: ws.kraken.com\r\n\r\n")


def keep_alives_without_end(client: LiveClient) -> None:
    for _ in range(51):
        client.say(b'{"method":"ping"}')


def frame_larger_than_a_client_needs(client: LiveClient) -> None:
    client.say(b" " * 20_000)


MISDEEDS: list[Misdeed] = [
    unsubscribe,
    subscribe_to_another,
    subscribe_again,
    keep_alive_with_a_blank_more,
    binary_keep_alive,
    ping_that_the_file_has_not,
    pong_that_answers_nothing,
    frame_without_mask,
    frame_with_a_reserved_bit,
    request_behind_the_upgrade,
    keep_alives_without_end,
    frame_larger_than_a_client_needs,
]


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.__name__)
def test_client_that_says_what_the_file_does_not_is_ended_as_violation(
    tmp_path: Path, misdeed: Misdeed
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            bystander, _ = await rig.start()
            client, _ = await rig.start()
            misdeed(client)
            await client.read_to_end()
            row = await rig.ended(client, "violation")
            assert (row["state"], row["fault"]) == ("closed", "prover")
            # Nobody else is the worse for it, and the next one works.
            await bystander.read(len(bystander.updates) + 2)
            await rig.start()

    asyncio.run(scene())


async def other_target(client: LiveClient) -> None:
    client.send(upgrade(target="/v1"))


async def other_host(client: LiveClient) -> None:
    client.send(upgrade(host="ws.kraken.com:443"))


async def another_header(client: LiveClient) -> None:
    client.send(upgrade(more="Cookie: simulated=1\r\n"))


async def an_extension(client: LiveClient) -> None:
    client.send(upgrade(more="Sec-WebSocket-Extensions: permessage-deflate\r\n"))


async def frame_before_the_answer(client: LiveClient) -> None:
    (text,) = subscription(load_venue("kraken"), "XXBTZUSD", time_s=0)
    client.send(upgrade() + client_frame("text", text, bytes(4)))


async def other_subscription(client: LiveClient) -> None:
    await client.upgrade()
    subscribe_to_another(client)


async def keep_alive_before_the_subscription(client: LiveClient) -> None:
    await client.upgrade()
    client.say(b'{"method":"ping"}')


def upgrade(*, target: str = "/v2", host: str = "ws.kraken.com", more: str = "") -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


FALSE_STARTS: list[Callable[[LiveClient], Awaitable[None]]] = [
    other_target,
    other_host,
    another_header,
    an_extension,
    frame_before_the_answer,
    other_subscription,
    keep_alive_before_the_subscription,
]


@pytest.mark.parametrize("start", FALSE_STARTS, ids=lambda start: start.__name__)
def test_session_that_begins_in_another_way_is_not_attested(
    tmp_path: Path, start: Callable[[LiveClient], Awaitable[None]]
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client = rig.client()
            await client.handshake()
            attesting = asyncio.create_task(rig.attest(client))
            await start(client)
            await client.read_to_end()
            row = await rig.ended(client, "violation")
            assert row["state"] == "aborted"
            with pytest.raises(Exception, match=r"W\d+: "):
                await attesting

    asyncio.run(scene())
    assert log_of(tmp_path) == ["feed", "opened", "aborted"]


def test_client_that_answers_no_ping_is_ended_although_nothing_else_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attestation.live_rules.ANSWER_US", 300_000)

    async def scene() -> None:
        server = VenueServer(rate=50, beat_s=0.5)
        async with live_running(tmp_path, venues=["binance"], server=server) as rig:
            bystander, _ = await rig.start("binance")
            reading = asyncio.create_task(bystander.read(1_000_000))
            client, _ = await rig.start("binance")
            client.answers = False
            await client.read_to_end()
            row = await rig.ended(client, "keepalive_missed")
            assert (row["state"], row["fault"]) == ("closed", "prover")
            assert not reading.done()
            reading.cancel()

    asyncio.run(scene())


def test_client_that_keeps_nothing_alive_is_ended_before_the_venue_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client, _ = await rig.start()
            witness = rig.desk.registry.get(client.granted.session["id"]).witness
            assert witness is not None
            stream = witness._follower.stream  # type: ignore[attr-defined]
            # Half way between 30 s and 60 s of silence: what is told is what is looked for.
            due_us = stream.reader.keepalive_due_us
            assert 40_000_000 < due_us - rig.context.clock.now_us() <= 45_000_000
            later = due_us + 1
            monkeypatch.setattr(rig.context.clock, "wall_ns", lambda: later * 1_000)
            now = rig.context.clock.now_us()
            rig.context.clock._offset_us += later - now
            await client.read_to_end()
            await rig.ended(client, "keepalive_missed")

    asyncio.run(scene())


def test_client_that_does_not_read_is_ended_and_the_venue_read_at_full_speed(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        server = VenueServer(rate=200)
        async with live_running(tmp_path, server=server) as rig:
            bystander, _ = await rig.start()
            reading = asyncio.create_task(bystander.read(1_000_000))
            client, _ = await rig.start()
            session = rig.desk.registry.get(client.granted.session["id"])
            # Twelve megabytes a second: sockets hold a few, the notary one.
            server.faults.set("kraken", Fault.parse("oversized:65536"))
            # Nothing is read here until it is over.
            row = await rig.ended(client, "prover_slow")
            assert (row["state"], row["fault"]) == ("closed", "prover")
            server.faults.clear()
            assert session.issued is not None
            assert row["messages"] > 0
            count = len(bystander.updates)
            await until(lambda: len(bystander.updates) >= count + 3)
            assert not reading.done()
            reading.cancel()

    asyncio.run(scene())


def test_nothing_passes_before_the_handshake_is_verified(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            client = rig.client()
            await client.handshake()
            client.send(upgrade())
            session = rig.desk.registry.get(client.granted.session["id"])
            await until(lambda: session.witness is not None and len(session.witness.gate.held) > 1)
            await rig.context.flush()
            assert rig.venues.served("kraken") == 0
            key = {"kind": "ephemeral", "private_key": "11" * 32}
            with pytest.raises(Exception, match="opening"):
                await rig.attest(client, opening=key)
            await rig.ended(client, "invalid")
            assert rig.venues.served("kraken") == 0

    asyncio.run(scene())
    assert log_of(tmp_path) == ["feed", "opened", "aborted"]


async def stay_shut(rig: LiveRig, client: LiveClient) -> None:
    """Never opens."""


async def open_alone(rig: LiveRig, client: LiveClient) -> None:
    """Opens, and asks the venue for nothing."""
    rig.context.track(asyncio.ensure_future(swallow(rig.attest(client))))


async def upgrade_alone(rig: LiveRig, client: LiveClient) -> None:
    """Never subscribes."""
    await open_alone(rig, client)
    await client.upgrade()


async def swallow(awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except Exception:
        return


@pytest.mark.parametrize(
    ("dawdle", "step", "reason"),
    [
        (stay_shut, "opening_us", "not_opened"),
        (open_alone, "request_us", "timeout"),
        (upgrade_alone, "subscription_us", "timeout"),
    ],
)
def test_client_that_dawdles_is_ended_and_to_blame(
    tmp_path: Path,
    dawdle: Callable[[LiveRig, LiveClient], Awaitable[None]],
    step: str,
    reason: str,
) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, deadlines=Deadlines(**{step: 300_000})) as rig:
            client = rig.client()
            await client.handshake()
            await dawdle(rig, client)
            await client.read_to_end()
            row = await rig.ended(client, reason)
            assert (row["state"], row["fault"]) == ("aborted", "prover")

    asyncio.run(scene())


def test_upgrade_that_trickles_is_refused(tmp_path: Path) -> None:
    soon = Deadlines(request_span_us=50_000)

    async def scene() -> None:
        async with live_running(tmp_path, deadlines=soon) as rig:
            client = rig.client()
            await client.handshake()
            await open_alone(rig, client)
            whole = upgrade()
            client.send(whole[:40])
            await asyncio.sleep(0.2)
            client.send(whole[40:])
            await client.read_to_end()
            await rig.ended(client, "timeout")

    asyncio.run(scene())


def test_client_that_floods_is_ended_by_its_rate(tmp_path: Path) -> None:
    limits = SessionLimits(live_sent_rate=64)

    async def scene() -> None:
        async with live_running(tmp_path, limits=limits) as rig:
            client, _ = await rig.start()
            # Allowed one by one, and by what the venue takes: a kilobyte is what the burst is.
            for _ in range(30):
                client.say(b'{"method":"ping"}')
            await client.read_to_end()
            row = await rig.ended(client, "violation")
            assert row["state"] == "closed"

    asyncio.run(scene())


def test_session_of_a_feed_that_is_another_provers_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path) as rig:
            for changes in ({"feed": "eth-usd"}, {"venue": "okx", "instrument": "BTC-USDT"}):
                with pytest.raises(Exception, match=r"feed|venue"):
                    rig.session(**changes)
            assert rig.session()["purpose"] == f"live/{FEED}/kraken"
            assert json.dumps(rig.session())

    asyncio.run(scene())
