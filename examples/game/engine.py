"""The trade engine: takes orders and follows each to its end.

Every step is one transaction of the book, so that a restart goes on where it was: an order
that was not answered is sent again (its nonce is its key), events are followed from the last
one taken, and what has ended but is not paid is verified again.  Nothing here knows a price.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attestation.errors import InvalidProofError, QuotaryError, RefusedError, UnavailableError
from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import trade_id
from examples.game.bet import OPEN, Bet
from examples.game.book import Book
from examples.game.clerk import Clerk
from examples.game.services import TradeEvent, Trades, Verifier
from examples.game.settling import Settler
from examples.game.terms import Terms

RESEND_SECONDS, GIVE_UP_SECONDS = 10, 20
"""An order that nobody answered is sent again for so long; from then on it is only asked for."""
RETRY_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often trades are looked at that have no answer, or are overdue by ``OVERDUE_US``."""
OVERDUE_US = 10_000_000
log = logging.getLogger("game")


class Engine:
    """Trades under ``terms``.  ``changed`` is told of every trade that changed."""

    def __init__(
        self,
        clerk: Clerk,
        trades: Trades,
        verifier: Verifier,
        terms: Terms,
        *,
        bundles: Path,
        clock: Callable[[], int],
        changed: Callable[[Bet], None],
    ) -> None:
        self.clerk = clerk
        self.terms = terms
        self.changed = changed
        self._trades = trades
        self._clock = clock
        self._placing: set[str] = set()
        self._told = clerk.read(_last_resolution)
        self._settler = Settler(
            *(clerk, verifier, terms), bundles=bundles, clock=clock, changed=self._tell
        )

    async def open(
        self, player: str, nonce: str, side: str, stake: int, seen: str | None
    ) -> tuple[Bet, int]:
        """Takes an order: holds the stake, has the trade promised; returns it and the balance.

        The same order again is the same trade.  Where the trades API does not answer, the
        trade is returned as ``reserved`` and followed up.  Raises what ``Book.reserve`` does.
        """
        new = Bet(
            trade=trade_id(nonce),
            player=player,
            nonce=nonce,
            side=side,
            stake=stake,
            seen=seen,
            clicked_us=self._clock(),
            state="reserved",
        )
        bet = await self.clerk.do(lambda book: book.reserve(new))
        if bet.state == "reserved" and bet.trade not in self._placing:
            bet = await self._place(bet)
        return bet, self.clerk.read(lambda book: book.balance(player))

    async def run(self) -> None:
        """Follows every trade until cancelled."""
        await asyncio.gather(self._follow(), self._settler.run(), self._look())

    async def look(self) -> None:
        """Looks once at trades that nobody answered for, and at those that are overdue."""
        now_us = self._clock()
        overdue_us = now_us - self.terms.duration_us - OVERDUE_US
        found = await self.clerk.ask(
            lambda book: (
                *book.bets_in("reserved"),
                *book.bets_in("promised", "logged", until_us=overdue_us),
            )
        )
        for bet in found:
            age = (now_us - bet.clicked_us) / 1e6
            try:
                if bet.trade in self._placing:
                    continue
                if bet.state != "reserved" or age >= GIVE_UP_SECONDS:
                    await self._look_at(bet)
                elif age < RESEND_SECONDS:
                    await self._place(bet)
            except UnavailableError as error:
                log.warning("looking at trades: %s", error)
                return

    async def take(self, number: int, document: Mapping[str, Any]) -> None:
        """Takes an event of the trades API, or with number 0 what was asked for."""
        trade = str(document["trade"])
        bet = self.clerk.read(lambda book: book.bet(trade))
        if bet is None:
            log.warning("trade %s is not of this book", trade)
            await self.clerk.do(lambda book: book.take_event(number, trade, "promised", 0))
            return
        known = _receipt(document)
        try:
            known |= self._promise(bet, document)
        except QuotaryError:
            if bet.state in OPEN:
                raise
        state = "logged" if "receipt" in document else "promised"
        if document["state"] != "pending":
            state = "ended"
            known["house"] = json.dumps(_house(document))
        if bet.state in OPEN and OPEN.index(bet.state) >= OPEN.index(state):
            return  # Known, so that the next event may say that this one was taken.
        now_us = self._clock()
        if await self.clerk.do(lambda book: book.take_event(number, trade, state, now_us, **known)):
            self._tell(trade)
            if state == "ended":
                self._settler.wake()

    async def _place(self, bet: Bet) -> Bet:
        """Has a trade promised, if that can be now; returns it as it is then."""
        self._placing.add(bet.trade)
        try:
            placed = await self._trades.place(self.terms.order(bet))
            known = self._promise(bet, placed)
        except UnavailableError as error:
            log.warning("an order has no answer: %s", error)
        except RefusedError as error:
            await self._refuse(bet, error)
        except QuotaryError as error:
            # Promised by another key, or another trade: the order stands, and is shown so.
            await self._settler.incident(bet, error.rule or "promise", str(error))
        else:
            self._note_promise(bet.trade, known)
            return dataclasses.replace(bet, state="promised", **known)
        finally:
            self._placing.discard(bet.trade)
        return self.clerk.read(lambda book: _known(book, bet.trade))

    def _note_promise(self, trade: str, known: dict[str, Any]) -> None:
        """Has a promise written down, without waiting for it.

        It is durable where it was given: one that a crash loses here is asked for again.
        """
        now_us = self._clock()
        noting = self.clerk.give(
            lambda book: book.advance(trade, "promised", now_us, after=("reserved",), **known)
        )

        def noted(noting: asyncio.Future[bool]) -> None:
            if noting.cancelled():
                return
            if error := noting.exception():
                log.error("the promise of trade %s is not written down: %r", trade, error)
            elif noting.result():
                self._tell(trade)

        noting.add_done_callback(noted)

    async def _look_at(self, bet: Bet) -> None:
        document = await self._trades.trade(bet.trade)
        if document is not None:
            await self.take(0, document)
        elif bet.state == "reserved":
            # It may still arrive: then it is late, and does not pay what is paid back here.
            await self._refuse(bet, RefusedError("the order did not arrive", rule="order"))

    def _promise(self, bet: Bet, document: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the promise; raises if it is not the operator's, of this trade."""
        if bet.promise is not None or "promise" not in document:
            return {}
        signed = SignedPromise.from_json(document["promise"])
        promise = signed.check(self.terms.operator)
        if promise.trade != bet.trade:
            raise InvalidProofError("another trade was promised", rule="promise.trade")
        return {
            "promise": signed.encode().decode(),
            "logged_by_us": promise.log_by_us,
            "digest": promise.digest,
        }

    async def _refuse(self, bet: Bet, error: QuotaryError) -> None:
        now_us, rule, detail = self._clock(), error.rule, str(error)

        def refund(book: Book) -> bool:
            known: dict[str, Any] = {"payout": bet.stake, "rule": rule, "detail": detail}
            return book.end(bet.trade, "refused", now_us, after=("reserved",), **known)

        if await self.clerk.do(refund):
            self._tell(bet.trade)

    def _tell(self, trade: str) -> None:
        self.changed(self.clerk.read(lambda book: _known(book, trade)))

    async def _follow(self) -> None:
        while True:
            try:
                after = self.clerk.read(lambda book: book.last_event)
                async for events in self._trades.events(after):
                    # In their order, and in one commit.
                    await asyncio.gather(*map(self._take_event, events))
            except UnavailableError as error:
                log.warning("events: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _take_event(self, event: TradeEvent) -> None:
        try:
            await self.take(event.number, event.trade)
        except QuotaryError as error:
            log.error("an event is not what it should be: %s", error)

    async def _look(self) -> None:
        while True:
            await self.look()
            for note in await self.clerk.ask(lambda book: book.resolutions(self._told)):
                self._told = note.number
                self._tell(note.trade)
            await asyncio.sleep(LOOK_SECONDS)


def _known(book: Book, trade: str) -> Bet:
    bet = book.bet(trade)
    assert bet is not None
    return bet


def _last_resolution(book: Book) -> int:
    return max((note.number for note in book.resolutions()), default=0)


def _receipt(document: Mapping[str, Any]) -> dict[str, Any]:
    names, found = ("entry", "logged_us", "open_us", "close_us"), document.get("receipt", {})
    return {name: int(found[name]) for name in names if name in found}


def _house(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the house's ledger says of an ended trade."""
    outcome = document.get("settlement", {}).get("outcome")
    found = {name: document.get(name) for name in ("state", "reason", "payout")}
    return {**found, "outcome": outcome, "bundle": "bundle" in document}
