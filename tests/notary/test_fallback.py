"""Sealed sessions for one slot: within it or not at all, and the first quote counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from attestation.document import ObservationField
from attestation.errors import RefusedError
from attestation.venues import load_venue
from tests.notary.live_client import Granted, LiveClient
from tests.notary.live_rig import FEED, LiveRig, live_running
from tests.notary.rig import attestation_request

VENUE = load_venue("kraken")
GRID_US = 1_000_000
"""Long enough that a busy machine fetches within it."""


async def fetch(rig: LiveRig, slot_us: int, *, wait_us: int = 0) -> Any:
    """Fetches the quote of a slot, ``wait_us`` after its handshake; returns its attestation."""
    session = rig.session(mode="sealed", slot_us=slot_us, host=None)
    await rig.desk.check_place(session["id"])
    granted = Granted(session=session, relay=rig.relay, venue=VENUE, instrument="XXBTZUSD")
    client = LiveClient(granted, rig.tls.connect(VENUE.hosts[0]))
    await client.handshake()
    await asyncio.sleep(wait_us / 1_000_000)
    request = f"GET {session['target']} HTTP/1.1\r\nHost: {VENUE.hosts[0]}\r\nConnection: close\r\n"
    client.send(request.encode() + b"\r\n")
    await rig.desk.seal(session["id"], session["token"])
    body = {"opening": client.opening, "request": attestation_request(session)}
    issued = await rig.desk.attest(session["id"], session["token"], json.dumps(body).encode())
    client.close()
    assert issued is not None
    return issued.attestation


def slot_after(rig: LiveRig, us: int) -> int:
    """The first slot that is at least so far ahead."""
    return -(-(rig.context.clock.now_us() + us) // GRID_US) * GRID_US


async def fetch_in_time(rig: LiveRig) -> tuple[int, Any]:
    """Fetches within a slot, or the next if the machine was too busy; returns which."""
    for _ in range(5):
        slot_us = slot_after(rig, GRID_US)
        ahead_us = slot_us - GRID_US - rig.context.clock.now_us()
        try:
            attestation = await fetch(rig, slot_us, wait_us=max(0, ahead_us + 1_000))
        except RefusedError as error:
            if error.rule != "W13":
                raise
            continue
        if rig.context.clock.now_us() < slot_us:
            return slot_us, attestation
    raise TimeoutError("no fetch within a slot")


def test_quote_within_the_slot_is_the_slots(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, from_now_us=0, grid_us=GRID_US) as rig:
            slot_us, attestation = await fetch_in_time(rig)
            found = rig.feeds._feeds[FEED].states["kraken"].fetched[slot_us]
            connection = attestation.connection()
            (extension,) = attestation.extensions().values()
            assert found == ObservationField(
                venue="kraken",
                instrument="XXBTZUSD",
                bid=extension.value["bid"],
                ask=extension.value["ask"],
                received_us=connection.response_last_us,
                source="rest",
                session=attestation.session().id,
                messages=(),
            )
            assert slot_us - GRID_US < connection.request_first_us
            assert connection.response_last_us <= slot_us
            # Another session for the place is no second chance.
            with pytest.raises(RefusedError, match="place"):
                await fetch(rig, slot_us)

    asyncio.run(scene())


@pytest.mark.parametrize("when", ["early", "late"])
def test_quote_outside_of_the_slot_is_not_attested(tmp_path: Path, when: str) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, from_now_us=0, grid_us=GRID_US) as rig:
            slot_us = slot_after(rig, 4 * GRID_US if when == "early" else GRID_US // 4)
            until_us = slot_us - rig.context.clock.now_us()
            wait_us = 0 if when == "early" else until_us + 10_000
            with pytest.raises(RefusedError) as refused:
                await fetch(rig, slot_us, wait_us=wait_us)
            assert refused.value.rule == "W13"
            (session,) = rig.desk.registry._sessions.values()
            assert session.ended == "timeout"
            assert rig.feeds._feeds[FEED].states["kraken"].fetched == {}

    asyncio.run(scene())


def test_slot_that_is_over_takes_no_session(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, from_now_us=0, grid_us=GRID_US) as rig:
            for slot_us, status in ((slot_after(rig, 0) - 2 * GRID_US, 403), (GRID_US + 1, 403)):
                with pytest.raises(RefusedError) as refused:
                    rig.session(mode="sealed", slot_us=slot_us, host=None)
                assert refused.value.http_status == status

    asyncio.run(scene())
