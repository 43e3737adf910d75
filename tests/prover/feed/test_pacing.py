"""How long a feed waits: within the backoff's bounds, and never more often than a venue allows."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.venues.parts import Rate
from prover.feed.pacing import CEILING_S, FLOOR_S, Backoff, TokenBucket


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_a_restart_comes_never_sooner_than_the_floor_nor_later_than_five_seconds(
    drawn: list[float],
) -> None:
    numbers = iter(drawn)
    backoff = Backoff(lambda: next(numbers))
    for _ in drawn:
        assert FLOOR_S <= backoff.failed() <= CEILING_S < 5


def test_waits_grow_with_failures_and_begin_anew_only_after_a_healthy_while() -> None:
    backoff = Backoff(lambda: 0.999)
    waits = [backoff.failed() for _ in range(12)]
    assert all(before < after for before, after in pairwise(waits[:6]))
    assert waits[-1] > 4
    assert backoff.failures == 12
    backoff.recovered()
    assert backoff.failed() == waits[0]


def test_many_that_fail_together_do_not_return_together() -> None:
    waits = set()
    for seed in range(50):
        backoff = Backoff(random.Random(seed).random)
        for _ in range(5):
            wait = backoff.failed()
        waits.add(round(wait, 6))
    assert len(waits) == 50


@given(
    st.integers(1, 20),
    st.integers(1, 30),
    st.lists(st.integers(0, 3_000_000), min_size=1, max_size=200),
)
def test_no_span_of_a_venues_rate_sees_more_than_it_allows(
    requests: int, seconds: int, steps: list[int]
) -> None:
    bucket = TokenBucket(Rate(requests=requests, seconds=seconds))
    now, taken = 0, []
    for step in steps:
        now += step
        wait = bucket.wait_us(now)
        assert bucket.take(now) == (wait == 0)
        if wait == 0:
            taken.append(now)
        assert 0 <= bucket.headroom(now) < 1
    for first, last in zip(taken, taken[requests:], strict=False):
        assert last - first >= seconds * 1_000_000


def test_a_bucket_says_exactly_when_its_next_token_comes() -> None:
    bucket = TokenBucket(Rate(requests=2, seconds=1))
    assert bucket.take(0)
    assert bucket.take(100_000)
    wait = bucket.wait_us(100_000)
    assert not bucket.take(100_000 + wait - 1)
    assert bucket.take(100_000 + wait)


@pytest.mark.parametrize("seed", range(5))
def test_what_reaches_the_venue_late_counts_from_then_so_that_it_never_sees_too_many(
    seed: int,
) -> None:
    rng, bucket, now, seen = random.Random(seed), TokenBucket(Rate(requests=3, seconds=1)), 0, []
    for _ in range(300):
        now += bucket.wait_us(now)
        assert bucket.take(now)
        # It reaches the venue somewhere on the way; when it is over, that is known.
        seen.append(now + rng.randrange(400_000))
        now = seen[-1] + rng.randrange(100_000)
        bucket.arrived(now)
    for first, fourth in zip(seen, seen[3:], strict=False):
        assert fourth - first > 1_000_000
