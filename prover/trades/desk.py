"""The trade desk: orders in, promises out at once, batches into the log (S1).

An order is on disk before its promise leaves.  A batch is made as soon as there is an order,
at most every ``BATCH_SECONDS``, and submitted until the notary says where its log has it:
submitting the same batch again is the same entry.  A trade that the log has later than promised is
void, with the operator's fee, and so is never settled by prices.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from attestation.errors import QuotaryError, RefusedError
from attestation.hashing import digest
from attestation.keys import SigningKey
from attestation.log.entry import TradesEntry
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.promise import Promise, SignedPromise, sign_promise
from attestation.settlement.trade import TradeOpening
from prover.trades.order import Order
from prover.trades.payout import Payouts
from prover.trades.reader import TradeReader
from prover.trades.records import Batch, End, Event, Group, Placed, Trade
from prover.trades.store import TradeStore

BATCH_SECONDS = 0.02
"""How long after a batch the next one is made: what comes meanwhile shares an entry."""
MAX_BATCH = 4_096
COMMITS = 25
"""After so many the write-ahead log is moved, so that no order's commit has to."""
MAX_WAITING = 10_000
"""Orders that wait to be on disk; more are refused."""
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
BROKEN = "promise_broken"
"""Why a trade is void that the log has later than promised."""

T = TypeVar("T")
Submit = Callable[[TradesEntry], Awaitable[tuple[int, int]]]
"""Has an entry logged; returns its index and its time.  The same entry twice is one."""


class _Waiting(NamedTuple):
    """An order that is being stored; ``is_new`` if it is not known to be another one's again."""

    placed: Placed
    answer: asyncio.Future[SignedPromise]
    is_new: bool


class TradeDesk:
    """Takes the orders of one policy.

    ``submit`` logs at the policy's first notary; ``clock`` returns microseconds,
    ``random`` so many random bytes.  Used on one event loop.
    """

    def __init__(
        self,
        store: TradeStore,
        policy: SettlementPolicy,
        key: SigningKey,
        submit: Submit,
        *,
        payouts: Payouts,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        on_trouble: Callable[[QuotaryError], None] = lambda error: None,
    ) -> None:
        self.policy = policy
        self.payouts = payouts
        self.closed: str | None = None
        """Why no orders are taken now."""
        self._store = store
        self._key = key
        self._submit = submit
        self._clock = clock
        self._random = random
        self._on_trouble = on_trouble
        self._reader = TradeReader(store.path)
        # Who reads does not wait for who writes, nor an order for who reads.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="trades-write")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="trades-read")
        self._waiting: list[_Waiting] = []
        self._storing: asyncio.Task[None] | None = None
        self._commits = 0
        self._placed = asyncio.Event()
        self._changed = asyncio.Event()
        self._unlogged: dict[str, int] = {}
        """When the trades were ordered that are not known to be logged, oldest first."""

    async def place(self, order: Order, idempotency: str) -> SignedPromise:
        """Takes an order; its promise is durable when this returns.

        Raises UsageError or ExpectationError for an order that the policy has not,
        RefusedError for a used key or nonce (409), while closed, for too many, or while the
        log is so far behind that a promise might not be kept (503).
        """
        if self.closed is not None:
            raise RefusedError(self.closed, rule="closed", http_status=503)
        now_us = self._clock()
        order.check(self.policy, now_us)
        if len(self._waiting) >= MAX_WAITING:
            raise RefusedError("too many orders at a time", rule="overload", http_status=503)
        # Whoever comes again with an order that was promised has its promise.
        if self._is_behind(now_us) and await self.get(order.trade) is None:
            raise RefusedError("the log is behind", rule="overload", http_status=503)
        opening = TradeOpening(salt=self._random(16).hex(), leaf=order.leaf(self.policy))
        commitment = opening.commitment()
        promise = Promise(
            trade=commitment.trade,
            digest=commitment.digest,
            log_by_us=now_us + self.policy.log_by_us,
        )
        placed = Placed(
            idempotency=idempotency,
            request=digest(order.encode()),
            placed_us=now_us,
            opening=opening,
            promise=sign_promise(promise, self._key),
        )
        answer: asyncio.Future[SignedPromise] = asyncio.get_running_loop().create_future()
        is_new = opening.leaf.trade not in self._unlogged
        if is_new:
            self._unlogged[opening.leaf.trade] = now_us
        self._waiting.append(_Waiting(placed, answer, is_new))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return await answer

    async def get(self, trade: str) -> Trade | None:
        """Reads a trade; None if there is no such."""
        return await self._read(self._reader.get, trade)

    async def batch(self, identifier: int) -> Batch:
        """Reads a batch with all its commitments."""
        return await self._read(self._reader.batch, identifier)

    async def pending(self) -> list[Group]:
        """Returns what waits for its settlement, in the log's order."""
        return await self._read(self._reader.pending)

    async def settling(self, groups: Sequence[Group]) -> list[tuple[Batch, list[Trade]]]:
        """Returns groups' batches, and their trades that have not ended."""
        return await self._read(self._reader.settling, groups)

    async def last_event(self) -> int:
        """Returns the number of the last event, 0 before the first."""
        return await self._read(self._reader.last_event)

    async def ended(self, after: tuple[int, str], *, most: int) -> list[Trade]:
        """Returns trades that ended, in the ledger's order, after an entry and trade."""
        return await self._read(lambda: self._reader.ended(after, most=most))

    async def promises(self, after: tuple[int, str], *, most: int) -> list[SignedPromise]:
        """Returns promises in the order of their deadline, after a ``log_by_us`` and trade."""
        return await self._read(lambda: self._reader.promises(after, most=most))

    async def wait_changes(self, after: int, *, most: int = 1_000) -> list[tuple[Event, Trade]]:
        """Waits until there are events after a number; each with its trade as it stands."""
        while True:
            # Taken before looking: what is announced meanwhile is not missed.
            changed = self._changed
            if found := await self._read(lambda: self._reader.changes(after, most=most)):
                return found
            await changed.wait()

    async def counts(self) -> dict[str, int]:
        """Returns how many trades are in each state."""
        return await self._read(self._reader.counts)

    async def end(self, ends: Sequence[End]) -> int:
        """Ends trades, each once; returns how many had not ended before."""
        count = await self._call(lambda: self._store.end(ends, self._clock()))
        self._announce()
        return count

    async def run(self) -> None:
        """Logs batches until cancelled; begins with those of before a crash."""
        await self._void_broken()
        for batch in await self._read(self._reader.unlogged):
            await self._log(batch)
        loop = asyncio.get_running_loop()
        while True:
            made = await self._call(lambda: self._store.make_batch(self._clock(), most=MAX_BATCH))
            if made is not None:
                due = loop.time() + BATCH_SECONDS
                await self._log(made)
                await asyncio.sleep(max(0.0, due - loop.time()))
                continue
            await self._placed.wait()
            self._placed.clear()

    async def close(self) -> None:
        """Waits for what is being stored."""
        if self._storing is not None:
            await self._storing
        await self._call(self._store.close)
        await self._read(self._reader.close)
        self._writing.shutdown()
        self._reading.shutdown()

    async def _store_waiting(self) -> None:
        """Stores what waits, again and again: one transaction for all that came meanwhile."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._call(self._store.place, [one.placed for one in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                for one in batch:
                    self._forget(one)
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, found in zip(batch, answers, strict=True):
                if found is not one.placed.promise:
                    # Placed before, or refused: another order's batch has it, or none.
                    self._forget(one)
                if one.answer.done():
                    continue  # Nobody waits for it any more; it is placed all the same.
                if isinstance(found, RefusedError):
                    one.answer.set_exception(found)
                else:
                    one.answer.set_result(found)
            self._placed.set()
            self._announce()

    def _is_behind(self, now_us: int) -> bool:
        """Whether an order waits so long for the log that a new promise might not be kept."""
        oldest_us = next(iter(self._unlogged.values()), now_us)
        return 2 * (now_us - oldest_us) > self.policy.log_by_us

    def _forget(self, waiting: _Waiting) -> None:
        if waiting.is_new:
            self._unlogged.pop(waiting.placed.opening.leaf.trade, None)

    async def _log(self, batch: Batch) -> None:
        """Submits a batch until the log has it; voids what it has later than promised."""
        index, logged_us = await self._submitted(batch.batch.entry())
        await self._call(self._store.note_logged, batch.id, index, logged_us)
        for item in batch.batch.commitments:
            self._unlogged.pop(item.trade, None)
        self._announce()
        await self._void_broken(batch.id)

    async def _submitted(self, entry: TradesEntry) -> tuple[int, int]:
        for attempt in itertools.count():
            try:
                return await self._submit(entry)
            except QuotaryError as error:
                self._on_trouble(error)
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        raise AssertionError("counted to the end")

    async def _void_broken(self, batch: int | None = None) -> None:
        ends = [
            End(
                trade=trade.trade,
                state="void",
                reason=BROKEN,
                payout=self.payouts.refund(trade.opening.leaf, fee=True),
                settlement=None,
            )
            for trade in await self._read(self._reader.broken, batch)
        ]
        if ends:
            await self.end(ends)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._writing, function, *arguments)
        self._commits += 1
        if self._commits % COMMITS == 0:
            self._reading.submit(self._reader.move_wal)
        return found

    async def _read(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)
