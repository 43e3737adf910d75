"""Ends trades by the rule, once the notaries' logs have made their outcome final (S10).

Trades of one batch with the same side and duration have the same prices: they are judged
once, and each gets its own proof and settlement document.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from attestation.document import Attestation
from attestation.errors import IncompleteError, QuotaryError
from attestation.hashing import hash_string
from attestation.settlement.build import SourceLog, build_bundle
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.parts import TradePart, split_bundle
from attestation.settlement.rule import Terms, needed_slots
from attestation.trust import Trust
from prover.trades.desk import TradeDesk
from prover.trades.store import Batch, End, Group, Trade
from prover.trades.watch import LogWatch

POLL_SECONDS = 0.1
VOID_US = 2_000_000
"""How long after its open end a trade is looked at for having none."""
KEPT_US = 10_000_000
"""How much older than it needs to be the first checkpoint of a trade is kept."""
LONG_US = 60_000_000
"""A trade that is not settled so long after it could be is an incident."""
LOST = frozenset({"slots.missing", "sessions.missing", "messages.missing", "build.start"})
"""What is missing for good after that: a crash took it before it was on disk."""
EVIDENCE_LOST = "evidence_lost"
"""Why a trade is void whose outcome the operator cannot prove."""


class Evidence(Protocol):
    """What the operator keeps of the feeds.  Blocking; read in a worker thread."""

    def slots(self, notary: str, from_us: int, to_us: int) -> Iterable[Attestation]:
        """Returns a notary's slot attestations in [from_us, to_us]."""

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


class Settler:
    """Settles the desk's trades.

    ``places`` are in the order of the policy's notaries; ``policy_index`` is the policy's
    entry in the first one's log.
    """

    def __init__(
        self,
        desk: TradeDesk,
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
        self._policy_index = policy_index
        self._evidence = evidence
        self._bundles = bundles
        self._trust = trust
        self._log_policy = log_policy
        self._on_trouble = on_trouble
        self._tried: dict[Group, int] = {}

    async def begin(self) -> None:
        """Waits until every log has shown a checkpoint from before whatever a trade needs."""
        needs_us = self._policy.windows.w_us + 2 * self._policy.grid_us
        while not all(place.watch.spans(needs_us) for place in self._places):
            try:
                await self._poll()
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
        changed = await self._poll()
        groups = await self._desk.pending()
        self._tried = {group: self._tried[group] for group in groups if group in self._tried}
        ended = 0
        now_us = min(place.watch.now_us for place in self._places)
        for group in groups:
            due_us = self._due_us(group, self._tried.get(group))
            if now_us <= due_us or (group in self._tried and not any(changed)):
                continue
            ended += await self._settle(group, now_us)
        if any(changed):
            await asyncio.to_thread(self._forget, now_us, groups)
        return ended

    async def _poll(self) -> list[bool]:
        return [await asyncio.to_thread(place.watch.poll) for place in self._places]

    def _forget(self, now_us: int, waiting: Iterable[Group]) -> None:
        """Lets go of checkpoints that no trade will begin with."""
        oldest_us = min([group.logged_us for group in waiting], default=now_us)
        for place in self._places:
            place.watch.forget(oldest_us - self._policy.windows.w_us - KEPT_US)

    def _due_us(self, group: Group, tried: int | None) -> int:
        """After which time in the logs a trade may be final: at its open end, then its close."""
        terms = Terms(
            side="up" if group.side == "up" else "down",
            duration_us=group.duration_us,
            logged_us=group.logged_us,
        )
        _, opening, _ = needed_slots(self._policy, terms)
        at_open = opening[-1] + self._policy.late_us
        if tried is None or tried <= at_open + VOID_US:
            return at_open
        return opening[0] + group.duration_us + self._policy.late_us

    async def _settle(self, group: Group, now_us: int) -> int:
        made = await self._desk.batch(group.batch)
        trades = await self._desk.members(group)
        try:
            bundle, outcome = await asyncio.to_thread(self._build, made, trades[0])
        except IncompleteError as error:
            self._tried[group] = now_us
            if now_us <= self._due_us(group, now_us) + self._policy.slide_us + LONG_US:
                return 0
            self._on_trouble(error)
            return await self._give_up(trades) if error.rule in LOST else 0
        kind = "void" if outcome.outcome == "void" else "final"
        ends, own = [], {}
        part, parts = split_bundle(bundle)
        for trade in trades:
            document = dataclasses.replace(outcome, trade=trade.trade).encode()
            own[trade.trade] = dataclasses.replace(
                part, trade=made.batch.prove(trade.opening), settlement=hash_string(document)
            )
            payout = self._desk.payouts.settled(
                trade.opening.leaf, outcome.outcome, fee=outcome.fee
            )
            ends.append(
                End(
                    trade=trade.trade,
                    state=kind,
                    reason=outcome.reason,
                    payout=payout,
                    settlement=document,
                )
            )
        await asyncio.to_thread(self._bundles.keep, own, parts)
        return await self._desk.end(ends)

    async def _give_up(self, trades: Sequence[Trade]) -> int:
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
                for trade in trades
            ]
        )

    def _build(self, made: Batch, trade: Trade) -> tuple[SettlementBundle, OutcomeDocument]:
        assert made.entry is not None
        return build_bundle(
            self._policy,
            policy_index=self._policy_index,
            batch=made.entry,
            trade=made.batch.prove(trade.opening),
            logs=[
                SourceLog(
                    notary=place.notary,
                    read=place.watch.read,
                    notes=place.watch.notes,
                    feed=place.feed,
                )
                for place in self._places
            ],
            kept=_Kept(self._evidence, self._slots(trade)),
            trust=self._trust,
            log_policy=self._log_policy,
        )

    def _slots(self, trade: Trade) -> dict[str, Attestation]:
        """Returns the attestations around a trade by the hash of their header."""
        assert trade.logged_us is not None
        policy, leaf = self._policy, trade.opening.leaf
        from_us = trade.logged_us - policy.windows.w_us - policy.grid_us
        life_us = policy.entry_delay_us + leaf.duration_us + policy.slide_us
        to_us = trade.logged_us + life_us + 2 * policy.grid_us
        return {
            hash_string(slot.header.encode()): slot
            for place in self._places
            for slot in self._evidence.slots(place.notary, from_us, to_us)
        }


class _Kept:
    """The evidence, with the slots around one trade by the hash of their header."""

    def __init__(self, evidence: Evidence, slots: Mapping[str, Attestation]) -> None:
        self._slots = slots
        self.session = evidence.session
        self.message = evidence.message

    def slot(self, header: str) -> Attestation | None:
        return self._slots.get(header)
