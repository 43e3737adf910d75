"""What trades pay, as exact decimals: nothing here decides who has won."""

from __future__ import annotations

import dataclasses

from attestation.errors import MalformedError, UsageError
from attestation.price import format_exact, fraction
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.trade import TradeLeaf


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Payouts:
    """``win``: how many stakes a won trade pays back; ``fee``: what a void of the operator's adds.

    Both decimals in normal form; raises UsageError for a win below 1 or a fee below 0.
    """

    win: str
    fee: str

    def __post_init__(self) -> None:
        for name, amount, least in (("win", self.win, 1), ("fee", self.fee, 0)):
            try:
                fits = fraction(amount) >= least
            except MalformedError:
                fits = False
            if not fits:
                raise UsageError(
                    f"{name} is a decimal from {least} on", rule=f"payouts.{name}", found=amount
                )

    @classmethod
    def of(cls, policy: SettlementPolicy, *, win: str) -> Payouts:
        """Takes the fee that the policy states; UsageError if it is no amount."""
        return cls(win=win, fee=policy.fee)

    def settled(self, leaf: TradeLeaf, outcome: str, *, fee: bool) -> str:
        """Returns the payout of a trade that ended ``up``, ``down``, ``tie`` or ``void``.

        ``fee``: a void for which the operator pays.
        """
        if outcome == "void":
            return self.refund(leaf, fee=fee)
        if outcome == "tie":
            return leaf.stake
        return (
            format_exact(fraction(leaf.stake) * fraction(self.win)) if outcome == leaf.side else "0"
        )

    def refund(self, leaf: TradeLeaf, *, fee: bool) -> str:
        """Returns the payout of a void."""
        return format_exact(fraction(leaf.stake) + fraction(self.fee)) if fee else leaf.stake
