"""How often a push on one venue flips a trade's outcome, by rule: regenerates a table.

    python -m benchmarks.manipulation [--seed N] [--trades N] [--write]

prints the table of docs/settlement-policy.md; ``--write`` puts it there.  The market: one
random walk that all venues follow, each with noise of its own.  The attacker sees the
outcome coming, pushes one venue against it until the last slot, and the others follow
most of the way within a second.  A trade is flipped where the push turns its outcome round.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TypeAlias

SEED = 1
TRADES = 4_000
PAGE = Path(__file__).resolve().parents[1] / "docs" / "settlement-policy.md"
_TABLE = re.compile(r"(<!-- manipulation .*?-->\n)((?:\|.*\n)+)")

YEAR_S = 365 * 86_400
Z = 1.96
"""Standard deviations of a 95 % interval."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A year's volatility, how many venues, and their own noise.

    ``echo`` of a push is followed by the other venues, evenly within ``echo_s``.
    """

    volatility: float = 0.4
    venues: int = 11
    noise_bp: float = 0.3
    echo: float = 0.8
    echo_s: float = 1.0
    duration_s: float = 30.0
    grid_s: float = 0.5

    @property
    def slots(self) -> int:
        """Slots from the first to the last."""
        return round(self.duration_s / self.grid_s) + 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """So many basis points on the first venue, for so long until the last slot."""

    bp: float
    hold_s: float


MARKET = Market()
PUSHES = (
    Push(bp=3, hold_s=1),
    Push(bp=3, hold_s=2),
    Push(bp=3, hold_s=3),
    Push(bp=6, hold_s=1),
    Push(bp=6, hold_s=2),
)
WINDOWS_S = (3.0, 6.0, 10.0)
RULES = (
    "one venue's last tick",
    "median of venues at T",
    *(f"windows of {window_s:g} s" for window_s in WINDOWS_S),
)

Prices: TypeAlias = list[list[float]]
"""Logarithms of each venue's price in basis points, by venue, then by slot."""


def path(market: Market, draw: random.Random) -> Prices:
    """Draws the venues' prices over one trade."""
    step = market.volatility * math.sqrt(market.grid_s / YEAR_S) * 10_000
    common, at = [], 0.0
    for _ in range(market.slots):
        common.append(at)
        at += draw.gauss(0.0, step)
    needed = round(max(WINDOWS_S) / market.grid_s)
    last = market.slots - needed
    return [
        [
            price + draw.gauss(0.0, market.noise_bp) if slot < needed or slot >= last else price
            for slot, price in enumerate(common)
        ]
        for _ in range(market.venues)
    ]


def pushed(prices: Prices, market: Market, push: Push, sign: int) -> Prices:
    """Returns the prices under a push up (1) or down (-1)."""
    held = round(push.hold_s / market.grid_s)
    follows = [min(1.0, (slot + 1) * market.grid_s / market.echo_s) for slot in range(held)]
    moved = []
    for venue, row in enumerate(prices):
        shares = [1.0] * held if venue == 0 else [market.echo * part for part in follows]
        moves = [sign * push.bp * share for share in shares]
        tail = [price + move for price, move in zip(row[-held:], moves, strict=True)]
        moved.append([*row[:-held], *tail])
    return moved


def outcomes(prices: Prices, market: Market) -> list[int]:
    """Returns the outcome by each of ``RULES``: 1 up, -1 down, 0 tie."""
    found = [_sign(prices[0][-1] - prices[0][0])]
    found.append(_sign(median([row[-1] - row[0] for row in prices])))
    for window_s in WINDOWS_S:
        found.append(_sign(by_windows(prices, round(window_s / market.grid_s))))
    return found


def by_windows(prices: Sequence[Sequence[float]], slots: int) -> float:
    """The median over venues of the windows' medians, close less open: rules S6 and S8."""
    return median([median(row[-slots:]) - median(row[:slots]) for row in prices])


def flips(market: Market, seed: int, trades: int) -> dict[Push, list[int]]:
    """Returns how many trades each push flips, by rule."""
    draw = random.Random(seed)
    found = {push: [0] * len(RULES) for push in PUSHES}
    for _ in range(trades):
        prices = path(market, draw)
        honest = outcomes(prices, market)
        for push in PUSHES:
            turned = {
                sign: outcomes(pushed(prices, market, push, sign), market)
                for sign in {-sign for sign in honest if sign}
            }
            for rule, sign in enumerate(honest):
                found[push][rule] += sign != 0 and turned[-sign][rule] == -sign
    return found


def interval(count: int, trades: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson)."""
    share, square = count / trades, Z * Z / trades
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / trades + square / (4 * trades)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def table(found: dict[Push, list[int]], trades: int) -> str:
    """Returns the table of a page."""
    lines = [f"| push | {' | '.join(RULES)} |", f"|---|{'---|' * len(RULES)}"]
    for push, counts in found.items():
        cells = [_cell(count, trades) for count in counts]
        lines.append(f"| {push.bp:g} bp for {push.hold_s:g} s | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def marker(seed: int, trades: int) -> str:
    """Returns the comment above the table, which says how it was made."""
    return f"<!-- manipulation seed {seed} trades {trades} -->\n"


def main() -> int:
    """Prints the table, or writes it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manipulation")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--trades", type=int, default=TRADES)
    parser.add_argument("--write", action="store_true", help="put the table into its page")
    options = parser.parse_args()
    text = table(flips(MARKET, options.seed, options.trades), options.trades)
    print(marker(options.seed, options.trades) + text, end="")
    if options.write:
        page = PAGE.read_text("utf-8")
        made = _TABLE.sub(lambda _: marker(options.seed, options.trades) + text, page)
        PAGE.write_text(made, "utf-8")
    return 0


def _cell(count: int, trades: int) -> str:
    low, high = interval(count, trades)
    return f"{100 * count / trades:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


if __name__ == "__main__":
    sys.exit(main())
