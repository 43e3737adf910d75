"""The trading house: policy, desk and the settler's process over a feed that runs."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.entry import PolicyEntry, TradesEntry
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from prover.entries import log_entry
from prover.feed.registration import FeedPlan, Registered, register
from prover.flow import run_async
from prover.notary_client import Notary
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.payout import Payouts
from prover.trades.settler_process import LogPlace, SettlerPlan, SettlerProcess
from prover.trades.store import TradeStore

RETRY_SECONDS = 1.0
CONFLICT = 409


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HouseRules:
    """What is traded under: the policy, the log policy it names, and what a won trade pays."""

    policy: SettlementPolicy
    log_policy: bytes
    win: str

    def check(self, plan: FeedPlan) -> None:
        """Raises UsageError unless the policy is of this feed and log policy."""
        policy = self.policy
        pairs: list[tuple[str, object, object]] = [
            ("log_policy", policy.log_policy, hash_string(self.log_policy)),
            ("market", policy.market, plan.market),
            ("grid_us", policy.grid_us, plan.grid_us),
            ("late_us", policy.late_us, plan.late_us),
        ]
        pairs += [("notaries.feed", one.feed, plan.feed) for one in policy.notaries]
        for member, found, wanted in pairs:
            if found != wanted:
                raise UsageError(
                    f"the policy is of another {member}",
                    rule=f"policy.{member}",
                    found=found,
                    wanted=wanted,
                )
        missing = {venue.venue for venue in policy.venues} - set(plan.venues)
        if missing:
            raise UsageError(
                "the feed lacks venues of the policy", rule="policy.venues", found=sorted(missing)
            )


class TradingHouse:
    """Takes trades over one feed and settles them; files under ``folder``.

    The feed's are under ``store``.  ``notaries`` are those of the policy, found by the
    names they give.
    """

    def __init__(
        self,
        rules: HouseRules,
        plan: FeedPlan,
        notaries: Sequence[Notary],
        *,
        folder: Path,
        store: Path,
        key: SigningKey,
        trust: Trust,
        clock: Callable[[], int],
        on_trouble: Callable[[QuotaryError], None],
    ) -> None:
        rules.check(plan)
        self._rules = rules
        self._plan = plan
        self._notaries = notaries
        self._folder = folder
        self._trades = folder / "trades.db"
        self._store = store
        self._trust = trust
        self._clock = clock
        self._on_trouble = on_trouble
        self._first: Notary | None = None
        self.bundles = BundleFolder(folder / "bundles")
        self.desk = TradeDesk(
            TradeStore(self._trades),
            rules.policy,
            key,
            self._submit,
            payouts=Payouts.of(rules.policy, win=rules.win),
            clock=clock,
            random=os.urandom,
            on_trouble=on_trouble,
        )
        self.desk.closed = "the policy is not logged yet"

    async def run(self) -> None:
        """Has the policy logged, then takes and settles trades until cancelled."""
        policy = self._rules.policy
        found = await asyncio.gather(*[self._register(notary) for notary in self._notaries])
        by_name = {
            registered.name: (notary, registered)
            for notary, registered in zip(self._notaries, found, strict=True)
        }
        wanted = [one.notary for one in policy.notaries]
        if missing := sorted(set(wanted) - set(by_name)):
            raise UsageError("a notary of the policy is not the feed's", found=missing)
        self._first = by_name[wanted[0]][0]
        index = await self._log_policy(self._first)
        settler = SettlerProcess(
            SettlerPlan(
                policy=policy.encode(),
                policy_index=index,
                log_policy=self._rules.log_policy,
                win=self._rules.win,
                trust=self._trust,
                feed=self._plan.feed,
                store=self._store,
                trades=self._trades,
                folder=self._folder,
                places=tuple(
                    [
                        LogPlace(
                            notary=one.notary,
                            log=one.log,
                            url=by_name[one.notary][0].url,
                            feed=by_name[one.notary][1].index,
                        )
                        for one in policy.notaries
                    ]
                ),
            ),
            self.desk,
            begun=self._open,
            on_trouble=self._on_trouble,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.desk.run())
            group.create_task(settler.run())

    async def close(self) -> None:
        """Waits for what is being stored, and closes."""
        self.desk.closed = "the house is closing"
        await self.desk.close()

    def _open(self) -> None:
        """Takes orders: the settler knows a checkpoint from before them."""
        self.desk.closed = None

    async def _submit(self, entry: TradesEntry) -> tuple[int, int]:
        if self._first is None:
            raise UnavailableError("the policy is not logged yet", rule="policy")
        logged = await run_async(log_entry(self._first, entry), self._first.timeouts)
        return logged.index, logged.entry.logged_us

    async def _register(self, notary: Notary) -> Registered:
        while True:
            try:
                return await run_async(register(notary, self._plan, self._clock), notary.timeouts)
            except QuotaryError as error:
                self._on_trouble(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _log_policy(self, notary: Notary) -> int:
        policy = self._rules.policy
        entry = PolicyEntry(
            policy_id=policy.policy_id, document=policy.to_json(), effective_us=policy.effective_us
        )
        while True:
            try:
                return (await run_async(log_entry(notary, entry), notary.timeouts)).index
            except RefusedError as error:
                if error.http_status == CONFLICT:
                    # By the log's rules it never will be.
                    raise UsageError(
                        f"the policy cannot be logged: {error.detail}", rule="policy"
                    ) from error
                self._on_trouble(error)
            except QuotaryError as error:
                self._on_trouble(error)
            await asyncio.sleep(RETRY_SECONDS)
