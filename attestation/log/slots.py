"""Which slots of a feed's grid have their entry: settled, still due, or overdue.

Memory is bounded by the slots that may still come in time, and by the number of
gaps among the overdue ones, not by the grid's length.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from attestation.errors import MalformedError

MAX_SPANS = 1_000
"""Runs of overdue slots remembered per feed; beyond, the oldest are given up."""


class SlotGrid:
    """The slots of one feed: the multiples of ``grid_us`` from ``from_us`` on.

    A slot is due until ``late_us`` after it.  ``floor_us`` is the first slot that is
    still due; below it, unsettled slots lie in ``spans`` (first, stop).
    """

    __slots__ = ("_first", "_grid", "_late", "floor_us", "settled", "spans")

    def __init__(self, *, grid_us: int, late_us: int, from_us: int) -> None:
        self._grid, self._late = grid_us, late_us
        self._first = self.floor_us = -(-from_us // grid_us) * grid_us
        self.settled: set[int] = set()
        self.spans: list[tuple[int, int]] = []

    def restore(
        self, *, floor_us: int, settled: Iterable[int], spans: Iterable[tuple[int, int]]
    ) -> None:
        """Goes on from a saved state; MalformedError where it is none of this grid."""
        self.settled, self.spans = set(settled), list(spans)
        edges = [edge for span in self.spans for edge in span]
        if (
            any(slot % self._grid for slot in (floor_us, *self.settled, *edges))
            or floor_us < self._first
            or min(self.settled, default=floor_us) < floor_us
            or edges != sorted(set(edges))
            or (edges and not self._first <= edges[0] < edges[-1] <= floor_us)
        ):
            raise MalformedError("not a state of the feed's grid", rule="log_state")
        self.floor_us = floor_us

    def has(self, slot_us: int) -> bool:
        """Tells whether the feed has such a slot."""
        return slot_us >= self._first and slot_us % self._grid == 0

    def is_open(self, slot_us: int) -> bool:
        """Tells whether a slot of the grid has no entry yet."""
        if slot_us >= self.floor_us:
            return slot_us not in self.settled
        return self._span(slot_us) is not None

    def settle(self, slot_us: int) -> None:
        """Notes the entry of an open slot."""
        if slot_us >= self.floor_us:
            self.settled.add(slot_us)
            return
        at = self._span(slot_us)
        if at is not None:
            first, stop = self.spans[at]
            parts = ((first, slot_us), (slot_us + self._grid, stop))
            self.spans[at : at + 1] = [(start, end) for start, end in parts if start < end]

    def advance(self, now_us: int) -> list[tuple[int, int]]:
        """Moves slots that are no longer due; returns runs that are given up, oldest first."""
        # The first slot with slot + late >= now.
        floor = max(-((self._late - now_us) // self._grid) * self._grid, self.floor_us)
        start = self.floor_us
        for slot in sorted(slot for slot in self.settled if slot < floor):
            self._add(start, slot)
            start = slot + self._grid
            self.settled.discard(slot)
        self._add(start, floor)
        self.floor_us = floor
        surplus = max(len(self.spans) - MAX_SPANS, 0)
        given_up, self.spans = self.spans[:surplus], self.spans[surplus:]
        return given_up

    def _add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        if self.spans and self.spans[-1][1] == start:
            self.spans[-1] = (self.spans[-1][0], stop)
        else:
            self.spans.append((start, stop))

    def _span(self, slot_us: int) -> int | None:
        at = bisect_right(self.spans, (slot_us, slot_us)) if self.spans else 0
        # The span that starts at the slot itself sorts after (slot, slot).
        for candidate in (at, at - 1):
            if 0 <= candidate < len(self.spans):
                first, stop = self.spans[candidate]
                if first <= slot_us < stop:
                    return candidate
        return None
