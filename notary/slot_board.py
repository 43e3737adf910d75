"""The latest slots of each feed in memory, and who waits for the next one.

A follower holds nothing but its place: what it reads is on the board, shared by all, or in
the store.  So one that reads slowly costs no memory, and one that falls out of the board's
reach is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple, TypeAlias

from attestation.encoding import JsonObject, encode
from attestation.errors import QuotaryError

KEPT = 240
"""Slots of a feed on its board: two minutes of half a second each."""
HEARTBEAT_SECONDS = 5.0
PAUSE_SECONDS = 0.02
"""Between two pages of history."""
HEARTBEAT = b": \n\n"
SLOT, MISSED, CUT = "slot", "missed", "cut"


class SlotEvent(NamedTuple):
    """A slot that was decided: its name, ``slot`` or ``missed``, and its JSON on one line."""

    slot_us: int
    name: str
    data: bytes

    def encode(self) -> bytes:
        """Returns the server-sent event."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.slot_us, self.name.encode(), self.data)


ReadPage: TypeAlias = Callable[[int, int], Awaitable[list[SlotEvent]]]
"""(from_us, until_us) -> the first stored slots from there to before that, in order."""


class SlotBoard:
    """One feed's latest slots; ``floor_us`` is the first that was, or will be, put up here."""

    def __init__(self, floor_us: int) -> None:
        self.floor_us = floor_us
        self.closed = False
        self._events: deque[SlotEvent] = deque()
        self._changed = asyncio.Event()

    def publish(self, event: SlotEvent) -> None:
        """Puts up the next slot and wakes who waits for it."""
        events = self._events
        if len(events) == KEPT:
            events.popleft()
            self.floor_us = events[0].slot_us
        events.append(event)
        self._wake()

    def close(self) -> None:
        """Ends all that follow."""
        self.closed = True
        self._wake()

    @property
    def newest_us(self) -> int | None:
        """The latest slot that is up."""
        return self._events[-1].slot_us if self._events else None

    def first(self, from_us: int) -> SlotEvent | None:
        """Returns the first that is up from a slot on."""
        found = None
        for event in reversed(self._events):
            if event.slot_us < from_us:
                break
            found = event
        return found

    async def change(self, seconds: float) -> bool:
        """Waits until something changes; False if nothing does in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class SlotBoards:
    """The boards of a notary's feeds."""

    def __init__(self) -> None:
        self._boards: dict[str, SlotBoard] = {}

    def open(self, feed: str, floor_us: int) -> None:
        """Makes the board of a feed whose slots from ``floor_us`` on will be put up."""
        self._boards[feed] = SlotBoard(floor_us)

    def get(self, feed: str) -> SlotBoard:
        """Returns the board of a feed that has one."""
        return self._boards[feed]

    def publish(self, feed: str, event: SlotEvent) -> None:
        """Puts up a slot."""
        self._boards[feed].publish(event)

    def close(self) -> None:
        """Ends all that follow any feed."""
        for board in self._boards.values():
            board.close()


async def follow(
    board: SlotBoard,
    read: ReadPage,
    from_us: int | None,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
    pause: float = PAUSE_SECONDS,
) -> AsyncGenerator[bytes, None]:
    """Yields server-sent events: every slot from ``from_us`` on, once and in order, then live.

    Without ``from_us`` from the next slot on.  Ends with an event ``cut`` that says why, and
    from where to go on: ``slow`` for a follower that, once it had caught up, fell out of
    the board's reach; ``stopping``; ``unreadable``.
    """
    newest_us = board.newest_us
    if from_us is not None:
        next_us = from_us
    else:
        next_us = board.floor_us if newest_us is None else newest_us + 1
    live = from_us is None
    while not board.closed:
        floor_us = board.floor_us
        if next_us < floor_us:
            if live:
                yield _cut("slow", next_us)
                return
            try:
                page = await read(next_us, floor_us)
            except QuotaryError as error:
                yield _cut("unreadable", next_us, error.detail)
                return
            for event in page:
                yield event.encode()
                next_us = event.slot_us + 1
            # A long history must not keep the live path from its core.
            await asyncio.sleep(pause)
            if not page:
                # The store has all that was decided: what it lacks there never was.
                next_us = floor_us
            continue
        found = board.first(next_us)
        if found is not None:
            yield found.encode()
            next_us = found.slot_us + 1
            continue
        live = True
        if not await board.change(heartbeat):
            yield HEARTBEAT
    yield _cut("stopping", next_us)


def _cut(reason: str, from_us: int, detail: str | None = None) -> bytes:
    told: JsonObject = {"reason": reason, "from": from_us}
    if detail is not None:
        told["detail"] = detail
    return b"event: %s\ndata: %s\n\n" % (CUT.encode(), encode(told))
