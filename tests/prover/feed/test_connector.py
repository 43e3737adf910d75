"""What a connector reads of each venue's channel, and what it makes of what is wrong there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from attestation.venues import load_venue, venue_names
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.records import DeadLetter, Ended, Received, Tick
from tests.prover.feed.direct import MARKET, Stage

NAMES = venue_names()


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=100).in_thread() as server:
        yield server


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


@pytest.mark.parametrize("name", NAMES)
def test_each_venue_is_quoted_and_every_message_is_counted_from_the_upgrade(
    name: str, venues: ThreadedVenueServer
) -> None:
    async def run() -> None:
        stage = Stage.at(venues)
        link = await stage.connector(name).connect()
        await stage.tape.until(lambda _: len(stage.tape.of(Tick)) >= 3)
        link.close()
        end = await link.ended
        await stage.tape.until(lambda _: len(stage.tape.of(Ended)) == 1)
        received = stage.tape.of(Received)
        assert [one.index for one in received] == list(range(len(received)))
        assert not stage.tape.of(DeadLetter)
        assert {(one.venue, one.instrument) for one in stage.tape.of(Tick)} == {
            (name, load_venue(name).instrument(MARKET))
        }
        assert end.reason == "prover_closed"

    asyncio.run(run())
