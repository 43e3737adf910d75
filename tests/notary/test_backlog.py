"""What a live session passed on waits a little and within bounds, and for nobody who looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from attestation.live import LiveMessage
from attestation.venues import load_venue
from notary.backlog import (
    AWAKE_SECONDS,
    BUSY_SECONDS,
    GATHER_SECONDS,
    MAX_UNVERIFIED,
    MAX_WAITING,
    SLICE_BYTES,
    Backlog,
)
from notary.hops import Hops
from notary.observer import Observer
from tests.attestation.test_feed import book_ticker

SIZE = 200


class Rig:
    """A backlog of records that hold a quote each; what it did, in order."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.arrived = self.verified = self.counted = 0
        self.hops, self.observer = Hops(), Observer(load_venue("binance"), "BTCUSDT")
        self.backlog = Backlog(
            self.verify,
            self.observer,
            self.hops,
            come_to=lambda: self.did.append("come"),
            counted=self.count,
        )
        self.backlog.gathers = True

    def verify(self, most: int | None, oldest: float) -> tuple[int, list[LiveMessage]]:
        assert oldest <= perf_counter()
        left = self.arrived - self.verified
        count = left if most is None else min(left, -(-most // SIZE))
        numbers = range(self.verified, self.verified + count)
        self.verified += count
        self.did.append(f"verify {count}")
        return count * SIZE, [
            LiveMessage(number, "text", book_ticker(number), number, number) for number in numbers
        ]

    def count(self, messages: int) -> None:
        self.counted += messages

    def read(self, records: int = 1) -> None:
        self.arrived += records
        self.backlog.add(records * SIZE, perf_counter())

    @property
    def observed(self) -> int:
        """How many messages were read for quotes."""
        return self.verified - len(self.observer._waiting)

    async def until(self, done: Callable[[], bool]) -> None:
        deadline = perf_counter() + 20
        while not done():
            assert perf_counter() < deadline
            await asyncio.sleep(0)


def play(scene: Callable[[Rig], object]) -> None:
    async def run() -> None:
        rig = Rig()
        await scene(rig)  # type: ignore[misc]
        rig.backlog.stop()

    asyncio.run(run())


def test_read_after_a_pause_is_verified_at_once_and_one_close_behind_it_waits() -> None:
    async def scene(rig: Rig) -> None:
        rig.read()
        assert (rig.verified, rig.observed) == (1, 0)
        rig.backlog._last = perf_counter()
        rig.read()
        assert (rig.verified, rig.backlog.unverified) == (1, SIZE)
        await rig.until(lambda: rig.observed == 2)
        assert rig.backlog.unverified == 0
        assert rig.counted == 2

    play(scene)


def test_before_the_start_is_attested_nothing_waits() -> None:
    async def scene(rig: Rig) -> None:
        rig.backlog.gathers = False
        for number in range(5):
            rig.read()
            assert rig.verified == number + 1

    play(scene)


def test_what_is_not_verified_is_bounded_however_fast_it_comes() -> None:
    async def scene(rig: Rig) -> None:
        rig.backlog._last = perf_counter()
        most = 0
        for _ in range(3 * MAX_UNVERIFIED // SIZE):
            rig.backlog._last = perf_counter()
            rig.read()
            most = max(most, rig.backlog.unverified)
        assert 0 < most <= MAX_UNVERIFIED
        rig.read(1 + MAX_UNVERIFIED // SIZE)
        assert rig.backlog.unverified == 0
        assert len(rig.observer._waiting) <= MAX_WAITING

    play(scene)


def test_what_waits_is_verified_soon_in_slices_that_the_loop_turns_between() -> None:
    async def scene(rig: Rig) -> None:
        rig.backlog._last = began = perf_counter()
        rig.read(150)
        assert rig.verified == 0
        await asyncio.sleep(0)
        await rig.until(lambda: rig.observed == 150)
        assert perf_counter() - began >= GATHER_SECONDS
        verified = [one for one in rig.did if one.startswith("verify")]
        assert verified[0] == f"verify {-(-SLICE_BYTES // SIZE)}"
        assert len(verified) == -(-150 // -(-SLICE_BYTES // SIZE))
        # Slots that are over are closed before anything that waited is looked at.
        assert rig.did[0] == "come"
        (family,) = rig.hops.collect()
        count = next(
            sample.value
            for sample in family.samples
            if sample.name.endswith("_count") and sample.labels == {"hop": "observed"}
        )
        assert 2 <= count <= 150

    play(scene)


def test_loop_is_kept_awake_for_a_busy_stream_alone_and_not_for_long() -> None:
    async def scene(rig: Rig) -> None:
        began = perf_counter() - 1
        for number in range(200):
            # Some jitter: what counts is the mean.
            arrived = began + number * 0.75 * BUSY_SECONDS + (number % 2) * BUSY_SECONDS / 2
            rig.arrived += 1
            rig.backlog.add(SIZE, arrived)
        assert rig.backlog.busy
        rig.backlog._last = perf_counter()
        rig.read()
        last = rig.backlog._last
        await rig.until(lambda: rig.observed == 201)
        while perf_counter() < last + AWAKE_SECONDS / 2:
            assert rig.backlog._handle is not None
            await asyncio.sleep(0)
        # Nothing more comes: it sleeps, whatever the mean was.
        await rig.until(lambda: rig.backlog._handle is None)
        assert perf_counter() >= last + AWAKE_SECONDS
        for number in range(200):
            rig.arrived += 1
            rig.backlog.add(SIZE, last + (1 + number) * 1.5 * BUSY_SECONDS)
        assert not rig.backlog.busy
        rig.backlog.settle()
        await rig.until(lambda: rig.observed == 401)
        await rig.until(lambda: rig.backlog._handle is None)

    play(scene)


def test_who_settles_finds_all_of_it_verified_and_the_quote_read() -> None:
    async def scene(rig: Rig) -> None:
        rig.backlog._last = perf_counter()
        rig.read(7)
        rig.backlog.settle()
        assert rig.did == ["verify 7"]
        seen = rig.observer.seen
        assert seen is not None
        assert seen.received_us == 6
        rig.backlog.settle()
        assert rig.did == ["verify 7"]
        await rig.until(lambda: not rig.backlog._arrivals)

    play(scene)


def test_after_the_end_nothing_is_looked_at_any_more() -> None:
    async def scene(rig: Rig) -> None:
        rig.backlog._last = perf_counter()
        rig.read(7)
        rig.backlog.stop()
        rig.backlog.settle()
        await asyncio.sleep(3 * GATHER_SECONDS)
        assert rig.did == []

    play(scene)
