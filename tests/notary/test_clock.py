"""The notary's clock: follows the wall slowly, never goes back, refuses when apart."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.errors import UnavailableError
from notary.clock import MAX_APART_US, MAX_STEP_US, Clock


@dataclasses.dataclass
class System:
    """The system's two clocks, in nanoseconds."""

    wall: int = 1_700_000_000_000_000_000
    monotonic: int = 5_000_000_000

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.monotonic)

    def pass_us(self, wall: int, monotonic: int | None = None) -> None:
        self.wall += wall * 1000
        self.monotonic += (wall if monotonic is None else monotonic) * 1000


@dataclasses.dataclass
class HeldUp(System):
    """A process that is held up for two seconds right after it read a clock, so many times."""

    times: int = 0

    def clock(self) -> Clock:
        return Clock(lambda: self.read("wall"), lambda: self.read("monotonic"))

    def read(self, name: str) -> int:
        found: int = getattr(self, name)
        if self.times:
            self.times -= 1
            self.pass_us(2_000_000)
        return found


def test_time_starts_at_the_wall_and_counts_by_the_monotonic_clock() -> None:
    system = System()
    clock = system.clock()
    assert clock.now_us() == 1_700_000_000_000_000
    system.pass_us(wall=9_000_000, monotonic=100)
    assert clock.now_us() == 1_700_000_000_000_100


@pytest.mark.parametrize("ahead", [-40_000, 40_000, 300, -300])
def test_each_second_follows_the_wall_by_at_most_500_us(ahead: int) -> None:
    system = System()
    clock = system.clock()
    system.pass_us(wall=1_000_000 + ahead, monotonic=1_000_000)
    before = clock.now_us()
    assert clock.re_anchor()
    moved = clock.now_us() - before
    assert moved == max(0, min(MAX_STEP_US, ahead))
    assert clock.apart_us == ahead - max(-MAX_STEP_US, min(MAX_STEP_US, ahead))


def test_time_never_goes_back_when_the_wall_is_behind() -> None:
    system = System()
    clock = system.clock()
    system.pass_us(wall=990_000, monotonic=1_000_000)
    seen = []
    for _ in range(30):
        clock.re_anchor()
        seen.append(clock.now_us())
        system.pass_us(wall=100)
    assert seen == sorted(seen)


@pytest.mark.parametrize("times", range(1, 7))
def test_pause_between_the_readings_of_two_clocks_is_no_disagreement(times: int) -> None:
    system = HeldUp(times=times)
    clock = system.clock()
    assert clock.now_us() == system.wall // 1000
    system.times = times
    clock.check()
    system.times = times
    assert clock.re_anchor()
    assert clock.apart_us == 0


@pytest.mark.parametrize("ahead", [-1, 1])
def test_clocks_further_apart_than_50_ms_are_refused_until_they_agree(ahead: int) -> None:
    system = System()
    clock = system.clock()
    system.pass_us(wall=1_000_000 + ahead * (MAX_APART_US + MAX_STEP_US + 1), monotonic=1_000_000)
    assert not clock.re_anchor()
    with pytest.raises(UnavailableError) as refused:
        clock.check()
    assert refused.value.rule == "clock"
    assert clock.re_anchor()
    clock.check()
