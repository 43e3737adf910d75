"""From a given slot on, every slot of a notary's feed once and in order, then live.

The feed's grid says which slot is next, so history and live slots join without a seam:
whichever of board and store has the next slot is read.  A slot that arrives late is
waited for; one that has not come long after its time (``HOLD_US``) is told as unknown,
and so is not lost without a word either.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from typing import TypeAlias

from attestation.errors import UnavailableError
from prover.serve.board import Posted, SlotBoard
from prover.serve.reading import SlotReader

HOLD_US = 2_000_000
"""How much longer than the feed's ``late_us`` a stream waits for a slot that is missing."""
PAGE = 100
"""Slots read from the store at a time."""
MAX_BEHIND = 240
"""Slots that a consumer of live slots may fall behind: two minutes of the default grid."""
HEARTBEAT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Slots from ``slot_us`` to ``last_us`` that this prover has not heard of, in time."""

    slot_us: int
    last_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The stream ends here: for what reason, and from which slot to go on.

    ``from_us`` is None if no slot was known yet.
    """

    reason: str
    from_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing came for a while."""


Event: TypeAlias = Posted | Unknown | Cut | Quiet

SLOW = "slow"
STOPPING = "stopping"
STORE_AWAY = "store_away"
REASONS = {
    SLOW: "the consumer fell too far behind the live slots",
    STOPPING: "the server is stopping",
    STORE_AWAY: "the store cannot be read now",
}
"""Why streams are cut."""


class SlotStream:
    """One consumer's place in a notary's slots.

    ``next_us`` is the slot that comes next; None until there is any, for a consumer that
    asked for whatever is newest.
    """

    def __init__(
        self,
        board: SlotBoard,
        reader: SlotReader,
        *,
        from_us: int | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        max_behind: int = MAX_BEHIND,
    ) -> None:
        self._board = board
        self._reader = reader
        self._heartbeat = heartbeat
        self._grid_us = board.feed.grid_us
        self._patience_us = board.feed.late_us + HOLD_US
        self._leeway_us = max_behind * self._grid_us
        self._live = from_us is None
        self.next_us = None if from_us is None else board.feed.slot_at(from_us)
        if self.next_us is None and board.newest_us is not None:
            self.next_us = board.newest_us + self._grid_us

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yields without end, but for a ``Cut``, which comes last."""
        board = self._board
        while not board.closed:
            if self.next_us is None:
                self.next_us = board.newest_us
            if self.next_us is None or board.newest_us is None:
                if not await board.changed(self._heartbeat):
                    yield Quiet()
                continue
            if self._live and board.newest_us - self.next_us > self._leeway_us:
                yield self._cut(SLOW)
                return
            if self.next_us <= board.floor_us:
                try:
                    page = await self._page(self.next_us, board.floor_us)
                except UnavailableError:
                    yield self._cut(STORE_AWAY)
                    return
                for event in page:
                    yield self._pass(event)
                    if board.closed:
                        break
                    await asyncio.sleep(0)
                continue
            known = board.get(self.next_us) or self._hole(self.next_us, board.newest_us)
            if known is not None:
                yield self._pass(known)
                # However much there is to tell, live connections have their turn.
                await asyncio.sleep(0)
                continue
            self._live = True
            if not await board.changed(self._heartbeat):
                yield Quiet()
        yield self._cut(STOPPING)

    async def _page(self, from_us: int, last_us: int) -> list[Posted | Unknown]:
        """Reads what the store has from a slot on, with the holes in between."""
        found = await asyncio.to_thread(
            self._reader.slots,
            self._board.feed.feed,
            self._board.notary,
            from_us=from_us,
            to_us=last_us + 1,
            limit=PAGE,
        )
        events: list[Posted | Unknown] = []
        for slot in found:
            slot_us = slot.slot_us
            if slot_us > from_us:
                events.append(Unknown(slot_us=from_us, last_us=slot_us - self._grid_us))
            events.append(Posted(slot_us, slot))
            from_us = slot_us + self._grid_us
        if len(found) < PAGE and from_us <= last_us:
            events.append(Unknown(slot_us=from_us, last_us=last_us - last_us % self._grid_us))
        return events

    def _hole(self, slot_us: int, newest_us: int) -> Unknown | None:
        """Returns the slots that are not on the board and were waited for long enough."""
        given_up_us = newest_us - self._patience_us
        if slot_us > given_up_us:
            return None
        known = self._board.first_from(slot_us)
        last_us = given_up_us - given_up_us % self._grid_us
        if known is not None:
            last_us = min(last_us, known - self._grid_us)
        return Unknown(slot_us=slot_us, last_us=last_us)

    def _pass(self, event: Posted | Unknown) -> Posted | Unknown:
        last_us = event.slot_us if isinstance(event, Posted) else event.last_us
        self.next_us = last_us + self._grid_us
        return event

    def _cut(self, reason: str) -> Cut:
        return Cut(reason=reason, from_us=self.next_us)
