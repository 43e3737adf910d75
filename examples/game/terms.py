"""The terms of play: what is traded, what it pays, and what a bundle has to prove of a trade."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from attestation.keys import VerifyingKey
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.policy import SettlementPolicy
from examples.game.bet import TOKEN, Bet, tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The policy, a trade's duration, and what a won trade pays back."""

    policy: SettlementPolicy
    win: Fraction
    operator: VerifyingKey
    """Whose promises count."""
    development: bool = False

    @property
    def duration_us(self) -> int:
        """The policy's first duration."""
        return self.policy.durations_us[0]

    @property
    def fee(self) -> int:
        """What a void by the operator's fault pays besides the stake."""
        return int(Fraction(self.policy.fee) * TOKEN)

    def payout(self, bet: Bet, outcome: str, *, fee: bool) -> int:
        """Returns what a trade pays, in hundredths of a token; a broken one is cut."""
        if outcome == "tie":
            return bet.stake
        if outcome == "void":
            return bet.stake + (self.fee if fee else 0)
        return int(bet.stake * self.win) if outcome == bet.side else 0

    def order(self, bet: Bet) -> dict[str, Any]:
        """Returns a trade's order for the trades API."""
        return {
            "player": bet.player,
            "side": bet.side,
            "stake": tokens(bet.stake),
            "duration_us": self.duration_us,
            "policy_id": self.policy.policy_id,
            "nonce": bet.nonce,
        }

    def expectation(self, bet: Bet) -> dict[str, Any]:
        """Returns what a bundle must be about to settle a trade."""
        expect: dict[str, Any] = {
            "policy_id": self.policy.policy_id,
            "trade": bet.trade,
            "player": bet.player,
            "side": bet.side,
            "stake": tokens(bet.stake),
        }
        if bet.digest is not None and bet.logged_by_us is not None:
            expect |= {"digest": bet.digest, "logged_by_us": bet.logged_by_us}
        if self.development:
            expect["insecure_allow_development"] = True
        return expect


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
