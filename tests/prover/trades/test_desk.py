"""Orders become promises, batches and ends, whatever fails in between."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import ExpectationError, RefusedError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.entry import TradesEntry, logged_at
from attestation.settlement.promise import LoggedBatch, broken_promise, double_trades
from prover.trades import desk as desks
from prover.trades.desk import BROKEN, COMMITS, TradeDesk
from prover.trades.order import Order
from prover.trades.payout import Payouts
from prover.trades.records import End
from prover.trades.store import TradeStore
from tests.settlement import cases

KEY = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(32))
POLICY = cases.policy()
WAIT = 20


@dataclasses.dataclass
class FakeLog:
    """A notary's log: the same entry twice is one; ``plan`` says what befalls each request."""

    clock: Clock
    plan: list[str] = dataclasses.field(default_factory=list)
    away: bool = False
    entries: list[TradesEntry] = dataclasses.field(default_factory=list)

    async def submit(self, entry: TradesEntry) -> tuple[int, int]:
        fate = self.plan.pop(0) if self.plan else "fine"
        if self.away or fate == "away":
            raise UnavailableError("the notary is away", rule="network")
        if fate == "late":
            self.clock.now_us += 2 * POLICY.log_by_us
        known = [index for index, one in enumerate(self.entries) if one.root == entry.root]
        if not known:
            self.entries.append(logged_at(entry, self.clock.now_us))
            known = [len(self.entries) - 1]
        if fate == "answer lost":
            raise UnavailableError("no answer", rule="network")
        if fate == "crash":
            raise Crash
        return known[0], self.entries[known[0]].logged_us


class Crash(BaseException):
    """The process ends here."""


@dataclasses.dataclass
class Clock:
    now_us: int = POLICY.effective_us + 1

    def __call__(self) -> int:
        self.now_us += 1
        return self.now_us


def order(number: int, **changes: Any) -> Order:
    wanted = Order(
        player=hash_string(b"player"),
        side="up" if number % 2 else "down",
        stake="25",
        duration_us=POLICY.durations_us[0],
        policy_id=POLICY.policy_id,
        nonce=f"{number:032x}",
    )
    return dataclasses.replace(wanted, **changes)


class Salts:
    """Other bytes each time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


@contextlib.asynccontextmanager
async def trading(path: Path, log: FakeLog, clock: Clock) -> AsyncIterator[TradeDesk]:
    desk = TradeDesk(
        TradeStore(path / "trades.db"),
        POLICY,
        KEY,
        log.submit,
        payouts=Payouts.of(POLICY, win="1.9"),
        clock=clock,
        random=Salts(),
    )
    logging = asyncio.create_task(desk.run())
    try:
        yield desk
    finally:
        logging.cancel()
        with contextlib.suppress(asyncio.CancelledError, Crash):
            await logging
        await desk.close()


async def until(desk: TradeDesk, done: Callable[[TradeDesk], Awaitable[bool]]) -> None:
    seen = 0
    async with asyncio.timeout(WAIT):
        while not await done(desk):
            seen = (await desk.wait_changes(seen))[-1][0].number


async def all_logged(desk: TradeDesk, count: int) -> None:
    async def done(desk: TradeDesk) -> bool:
        events = [event for event, _ in await desk.wait_changes(0)]
        return len({event.trade for event in events if event.kind == "logged"}) == count

    await until(desk, done)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(desks, "BATCH_SECONDS", 0.0)


def test_order_is_promised_then_logged_as_promised(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        log = FakeLog(clock)
        async with trading(tmp_path, log, clock) as desk:
            signed = await desk.place(order(1), "key-1")
            promise = signed.check(KEY.verifying_key)
            await all_logged(desk, 1)
            trade = await desk.get(promise.trade)
            assert trade is not None
            assert (trade.state, trade.entry) == ("pending", 0)
            made = await desk.batch(trade.batch or 0)
            logged = LoggedBatch(index=0, entry=log.entries[0], batch=made.batch)
            made.batch.prove(trade.opening).check(log.entries[0])
            found = broken_promise(
                signed, KEY.verifying_key, [logged], read_until_us=promise.log_by_us + 1
            )
            assert found is None

    asyncio.run(play())


def test_first_order_is_logged_at_once_and_those_soon_after_share_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "BATCH_SECONDS", 3_600.0)

    async def play() -> None:
        clock = Clock()
        log = FakeLog(clock)
        async with trading(tmp_path, log, clock) as desk:
            await desk.place(order(1), "key-1")
            await all_logged(desk, 1)
            for number in (2, 3):
                await desk.place(order(number), f"key-{number}")
            assert len(log.entries) == 1
        async with trading(tmp_path, log, clock) as desk:
            await all_logged(desk, 3)
            assert [entry.count for entry in log.entries] == [1, 2]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("changes", "error", "rule"),
    [
        ({"stake": "0"}, UsageError, "stake"),
        ({"duration_us": 1}, ExpectationError, "duration_us"),
        ({"policy_id": "00" * 32}, ExpectationError, "policy_id"),
    ],
)
def test_order_that_the_policy_has_not_is_refused_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], rule: str
) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            with pytest.raises(error) as caught:
                await desk.place(order(1, **changes), "key-1")
            assert caught.value.rule == rule  # type: ignore[attr-defined]
            assert await desk.counts() == {}

    asyncio.run(play())


def test_same_order_under_the_same_key_is_one_trade_and_one_promise(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            answers = await asyncio.gather(*[desk.place(order(1), "key-1") for _ in range(5)])
            assert len(set(answers)) == 1
            assert await desk.counts() == {"pending": 1}

    asyncio.run(play())


@pytest.mark.parametrize(
    ("again", "key", "rule"),
    [
        (order(2), "key-1", "idempotency_key"),
        (order(1, stake="26"), "key-1", "idempotency_key"),
        (order(1), "key-2", "nonce"),
        (order(1, side="down"), "key-2", "nonce"),
    ],
)
def test_used_key_or_nonce_is_refused(tmp_path: Path, again: Order, key: str, rule: str) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            await desk.place(order(1), "key-1")
            with pytest.raises(RefusedError) as caught:
                await desk.place(again, key)
            assert (caught.value.rule, caught.value.http_status) == (rule, 409)
            assert await desk.counts() == {"pending": 1}

    asyncio.run(play())


def test_trade_logged_later_than_promised_is_void_with_the_fee(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        log = FakeLog(clock, plan=["late"])
        async with trading(tmp_path, log, clock) as desk:
            signed = await desk.place(order(1), "key-1")

            async def ended(desk: TradeDesk) -> bool:
                return "void" in await desk.counts()

            await until(desk, ended)
            trade = await desk.get(signed.promise.trade)
            assert trade is not None
            assert (trade.state, trade.reason, trade.payout) == ("void", BROKEN, "35")
            kinds = [event.kind for event, _ in await desk.wait_changes(0)]
            assert kinds == ["placed", "logged", "void"]

    asyncio.run(play())


def test_no_promise_is_given_that_the_log_is_too_far_behind_to_keep(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        log = FakeLog(clock, away=True)
        async with trading(tmp_path, log, clock) as desk:
            signed = await desk.place(order(1), "key-1")
            clock.now_us += desk.policy.log_by_us // 2 + 1
            with pytest.raises(RefusedError) as caught:
                await desk.place(order(2), "key-2")
            assert (caught.value.rule, caught.value.http_status) == ("overload", 503)
            # Whose promise was given already hears it again.
            assert await desk.place(order(1), "key-1") == signed
            assert await desk.counts() == {"pending": 1}
            log.away = False
            await all_logged(desk, 1)
            await desk.place(order(2), "key-2")
            await all_logged(desk, 2)

    asyncio.run(play())


def test_write_ahead_log_is_moved_beside_the_orders(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            for number in range(COMMITS):
                await desk.place(order(number), f"key-{number}")
            # Read after it: it has been moved.
            assert await desk.last_event() >= COMMITS
            shutil.copy(tmp_path / "trades.db", tmp_path / "copy.db")

    asyncio.run(play())
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM trades").fetchone() > (0,)


def test_ended_trade_does_not_end_again(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            await desk.place(order(1), "key-1")
            await all_logged(desk, 1)
            (group,) = await desk.pending()
            ((_, (trade,)),) = await desk.settling([group])
            ends = [
                await desk.end(
                    [
                        End(
                            trade=trade.trade,
                            state=state,
                            reason=None,
                            payout="1",
                            settlement=b"x",
                        )
                    ]
                )
                for state in ("final", "void", "final")
            ]
            assert ends == [1, 0, 0]
            assert (await desk.get(trade.trade)).state == "final"  # type: ignore[union-attr]
            assert await desk.pending() == []

    asyncio.run(play())


def test_events_are_resumed_after_the_last_one_seen(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        async with trading(tmp_path, FakeLog(clock), clock) as desk:
            waiting = asyncio.create_task(desk.wait_changes(0))
            await desk.place(order(1), "key-1")
            first = await asyncio.wait_for(waiting, WAIT)
            await desk.place(order(2), "key-2")
            await all_logged(desk, 2)
            rest = await desk.wait_changes(first[-1][0].number)
            numbers = [event.number for event, _ in (*first, *rest)]
            assert numbers == list(range(1, 5))

    asyncio.run(play())


FATES = st.lists(st.sampled_from(["fine", "away", "answer lost", "crash", "late"]), max_size=8)


@given(plan=FATES, waves=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_every_promised_trade_is_logged_once_through_crashes_and_lost_answers(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], waves: list[int]
) -> None:
    async def play() -> None:
        path = tmp_path_factory.mktemp("trades")
        clock = Clock()
        log = FakeLog(clock, plan=list(plan))
        promises = []
        number = 0
        for wave in waves:
            # Whatever happened to the desk before: the next one goes on where it stood.
            async with trading(path, log, clock) as desk:
                for _ in range(wave):
                    number += 1
                    try:
                        promises.append(await desk.place(order(number), f"key-{number}"))
                    except RefusedError as error:
                        # Nothing is promised while the log is behind.
                        if error.rule != "overload":
                            raise
        log.plan.clear()
        async with trading(path, log, clock) as desk:
            await all_logged(desk, len(promises))
            batches = []
            for index, entry in enumerate(log.entries):
                identifier = next(
                    trade.batch
                    for trade in [await desk.get(signed.promise.trade) for signed in promises]
                    if trade is not None and trade.entry == index
                )
                made = await desk.batch(identifier or 0)
                batches.append(LoggedBatch(index=index, entry=entry, batch=made.batch))
            assert double_trades(batches) == []
            assert sum(entry.count for entry in log.entries) == len(promises)
            for signed in promises:
                trade = await desk.get(signed.promise.trade)
                assert trade is not None and trade.logged_us is not None
                late = trade.logged_us > signed.promise.log_by_us
                finding = broken_promise(
                    signed, KEY.verifying_key, batches, read_until_us=clock.now_us
                )
                assert (finding is not None) == late
                if late:
                    await _voided(desk, trade.trade)

    asyncio.run(play())


async def _voided(desk: TradeDesk, trade: str) -> None:
    async def done(desk: TradeDesk) -> bool:
        found = await desk.get(trade)
        return found is not None and found.state == "void"

    await until(desk, done)
