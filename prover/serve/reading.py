"""What serving needs of a store: a small read side, called in worker threads."""

from __future__ import annotations

import dataclasses
from typing import Protocol, TypeAlias

from prover.feed.candles import Candles
from prover.feed.records import Missed, Received, Slot, Started

Settled: TypeAlias = Slot | Missed
"""What became of a slot at one notary: attested, or given up."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedFacts:
    """What is known of a feed before its first slot.

    ``notaries`` are those whose slots are stored; others may follow.  A slot's entry
    comes within ``late_us`` or never (docs/log.md, "Entries").
    """

    feed: str
    market: str
    venues: tuple[str, ...]
    notaries: tuple[str, ...] = ()
    grid_us: int
    late_us: int

    def slot_at(self, at_us: int) -> int:
        """Returns the first slot at or after an instant."""
        return -(-at_us // self.grid_us) * self.grid_us


class SlotReader(Protocol):
    """Reads what was stored; each method may be called in any thread, and may block.

    Raises UnavailableError where the store is away.
    """

    def slots(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int
    ) -> list[Settled]:
        """Returns the slots in [from_us, to_us), oldest first, at most ``limit``."""

    def slot_before(self, feed: str, notary: str, slot_us: int) -> Slot | None:
        """Returns the newest attested slot before an instant."""

    def newest(self, feed: str, notary: str) -> int | None:
        """Returns the newest slot that is known, attested or missed."""

    def fill_candles(
        self, candles: Candles, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> None:
        """Gives the observations in [from_us, to_us) to candles."""

    def message(self, hash: str) -> Received | None:
        """Returns a venue's message by the hash that observations name it by."""

    def session(self, session: str) -> Started | None:
        """Returns the attested start of a live session."""
