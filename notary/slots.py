"""Closes the slots of feeds in time: built, made durable with their entries, signed, told.

Each feed's slots are decided one after the other, in their order: a slot is attested, or
missed by the notary's fault where that cannot be in time.  While there is no room on the
disk nothing can be decided; what passes meanwhile is remembered as runs, and missed once
there is room again.

State of the world: a slot that nobody was told of is durable or it is not; what is durable
is signed again when asked for, what is not the next start misses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from attestation.document import GapField
from attestation.encoding import decode_object, encode
from attestation.errors import QuotaryError, UnavailableError
from attestation.log.entry import FeedEntry
from notary.context import Context
from notary.feeds import ClosedSlot, FeedBook, Lapsed
from notary.issue import Issued, accept_slot, sign
from notary.log.sequencer import inclusion_of
from notary.slot_board import MISSED, SLOT, SlotBoards, SlotEvent
from notary.slot_store import MAX_MISSED, SlotStore

LONGEST_SLEEP = 0.25
"""Seconds: a step of the clock is noticed after so long at the latest."""
ROOM_SECONDS = 0.1
PROGRESS_EVERY = 20 * MAX_MISSED
"""Slots missed at a start between two lines of the program's log."""


class Slots:
    """The slots of one notary's feeds, from ``start`` to ``stop``."""

    def __init__(
        self, book: FeedBook, store: SlotStore, boards: SlotBoards, context: Context
    ) -> None:
        self._book = book
        self._store = store
        self._boards = boards
        self._context = context
        self._lanes: dict[str, _Lane] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Begins to close slots; to be called again where a feed has been added."""
        if not self._stopped:
            self._arm()

    async def stop(self) -> None:
        """Closes the slots up to now and waits until they are decided, as far as they can be."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._take()
        for lane in self._lanes.values():
            lane.stopping = True
            if lane.task is not None:
                await lane.task
        self._boards.close()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        next_us = self._book.next_us
        if next_us is None:
            return
        wait = max(0.0, (next_us - self._context.clock.now_us()) / 1_000_000)
        self._timer = loop.call_later(min(wait, LONGEST_SLEEP), self._tick)

    def _tick(self) -> None:
        self._take()
        self._arm()

    def _take(self) -> None:
        for over in self._book.take(self._context.clock.now_us()):
            lane = self._lanes.get(over.feed.feed)
            if lane is None:
                lane = self._lanes[over.feed.feed] = _Lane(over.feed)
            lane.add(over)
            if lane.task is None or lane.task.done():
                lane.task = asyncio.create_task(self._decide(lane))

    async def _decide(self, lane: _Lane) -> None:
        """Decides what a lane holds, in order."""
        while lane.over:
            over = lane.over.popleft()
            try:
                if isinstance(over, ClosedSlot):
                    await self._attest(over)
                else:
                    await self._miss(over, lane)
            except UnavailableError as error:
                if not lane.blocked:
                    self._context.log.error(
                        "slots_not_stored",
                        feed=lane.feed.feed,
                        rule=error.rule,
                        detail=error.detail,
                    )
                lane.give_up(over)
                if not await self._room(lane):
                    return
            except QuotaryError as error:
                # A rule of the log that no slot in time can break: late, or decided already.
                self._context.log.error(
                    "slot_refused", feed=lane.feed.feed, rule=error.rule, detail=error.detail
                )
                if isinstance(over, ClosedSlot):
                    lane.put_back(over)
            except Exception as error:  # noqa: BLE001 - the slots after it must not go with it
                self._context.log.error(
                    "slot_failed", feed=lane.feed.feed, detail=f"{type(error).__name__}: {error}"
                )
                if isinstance(over, ClosedSlot):
                    lane.put_back(over)

    async def _attest(self, closed: ClosedSlot) -> None:
        feed, slot_us, context = closed.feed.feed, closed.slot_us, self._context
        clock, metrics = context.clock, context.metrics
        accepted = accept_slot(
            closed,
            signer=context.signer,
            software=context.software,
            identifier=context.random(16).hex(),
            seed=context.random(32),
            issued_us=clock.now_us(),
        )
        ticket = await self._store.attest_slot(feed, slot_us, accepted.header, accepted.encode())
        logged_us = clock.now_us()
        issued = Issued(attestation=sign(accepted, context.signer), log=inclusion_of(ticket))
        signed_us = clock.now_us()
        self._boards.publish(feed, SlotEvent(slot_us, SLOT, issued.encode()))
        if context.ledger is not None:
            context.ledger.publisher.hurry()
        published_us = clock.now_us()
        # Slot and entry are durable in one transaction.
        for hop, at_us in (
            ("stored", logged_us),
            ("logged", logged_us),
            ("signed", signed_us),
            ("published", published_us),
        ):
            metrics.hops.note(hop, (at_us - slot_us) / 1_000_000)
        metrics.slots.labels(end=SLOT).inc()
        metrics.slot_lag.set((published_us - slot_us) / 1_000_000)
        for field in closed.fields:
            if isinstance(field, GapField):
                metrics.gaps.labels(venue=field.venue, reason=field.reason).inc()

    async def _miss(self, lapsed: Lapsed, lane: _Lane) -> None:
        """Misses a run, bounded batch by bounded batch; what is left of it comes next."""
        stop_us = min(lapsed.stop_us, lapsed.first_us + MAX_MISSED * lapsed.feed.grid_us)
        missed = await self._store.miss_slots(lapsed)
        for miss in missed:
            event = b'{"missed":' + encode(decode_object(miss.entry)) + b"}"
            self._boards.publish(lapsed.feed.feed, SlotEvent(miss.slot_us, MISSED, event))
        self._note_missed(lapsed.feed, len(missed), lapsed.first_us)
        if stop_us < lapsed.stop_us:
            lane.over.appendleft(Lapsed(feed=lapsed.feed, first_us=stop_us, stop_us=lapsed.stop_us))

    def _note_missed(self, feed: FeedEntry, count: int, first_us: int) -> None:
        if count:
            self._context.metrics.slots.labels(end=MISSED).inc(count)
            self._context.log.warning(
                "slots_missed", feed=feed.feed, slots=count, first_us=first_us
            )

    async def _room(self, lane: _Lane) -> bool:
        """Waits until the store takes writes again; False where it will not any more."""
        lane.blocked = True
        while True:
            trouble = self._context.store.trouble
            if trouble is None:
                lane.blocked = False
                return True
            if lane.stopping or trouble.rule != "disk":
                return False
            await asyncio.sleep(ROOM_SECONDS)


class _Lane:
    """What is over of one feed and not decided, oldest first.

    While it is ``blocked`` nothing can be attested in time: what is added becomes one run.
    """

    __slots__ = ("blocked", "feed", "over", "stopping", "task")

    def __init__(self, feed: FeedEntry) -> None:
        self.feed = feed
        self.over: deque[ClosedSlot | Lapsed] = deque()
        self.task: asyncio.Task[None] | None = None
        self.blocked = self.stopping = False

    def add(self, over: ClosedSlot | Lapsed) -> None:
        """Takes what is over next."""
        last = self.over[-1] if self.over else None
        if not self.blocked or not isinstance(last, Lapsed):
            self.over.append(self._lapsed(over) if self.blocked else over)
            return
        self.over[-1] = Lapsed(
            feed=self.feed, first_us=last.first_us, stop_us=self._lapsed(over).stop_us
        )

    def put_back(self, slot: ClosedSlot) -> None:
        """Puts back a slot, to be missed."""
        self.over.appendleft(self._lapsed(slot))

    def give_up(self, over: ClosedSlot | Lapsed) -> None:
        """Puts back what could not be decided, to be missed, with all that waits."""
        run = self._lapsed(over)
        if self.over:
            run = Lapsed(
                feed=self.feed, first_us=run.first_us, stop_us=self._lapsed(self.over[-1]).stop_us
            )
        self.over = deque([run])

    def _lapsed(self, over: ClosedSlot | Lapsed) -> Lapsed:
        if isinstance(over, Lapsed):
            return over
        return Lapsed(
            feed=self.feed, first_us=over.slot_us, stop_us=over.slot_us + self.feed.grid_us
        )


async def recover_slots(
    store: SlotStore, now: Callable[[], int], log: Any
) -> tuple[list[FeedEntry], int]:
    """Misses the slots that passed while no notary ran; returns the feeds, and up to when.

    ``now`` is the later of the notary's clock and the log's last time.  Raises
    UnavailableError if the store fails.
    """
    count = told = 0
    while True:
        now_us = now()
        feeds, runs = await store.open_slots(now_us)
        if not runs:
            if count:
                log.warning("slots_missed_at_start", slots=count)
            return feeds, now_us
        for run in runs:
            while run.first_us < run.stop_us:
                count += len(await store.miss_slots(run))
                next_us = run.first_us + MAX_MISSED * run.feed.grid_us
                run = Lapsed(feed=run.feed, first_us=next_us, stop_us=run.stop_us)
                if count - told >= PROGRESS_EVERY:
                    told = count
                    log.info("slots_missed_so_far", feed=run.feed.feed, slots=count)
