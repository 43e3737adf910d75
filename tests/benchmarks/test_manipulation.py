"""The table of manipulation is the simulation's own, and the simulation's rule is the rule."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from fractions import Fraction

import pytest

from attestation.price import format_exact
from attestation.settlement.policy import SettlementPolicy, Windows
from attestation.settlement.rule import Terms, settle
from attestation.settlement.slots import LoggedSlot
from benchmarks import manipulation
from benchmarks.manipulation import MARKET, PUSHES, RULES, WINDOWS_S, Prices
from tests.settlement import cases


def test_table_of_the_page_is_what_the_simulation_gives_for_its_seed() -> None:
    page = manipulation.PAGE.read_text("utf-8")
    found = re.search(r"<!-- manipulation seed (\d+) trades (\d+) -->\n((?:\|.*\n)+)", page)
    assert found is not None
    seed, trades = int(found[1]), int(found[2])
    assert trades >= 4_000
    made = manipulation.flips(MARKET, seed, trades)
    assert manipulation.table(made, trades) == found[3]


def test_windows_help_and_do_not_help_against_all_that_the_page_owns_up_to() -> None:
    trades = 1_000
    made = manipulation.flips(MARKET, 2, trades)
    tick, middle, windows, *_ = range(len(RULES))

    def share(bp: float, hold_s: float, rule: int) -> tuple[float, float]:
        push = next(one for one in PUSHES if (one.bp, one.hold_s) == (bp, hold_s))
        return manipulation.interval(made[push][rule], trades)

    for rule, held, wanted in ((tick, 1, 0.54), (middle, 1, 0.46), (windows, 1, 0.06)):
        low, high = share(3, held, rule)
        assert low - 0.02 <= wanted <= high + 0.02
    low, high = share(3, 2, windows)
    assert low <= 0.34 <= high


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rule", range(2, len(RULES)))
def test_windows_of_the_simulation_are_the_rules(seed: int, rule: int) -> None:
    draw = random.Random(seed)
    prices = manipulation.path(MARKET, draw)
    window_s = WINDOWS_S[rule - 2]
    for shown in (prices, manipulation.pushed(prices, MARKET, PUSHES[1], -1)):
        sign = manipulation.outcomes(shown, MARKET)[rule]
        assert settled(shown, window_s) == {1: "up", -1: "down", 0: "tie"}[sign]


def settled(prices: Prices, window_s: float) -> str:
    policy = of_windows(round(window_s * 1_000_000))
    terms = Terms(
        side="up",
        duration_us=round(MARKET.duration_s * 1_000_000),
        logged_us=cases.START - policy.entry_delay_us,
    )
    logged = [
        LoggedSlot(
            notary="n0",
            slot_us=cases.START + number * cases.GRID,
            fields={
                venue.venue: dataclasses.replace(
                    cases.observation(venue.venue, cases.START + number * cases.GRID, 640_000),
                    bid=price,
                    ask=price,
                )
                for venue, price in zip(policy.venues, _prices(prices, number), strict=True)
            },
        )
        for number in range(MARKET.slots)
    ]
    return settle(policy, terms, logged, read_until_us=cases.START + 10**9).outcome


def _prices(prices: Prices, number: int) -> list[str]:
    """Each venue's price in a slot, to the last digit that a document holds."""
    return [
        format_exact(Fraction(round(64_000 * math.exp(row[number] / 10_000) * 10**9), 10**9))
        for row in prices
    ]


def of_windows(w_us: int) -> SettlementPolicy:
    return dataclasses.replace(
        cases.policy(venues=MARKET.venues),
        windows=Windows(w_us=w_us, min_slots=w_us // cases.GRID // 2 + 1),
        durations_us=(round(MARKET.duration_s * 1_000_000),),
    )


def test_interval_holds_the_share_and_stays_within_0_and_1() -> None:
    for count, trades in ((0, 100), (1, 100), (50, 100), (100, 100)):
        low, high = manipulation.interval(count, trades)
        assert 0 <= low <= count / trades <= high + 1e-9
        assert high <= 1
    assert manipulation.interval(340, 1_000) == pytest.approx((0.3113, 0.3699), abs=1e-3)
