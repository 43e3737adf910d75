"""Notaries that are killed under a feed: it goes on by itself, and no slot is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from attestation.document import GapField, ObservationField
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.records import Missed, Slot
from tests.ports import free_port
from tests.prover.feed.feeding import Fed, client_of, feeding, notary_with_log, wall_us
from tests.prover.feed.notary_process import NotaryProcess
from tests.prover.stage import RunningNotary

GRID = 200_000


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=20).in_thread() as server:
        yield server


def whole(fields: dict[str, ObservationField | GapField]) -> bool:
    return all(isinstance(field, ObservationField) for field in fields.values())


def of_notary(fed: Fed, name: str) -> list[Slot | Missed]:
    return [
        one for one in fed.tape.records if isinstance(one, Slot | Missed) and one.notary == name
    ]


def test_a_killed_notary_comes_back_to_its_feed_and_the_other_never_notices(
    tmp_path: Path, venues: ThreadedVenueServer
) -> None:
    """Takes the starts of three notaries as processes."""
    alpha = NotaryProcess(tmp_path / "alpha", venues, "alpha.notary.example")
    beta = NotaryProcess(tmp_path / "beta", venues, "beta.notary.example")

    async def run() -> Fed:
        with client_of(alpha.running) as first, client_of(beta.running) as second:
            names = ("bybit", "kraken", "okx")
            # A machine that is late to write a slot down has it in the log nevertheless.
            late = {"late_us": 10_000_000}
            async with feeding(venues, [first, second], venues=names, **late) as fed:

                def starts() -> list[int]:
                    return [
                        lane.starts for lane in fed.feed.lanes if lane.notary == beta.running.name
                    ]

                async def until_whole(name: str, after_us: int = 0) -> None:
                    await fed.tape.until(
                        lambda _: any(
                            isinstance(one, Slot) and one.slot_us > after_us and whole(one.fields)
                            for one in of_notary(fed, name)
                        )
                    )

                await until_whole(alpha.running.name)
                await until_whole(beta.running.name)
                before = starts()
                alpha.kill()
                # What was signed before may be read only now: a slot's own time tells.
                await until_whole(beta.running.name, wall_us())
                await asyncio.to_thread(alpha.start)
                await until_whole(alpha.running.name, wall_us())
                assert starts() == before
        return fed

    try:
        alpha.start()
        beta.start()
        fed = asyncio.run(run())
    finally:
        alpha.kill()
        beta.kill()
    for name in (alpha.running.name, beta.running.name):
        slots = [one.slot_us for one in of_notary(fed, name)]
        assert all(after - before == GRID for before, after in pairwise(slots)), name
    missed = [one for one in of_notary(fed, alpha.running.name) if isinstance(one, Missed)]
    assert missed
    assert {one.fault for one in missed} == {"notary"}
    assert not [one for one in of_notary(fed, beta.running.name) if isinstance(one, Missed)]
    assert fed.feed.incidents.count == 0, fed.feed.incidents.last


def test_venues_that_all_vanish_and_come_back_leave_gaps_of_their_own_fault(
    tmp_path: Path,
) -> None:
    names = ("bybit", "kraken", "okx")
    folder, port = tmp_path / "venues", free_port()
    folder.mkdir()

    def server() -> ThreadedVenueServer:
        return VenueServer(seed=5, rate=20, port=port, folder=folder).in_thread()

    async def run(running: RunningNotary, first: ThreadedVenueServer) -> Fed:
        with client_of(running) as client:
            async with feeding(first, [client], venues=names) as fed:
                before = await fed.slot(whole)
                await asyncio.to_thread(first.__exit__, None, None, None)
                await fed.slot(lambda fields: all(isinstance(f, GapField) for f in fields.values()))
                with contextlib.ExitStack() as stack:
                    await asyncio.to_thread(stack.enter_context, server())
                    await fed.slot(whole)
                gaps = [
                    field
                    for slot in fed.slots
                    if slot.slot_us > before.slot_us
                    for field in slot.fields.values()
                    if isinstance(field, GapField) and field.reason != "overload"
                ]
                assert {gap.fault for gap in gaps} == {"venue"}, {gap.reason for gap in gaps}
        return fed

    first = server()
    first.__enter__()
    with notary_with_log(tmp_path / "notary", first) as running:
        fed = asyncio.run(run(running, first))
    slots = [one.slot_us for one in of_notary(fed, running.name)]
    assert all(after - before == GRID for before, after in pairwise(slots))
