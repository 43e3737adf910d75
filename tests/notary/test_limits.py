"""What a prover may use: tokens, sessions, bytes and seconds."""

from __future__ import annotations

import pytest

from attestation.errors import RefusedError
from notary.limits import ProverAccount, ProverLimits, TokenBucket

SECOND = 1_000_000


def test_bucket_gives_its_capacity_and_then_its_rate() -> None:
    bucket = TokenBucket(3, 2.0, 0)
    assert [bucket.take(1, 0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(1, SECOND // 2 - 1)
    assert bucket.take(1, SECOND // 2)
    assert [bucket.take(1, 10 * SECOND) for _ in range(4)] == [True, True, True, False]


def test_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 1.0, 5 * SECOND)
    assert bucket.take(1, 5 * SECOND)
    assert not bucket.take(1, 0)
    assert not bucket.take(1, 5 * SECOND)


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (ProverLimits(sessions=2), "limits.sessions"),
        (ProverLimits(burst=2, rate=0.001), "limits.rate"),
    ],
)
def test_third_session_is_refused_with_429(limits: ProverLimits, rule: str) -> None:
    account = ProverAccount(limits, 0)
    account.admit(0)
    account.admit(0)
    with pytest.raises(RefusedError) as refused:
        account.admit(0)
    assert (refused.value.rule, refused.value.http_status) == (rule, 429)


@pytest.mark.parametrize(
    ("relayed", "seconds", "rule"), [(2_000, 0.0, "limits.bytes"), (0, 20.0, "limits.seconds")]
)
def test_overdrawn_prover_waits_until_it_has_recovered(
    relayed: int, seconds: float, rule: str
) -> None:
    limits = ProverLimits(bytes_rate=1_000, bytes_burst=1_000, seconds_rate=1.0, seconds_burst=10.0)
    account = ProverAccount(limits, 0)
    account.admit(0)
    account.charge(relayed=relayed, seconds=seconds, now_us=0)
    account.end()
    with pytest.raises(RefusedError) as refused:
        account.admit(0)
    assert refused.value.rule == rule
    account.admit(10 * SECOND)


def test_account_is_idle_only_when_forgetting_it_changes_nothing() -> None:
    account = ProverAccount(ProverLimits(burst=2, rate=1.0), 0)
    assert account.idle(0)
    account.admit(0)
    assert not account.idle(100 * SECOND)
    account.end()
    assert account.idle(200 * SECOND)


def test_account_is_kept_until_its_connections_are_charged() -> None:
    account = ProverAccount(ProverLimits(), 0)
    account.connect()
    assert not account.idle(100 * SECOND)
    account.charge(relayed=10, seconds=1.0, now_us=100 * SECOND)
    assert not account.idle(200 * SECOND)
    account.disconnect()
    assert account.idle(200 * SECOND)
