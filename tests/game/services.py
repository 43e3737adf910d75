"""Trades and verify APIs in one process, for a game: honest, and as unreliable as a test asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from attestation.encoding import encode_decoded
from attestation.errors import UnavailableError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.price import format_exact
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.promise import Promise, sign_promise
from attestation.settlement.trade import TradeLeaf, trade_id
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from examples.game.services import TradeEvent
from tests.settlement.cases import policy

KEY = SigningKey(name="operator.example", algorithm="ed25519", seed=b"\x07" * 32)
POLICY = policy()
WIN, FEE = Fraction("1.9"), 10


def outcome_of(trade: str) -> str:
    """How a trade ends here: by the first digit of its id."""
    return ("up", "down", "up", "down", "tie", "void")[int(trade[:4], 16) % 6]


def payout_of(order: Mapping[str, Any], outcome: str) -> str:
    """What the rule of payouts says, written down once more."""
    stake = Fraction(order["stake"])
    if outcome == "void":
        return format_exact(stake + FEE)
    return format_exact(stake if outcome == "tie" else stake * WIN * (outcome == order["side"]))


@dataclass
class Operator:
    """Takes orders, and ends all that it took when told to; keeps everything, like a store."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[TradeEvent] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """Every order that was taken, once each time that it was taken anew."""
    silent: set[str] = field(default_factory=set)
    """Nonces whose order is taken, but whose first answer is lost."""
    slow: set[str] = field(default_factory=set)
    """Nonces whose order is held up on its way, until it is delivered."""
    underway: list[dict[str, Any]] = field(default_factory=list)
    false: set[str] = field(default_factory=set)
    """Trades whose bundle is refused."""
    says: dict[str, str] = field(default_factory=dict)
    """Payouts of trades of which the house's ledger says something else."""
    away: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def place(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if self.away:
            raise UnavailableError("away")
        if order["nonce"] in self.slow:
            self.underway.append(dict(order))
            raise UnavailableError("no answer in time")
        trade = trade_id(order["nonce"])
        if trade not in self.orders:
            self.taken.append(trade)
            promise = Promise(trade=trade, digest=hash_string(b"leaf"), log_by_us=1_500_000)
            shown: dict[str, Any] = {"trade": trade, "state": "pending"}
            shown["promise"] = sign_promise(promise, KEY).to_json()
            self.orders[trade] = {"order": dict(order), "shown": shown}
            self._say(trade)
        if order["nonce"] in self.silent:
            self.silent.remove(order["nonce"])
            raise UnavailableError("the answer is lost")
        return dict(self.orders[trade]["shown"])

    async def trade(self, trade: str) -> dict[str, Any] | None:
        if self.away:
            raise UnavailableError("away")
        return dict(self.orders[trade]["shown"]) if trade in self.orders else None

    async def keep(self, trade: str, file: Path) -> None:
        if self.away:
            raise UnavailableError("away")
        await asyncio.to_thread(file.write_bytes, encode_decoded({"trade": trade}))

    async def events(self, after: int) -> AsyncIterator[Sequence[TradeEvent]]:
        # What was said is said again after a break, as a store does; then as it comes.
        number = after
        while not self.away:
            # Before it is looked: what is said while one is taken is not missed.
            self.changed.clear()
            if events := self.log[number:]:
                number = events[-1].number
                yield events
            await self.changed.wait()
        raise UnavailableError("away")

    async def verify_settlement(
        self, file: Path, *, expect: Mapping[str, Any], check: bool
    ) -> SettlementVerdict | Rejected:
        assert not check
        bundle = json.loads(await asyncio.to_thread(file.read_bytes))
        return self.verdict(bundle["trade"], expect)

    def verdict(self, trade: str, expect: Mapping[str, Any]) -> SettlementVerdict | Rejected:
        """What the verify API finds a trade's bundle to prove."""
        order = self.orders[trade]["order"]
        for name in ("policy_id", "player", "side", "stake"):
            assert expect[name] == order[name]
        assert expect["trade"] == trade
        if trade in self.false:
            return Rejected(
                verdict="rejected",
                error="outcome_mismatch",
                rule="outcome.outcome",
                detail="another outcome follows",
            )
        outcome = outcome_of(trade)
        return SettlementVerdict(
            verdict="accepted",
            trade=TradeLeaf(**order, trade=trade, market=POLICY.market),
            outcome=OutcomeDocument(
                trade=trade,
                policy_id=POLICY.policy_id,
                side=order["side"],
                duration_us=order["duration_us"],
                logged_us=1,
                outcome=outcome,
                fee=outcome == "void",
                open_us=2,
                close_us=3,
                slid_us=0,
                final_after_us=4,
                venues=(),
                attestations=(),
            ),
            settlement=hash_string(b"document"),
            notaries=(),
            logs=(),
            checked=(),
            not_checked=(),
        )

    async def deliver(self, nonces: set[str]) -> None:
        """Has orders arrive that were held up, as often as they were sent."""
        self.slow -= nonces
        arrived = [order for order in self.underway if order["nonce"] in nonces]
        self.underway = [order for order in self.underway if order["nonce"] not in nonces]
        for order in arrived:
            await self.place(order)

    def log_all(self) -> None:
        """Logs every trade that is not logged."""
        for trade, kept in self.orders.items():
            if "receipt" not in kept["shown"]:
                receipt = {"entry": 1, "logged_us": 1_000_000, "open_us": 2_000_000}
                kept["shown"] = {**kept["shown"], "receipt": {**receipt, "close_us": 32_000_000}}
                self._say(trade)

    def end_all(self) -> None:
        """Ends every trade that is not ended."""
        self.log_all()
        for trade, kept in self.orders.items():
            if kept["shown"]["state"] == "pending":
                outcome = outcome_of(trade)
                kept["shown"] |= {
                    "state": "void" if outcome == "void" else "final",
                    "bundle": f"/{trade}",
                    "settlement": {"outcome": outcome},
                    "payout": self.says.get(trade, payout_of(kept["order"], outcome)),
                }
                self._say(trade)

    def _say(self, trade: str) -> None:
        self.log.append(TradeEvent(len(self.log) + 1, self.orders[trade]["shown"]))
        self.changed.set()
