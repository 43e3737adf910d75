"""The trade engine: takes orders, follows them, and pays what the verify API says of each.

Every step is one transaction of the book, so that a restart goes on where it was: an order
that was not answered is sent again (its nonce is its key), events are followed from the last
one taken, and what has ended but is not paid is verified again.  Nothing here knows a price.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from attestation.errors import InvalidProofError, QuotaryError, RefusedError, UnavailableError
from attestation.keys import VerifyingKey
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import trade_id
from attestation.verdict import Rejected
from examples.game.book import OPEN, TOKEN, Bet, Book
from examples.game.services import Trades, Verifier

RESEND_SECONDS, GIVE_UP_SECONDS = 10, 20
"""An order that nobody answered is sent again for so long; from then on it is only asked for."""
RETRY_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""How often open trades are looked at that are overdue by ``OVERDUE_US``."""
OVERDUE_US = 10_000_000
AT_A_TIME = 4
"""Bundles under verification."""

T = TypeVar("T")
log = logging.getLogger("game")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is traded: the policy, a trade's duration, and what a won trade pays back."""

    policy: SettlementPolicy
    win: Fraction
    operator: VerifyingKey
    """Whose promises count."""
    development: bool = False

    @property
    def duration_us(self) -> int:
        """The policy's first duration."""
        return self.policy.durations_us[0]

    def payout(self, bet: Bet, outcome: str, *, fee: bool) -> int:
        """Returns what a trade pays, in hundredths of a token; a broken one is cut."""
        if outcome == "tie":
            return bet.stake
        if outcome == "void":
            return bet.stake + (int(Fraction(self.policy.fee) * TOKEN) if fee else 0)
        return int(bet.stake * self.win) if outcome == bet.side else 0


class Engine:
    """Trades under ``terms``.  ``changed`` is told of every trade that changed."""

    def __init__(
        self,
        book: Book,
        trades: Trades,
        verifier: Verifier,
        terms: Terms,
        *,
        bundles: Path,
        clock: Callable[[], int],
        changed: Callable[[Bet], Awaitable[None]],
    ) -> None:
        self.terms = terms
        self._book = book
        self._trades = trades
        self._verifier = verifier
        self._bundles = bundles
        self._clock = clock
        self.changed = changed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="book")
        self._ended = asyncio.Event()

    async def ask(self, act: Callable[[Book], T]) -> T:
        """Has the book's thread do something."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, self._book)

    async def close(self) -> None:
        """Waits for the book's thread."""
        await asyncio.to_thread(self._thread.shutdown)

    async def open(self, player: str, nonce: str, side: str, stake: int, seen: str | None) -> Bet:
        """Takes an order: holds the stake, has the trade promised, and returns it.

        The same order again is the same trade.  Where the trades API does not answer, the
        trade is returned as ``reserved`` and followed up.  Raises what ``Book.reserve`` does.
        """
        bet = Bet(
            trade=trade_id(nonce),
            player=player,
            nonce=nonce,
            side=side,
            stake=stake,
            seen=seen,
            clicked_us=self._clock(),
            state="reserved",
        )
        bet = await self.ask(lambda book: book.reserve(bet))
        if bet.state == "reserved":
            await self._place(bet)
        found = await self._read(bet.trade)
        assert found is not None
        return found

    async def run(self) -> None:
        """Follows every trade until cancelled."""
        await asyncio.gather(self._follow(), self._settle(), self._look())

    async def look(self) -> None:
        """Looks once at trades that nobody answered for, and at those that are overdue."""
        now_us = self._clock()
        for bet in await self.ask(lambda book: book.bets_in("reserved", "promised", "logged")):
            age = (now_us - bet.clicked_us) / 1e6
            try:
                if bet.state == "reserved" and age < RESEND_SECONDS:
                    await self._place(bet)
                elif bet.state == "reserved" and age < GIVE_UP_SECONDS:
                    continue
                elif age * 1e6 > self.terms.duration_us + OVERDUE_US or bet.state == "reserved":
                    await self._look_at(bet)
            except UnavailableError as error:
                log.warning("looking at trades: %s", error)
                return

    async def settle(self, bet: Bet) -> None:
        """Verifies an ended trade and pays it; raises UnavailableError if that cannot be now."""
        shown = await self._trades.trade(bet.trade)
        if shown is None:
            await self._incident(bet, "bundle", "the trade has ended and is not there")
        elif "bundle" in shown:
            await self._verify(bet)
        elif shown.get("reason") == "promise_broken" and _late(bet):
            # No prices are asked: the kept promise is over, by the operator's own receipt.
            payout = self.terms.payout(bet, "void", fee=True)
            await self._pay(bet, payout, outcome="void", detail="logged later than promised")
        else:
            await self._incident(bet, "bundle", "the trade has ended without a bundle")

    async def take(self, number: int, document: Mapping[str, Any]) -> None:
        """Takes an event of the trades API, or with number 0 what was asked for."""
        trade = str(document["trade"])
        bet = await self._read(trade)
        if bet is None:
            # Another game's, or one of a book that is gone.
            await self.ask(lambda book: book.take_event(number, trade, "promised", self._clock()))
            return
        known = self._facts(bet, document)
        state = "logged" if "receipt" in document else "promised"
        if document["state"] != "pending":
            state = "ended"
        now_us = self._clock()
        if await self.ask(lambda book: book.take_event(number, trade, state, now_us, **known)):
            await self._tell(trade)
            if state == "ended":
                self._ended.set()

    async def _place(self, bet: Bet) -> None:
        order = {
            "player": bet.player,
            "side": bet.side,
            "stake": tokens(bet.stake),
            "duration_us": self.terms.duration_us,
            "policy_id": self.terms.policy.policy_id,
            "nonce": bet.nonce,
        }
        try:
            placed = await self._trades.place(order)
            known = self._facts(bet, placed)
        except UnavailableError as error:
            log.warning("an order has no answer: %s", error)
            return
        except RefusedError as error:
            await self._refuse(bet, error)
            return
        except QuotaryError as error:
            # Promised by another key, or another trade: the order stands, and is shown so.
            await self._incident(bet, error.rule or "promise", str(error))
            return
        now_us = self._clock()
        await self.ask(
            lambda book: book.advance(bet.trade, "promised", now_us, after=("reserved",), **known)
        )
        await self._tell(bet.trade)

    async def _look_at(self, bet: Bet) -> None:
        document = await self._trades.trade(bet.trade)
        if document is not None:
            await self.take(0, document)
        elif bet.state == "reserved":
            await self._refuse(bet, RefusedError("the order did not arrive", rule="order"))

    def _facts(self, bet: Bet, document: Mapping[str, Any]) -> dict[str, Any]:
        """Reads promise and receipt; raises if the promise is not the operator's, of this trade."""
        known: dict[str, Any] = {}
        if bet.promise is None and "promise" in document:
            signed = SignedPromise.from_json(document["promise"])
            promise = signed.check(self.terms.operator)
            if promise.trade != bet.trade:
                raise InvalidProofError("another trade was promised", rule="promise.trade")
            known["promise"] = signed.encode().decode()
            known["logged_by_us"], known["digest"] = promise.log_by_us, promise.digest
        for name in ("entry", "logged_us", "open_us", "close_us"):
            if name in document.get("receipt", {}):
                known[name] = int(document["receipt"][name])
        return known

    async def _verify(self, bet: Bet) -> None:
        bundle = await self._trades.bundle(bet.trade)
        expect: dict[str, Any] = {
            "policy_id": self.terms.policy.policy_id,
            "trade": bet.trade,
            "player": bet.player,
            "side": bet.side,
            "stake": tokens(bet.stake),
        }
        if bet.digest is not None and bet.logged_by_us is not None:
            expect |= {"digest": bet.digest, "logged_by_us": bet.logged_by_us}
        if self.terms.development:
            expect["insecure_allow_development"] = True
        # Kept whatever the verdict is: a refused bundle is evidence.
        await asyncio.to_thread((self._bundles / f"{bet.trade}.json").write_bytes, bundle)
        try:
            verdict = await self._verifier.verify_settlement(bundle, expect=expect, check=False)
        except UnavailableError:
            raise
        except QuotaryError as error:
            await self._incident(bet, error.rule or error.slug, str(error))
            return
        if isinstance(verdict, Rejected):
            await self._incident(bet, verdict.rule or verdict.error, verdict.detail)
            return
        if verdict.trade.trade != bet.trade or verdict.outcome.trade != bet.trade:
            await self._incident(bet, "verdict.trade", "the verdict is on another trade")
            return
        found = verdict.outcome
        payout = self.terms.payout(bet, found.outcome, fee=found.fee)
        await self._pay(
            bet,
            payout,
            outcome=found.outcome,
            detail=found.reason,
            result=json.dumps(result_of(found)),
            open_us=found.open_us,
            close_us=found.close_us + found.slid_us,
        )

    async def _pay(self, bet: Bet, payout: int, **known: Any) -> None:
        now_us = self._clock()
        await self.ask(
            lambda book: book.end(
                bet.trade, "settled", now_us, after=("ended",), payout=payout, **known
            )
        )
        await self._tell(bet.trade)

    async def _refuse(self, bet: Bet, error: QuotaryError) -> None:
        now_us, rule, detail = self._clock(), error.rule, str(error)
        await self.ask(
            lambda book: book.end(
                *(bet.trade, "refused", now_us),
                after=("reserved",),
                payout=bet.stake,
                rule=rule,
                detail=detail,
            )
        )
        await self._tell(bet.trade)

    async def _incident(self, bet: Bet, rule: str, detail: str) -> None:
        log.error("trade %s: %s: %s", bet.trade, rule, detail)
        now_us = self._clock()
        await self.ask(
            lambda book: book.advance(
                bet.trade, "incident", now_us, after=OPEN, rule=rule, detail=detail
            )
        )
        await self._tell(bet.trade)

    async def _tell(self, trade: str) -> None:
        bet = await self._read(trade)
        if bet is not None:
            await self.changed(bet)

    async def _read(self, trade: str) -> Bet | None:
        return await self.ask(lambda book: book.bet(trade))

    async def _follow(self) -> None:
        while True:
            try:
                after = await self.ask(lambda book: book.last_event)
                async for event in self._trades.events(after):
                    try:
                        await self.take(event.number, event.trade)
                    except QuotaryError as error:
                        log.error("an event is not what it should be: %s", error)
            except UnavailableError as error:
                log.warning("events: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _settle(self) -> None:
        slots = asyncio.Semaphore(AT_A_TIME)

        async def one(bet: Bet) -> None:
            async with slots:
                try:
                    await self.settle(bet)
                except UnavailableError as error:
                    log.warning("settling: %s", error)

        while True:
            self._ended.clear()
            waiting = await self.ask(lambda book: book.bets_in("ended"))
            await asyncio.gather(*(one(bet) for bet in waiting))
            if not waiting:
                await self._ended.wait()
            elif await self.ask(lambda book: book.bets_in("ended")) == waiting:
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)


def tokens(amount: int) -> str:
    """Writes hundredths of a token as a decimal in normal form."""
    whole, rest = divmod(amount, TOKEN)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


def result_of(found: OutcomeDocument) -> dict[str, str]:
    """Returns what is shown of a verified outcome: entry, close, and the change that decided."""
    shown: dict[str, str] = {}
    opens = sorted(
        Fraction(venue.opening.value)
        for venue in found.venues
        if venue.change is not None and venue.opening.value not in (None, "inf", "0")
    )
    if opens:
        middle = opens[(len(opens) - 1) // 2 : len(opens) // 2 + 1]
        shown["entry_price"] = f"{float(sum(middle) / len(middle)):.2f}"
    if found.display_price is not None:
        shown["close_price"] = f"{float(found.display_price):.2f}"
    if found.change not in (None, "inf"):
        shown["change_bps"] = f"{float((Fraction(found.change) - 1) * 10_000):+.2f}"
    shown["venues"] = str(sum(venue.change is not None for venue in found.venues))
    return shown


def _late(bet: Bet) -> bool:
    """Whether the log had a trade later than its promise said."""
    return (
        bet.logged_by_us is not None
        and bet.logged_us is not None
        and bet.logged_us > bet.logged_by_us
    )
