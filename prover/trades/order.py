"""What a player orders, and the trade that the operator makes of it (S1)."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from attestation.errors import ExpectationError, UsageError
from attestation.price import fraction
from attestation.schema import AtLeast, Document, HashString, Hex16, Hex32, OneOf, Price
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.trade import TradeLeaf, trade_id

Positive = Annotated[int, AtLeast(1)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order(Document):
    """An order under a policy.

    ``player`` is a hash of whatever the operator knows the player by; ``nonce`` 16 random
    bytes drawn on the player's side, which name the trade.
    """

    player: HashString
    side: Annotated[str, OneOf(("up", "down"))]
    stake: Price
    duration_us: Positive
    policy_id: Hex32
    nonce: Hex16

    @property
    def trade(self) -> str:
        """The id of the trade."""
        return trade_id(self.nonce)

    def check(self, policy: SettlementPolicy, now_us: int) -> None:
        """Raises UsageError for a stake of 0 or less, ExpectationError for another's order.

        ``now_us``: the policy must be in effect by then.
        """
        if fraction(self.stake) <= 0:
            raise UsageError("a stake is more than 0", rule="stake", found=self.stake)
        if self.policy_id != policy.policy_id:
            raise ExpectationError(
                "no such policy is traded under here",
                rule="policy_id",
                found=self.policy_id,
                wanted=policy.policy_id,
            )
        if self.duration_us not in policy.durations_us:
            raise ExpectationError(
                "the policy has no such duration",
                rule="duration_us",
                found=self.duration_us,
                wanted=list(policy.durations_us),
            )
        if now_us < policy.effective_us:
            raise ExpectationError(
                "the policy is not in effect yet",
                rule="policy_id",
                found=now_us,
                wanted=policy.effective_us,
            )

    def leaf(self, policy: SettlementPolicy) -> TradeLeaf:
        """Returns the leaf that is committed to."""
        return TradeLeaf(
            trade=self.trade,
            player=self.player,
            side=self.side,
            market=policy.market,
            stake=self.stake,
            duration_us=self.duration_us,
            policy_id=self.policy_id,
            nonce=self.nonce,
        )
