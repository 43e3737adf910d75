"""The trading house: policy, desk and settler over a feed that runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.entry import PolicyEntry, TradesEntry
from attestation.log.files import Read
from attestation.log.policy import LogPolicy
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from prover.entries import log_entry
from prover.feed.registration import FeedPlan, Registered, register
from prover.feed.store_reads import StoreReader
from prover.flow import run_async
from prover.notary_client import Notary
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.evidence import StoredEvidence
from prover.trades.payout import Payouts
from prover.trades.settler import Place, Settler
from prover.trades.store import TradeStore
from prover.trades.watch import LogWatch, NoteStore

RETRY_SECONDS = 1.0
CONFLICT = 409
LOG_SECONDS = 5.0
"""How long a notary's log may take to answer."""


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

    ``notaries`` are those of the policy, found by the names they give.
    """

    def __init__(
        self,
        rules: HouseRules,
        plan: FeedPlan,
        notaries: Sequence[Notary],
        *,
        folder: Path,
        reader: StoreReader,
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
        self._reader = reader
        self._trust = trust
        self._clock = clock
        self._on_trouble = on_trouble
        self._first: Notary | None = None
        self.bundles = BundleFolder(folder / "bundles")
        self.desk = TradeDesk(
            TradeStore(folder / "trades.db"),
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
        with contextlib.ExitStack() as stack:
            notes = stack.enter_context(contextlib.closing(NoteStore(self._folder / "notes.db")))
            known = LogPolicy.parse(self._rules.log_policy)
            places = [
                Place(
                    watch=LogWatch(
                        one.log,
                        stack.enter_context(_reading(by_name[one.notary][0].url)),
                        known,
                        notes,
                    ),
                    notary=one.notary,
                    feed=by_name[one.notary][1].index,
                )
                for one in policy.notaries
            ]
            settler = Settler(
                self.desk,
                places=places,
                policy_index=index,
                evidence=StoredEvidence(self._reader, self._plan.feed),
                bundles=self.bundles,
                trust=self._trust,
                log_policy=self._rules.log_policy,
                on_trouble=self._on_trouble,
            )
            # A trade begins with a checkpoint from before it.
            await settler.begin()
            self.desk.closed = None
            async with asyncio.TaskGroup() as group:
                group.create_task(self.desk.run())
                group.create_task(settler.run())

    async def close(self) -> None:
        """Waits for what is being stored, and closes."""
        self.desk.closed = "the house is closing"
        await self.desk.close()

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
