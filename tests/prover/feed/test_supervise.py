"""Lanes: a venue's fault ends and restarts its own link alone, in time and within its limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
)
from attestation.venues import load_venue, venue_names
from attestation.venues.parts import Rate
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.conversation import Moment
from prover.feed.link import End
from prover.feed.pacing import CEILING_S, FLOOR_S, TokenBucket
from prover.feed.records import DeadLetter, Ended, Received, Tick
from prover.feed.supervise import CROWDED_S, FORBIDDEN_S, Lane, State, patience_s
from tests.prover.feed.direct import NOTARY, Stage, settled

NAMES = venue_names()
GENEROUS = Rate(requests=1_000, seconds=1)
LIMIT_S = 20.0


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=50).in_thread() as server:
        yield server


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


def lane(stage: Stage, name: str) -> Lane:
    return Lane(
        load_venue(name),
        NOTARY,
        connector=lambda: stage.connector(name),
        random=random.Random(name).random,
        connects=TokenBucket(GENEROUS),
    )


def ticks(stage: Stage, name: str) -> int:
    return sum(1 for one in stage.tape.of(Tick) if one.venue == name)


async def quoted(stage: Stage, more: int) -> None:
    """Waits for so many more quotes of every venue."""
    before = {name: ticks(stage, name) for name in NAMES}
    await stage.tape.until(
        lambda _: all(ticks(stage, name) > before[name] + more for name in NAMES)
    )


def dead(stage: Stage) -> set[str]:
    return {one.received.venue for one in stage.tape.of(DeadLetter)}


async def running(lanes: list[Lane], then: Callable[[], Any]) -> None:
    tasks = [asyncio.create_task(one.run()) for one in lanes]
    try:
        async with asyncio.timeout(LIMIT_S * 2):
            await then()
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


ENDING = ["disconnect*1", "disconnect:close*1", "close*1", "oversized*1"]
PASSING = ["malformed*1", "gzip*1", "wrong_instrument*1"]
HARMLESS = ["stale*3", "duplicated*3", "trickle*3", "slow:50*3", "wick*3", "out_of_order*3"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ENDING)
def test_a_link_that_ends_is_followed_by_another_and_no_other_venue_notices(
    name: str, fault: str, venues: ThreadedVenueServer
) -> None:
    other = "okx" if name != "okx" else "bybit"

    async def run() -> None:
        stage = Stage.at(venues)
        lanes = [lane(stage, name), lane(stage, other)]

        async def then() -> None:
            await stage.tape.until(lambda _: ticks(stage, name) > 2 and ticks(stage, other) > 2)
            venues.set_fault(name, Fault.parse(fault))
            await stage.tape.until(lambda _: bool(stage.tape.of(Ended)))
            before = ticks(stage, name)
            await stage.tape.until(lambda _: ticks(stage, name) > before + 2)
            assert {one.venue for one in stage.tape.of(Ended)} == {name}
            assert (lanes[0].status.starts, lanes[1].status.starts) == (2, 1)

        await running(lanes, then)
        sessions = {one.session for one in stage.tape.of(Received) if one.venue == name}
        for session in sessions:
            indexes = [one.index for one in stage.tape.of(Received) if one.session == session]
            assert indexes == list(range(len(indexes)))

    asyncio.run(run())


@pytest.mark.parametrize("fault", PASSING)
def test_messages_that_cannot_be_read_are_dead_letters_and_never_a_price(
    fault: str, venues: ThreadedVenueServer
) -> None:
    async def run() -> None:
        stage = Stage.at(venues)
        lanes = [lane(stage, name) for name in NAMES]

        async def then() -> None:
            await quoted(stage, 2)
            for name in NAMES:
                venues.set_fault(name, Fault.parse(fault))
            await stage.tape.until(lambda _: dead(stage) == set(NAMES))
            await quoted(stage, 2)
            assert [one.status.starts for one in lanes] == [1] * len(lanes)

        await running(lanes, then)
        received = {(one.session, one.index): one for one in stage.tape.of(Received)}
        for letter in stage.tape.of(DeadLetter):
            assert received[letter.received.session, letter.received.index] == letter.received
            assert letter.rule == "W11"

    asyncio.run(run())


@pytest.mark.parametrize("fault", HARMLESS)
def test_late_repeated_or_cut_messages_end_nothing(fault: str, venues: ThreadedVenueServer) -> None:
    async def run() -> None:
        stage = Stage.at(venues)
        lanes = [lane(stage, name) for name in NAMES]

        async def then() -> None:
            await quoted(stage, 2)
            for name in NAMES:
                venues.set_fault(name, Fault.parse(fault))
            await quoted(stage, 3)
            assert [one.status.starts for one in lanes] == [1] * len(lanes)
            assert not stage.tape.of(Ended)

        await running(lanes, then)

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["wrong_certificate*2", "status:503*2", "status:429*2"])
def test_a_venue_that_cannot_be_had_is_tried_again_until_it_can(
    fault: str, venues: ThreadedVenueServer
) -> None:
    async def run() -> None:
        stage = Stage.at(venues)
        venues.set_fault("bybit", Fault.parse(fault))
        lanes = [lane(stage, "bybit"), lane(stage, "kraken")]

        async def then() -> None:
            await stage.tape.until(lambda _: ticks(stage, "kraken") > 0)
            await stage.tape.until(lambda _: ticks(stage, "bybit") > 0)
            assert lanes[0].status.failures == 2
            assert lanes[1].status.failures == 0

        await running(lanes, then)

    asyncio.run(run())


class FakeLink:
    """A link that a test ends."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self._order = name, order
        self.session = name
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.unwanted = asyncio.Event()
        self.quoted = asyncio.Event()
        self.why_unwanted = ""

    def end(self, error: QuotaryError | None = None) -> None:
        self.ended.set_result(End(None, "over", error))
        self.unwanted.set()

    def close(self) -> None:
        self._order.append(f"close {self.name}")
        if not self.ended.done():
            self.end()


class Theatre:
    """A lane on a clock of the test's, whose connectors do what the script says."""

    def __init__(self, script: list[Any], *, venue: str = "kraken", rate: Rate = GENEROUS) -> None:
        self.script, self.order, self.waits = script, [], []
        self.links: list[FakeLink] = []
        self.now_us = 0
        self.lane = Lane(
            load_venue(venue),
            NOTARY,
            connector=lambda: self,  # type: ignore[arg-type,return-value]
            random=lambda: 0.5,
            connects=TokenBucket(rate),
            moment=lambda: Moment(self.now_us, self.now_us),
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_us += int(seconds * 1_000_000)
        await asyncio.sleep(0)

    async def connect(self) -> FakeLink:
        step = self.script.pop(0) if self.script else None
        if step is None:
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        link = FakeLink(str(step), self.order)
        self.order.append(f"start {link.name}")
        self.links.append(link)
        return link


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def acted(theatre: Theatre, play: Callable[[], Any]) -> None:
    async def run() -> None:
        task = asyncio.create_task(theatre.lane.run())
        await turns()
        await play()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_the_next_link_is_started_before_the_one_it_replaces_is_closed() -> None:
    theatre = Theatre(["first", UnavailableError("not yet"), "second"])

    async def play() -> None:
        theatre.links[0].unwanted.set()
        await turns()
        assert theatre.order == ["start first", "start second"]
        theatre.links[1].quoted.set()
        await turns()
        assert theatre.order == ["start first", "start second", "close first"]
        assert theatre.lane.live

    acted(theatre, play)


def test_while_a_venue_is_silent_the_link_that_quoted_last_is_not_given_up() -> None:
    """A prover that leaves has the gap for its fault: the silence is the venue's."""
    theatre = Theatre(["first", "second", "third"])

    async def play() -> None:
        theatre.links[0].quoted.set()
        for number in (0, 1):
            theatre.links[number].unwanted.set()
            await turns()
        assert theatre.order == ["start first", "start second", "start third", "close second"]
        assert not theatre.links[0].ended.done()
        theatre.links[2].quoted.set()
        await turns()
        assert theatre.order[-1] == "close first"

    acted(theatre, play)


def test_a_successor_that_breaks_before_its_first_quote_leaves_the_lane_live() -> None:
    theatre = Theatre(["first", "second", "third"])

    async def play() -> None:
        theatre.links[0].quoted.set()
        theatre.links[0].unwanted.set()
        await turns()
        theatre.links[1].end()
        assert theatre.lane.live
        await turns()
        assert "start third" in theatre.order
        assert "close first" not in theatre.order
        theatre.links[2].quoted.set()
        await turns()
        assert "close first" in theatre.order
        assert theatre.lane.live

    acted(theatre, play)


def test_a_lane_that_stops_amid_a_handover_closes_both_links() -> None:
    theatre = Theatre(["first", "second"])

    async def play() -> None:
        theatre.links[0].unwanted.set()
        await turns()

    acted(theatre, play)
    assert sorted(theatre.order[-2:]) == ["close first", "close second"]


def test_a_link_at_the_end_of_its_venues_life_is_replaced_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theatre = Theatre(["first", "second"], venue="binance")
    limits: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        limits.append(seconds)
        return real(0 if len(limits) == 1 else 1_000)

    monkeypatch.setattr("prover.feed.supervise.asyncio.timeout", timeout)

    async def play() -> None:
        await settled(lambda: len(theatre.links) == 2)
        theatre.links[1].quoted.set()
        await turns()
        assert theatre.order == ["start first", "start second", "close first"]

    acted(theatre, play)
    assert 86_400 - 120 <= limits[0] < 86_400 - 60


def test_the_backoff_begins_anew_only_after_a_healthy_while() -> None:
    theatre = Theatre(["a", "b", "c", "d"])

    async def play() -> None:
        for _ in range(2):
            theatre.links[-1].end()
            await turns()
        assert theatre.lane.backoff.failures == 2
        theatre.now_us += 60_000_000
        theatre.links[-1].end()
        await turns()
        assert theatre.lane.backoff.failures == 1
        assert theatre.waits[0] == theatre.waits[2] < theatre.waits[1]

    acted(theatre, play)


def test_every_restart_waits_within_the_bounds_of_the_backoff() -> None:
    theatre = Theatre([MalformedError("no")] * 30 + ["at last"])

    async def play() -> None:
        await turns(400)
        assert theatre.lane.live
        assert len(theatre.waits) == 30
        assert all(FLOOR_S <= wait <= CEILING_S for wait in theatre.waits)

    acted(theatre, play)


def test_a_venues_limit_on_connections_is_kept_whatever_fails() -> None:
    rate = Rate(requests=2, seconds=60)
    theatre = Theatre([MalformedError("no")] * 9 + ["at last"], venue="gemini", rate=rate)

    async def play() -> None:
        await turns(400)
        assert theatre.lane.live
        assert theatre.now_us > 4 * 60_000_000

    acted(theatre, play)


def test_a_fault_of_the_program_in_one_link_is_a_failure_like_another() -> None:
    theatre = Theatre([ZeroDivisionError("oops"), "then"])

    async def play() -> None:
        assert theatre.lane.live
        assert "ZeroDivisionError" in theatre.lane.status.last_error

    acted(theatre, play)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (RefusedError("over a limit", rule="limits.rate", http_status=429), CROWDED_S),
        (RefusedError("not in the feed", http_status=403), FORBIDDEN_S),
        (RefusedError("the venue's 503", rule="W12"), 0.0),
        (UnavailableError("503"), 0.0),
        (UntrustedError("an unknown key", rule="trust.unknown"), FORBIDDEN_S),
        (UntrustedError("the venue's certificate", rule="W4"), 0.0),
        (InvalidProofError("not what was said", rule="header.root"), FORBIDDEN_S),
        (MalformedError("not a frame", rule="W12"), 0.0),
    ],
)
def test_what_a_notary_refuses_is_waited_for_by_what_it_means(
    error: QuotaryError, wanted: float
) -> None:
    assert patience_s(error) == wanted


def test_a_lane_that_is_told_to_stop_closes_its_link_and_ends() -> None:
    theatre = Theatre(["only"])

    async def play() -> None:
        assert theatre.lane.status.state is State.LIVE

    acted(theatre, play)
    assert theatre.order == ["start only", "close only"]
    assert theatre.lane.status.state is State.ENDED
