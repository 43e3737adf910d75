"""Live sessions in bad weather: venues that stall, reset, cut records, change keys, or lie."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.errors import RefusedError
from attestation.upgrade import accept_value
from examples.venues.live import frame
from notary.limits import Deadlines
from tests.adversaries.venue import HostileVenue, Script, VenueConnection
from tests.notary.live_client import LiveClient, LooseTls
from tests.notary.live_rig import LiveRig, live_running
from tests.ports import free_port

HOST = "ws.kraken.com"
QUOTE = (
    b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":64000.1,'
    b'"bid_qty":1.0,"ask":64000.2,"ask_qty":1.0,"last":64000.1,"volume":1.0,"vwap":1.0,'
    b'"low":1.0,"high":1.0,"change":1.0,"change_pct":1.0,'
    b'"timestamp":"2026-01-15T12:00:%02d.000000Z"}]}'
)
Act = Callable[[VenueConnection], None]


def switch(connection: VenueConnection, more: bytes = b"") -> bytes:
    """Reads the upgrade; returns the 101 that answers it."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", connection.request())
    assert found is not None
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_value(found[1]) + b"\r\n" + more + b"\r\n"
    )


def text(payload: bytes) -> bytes:
    return frame(0x1, payload)


def quote(second: int) -> bytes:
    return text(QUOTE % second)


def upgraded(act: Act) -> Script:
    """A venue that upgrades, takes the subscription, and then does as told."""

    def script(connection: VenueConnection) -> None:
        connection.send(switch(connection))
        connection._take_record()
        act(connection)
        with contextlib.suppress(OSError):
            connection.drain()

    return script


async def begin(rig: LiveRig, client: LiveClient) -> asyncio.Task[object]:
    """Handshakes, opens and asks for the upgrade."""
    await client.handshake()
    attesting: asyncio.Task[object] = asyncio.create_task(rig.attest(client))
    attesting.add_done_callback(lambda done: done.exception())
    await client.upgrade()
    return attesting


def played(
    folder: Path,
    script: Script,
    reason: str,
    *,
    deadlines: Deadlines | None = None,
    loose: bool = False,
    **options: object,
) -> tuple[LiveClient, dict[str, object]]:
    """Plays a session against a venue; returns its client and its row."""

    async def scene() -> tuple[LiveClient, dict[str, object]]:
        with HostileVenue(HOST) as venue:
            venue.behave(script, **options)
            hostile = (venue.port, venue.issuer.root_pem)
            async with live_running(folder, hostile=hostile, deadlines=deadlines) as rig:
                client = rig.client(tls=LooseTls(HOST) if loose else None)
                await begin(rig, client)
                if client.head.startswith(b"HTTP/1.1 101") and not client.ended:
                    await client.subscribe()
                await client.read_to_end()
                row = await rig.ended(client, reason)
            assert venue.errors == []
            return client, row

    return asyncio.run(scene())


def test_venue_that_never_answers_the_upgrade_is_silent(tmp_path: Path) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.drain()

    _, row = played(tmp_path, script, "venue_silent", deadlines=Deadlines(response_us=200_000))
    assert row["state"] == "aborted"


def reset(connection: VenueConnection) -> None:
    linger = struct.pack("ii", 1, 0)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.socket.close()


def half_a_record(connection: VenueConnection) -> None:
    connection.send(quote(1))
    whole = connection.write_keys().seal(23, quote(2))
    connection.send_raw(whole[: len(whole) // 2])
    connection.cut()


def half_a_message(connection: VenueConnection) -> None:
    connection.send(quote(1) + quote(2)[:40])
    connection.cut()


def wrong_tag(connection: VenueConnection) -> None:
    connection.send(quote(1))
    whole = bytearray(connection.write_keys().seal(23, quote(2)))
    whole[-1] ^= 1
    connection.send_raw(bytes(whole))


def record_that_is_no_tls(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def fatal_alert(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.tls.send(21, b"\x02\x28")
    connection.flush()


def too_many_key_updates(connection: VenueConnection) -> None:
    for _ in range(33):
        connection.tls.key_update()
    connection.send(quote(1))


def masked_frame(connection: VenueConnection) -> None:
    connection.send(quote(1) + b"\x81\x82\0\0\0\0{}")


def text_that_is_not_utf8(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.send(text(b"\xff\xfe"))


def endless_message(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.send(b"\x81\x7f" + (1 << 40).to_bytes(8, "big"))


def close_frame(connection: VenueConnection) -> None:
    connection.send(quote(1) + frame(0x8, b"\x03\xe9"))


def close_notify(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.close()


def close_notify_alone(connection: VenueConnection) -> None:
    connection.send(quote(1))
    connection.tls.send(21, b"\x01\x00")
    connection.flush()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (reset, "venue_closed"),
        (half_a_record, "venue_closed"),
        (half_a_message, "venue_closed"),
        (close_frame, "venue_closed"),
        (close_notify, "venue_closed"),
        (close_notify_alone, "venue_closed"),
        (wrong_tag, "venue_tls"),
        (record_that_is_no_tls, "venue_tls"),
        (fatal_alert, "venue_tls"),
        (too_many_key_updates, "venue_tls"),
        (masked_frame, "venue_malformed"),
        (text_that_is_not_utf8, "venue_malformed"),
        (endless_message, "venue_malformed"),
    ],
)
def test_end_of_a_stream_is_named_after_what_the_venue_did(
    tmp_path: Path, act: Act, reason: str
) -> None:
    _, row = played(tmp_path, upgraded(act), reason, loose=True)
    assert row["fault"] == "venue"


def without_accept(connection: VenueConnection) -> None:
    answer = switch(connection)
    connection.send(re.sub(rb"Accept: \S+", b"Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=", answer))
    connection.drain()


def with_an_extension(connection: VenueConnection) -> None:
    connection.send(switch(connection, b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    connection.drain()


def bare_line_feed(connection: VenueConnection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 101 Switching\nProtocols\r\n\r\n")
    connection.drain()


def speaks_first(connection: VenueConnection) -> None:
    connection.handshake()
    connection.send(quote(1))
    connection.drain()


@pytest.mark.parametrize(
    "script", [without_accept, with_an_extension, bare_line_feed, speaks_first]
)
def test_answer_that_is_no_upgrade_is_malformed(tmp_path: Path, script: Script) -> None:
    _, row = played(tmp_path, script, "venue_malformed")
    assert row["state"] == "aborted"


def test_venue_that_resets_within_the_handshake_closed(tmp_path: Path) -> None:
    def script(connection: VenueConnection) -> None:
        connection.hello()
        reset(connection)

    async def scene() -> None:
        with HostileVenue(HOST) as venue:
            venue.behave(script)
            hostile = (venue.port, venue.issuer.root_pem)
            async with live_running(tmp_path, hostile=hostile) as rig:
                client = rig.client()
                with contextlib.suppress(AssertionError, ConnectionError):
                    await client.handshake()
                row = await rig.ended(client, "venue_closed")
                assert row["state"] == "aborted"

    asyncio.run(scene())


def test_venue_that_takes_no_connection_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        with HostileVenue(HOST) as venue:
            root = venue.issuer.root_pem
        async with live_running(tmp_path, hostile=(free_port(), root)) as rig:
            client = rig.client()
            assert b" 503 " in await client.connect()
            row = await rig.ended(client, "venue_refused")
            assert row["state"] == "aborted"
            state = rig.feeds._feeds["btc-usd"].states["kraken"]
            assert (state.reason, state.sources) == ("venue_refused", [])

    asyncio.run(scene())


def test_stream_goes_on_through_key_updates_tickets_and_records_of_any_size(
    tmp_path: Path,
) -> None:
    def act(connection: VenueConnection) -> None:
        connection.send(frame(0x9, b"are you there"))
        for second in range(10):
            connection.tls.key_update(request=second == 4)
            # An empty record, a padded one, a byte a record, several messages in one.
            connection.tls.send(23, b"")
            connection.send(quote(second), padding=99)
            connection.send(quote(second + 10), size=1)
            connection.send(quote(second + 20) + quote(second + 30))
        connection.send(frame(0x1, QUOTE[:30], final=False) + frame(0x9, b"in between"))
        connection.send(frame(0x0, (QUOTE % 59)[30:]))

    async def scene() -> None:
        with HostileVenue(HOST) as venue:
            venue.behave(upgraded(act))
            hostile = (venue.port, venue.issuer.root_pem)
            async with live_running(tmp_path, hostile=hostile) as rig:
                tls = LooseTls(HOST)
                client = rig.client(tls=tls)
                attesting = await begin(rig, client)
                await client.subscribe()
                await attesting
                while len(client.messages) < 41:
                    assert await client.receive()
                    tls.peer.key_update()
                    client.say(b'{"method":"ping"}') if len(client.messages) < 40 else None
                session = rig.desk.registry.get(client.granted.session["id"])
                assert session.ended is None
                client.close()
                row = await rig.ended(client, "prover_closed")
                assert row["messages"] == 41

    asyncio.run(scene())


def test_messages_behind_the_101_in_one_record_count(tmp_path: Path) -> None:
    def script(connection: VenueConnection) -> None:
        connection.send(switch(connection) + text(b'{"channel":"heartbeat"}') + quote(1))
        connection._take_record()
        connection.send(quote(2))
        connection.drain()

    async def scene() -> None:
        with HostileVenue(HOST) as venue:
            venue.behave(script)
            hostile = (venue.port, venue.issuer.root_pem)
            async with live_running(tmp_path, hostile=hostile) as rig:
                client = rig.client()
                attesting = await begin(rig, client)
                await client.subscribe()
                await attesting
                await client.read(2)
                seen = rig.feeds._feeds["btc-usd"].states["kraken"].sources[0].observer.seen
                assert seen is not None
                (message,) = seen.messages
                assert message.index == 2
                client.close()
                row = await rig.ended(client, "prover_closed")
                assert row["messages"] == 3

    asyncio.run(scene())


def test_refused_start_tells_the_prover_whose_fault_it_was(tmp_path: Path) -> None:
    async def scene() -> None:
        with HostileVenue(HOST) as venue:
            venue.behave(with_an_extension)
            hostile = (venue.port, venue.issuer.root_pem)
            async with live_running(tmp_path, hostile=hostile) as rig:
                client = rig.client()
                attesting = await begin(rig, client)
                with pytest.raises(RefusedError, match="venue_malformed") as refused:
                    await attesting
                assert refused.value.rule == "W12"

    asyncio.run(scene())
