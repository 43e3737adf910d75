"""One REST session for each slot without a live one: when it is asked, and that it is one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import RefusedError
from attestation.venues import load_venue
from attestation.venues.parts import Rate
from prover.feed import fallback as fallbacks
from prover.feed.connector import Surroundings
from prover.feed.conversation import Moment
from prover.feed.fallback import ASK_US, AT_ONCE, Fallback
from prover.feed.own_messages import OwnMessages
from prover.fetch import FetchPlan
from prover.flow import Flow, Timeouts
from prover.notary_client import Notary
from tests.prover.feed.direct import Tape, settled
from tests.prover.feed.feeding import Counts
from tests.prover.feed.slot_server import ENTRY
from tests.prover.feed.tape import GRID, NOTARY, START


class Played:
    """A fallback on a clock of the test's."""

    def __init__(self, *, venue: str = "okx", offset_us: int = 0) -> None:
        self.now_us = START + 10_000_000
        self.live = False
        self.counts, self.tape = Counts(), Tape()
        file = load_venue(venue)
        around = Surroundings(
            emit=self.tape,
            own=OwnMessages(),
            random=os.urandom,
            moment=lambda: Moment(self.now_us, self.now_us),
            metrics=self.counts,
        )
        self.fallback = Fallback(
            cast(Notary, FakeNotary()),
            NOTARY,
            ENTRY,
            file,
            file.instrument("BTC/USD"),
            live=lambda: self.live,
            around=around,
            offset_us=offset_us,
        )


@dataclasses.dataclass
class FakeNotary:
    timeouts: Timeouts = dataclasses.field(default_factory=Timeouts)


@given(
    st.lists(st.integers(0, 3 * GRID), min_size=1, max_size=30),
    st.integers(1_000, GRID),
    st.integers(-GRID, GRID),
)
def test_every_request_is_meant_for_after_its_grid_began_and_no_slot_is_asked_for_twice(
    steps: list[int], lead_us: int, offset_us: int
) -> None:
    played = Played(offset_us=offset_us)
    fallback = played.fallback
    fallback._lead_us = lead_us
    asked = []
    for step in steps:
        slot_us, wait_us = fallback.next()
        assert slot_us % GRID == 0
        forwarded = played.now_us + offset_us + wait_us + lead_us
        # Should it take as long as it took, it lands within the grid that the slot ends.
        assert slot_us - GRID < forwarded
        assert forwarded <= slot_us - GRID + ASK_US or wait_us == 0
        fallback._asked_us = slot_us
        asked.append(slot_us)
        played.now_us += wait_us + step
    assert all(before < after for before, after in pairwise(asked))


def plans(monkeypatch: pytest.MonkeyPatch, *, hang: bool = False) -> list[FetchPlan]:
    found: list[FetchPlan] = []

    def fetch(notary: Any, plan: FetchPlan) -> Flow[Any]:
        found.append(plan)
        yield from ()
        raise RefusedError("the slot is over", rule="request.slot_us", http_status=409)

    async def run(flow: Flow[Any], timeouts: Timeouts) -> Any:
        if hang:
            for _ in flow:
                pass
            await asyncio.Event().wait()
        return next(flow)

    def hanging(notary: Any, plan: FetchPlan) -> Flow[Any]:
        found.append(plan)
        yield from ()

    monkeypatch.setattr(fallbacks, "fetch_sealed", hanging if hang else fetch)
    monkeypatch.setattr(fallbacks, "run_async", run)
    return found


async def some(fallback: Fallback, slots: int) -> None:
    for at in range(slots):
        fallback._ask(START + at * GRID)
        for _ in range(5):
            await asyncio.sleep(0)


def test_what_fails_is_not_tried_again_for_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plans(monkeypatch)
    played = Played()
    asyncio.run(some(played.fallback, 3))
    assert [plan.spec.purpose for plan in found] == [
        f"slot/{ENTRY.feed}/okx/{START + at * GRID}" for at in range(3)
    ]
    assert {plan.spec.mode for plan in found} == {"sealed"}
    assert played.counts.total("fallbacks_total", outcome="request.slot_us") == 3


def test_the_venues_own_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plans(monkeypatch)
    played = Played()
    played.fallback._tokens = fallbacks.TokenBucket(Rate(requests=2, seconds=60))
    asyncio.run(some(played.fallback, 5))
    assert len(found) == 2
    assert played.counts.total("fallbacks_total", outcome="limited") == 3


def test_sessions_that_take_too_long_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plans(monkeypatch, hang=True)
    played = Played()

    async def run() -> None:
        await some(played.fallback, 6)
        assert len(found) == AT_ONCE
        for task in played.fallback._running:
            task.cancel()

    asyncio.run(run())
    assert played.counts.total("fallbacks_total", outcome="late") == 6 - AT_ONCE


def test_nothing_is_asked_for_while_a_live_session_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plans(monkeypatch)
    played = Played()
    played.live = True
    monkeypatch.setattr(played.fallback, "next", lambda: (played.fallback._asked_us + GRID, 1_000))

    async def run() -> None:
        task = asyncio.create_task(played.fallback.run())
        await settled(lambda: played.fallback._asked_us >= 5 * GRID)
        assert found == []
        played.live = False
        await settled(lambda: bool(found))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
