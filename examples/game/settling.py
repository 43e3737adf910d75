"""Settling: a trade that has ended pays what the verify API finds its bundle to prove.

What is refused, and what is proven but is not what the house's ledger says, pays nothing by
itself: it is an incident, for a person to resolve (``python -m examples.game incidents``).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attestation.errors import QuotaryError, UnavailableError
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from examples.game.bet import OPEN, Bet, tokens
from examples.game.book import Book
from examples.game.clerk import Clerk
from examples.game.services import Verifier
from examples.game.terms import Terms, result_of

RETRY_SECONDS = 0.5
AT_A_TIME = 2
"""Bundles under way: one is fetched while another is verified."""
log = logging.getLogger("game")


class Settler:
    """Settles trades under ``terms``.  ``changed`` is told of every trade that changed."""

    def __init__(
        self,
        clerk: Clerk,
        verifier: Verifier,
        terms: Terms,
        *,
        bundles: Path,
        clock: Callable[[], int],
        changed: Callable[[str], None],
    ) -> None:
        self._clerk = clerk
        self._verifier = verifier
        self._terms = terms
        self._bundles = bundles
        self._clock = clock
        self._changed = changed
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """Says that a trade has ended."""
        self._ended.set()

    async def run(self) -> None:
        """Settles what has ended, until cancelled."""
        slots = asyncio.Semaphore(AT_A_TIME)

        async def one(bet: Bet) -> None:
            async with slots:
                try:
                    await self.settle(bet)
                except UnavailableError as error:
                    log.warning("settling: %s", error)

        while True:
            self._ended.clear()
            waiting = await self._clerk.ask(_ended)
            await asyncio.gather(*(one(bet) for bet in waiting))
            if not waiting:
                await self._ended.wait()
            elif await self._clerk.ask(_ended) == waiting:
                await asyncio.sleep(RETRY_SECONDS)

    async def settle(self, bet: Bet) -> None:
        """Verifies an ended trade and pays it; raises UnavailableError if that cannot be now."""
        house: dict[str, Any] = json.loads(bet.house or "{}")
        if house.get("bundle"):
            await self._verify(bet, house)
        elif house.get("reason") == "promise_broken" and _late(bet):
            # No prices are asked: the kept promise is over, by the operator's own receipt.
            payout = self._terms.payout(bet, "void", fee=True)
            await self._pay(bet, payout, outcome="void", detail="logged later than promised")
        else:
            await self.incident(bet, "bundle", "the trade has ended without a bundle")

    async def incident(self, bet: Bet, rule: str, detail: str) -> None:
        """Holds a trade until somebody has resolved it."""
        log.error("trade %s: %s: %s", bet.trade, rule, detail)
        now_us = self._clock()

        def hold(book: Book) -> bool:
            known = {"rule": rule, "detail": detail}
            return book.advance(bet.trade, "incident", now_us, after=OPEN, **known)

        if await self._clerk.do(hold):
            self._changed(bet.trade)

    async def _verify(self, bet: Bet, house: Mapping[str, Any]) -> None:
        file = self._bundles / f"{bet.trade}.json"
        try:
            # Kept whatever the verdict is: a refused bundle is evidence.
            await self._verifier.keep(bet.trade, file)
        except UnavailableError:
            raise
        except QuotaryError as error:
            await self.incident(bet, "bundle", f"its parts are not what they are named: {error}")
            return
        try:
            verdict = await self._verifier.verify_settlement(
                file, expect=self._terms.expectation(bet), check=False
            )
        except UnavailableError:
            raise
        except QuotaryError as error:
            await self.incident(bet, error.rule or error.slug, str(error))
            return
        if isinstance(verdict, Rejected):
            await self.incident(bet, verdict.rule or verdict.error, verdict.detail)
            return
        if not is_about(verdict, bet):
            await self.incident(bet, "verdict.trade", "the verdict is on another trade")
            return
        found = verdict.outcome
        payout = self._terms.payout(bet, found.outcome, fee=found.fee)
        if (house.get("outcome"), house.get("payout")) != (found.outcome, tokens(payout)):
            says = f"{house.get('outcome')}, paying {house.get('payout')}"
            proven = f"{found.outcome}, paying {tokens(payout)}"
            await self.incident(
                bet, "ledger", f"the house's ledger says {says}; proven is {proven}"
            )
            return
        await self._pay(bet, payout, **proven_facts(verdict))

    async def _pay(self, bet: Bet, payout: int, **known: Any) -> None:
        now_us = self._clock()

        def pay(book: Book) -> bool:
            return book.end(bet.trade, "settled", now_us, after=("ended",), payout=payout, **known)

        if await self._clerk.do(pay):
            self._changed(bet.trade)


def is_about(verdict: SettlementVerdict, bet: Bet) -> bool:
    """Whether a verdict is on this trade."""
    return verdict.trade.trade == bet.trade == verdict.outcome.trade


def proven_facts(verdict: SettlementVerdict) -> dict[str, Any]:
    """Returns what the book keeps of a proven outcome."""
    found = verdict.outcome
    return {
        "outcome": found.outcome,
        "detail": found.reason,
        "result": json.dumps(result_of(found)),
        "open_us": found.open_us,
        "close_us": found.close_us + found.slid_us,
    }


def _ended(book: Book) -> list[Bet]:
    return book.bets_in("ended")


def _late(bet: Bet) -> bool:
    """Whether the log had a trade later than its promise said."""
    return (
        bet.logged_by_us is not None
        and bet.logged_us is not None
        and bet.logged_us > bet.logged_by_us
    )
