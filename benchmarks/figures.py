"""Figures and how they are taken: interleaved, medians, ratios of one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table.  ``bar`` is the most it may be; None: for information."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    note: str = ""

    @property
    def within(self) -> bool:
        """Whether the bar is met."""
        return self.bar is None or self.value <= self.bar

    def row(self) -> str:
        """Returns a row of a Markdown table."""
        bar = "" if self.bar is None else f"<= {_number(self.bar)}"
        mark = "" if self.within else " (over)"
        return f"| {self.name} | {_number(self.value)} {self.unit}{mark} | {bar} | {self.note} |"


def interleaved(actions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs each action once a round, in turn, and returns the seconds each reported.

    Interleaving lets a disturbance of the machine fall on all of them alike.
    The first tenth of the rounds warms up and is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    warm = max(rounds // 10, 3)
    gc.collect()
    for number in range(rounds + warm):
        for name, action in actions.items():
            seconds = action()
            if number >= warm:
                times[name].append(seconds)
    return times


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """Wraps an action so that it reports its seconds."""

    def run() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return run


def ratio(over: list[float], under: list[float]) -> float:
    """Returns the ratio of medians."""
    return statistics.median(over) / statistics.median(under)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
