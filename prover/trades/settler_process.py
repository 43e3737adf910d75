"""The settler in a process of its own, of lower priority: no order waits behind a bundle.

It reads what the desk, the feed's store and the logs keep, and writes bundles; the desk
alone ends trades, each once.  So it may be killed at any moment: it is begun anew, and
judges again what has not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeAlias

import httpx

from attestation.errors import QuotaryError, UnavailableError
from attestation.log.files import Read
from attestation.log.policy import LogPolicy
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from prover.feed.store_reads import StoreReader
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.evidence import StoredEvidence
from prover.trades.payout import Payouts
from prover.trades.reader import TradeReader
from prover.trades.records import Batch, End, Group, Trade
from prover.trades.settler import Place, Settler
from prover.trades.watch import LogWatch, NoteStore

NICER = 10
"""By how much lower its priority is."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
LOG_SECONDS = 5.0
"""How long a notary's log may take to answer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a notary's log is read, and which of its entries is the feed's."""

    notary: str
    log: str
    url: str
    feed: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlerPlan:
    """What a settler needs, to be sent to another process.

    ``feed`` is kept in the store under ``store``; trades, notes and bundles are under
    ``folder``; ``places`` are in the order of the policy's notaries.
    """

    policy: bytes
    policy_index: int
    log_policy: bytes
    win: str
    trust: Trust
    feed: str
    store: Path
    trades: Path
    folder: Path
    places: tuple[LogPlace, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Begun:
    """The settler knows a checkpoint of every log from before any trade to come."""


Said: TypeAlias = Begun | QuotaryError | tuple[End, ...]
"""What the process says: that it has begun, what troubles it, how trades end."""


class SettlerProcess:
    """Settles a desk's trades by ``plan`` in another process, for as long as ``run`` runs."""

    def __init__(
        self,
        plan: SettlerPlan,
        desk: TradeDesk,
        *,
        begun: Callable[[], None],
        on_trouble: Callable[[QuotaryError], None],
    ) -> None:
        self._plan = plan
        self._desk = desk
        self._begun = begun
        self._on_trouble = on_trouble
        self._failures = 0

    async def run(self) -> None:
        """Settles until cancelled; begins a process anew that ends."""
        while True:
            with contextlib.suppress(EOFError, OSError):
                await self._listen()
            self._on_trouble(
                UnavailableError(
                    "the settler's process has ended; it is begun anew", rule="settler"
                )
            )
            await asyncio.sleep(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)])
            self._failures += 1

    async def _listen(self) -> None:
        """Does what a process says until it ends: then raises EOFError or OSError."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_settle, args=(self._plan, theirs), daemon=True)
        try:
            await asyncio.to_thread(process.start)
            theirs.close()
            while True:
                await self._take(ours, await asyncio.to_thread(ours.recv))
        finally:
            # Whatever it is at may be interrupted; without it, who waits for its word goes on.
            if process.pid is not None:
                process.kill()
                await asyncio.to_thread(process.join)
            theirs.close()
            ours.close()

    async def _take(self, process: Connection, said: Said) -> None:
        if isinstance(said, Begun):
            self._failures = 0
            self._begun()
        elif isinstance(said, QuotaryError):
            self._on_trouble(said)
        else:
            process.send(await self._desk.end(said))


class _DeskThere:
    """The desk as its settler sees it from here: reads the same file, has ends made there."""

    def __init__(self, plan: SettlerPlan, desk: Connection) -> None:
        self.policy = SettlementPolicy.decode(plan.policy)
        self.payouts = Payouts.of(self.policy, win=plan.win)
        self._reader = TradeReader(plan.trades)
        self._desk = desk

    async def pending(self) -> list[Group]:
        """Returns what waits for its settlement, in the log's order."""
        return self._reader.pending()

    async def settling(self, groups: Sequence[Group]) -> list[tuple[Batch, list[Trade]]]:
        """Returns groups' batches, and their trades that have not ended."""
        return self._reader.settling(groups)

    async def end(self, ends: Sequence[End]) -> int:
        """Ends trades, each once; returns how many had not ended before."""
        self._desk.send(tuple(ends))
        count: int = self._desk.recv()
        return count


def _settle(plan: SettlerPlan, desk: Connection) -> None:
    """Settles until the desk's process ends, or ends this one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach all processes of a terminal or a service: the desk's ends this one.
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICER)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        asyncio.run(_run(plan, desk))


async def _run(plan: SettlerPlan, desk: Connection) -> None:
    known = LogPolicy.parse(plan.log_policy)
    with contextlib.ExitStack() as stack:
        notes = stack.enter_context(contextlib.closing(NoteStore(plan.folder / "notes.db")))
        reader = stack.enter_context(contextlib.closing(StoreReader(plan.store)))
        settler = Settler(
            _DeskThere(plan, desk),
            places=[
                Place(
                    watch=LogWatch(
                        place.log, stack.enter_context(_reading(place.url)), known, notes
                    ),
                    notary=place.notary,
                    feed=place.feed,
                )
                for place in plan.places
            ],
            policy_index=plan.policy_index,
            evidence=StoredEvidence(reader, plan.feed),
            bundles=BundleFolder(plan.folder / "bundles"),
            trust=plan.trust,
            log_policy=plan.log_policy,
            on_trouble=desk.send,
        )
        # A trade begins with a checkpoint from before it.
        await settler.begin()
        desk.send(Begun())
        await settler.run()


def _end_with_parent() -> None:
    """A prover that was killed leaves nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


@contextlib.contextmanager
def _reading(url: str) -> Iterator[Read]:
    """Gives what reads a log's files at a URL."""
    with httpx.Client(base_url=url, timeout=LOG_SECONDS, trust_env=False) as client:

        def read(path: str) -> bytes:
            try:
                answer = client.get(f"/{path}")
                answer.raise_for_status()
            except httpx.HTTPError as error:
                raise UnavailableError(f"the log does not answer: {error}", rule="log") from error
            return answer.content

        yield read
