"""What a connector reads of each venue's channel, and what it makes of what is wrong there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from attestation.venues import load_venue, shipped_venues
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.connector import MAX_KEYS, Known
from prover.feed.records import DeadLetter, Ended, Received, Tick
from tests.prover.feed.direct import MARKET, Stage

NAMES = tuple(shipped_venues())


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


def test_a_sequence_is_shown_once_and_a_content_again_after_another() -> None:
    known = Known()
    assert [known.add(key) for key in ("1", "1", "2", "1", "3")] == [True, False, True, False, True]
    first, second = "a" * 64, "b" * 64
    assert [known.add(key) for key in (first, first, second, first)] == [True, False, True, True]


def test_the_quotes_that_are_remembered_are_bounded() -> None:
    known = Known()
    for number in range(3 * MAX_KEYS):
        assert known.add(str(number))
    assert len(known._keys) == MAX_KEYS


@pytest.mark.parametrize("name", ["binance", "kraken"])
def test_a_message_sent_twice_is_received_twice_and_shown_once(
    name: str, venues: ThreadedVenueServer
) -> None:
    async def run() -> None:
        stage = Stage.at(venues)
        venues.set_fault(name, Fault.parse("duplicated*20"))
        link = await stage.connector(name).connect()
        await stage.tape.until(lambda _: len(stage.tape.of(Received)) >= 30)
        link.abort("enough")
        payloads = [one.payload for one in stage.tape.of(Received) if isinstance(one, Received)]
        assert len(set(payloads)) < len(payloads)
        shown = [(one.bid, one.ask, one.received_us) for one in stage.tape.of(Tick)]
        assert len(shown) <= len(set(payloads))

    asyncio.run(run())
