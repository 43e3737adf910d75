"""Streams of slots: each once and in order, however a consumer comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from prover.serve.board import Posted, SlotBoard
from prover.serve.reading import Settled
from prover.serve.stream import SLOW, STOPPING, STORE_AWAY, Cut, Quiet, SlotStream, Unknown
from tests.prover.serve.feeding import ALPHA, FEED, GRID, MemoryStore, a_miss, at

LAST = 40
PATIENCE = 6
"""Slots after which one that is missing is given up: (late_us + HOLD_US) / GRID."""


def told(event: Posted | Unknown) -> list[int]:
    """The numbers of the slots that an event is about."""
    if isinstance(event, Posted):
        return [(event.slot_us - at(0)) // GRID]
    return [(us - at(0)) // GRID for us in range(event.slot_us, event.last_us + 1, GRID)]


async def read(stream: SlotStream, most: int) -> list[Posted | Unknown | Cut]:
    """Reads until the stream would wait, or has told so many events."""
    found: list[Posted | Unknown | Cut] = []
    async with contextlib.aclosing(stream.events()) as events:
        while len(found) < most:
            event = await anext(events, None)
            if event is None or isinstance(event, Quiet):
                break
            found.append(event)
    return found


def follow(board: SlotBoard, store: MemoryStore, from_us: int | None, **more: int) -> SlotStream:
    return SlotStream(board, store, from_us=from_us, heartbeat=0, **more)


def post(board: SlotBoard, store: MemoryStore, slots: Iterable[Settled]) -> None:
    for slot in slots:
        store.add(slot)
        board.post(slot)


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Slots in the order in which they arrive: a little late, twice, or never."""
    coming: list[tuple[int, int]] = []
    for number in range(LAST):
        times = draw(st.sampled_from([1, 1, 1, 1, 2, 0]))
        coming += [(number + draw(st.integers(0, PATIENCE - 1)), number) for _ in range(times)]
    coming += [(number + PATIENCE, number) for number in range(LAST, LAST + PATIENCE)]
    return [number for _, number in sorted(coming)]


@settings(max_examples=80, deadline=None)
@given(
    order=arrivals(),
    visits=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 20)), max_size=30),
    kept=st.integers(PATIENCE + 2, LAST),
    first=st.integers(0, 10),
)
def test_any_pattern_of_disconnects_gives_each_slot_once_and_in_order(
    order: list[int], visits: list[tuple[int, int]], kept: int, first: int
) -> None:
    async def consume() -> list[Posted | Unknown]:
        board, store = SlotBoard(FEED, ALPHA, kept=kept), MemoryStore()
        place, seen = at(first), list[Posted | Unknown]()
        coming = iter(order)
        for arriving, reading in [*visits, (len(order), 10_000)]:
            post(board, store, map(a_miss, itertools.islice(coming, arriving)))
            # A new connection each time, from the slot after the last that was read.
            for event in await read(follow(board, store, place), reading):
                assert not isinstance(event, Cut)
                seen.append(event)
                place = at(told(event)[-1] + 1)
        return seen

    seen = asyncio.run(consume())
    numbers = [number for event in seen for number in told(event)]
    assert numbers == list(range(first, numbers[-1] + 1))
    given_up = {n for event in seen if isinstance(event, Unknown) for n in told(event)}
    assert given_up.isdisjoint(order)
    assert numbers[-1] == order[-1]


def test_history_and_live_slots_join_without_a_seam() -> None:
    async def consume() -> list[int]:
        board, store = SlotBoard(FEED, ALPHA, kept=10), MemoryStore()
        post(board, store, (a_miss(n) for n in range(25)))
        stream = follow(board, store, at(3))
        numbers = []
        async with contextlib.aclosing(stream.events()) as events:
            async for event in events:
                if isinstance(event, Quiet):
                    if len(numbers) > 30:
                        return numbers
                    post(board, store, (a_miss(n) for n in range(25 + len(numbers) - 22, 40)))
                    continue
                assert isinstance(event, Posted)
                numbers += told(event)
        return numbers

    assert asyncio.run(consume()) == list(range(3, 40))


def test_a_consumer_that_asks_for_no_slot_gets_the_next_one() -> None:
    async def consume() -> list[list[int]]:
        board, store = SlotBoard(FEED, ALPHA), MemoryStore()
        post(board, store, [a_miss(4), a_miss(5)])
        stream = follow(board, store, None)
        waiting = asyncio.create_task(read(stream, 1))
        await waiting
        post(board, store, [a_miss(6)])
        return [told(event) for event in await read(stream, 5) if not isinstance(event, Cut)]

    assert asyncio.run(consume()) == [[6]]


def test_an_instant_between_slots_means_the_slot_after_it() -> None:
    board = SlotBoard(FEED, ALPHA)
    assert follow(board, MemoryStore(), at(3) + 1).next_us == at(4)
    assert follow(board, MemoryStore(), at(3)).next_us == at(3)


def test_a_late_slot_is_waited_for_and_one_that_never_comes_is_told() -> None:
    async def consume() -> tuple[list[int], list[Posted | Unknown | Cut]]:
        board, store = SlotBoard(FEED, ALPHA), MemoryStore()
        stream = follow(board, store, at(0))
        post(board, store, (a_miss(n) for n in (0, 2, 3)))
        before = [n for event in await read(stream, 9) for n in told(event)]  # type: ignore[arg-type]
        post(board, store, (a_miss(n) for n in range(4, 3 + PATIENCE)))
        return before, await read(stream, 99)

    before, after = asyncio.run(consume())
    assert before == [0]
    assert after[0] == Unknown(slot_us=at(1), last_us=at(1))
    assert [told(event)[0] for event in after[1:]] == list(range(2, 3 + PATIENCE))  # type: ignore[arg-type]


def test_a_live_consumer_that_falls_behind_is_cut_with_the_slot_to_go_on_from() -> None:
    async def consume() -> tuple[list[Posted | Unknown | Cut], list[int]]:
        board, store = SlotBoard(FEED, ALPHA, kept=8), MemoryStore()
        post(board, store, [a_miss(0)])
        stream = follow(board, store, None, max_behind=20)
        await read(stream, 1)
        # It takes one slot while ten come.
        events: list[Posted | Unknown | Cut] = []
        for number in range(1, 1_000, 10):
            post(board, store, (a_miss(n) for n in range(number, number + 10)))
            events += await read(stream, 1)
            if isinstance(events[-1], Cut):
                break
        resumed = events[-1].from_us  # type: ignore[union-attr]
        again = await read(follow(board, store, resumed), 10_000)
        return events, [n for event in again for n in told(event)]  # type: ignore[arg-type]

    events, rest = asyncio.run(consume())
    *slots, cut = events
    assert isinstance(cut, Cut)
    assert cut.reason == SLOW
    before = [n for event in slots for n in told(event)]  # type: ignore[arg-type]
    assert len(before) < 5
    assert before + rest == list(range(1, rest[-1] + 1))


def test_a_consumer_of_history_is_not_cut_for_being_far_behind() -> None:
    async def consume() -> list[Posted | Unknown | Cut]:
        board, store = SlotBoard(FEED, ALPHA, kept=8), MemoryStore()
        post(board, store, (a_miss(n) for n in range(500)))
        return await read(follow(board, store, at(0), max_behind=20), 10_000)

    events = asyncio.run(consume())
    assert [n for event in events for n in told(event)] == list(range(500))  # type: ignore[arg-type]


def test_a_store_that_is_away_cuts_readers_of_history_alone() -> None:
    async def consume() -> tuple[list[Posted | Unknown | Cut], list[Posted | Unknown | Cut]]:
        board, store = SlotBoard(FEED, ALPHA, kept=8), MemoryStore()
        post(board, store, (a_miss(n) for n in range(20)))
        store.away = True
        return (
            await read(follow(board, store, at(3)), 99),
            await read(follow(board, store, at(15)), 99),
        )

    history, live = asyncio.run(consume())
    assert history == [Cut(reason=STORE_AWAY, from_us=at(3))]
    assert [n for event in live for n in told(event)] == [15, 16, 17, 18, 19]  # type: ignore[arg-type]


def test_a_server_that_stops_says_from_which_slot_to_go_on() -> None:
    async def consume() -> list[Posted | Unknown | Cut]:
        board, store = SlotBoard(FEED, ALPHA), MemoryStore()
        post(board, store, [a_miss(0), a_miss(1)])
        stream = follow(board, store, at(1))
        first = await read(stream, 1)
        board.close()
        return first + await read(stream, 9)

    assert asyncio.run(consume())[1:] == [Cut(reason=STOPPING, from_us=at(2))]


def test_the_board_holds_no_more_than_its_places_whatever_arrives() -> None:
    board = SlotBoard(FEED, ALPHA, kept=16)
    for number in [*range(0, 3_000, 3), *range(1, 3_000, 3)]:
        board.post(a_miss(number))
    known = [number for number in range(3_000) if board.get(at(number)) is not None]
    assert len(known) == 16
    assert board.newest_us == at(2_998)


def test_what_is_made_of_a_slot_is_made_once_while_it_is_new_and_then_dropped() -> None:
    board, made = SlotBoard(FEED, ALPHA), list[int]()

    def ask(number: int, key: object) -> None:
        posted = board.get(at(number))
        assert posted is not None
        posted.make(key, lambda: bytes([made.append(number) is None]))

    for number in range(100):
        board.post(a_miss(number))
        for _ in range(3):
            ask(number, None)
    assert made == list(range(100))
    held = [n for n in range(100) if (posted := board.get(at(n))) is not None and posted.made]
    assert held == list(range(80, 100))
    for key in range(50):
        ask(99, key)
        ask(5, key)
    assert max(len(board.get(at(n)).made) for n in range(100)) == 8  # type: ignore[union-attr]


def test_however_much_history_is_read_live_connections_have_their_turn() -> None:
    async def consume() -> int:
        board, store = SlotBoard(FEED, ALPHA, kept=50), MemoryStore()
        post(board, store, (a_miss(n) for n in range(150)))
        turns = 0

        async def live() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(live())
        await read(follow(board, store, at(0)), 10_000)
        task.cancel()
        return turns

    assert asyncio.run(consume()) >= 150
