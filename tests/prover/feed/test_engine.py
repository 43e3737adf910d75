"""A whole feed through a real notary: every venue, its slots, its renewals, its end."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from attestation.document import GapField, ObservationField
from attestation.errors import UsageError
from attestation.venues import load_venue
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.engine import FeedConfig
from prover.feed.records import Ended, Missed, Received, Slot, Started, Tick
from prover.notary_client import Notary
from tests.prover.feed.direct import MARKET, settled
from tests.prover.feed.feeding import NAMES, Fed, client_of, feeding, notary_with_log, wall_us
from tests.prover.stage import RunningNotary

GRID = 200_000


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=20).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    with notary_with_log(tmp_path_factory.mktemp("notary"), venues) as found:
        yield found


@pytest.fixture
def client(running: RunningNotary) -> Iterator[Notary]:
    with client_of(running) as found:
        yield found


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


def observed(fields: dict[str, ObservationField | GapField], *names: str) -> bool:
    return all(isinstance(fields[name], ObservationField) for name in names or fields)


def test_every_venue_is_in_every_slot_and_each_observation_is_this_provers_own(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    async def run() -> Fed:
        async with feeding(venues, [client]) as fed:
            await fed.slot(observed)
            before = len(fed.slots)
            await fed.tape.until(lambda _: len(fed.slots) >= before + 10)
        return fed

    fed = asyncio.run(run())
    slots = [one.slot_us for one in fed.tape.records if isinstance(one, Slot | Missed)]
    assert all(after - before == GRID for before, after in pairwise(slots))
    assert fed.feed.incidents.count == 0, fed.feed.incidents.last
    total = sum(
        isinstance(field, ObservationField) for s in fed.slots for field in s.fields.values()
    )
    judged = fed.counts.total("observations_total")
    assert fed.counts.total("observations_total", verdict="own") == judged
    # Of the last slots some may still have waited for their messages.
    assert total - 3 * len(NAMES) <= judged <= total
    sessions = {one.session for one in fed.tape.of(Started)}
    assert {one.session for one in fed.tape.of(Received)} <= sessions
    # A clean end: every session is closed by its prover, and said so.
    assert {one.session for one in fed.tape.of(Ended)} == sessions
    assert {one.reason for one in fed.tape.of(Ended)} == {"prover_closed"}


def test_a_feed_that_comes_back_misses_no_slot_and_repeats_none(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    async def run() -> tuple[Fed, Fed, int]:
        async with feeding(venues, [client], venues=("okx",), feed="again") as first:
            await first.slot(observed)
        last = first.slots[-1].slot_us
        # In steps: slots are in time only while this process is not held up.
        for _ in range(60):
            await asyncio.sleep(GRID / 20 / 1_000_000)
        back_us = wall_us()
        async with feeding(
            venues, [client], venues=("okx",), feed="again", resume=lambda notary, feed: last
        ) as second:
            await second.slot(observed)
        return first, second, back_us

    first, second, back_us = asyncio.run(run())
    slots = [
        one.slot_us
        for fed in (first, second)
        for one in fed.tape.records
        if isinstance(one, Slot | Missed)
    ]
    assert all(after - before == GRID for before, after in pairwise(slots))
    fields = [slot.fields["okx"] for slot in second.slots if slot.slot_us < back_us]
    gaps = [one for one in fields if isinstance(one, GapField) and one.reason != "overload"]
    assert {gap.fault for gap in gaps} == {"prover"}


def test_two_notaries_attest_one_feed_and_one_that_is_away_takes_nothing_from_the_other(
    venues: ThreadedVenueServer,
    running: RunningNotary,
    client: Notary,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names = ("bybit", "okx")
    with Notary(
        "http://127.0.0.1:9",
        prover_key=client._prover_key,
        trust=running.trust,
        roots_pem=running.roots_pem,
    ) as away:

        async def run() -> None:
            async with feeding(venues, [away, client], venues=names, feed="two") as fed:
                await fed.slot(observed)
                assert list(fed.feed.troubles) == [away.url]

        asyncio.run(run())


def test_without_a_live_session_each_slot_has_one_rest_session_and_no_second(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    names = ("bybit", "okx")

    async def run() -> Fed:
        async with feeding(
            venues, [client], venues=names, feed="rest", grid_us=500_000, rest_fallback=True
        ) as fed:
            await fed.slot(observed)
            venues.set_fault("bybit", Fault.parse("close"))

            def fallen(fields: dict[str, ObservationField | GapField]) -> bool:
                field = fields["bybit"]
                return isinstance(field, ObservationField) and field.source == "rest"

            for _ in range(2):
                slot = await fed.slot(fallen)
                okx = slot.fields["okx"]
                assert isinstance(okx, ObservationField)
                assert okx.source == "live"
            venues.clear_faults()
            await fed.slot(
                lambda fields: (
                    observed(fields)
                    and all(
                        isinstance(one, ObservationField) and one.source == "live"
                        for one in fields.values()
                    )
                )
            )
        return fed

    fed = asyncio.run(run())
    assert fed.feed.incidents.count == 0, fed.feed.incidents.last
    purposes = [one.attestation.session().purpose for one in fed.tape.of(Started)]
    asked = [purpose for purpose in purposes if purpose.startswith("slot/rest/bybit/")]
    assert len(asked) >= 2
    assert len(asked) == len(set(asked))
    sources = {
        one.session: one
        for slot in fed.slots
        for one in slot.fields.values()
        if isinstance(one, ObservationField) and one.source == "rest"
    }
    fetched = {one.session: one for one in fed.tape.of(Received)}
    assert set(sources) <= set(fetched)


def test_a_venue_that_ends_old_connections_never_leaves_a_slot_without_a_quote(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    okx = load_venue("okx")
    assert okx.websocket is not None
    short = dataclasses.replace(okx, websocket=dataclasses.replace(okx.websocket, life_s=1))

    async def run() -> Fed:
        async with feeding(venues, [client], venues=("okx",), feed="renewed") as fed:
            # The notary has the file itself; how long a connection lives is the prover's to know.
            fed.feed.venues["okx"] = short
            sessions: set[str] = set()
            while len(sessions) < 3:
                field = (await fed.slot(observed)).fields["okx"]
                assert isinstance(field, ObservationField)
                sessions.add(field.session)
        return fed

    fed = asyncio.run(run())
    # A notary that comes to a slot too late says so of itself: of the venue it says nothing.
    slots = [
        field
        for field in [slot.fields["okx"] for slot in fed.slots]
        if isinstance(field, ObservationField) or field.reason != "overload"
    ]
    seen = [one for one in slots if isinstance(one, ObservationField)]
    assert slots[slots.index(seen[0]) :] == seen
    assert fed.feed.incidents.count == 0, fed.feed.incidents.last


def test_ticks_are_conflated_and_messages_are_not(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    async def run() -> None:
        began = time.monotonic()
        async with feeding(venues, [client], venues=("okx",), feed="ticks", display_s=0.5) as fed:
            await fed.tape.until(lambda _: len(fed.tape.of(Received)) >= 40)
            most = 2 + (time.monotonic() - began) / 0.5
            assert 1 <= len(fed.tape.of(Tick)) <= most

    asyncio.run(run())


def test_a_sink_that_fails_is_counted_and_stops_neither_the_feed_nor_other_sinks(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    def broken(record: object) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with feeding(venues, [client], venues=("okx",), feed="sinks", sinks=[broken]) as fed:
            await fed.slot(observed)
            assert fed.counts.total("sink_failures_total", kind="Received") > 0
            assert fed.feed.lanes[0].starts == 1

    asyncio.run(run())


def test_a_feed_of_another_make_under_the_same_name_is_refused_and_tried_rarely(
    venues: ThreadedVenueServer, client: Notary
) -> None:
    async def run() -> None:
        async with feeding(venues, [client], venues=("okx",), feed="taken") as fed:
            await fed.slot(observed)
        async with feeding(venues, [client], venues=("bybit",), feed="taken") as other:
            await settled(lambda: bool(other.feed.troubles))
            assert other.tape.records == []

    asyncio.run(run())


def test_a_configuration_that_makes_no_feed_is_refused() -> None:
    for members in (
        {"venues": ()},
        {"venues": ("okx", "okx")},
        {"venues": ("okx",), "market": "BTC/XYZ"},
    ):
        with pytest.raises(UsageError):
            FeedConfig(**{"feed": "x", "market": MARKET, **members})  # type: ignore[arg-type]
