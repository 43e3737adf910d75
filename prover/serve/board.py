"""The newest slots of one notary, in memory: where live consumers read.

A consumer has no queue here, only a place in the feed's grid that it has read up to; so
a slow one costs nothing and slows nobody.  What is older is read from the store.  All
methods are called in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TypeVar

from prover.serve.reading import FeedFacts, Settled

KEPT = 600
"""Slots in memory per notary: five minutes of the default grid."""

Shown = TypeVar("Shown")


@dataclasses.dataclass(slots=True)
class Posted:
    """A slot on the board, and what was made of it to be sent, by what was asked for."""

    slot_us: int
    slot: Settled
    shared: bool = False
    made: dict[object, bytes] = dataclasses.field(default_factory=dict)

    def make(self, key: object, build: Callable[[], bytes]) -> bytes:
        """Returns what was made under a key; builds it once for all, while it is new."""
        found = self.made.get(key)
        if found is None:
            found = build()
            if self.shared and len(self.made) < _VARIANTS:
                self.made[key] = found
        return found

    def age(self) -> None:
        """Drops what was made: most consumers have it."""
        self.shared = False
        self.made.clear()


_VARIANTS = 8
"""Different selections of venues that are kept ready per slot, and"""
_SHARED = 20
"""for how many of the newest slots."""


class SlotBoard:
    """One notary's newest slots, each once, whatever order they arrive in.

    Slots at or before ``floor_us`` are the store's alone: those of before the first one
    here, and those that had to make room since.
    """

    def __init__(self, feed: FeedFacts, notary: str, *, kept: int = KEPT) -> None:
        self.feed = feed
        self.notary = notary
        self.floor_us = -1
        self.newest_us: int | None = None
        self._kept = kept
        self._posted: dict[int, Posted] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = False

    def post(self, slot: Settled) -> bool:
        """Takes a slot; returns whether it was not known yet."""
        at = slot.slot_us
        if self.newest_us is None:
            # What was before may be stored; this process has not heard of it.
            self.floor_us = max(self.floor_us, at - 1)
        if at <= self.floor_us or at in self._posted:
            return False
        self._posted[at] = Posted(at, slot, shared=True)
        old = self._posted.get(at - _SHARED * self.feed.grid_us)
        if old is not None:
            old.age()
        if self.newest_us is None or at > self.newest_us:
            self.newest_us = at
        while len(self._posted) > self._kept:
            oldest = min(self._posted)
            self.floor_us = max(self.floor_us, oldest)
            del self._posted[oldest]
        self._wake()
        return True

    def get(self, slot_us: int) -> Posted | None:
        """Returns a slot on the board."""
        return self._posted.get(slot_us)

    def first_from(self, slot_us: int) -> int | None:
        """Returns the first slot on the board at or after an instant."""
        return min((at for at in self._posted if at >= slot_us), default=None)

    def close(self) -> None:
        """Has every stream end."""
        self.closed = True
        self._wake()

    async def changed(self, seconds: float) -> bool:
        """Waits for the next slot, or the end; False if neither came in time."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        done, _ = await asyncio.wait({waiting}, timeout=seconds)
        if not done:
            self._waiting.remove(waiting)
        return bool(done)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
