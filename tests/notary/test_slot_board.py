"""Following a feed's slots: from the store, then live, each once; who is slow is cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from attestation.errors import UnavailableError
from notary.slot_board import HEARTBEAT, KEPT, SLOT, SlotBoard, SlotBoards, SlotEvent, follow

PAGE = 7


def event(slot_us: int) -> SlotEvent:
    return SlotEvent(slot_us, SLOT, b"{}")


class Stored:
    """What the store holds, read in pages."""

    def __init__(self, *slots: int) -> None:
        self.slots = list(slots)
        self.reads = 0

    async def read(self, from_us: int, until_us: int) -> list[SlotEvent]:
        self.reads += 1
        await asyncio.sleep(0)
        return [event(slot) for slot in self.slots if from_us <= slot < until_us][:PAGE]


async def take(events: AsyncGenerator[bytes, None], count: int) -> list[int]:
    """Reads the slots of so many events."""
    async with asyncio.timeout(60):
        return [
            int((await anext(events)).split(b"\n")[0].removeprefix(b"id: ")) for _ in range(count)
        ]


async def told(events: AsyncGenerator[bytes, None]) -> dict[str, object]:
    """Reads the event ``cut`` that ends it."""
    async with asyncio.timeout(60):
        name, data, *_ = (await anext(events)).decode().split("\n")
        assert name == "event: cut"
        with pytest.raises(StopAsyncIteration):
            await anext(events)
    found: dict[str, object] = json.loads(data.removeprefix("data: "))
    return found


def filled(*slots: int, floor_us: int = 100) -> SlotBoard:
    board = SlotBoard(floor_us)
    for slot in slots:
        board.publish(event(slot))
    return board


def test_event_carries_its_slot_as_id_and_its_name() -> None:
    assert SlotEvent(5, "missed", b'{"missed":{}}').encode() == (
        b'id: 5\nevent: missed\ndata: {"missed":{}}\n\n'
    )


def test_history_and_live_slots_join_without_a_seam() -> None:
    async def scene() -> None:
        board, stored = filled(100, 101), Stored(*range(80, 102))
        events = follow(board, stored.read, 85)
        assert await take(events, 17) == list(range(85, 102))
        for slot in (102, 103):
            board.publish(event(slot))
        assert await take(events, 2) == [102, 103]

    asyncio.run(scene())


def test_slots_that_come_while_history_is_read_are_neither_lost_nor_told_twice() -> None:
    async def scene() -> None:
        board, stored = filled(), Stored(*range(90, 100))
        events = follow(board, stored.read, 90)
        found = await take(events, 5)
        for slot in range(100, 100 + KEPT + 50):
            stored.slots.append(slot)
            board.publish(event(slot))
        found += await take(events, KEPT + 55)
        assert found == list(range(90, 100 + KEPT + 50))

    asyncio.run(scene())


def test_without_a_start_it_begins_with_the_next_slot() -> None:
    async def scene() -> None:
        board = filled(100, 101)
        events = follow(board, Stored().read, None)
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0)
        board.publish(event(102))
        assert await waiting == [102]
        empty = SlotBoard(200)
        events = follow(empty, Stored(150).read, None)
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0)
        empty.publish(event(200))
        assert await waiting == [200]

    asyncio.run(scene())


def test_start_before_the_feeds_first_slot_begins_with_that() -> None:
    async def scene() -> None:
        events = follow(filled(100), Stored().read, 0)
        assert await take(events, 1) == [100]

    asyncio.run(scene())


def test_reader_that_was_live_and_fell_behind_is_cut_with_where_to_go_on() -> None:
    async def scene() -> None:
        board, stored = filled(100), Stored(100)
        events = follow(board, stored.read, 100, heartbeat=0.0)
        assert await take(events, 1) == [100]
        assert await anext(events) == HEARTBEAT
        for slot in range(101, 102 + KEPT):
            board.publish(event(slot))
        assert await told(events) == {"reason": "slow", "from": 101}
        # Nobody reads the store for it.
        assert stored.reads == 0

    asyncio.run(scene())


def test_board_keeps_a_bounded_number_of_slots() -> None:
    board = filled(*range(100, 100 + 3 * KEPT))
    assert board.floor_us == 100 + 2 * KEPT
    assert board.first(0) == event(100 + 2 * KEPT)


def test_quiet_stream_says_that_it_lives() -> None:
    async def scene() -> None:
        events = follow(SlotBoard(100), Stored().read, None, heartbeat=0.001)
        async with asyncio.timeout(60):
            assert [await anext(events) for _ in range(3)] == [HEARTBEAT] * 3

    asyncio.run(scene())


def test_end_of_the_notary_ends_streams_with_where_to_go_on() -> None:
    async def scene() -> None:
        boards = SlotBoards()
        boards.open("btc-usd", 100)
        events = follow(boards.get("btc-usd"), Stored().read, 100)
        boards.publish("btc-usd", event(100))
        assert await take(events, 1) == [100]
        waiting = asyncio.create_task(told(events))
        await asyncio.sleep(0)
        boards.close()
        assert await waiting == {"reason": "stopping", "from": 101}

    asyncio.run(scene())


def test_store_that_cannot_be_read_ends_a_stream_by_name() -> None:
    async def read(from_us: int, until_us: int) -> list[SlotEvent]:
        raise UnavailableError("cannot read the slots", rule="store")

    async def scene() -> None:
        found = await told(follow(SlotBoard(100), read, 50))
        assert found == {"reason": "unreadable", "from": 50, "detail": "cannot read the slots"}

    asyncio.run(scene())
