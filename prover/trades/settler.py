"""Ends trades by the rule, once the notaries' logs have made their outcome final (S10).

Trades of one side and duration whose windows are the same slots have the same prices:
they are judged once, and each gets its own proof and settlement document.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from attestation.document import Attestation
from attestation.errors import IncompleteError, QuotaryError, UnavailableError
from attestation.hashing import hash_string
from attestation.log.policy import LogPolicy
from attestation.settlement.build import BundleBuilder, Judged
from attestation.settlement.parts import TradePart, WrittenParts, split_bundle
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Terms, needed_slots
from attestation.settlement.source import LogSource
from attestation.trust import Trust
from prover.trades.payout import Payouts
from prover.trades.records import Batch, End, Group, Trade
from prover.trades.watch import LogWatch

POLL_SECONDS = 0.1
CHUNK = 16
"""Windows that are judged at a time, and groups whose ends are made durable together."""
KEPT_US = 10_000_000
"""How much older than it needs to be the first checkpoint of a trade is kept."""
AGAIN_US = 200_000
"""How soon a trade is looked at again whose evidence was not there; the longer, the later."""
LONG_US = 60_000_000
"""A trade that is not settled so long after it could be is an incident."""
LOST = frozenset({"slots.missing", "sessions.missing", "messages.missing", "build.start"})
"""What is missing for good after that: a crash took it before it was on disk."""
EVIDENCE_LOST = "evidence_lost"
"""Why a trade is void whose outcome the operator cannot prove."""

T = TypeVar("T")


class Desk(Protocol):
    """Who takes trades under a policy, and ends them, each once."""

    @property
    def policy(self) -> SettlementPolicy:
        """What is traded under."""

    @property
    def payouts(self) -> Payouts:
        """What an outcome pays."""

    async def pending(self) -> list[Group]:
        """Returns what waits for its settlement, in the log's order."""

    async def settling(self, groups: Sequence[Group]) -> list[tuple[Batch, list[Trade]]]:
        """Returns groups' batches, and their trades that have not ended."""

    async def end(self, ends: Sequence[End]) -> int:
        """Ends trades, each once; returns how many had not ended before."""


class Evidence(Protocol):
    """What the operator keeps of the feeds.  Blocking; read in a worker thread."""

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        """Returns a notary's attestation of a slot."""

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        """Returns a live session's start, and the index of its ``attested`` entry."""

    def message(self, message: str) -> bytes | None:
        """Returns a venue's raw message by its hash."""


class Bundles(Protocol):
    """Where bundles go: parts by the hash of their bytes, a trade's own part by its id."""

    def keep(self, trades: Mapping[str, TradePart], parts: Mapping[str, bytes]) -> None:
        """Makes bundles durable that share parts; what is there stays as it is."""


class Place(NamedTuple):
    """Where a notary's log has what every bundle names."""

    watch: LogWatch
    notary: str
    feed: int


class _Windows(NamedTuple):
    """What decides a trade's prices: side, duration, first slots before and from its open end."""

    side: str
    duration_us: int
    before_us: int
    open_us: int


@dataclasses.dataclass(slots=True)
class _Wait:
    """When windows are looked at: once the logs go on after ``due_us`` and have changed."""

    due_us: int
    tried: bool = False


class _Failure(NamedTuple):
    """Why groups of the same windows did not end."""

    error: QuotaryError
    groups: Sequence[Group]


class Settler:
    """Settles the desk's trades.

    ``places`` are in the order of the policy's notaries; ``policy_index`` is the policy's
    entry in the first one's log.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        places: Sequence[Place],
        policy_index: int,
        evidence: Evidence,
        bundles: Bundles,
        trust: Trust,
        log_policy: bytes,
        on_trouble: Callable[[QuotaryError], None],
    ) -> None:
        self._desk = desk
        self._policy = desk.policy
        self._places = places
        self._bundles = bundles
        self._on_trouble = on_trouble
        known = LogPolicy.parse(log_policy)
        self._sources = [
            LogSource(place.notary, place.watch.read, known, feed=place.feed) for place in places
        ]
        for place, source in zip(places, self._sources, strict=True):
            source.show(place.watch.notes)
        self._builder = BundleBuilder(
            desk.policy,
            policy_index=policy_index,
            sources=self._sources,
            kept=evidence,
            trust=trust,
        )
        self._written = WrittenParts()
        self._waits: dict[_Windows, _Wait] = {}

    async def begin(self) -> None:
        """Waits until every log has shown a checkpoint from before whatever a trade needs."""
        needs_us = self._policy.windows.w_us + 2 * self._policy.grid_us
        while not all(place.watch.spans(needs_us) for place in self._places):
            try:
                await asyncio.to_thread(self._poll)
            except QuotaryError as error:
                self._on_trouble(error)
            await asyncio.sleep(POLL_SECONDS)

    async def run(self) -> None:
        """Settles until cancelled."""
        while True:
            try:
                await self.step()
            except QuotaryError as error:
                self._on_trouble(error)
            await asyncio.sleep(POLL_SECONDS)

    async def step(self) -> int:
        """Looks at the logs once; returns how many trades have ended."""
        changed = await asyncio.to_thread(self._poll)
        groups: dict[_Windows, list[Group]] = {}
        for group in await self._desk.pending():
            groups.setdefault(self._windows(group), []).append(group)
        self._waits = {
            windows: self._waits.get(windows) or _Wait(self._at_open_us(windows))
            for windows in groups
        }
        now_us = min(place.watch.now_us for place in self._places)
        due = [
            windows
            for windows, wait in self._waits.items()
            if now_us > wait.due_us and (changed or not wait.tried)
        ]
        ended = 0
        # After hours away much is due: the first trades do not wait for the last to be judged.
        for some in _chunks(due):
            judged, failed = await asyncio.to_thread(
                self._judge, {windows: groups[windows] for windows in some}
            )
            ready = [(group, judged[windows]) for windows in judged for group in groups[windows]]
            for chunk in _chunks(ready):
                ended += await self._settle(chunk, failed)
            for error, those in failed:
                if isinstance(error, UnavailableError):
                    raise error
                ended += await self._failed(those, error, now_us)
        if changed:
            times = [group.logged_us for found in groups.values() for group in found]
            await asyncio.to_thread(self._forget, min(times, default=now_us))
        return ended

    def _poll(self) -> bool:
        """Looks for new checkpoints of every log; whether there are."""
        changed = False
        for place, source in zip(self._places, self._sources, strict=True):
            if place.watch.poll():
                changed = True
                source.show([note for note in [place.watch.newest] if note is not None])
        return changed

    def _forget(self, oldest_us: int) -> None:
        """Lets go of checkpoints that no trade logged from then on will begin with."""
        for place, source in zip(self._places, self._sources, strict=True):
            size = place.watch.forget(oldest_us - self._policy.windows.w_us - KEPT_US)
            if size is not None:
                source.forget(size)

    def _windows(self, group: Group) -> _Windows:
        before, opening, _ = needed_slots(self._policy, _terms(group))
        return _Windows(group.side, group.duration_us, before[0], opening[0])

    def _at_open_us(self, windows: _Windows) -> int:
        """After which time in the logs a trade may be void for want of an open end."""
        policy = self._policy
        return windows.open_us + policy.windows.w_us - policy.grid_us + policy.late_us

    def _judge(
        self, due: Mapping[_Windows, Sequence[Group]]
    ) -> tuple[dict[_Windows, Judged], list[_Failure]]:
        """Judges what is due; with the reasons for what cannot be judged now."""
        judged: dict[_Windows, Judged] = {}
        failed: list[_Failure] = []
        for windows, groups in due.items():
            try:
                judged[windows] = self._builder.judge(_terms(groups[0]))
            except QuotaryError as error:
                failed.append(_Failure(error, groups))
                if isinstance(error, UnavailableError):
                    break
        return judged, failed

    async def _settle(self, chunk: Sequence[tuple[Group, Judged]], failed: list[_Failure]) -> int:
        """Ends the trades of groups, all in one go, but for what fails."""
        found = await self._desk.settling([group for group, _ in chunk])
        ends = await asyncio.to_thread(self._make, chunk, found, failed)
        return await self._desk.end(ends) if ends else 0

    def _make(
        self,
        chunk: Sequence[tuple[Group, Judged]],
        found: Sequence[tuple[Batch, Sequence[Trade]]],
        failed: list[_Failure],
    ) -> list[End]:
        """Makes groups' bundles durable; returns how their trades end."""
        ends: list[End] = []
        own: dict[str, TradePart] = {}
        shared: dict[str, bytes] = {}
        for (group, judged), (made, trades) in zip(chunk, found, strict=True):
            if not trades:
                continue
            try:
                part, parts = self._split(judged, made, trades[0])
            except QuotaryError as error:
                failed.append(_Failure(error, [group]))
                continue
            shared |= parts
            for trade in trades:
                end = self._end(judged, trade, group.logged_us)
                assert end.settlement is not None
                own[trade.trade] = dataclasses.replace(
                    part,
                    trade=made.batch.prove(trade.opening),
                    settlement=hash_string(end.settlement),
                )
                ends.append(end)
        self._bundles.keep(own, shared)
        return ends

    def _split(
        self, judged: Judged, made: Batch, trade: Trade
    ) -> tuple[TradePart, dict[str, bytes]]:
        """Returns the parts of a trade's bundle; its own stands for all of its group."""
        assert made.entry is not None
        proof = made.batch.prove(trade.opening)
        terms = self._builder.terms(made.entry, proof)
        bundle = self._builder.bundle(judged, terms, made.entry, proof)
        return split_bundle(bundle, self._written)

    def _end(self, judged: Judged, trade: Trade, logged_us: int) -> End:
        outcome = judged.outcome
        return End(
            trade=trade.trade,
            state="void" if outcome.outcome == "void" else "final",
            reason=outcome.reason,
            payout=self._desk.payouts.settled(trade.opening.leaf, outcome.outcome, fee=outcome.fee),
            settlement=judged.document(trade.trade, logged_us),
        )

    async def _failed(self, groups: Sequence[Group], error: QuotaryError, now_us: int) -> int:
        """Notes when to look again at trades of the same windows; gives up what is lost."""
        windows = self._windows(groups[0])
        wait = self._waits[windows]
        wait.tried = True
        close_us = windows.open_us + windows.duration_us + self._policy.late_us
        late_us = now_us - close_us - self._policy.slide_us
        final = isinstance(error, IncompleteError) and error.rule == "settlement.final"
        if final and isinstance(error.wanted, int):
            wait.due_us = error.wanted - 1
        else:
            wait.due_us = now_us + max(AGAIN_US, late_us // 8)
        if late_us <= LONG_US:
            return 0
        self._on_trouble(error)
        if final or (isinstance(error, IncompleteError) and error.rule not in LOST):
            return 0
        return await self._give_up(groups)

    async def _give_up(self, groups: Sequence[Group]) -> int:
        """Ends trades that nobody can prove any more, by the operator's fault."""
        return await self._desk.end(
            [
                End(
                    trade=trade.trade,
                    state="void",
                    reason=EVIDENCE_LOST,
                    payout=self._desk.payouts.refund(trade.opening.leaf, fee=True),
                    settlement=None,
                )
                for _, trades in await self._desk.settling(groups)
                for trade in trades
            ]
        )


def _terms(group: Group) -> Terms:
    return Terms(
        side="up" if group.side == "up" else "down",
        duration_us=group.duration_us,
        logged_us=group.logged_us,
    )


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), CHUNK):
        yield items[at : at + CHUNK]
