"""What the routes stand on: a feed, its boards by notary, and the store's read side."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

from attestation.encoding import MAX_INTEGER, JsonObject
from attestation.errors import RefusedError, UnavailableError
from prover.feed.candles import Candles
from prover.feed.records import Missed, Record, Slot
from prover.serve.board import SlotBoard
from prover.serve.candles import LOADED_US, CandleBoard
from prover.serve.documents import Venues, read_venues, slot_json
from prover.serve.reading import FeedFacts, Settled, SlotReader
from prover.serve.sending import Streams
from prover.serve.stream import PAGE, SlotStream, Unknown

PRELOADED = 60
"""Slots read at the start, so that one that arrives late still finds its place."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of one slot at one notary; ``missed`` lie between ``previous`` and it."""

    notary: str
    slot: Settled | Unknown
    previous: Slot | None
    missed: tuple[Missed, ...]


class Service:
    """One feed as it is served.  A sink of its records."""

    def __init__(self, feed: FeedFacts, reader: SlotReader) -> None:
        self.feed = feed
        self.reader = reader
        self.streams = Streams()
        self.candles = CandleBoard()
        self.boards = {notary: SlotBoard(feed, notary) for notary in feed.notaries}

    async def load(self) -> None:
        """Fills the boards with the newest stored slots; before any record is taken.

        Of a store that is away nothing is known yet: each board begins with its first slot.
        """
        try:
            await self._load()
        except UnavailableError:
            self.boards.clear()

    async def _load(self) -> None:
        for board in self.boards.values():
            newest = await asyncio.to_thread(self.reader.newest, self.feed.feed, board.notary)
            if newest is None:
                continue
            for candles in self.candles.of(board.notary).values():
                await asyncio.to_thread(self._fill, candles, board.notary, newest)
            from_us = max(newest - PRELOADED * self.feed.grid_us, 0)
            board.floor_us = from_us - 1
            for slot in await self._read(board, from_us, newest + 1):
                board.post(slot)

    async def catch_up(self, notaries: Iterable[str]) -> None:
        """Posts what another process has stored since, of notaries new to the store as well."""
        for notary in notaries:
            if notary not in self.boards:
                self.boards[notary] = SlotBoard(self.feed, notary)
        for board in self.boards.values():
            from_us = 0 if board.newest_us is None else board.newest_us + 1
            for slot in await self._read(board, from_us, MAX_INTEGER):
                self._post(board, slot)

    def take(self, record: Record) -> None:
        """Posts slots on their notary's board (a ``prover.feed.records.Sink``)."""
        if isinstance(record, Slot | Missed):
            board = self.boards.get(record.notary)
            if board is None:
                board = self.boards[record.notary] = SlotBoard(self.feed, record.notary)
            self._post(board, record)

    async def stop(self, seconds: float) -> None:
        """Ends every stream, each with the slot to go on from."""
        for board in self.boards.values():
            board.close()
        await self.streams.end(seconds)

    def board(self, notary: str | None) -> SlotBoard:
        """Returns a notary's board, by default that of the first by name.

        Raises RefusedError (404) for another notary, UnavailableError before any is known.
        """
        if not self.boards:
            raise UnavailableError("no notary's slots are known yet", rule="notary")
        board = self.boards.get(notary or min(self.boards))
        if board is None:
            raise RefusedError(
                "no such notary of this feed",
                rule="notary",
                found=notary,
                wanted=sorted(self.boards),
                http_status=404,
            )
        return board

    def check_market(self, market: str | None) -> None:
        """Raises RefusedError (404) for another market than the feed's."""
        if market is not None and market != self.feed.market:
            raise RefusedError(
                "another market is served here",
                rule="market",
                found=market,
                wanted=self.feed.market,
                http_status=404,
            )

    def venues(self, text: str | None) -> Venues | None:
        """Reads ``venues=`` of a request; raises UsageError."""
        return read_venues(text, self.feed)

    def follow(self, board: SlotBoard, from_us: int | None) -> SlotStream:
        """Starts a consumer's stream; raises RefusedError (429) if there are too many."""
        self.streams.check()
        return SlotStream(board, self.reader, from_us=from_us)

    async def find(self, board: SlotBoard, slot_us: int) -> Found | None:
        """Returns what is known of a slot, and of those before it up to an attested one."""
        if board.newest_us is None or board.newest_us < slot_us:
            return None
        slot = await self._settled(board, slot_us)
        previous = await self._previous(board, slot_us)
        missed: list[Missed] = []
        if previous is not None:
            # So many at most: beyond, the log's entries tell.
            from_us = max(previous.slot_us + 1, slot_us - PAGE * self.feed.grid_us)
            for at in range(self.feed.slot_at(from_us), slot_us, self.feed.grid_us):
                between = await self._settled(board, at)
                if isinstance(between, Missed):
                    missed.append(between)
        return Found(
            notary=board.notary,
            slot=slot or Unknown(slot_us=slot_us, last_us=slot_us),
            previous=previous,
            missed=tuple(missed),
        )

    async def document(
        self, slot: Settled, venues: Venues | None, evidence: bool = False
    ) -> JsonObject:
        """Returns a slot's document, with what it rests on if that is asked for."""
        if not evidence:
            return slot_json(slot, venues)
        return await asyncio.to_thread(slot_json, slot, venues, self.reader)

    async def read(self, call: Callable[[str], T], argument: str) -> T:
        """Calls one of the reader's look-ups in a worker thread."""
        return await asyncio.to_thread(call, argument)

    async def _settled(self, board: SlotBoard, slot_us: int) -> Settled | None:
        posted = board.get(slot_us)
        if posted is not None:
            return posted.slot
        if slot_us > board.floor_us:
            return None
        found = await self._read(board, slot_us, slot_us + 1)
        return found[0] if found else None

    async def _previous(self, board: SlotBoard, slot_us: int) -> Slot | None:
        grid_us = self.feed.grid_us
        for at in range(slot_us - grid_us, board.floor_us, -grid_us):
            posted = board.get(at)
            if posted is not None and isinstance(posted.slot, Slot):
                return posted.slot
        before_us = min(slot_us, board.floor_us + 1)
        return await asyncio.to_thread(
            self.reader.slot_before, self.feed.feed, board.notary, before_us
        )

    def _post(self, board: SlotBoard, slot: Settled) -> None:
        if board.post(slot) and isinstance(slot, Slot):
            self.candles.take(slot)

    def _fill(self, candles: Candles, notary: str, newest_us: int) -> None:
        self.reader.fill_candles(
            candles,
            self.feed.feed,
            notary,
            from_us=max(newest_us - LOADED_US, 0),
            to_us=newest_us + 1,
        )

    async def _read(self, board: SlotBoard, from_us: int, to_us: int) -> list[Settled]:
        return await asyncio.to_thread(
            self.reader.slots,
            self.feed.feed,
            board.notary,
            from_us=from_us,
            to_us=to_us,
            limit=PAGE,
        )
