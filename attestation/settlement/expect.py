"""What the reader of a bundle demands of it."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Annotated, Self

from attestation.encoding import JsonObject, encode
from attestation.errors import ExpectationError, MalformedError, UsageError
from attestation.schema import Document, HashString, Hex32, Micros, OneOf, Price, Text
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.promise import Promise
from attestation.settlement.rule import Terms
from attestation.settlement.trade import TradeOpening, TradeProof
from attestation.trust import Trust


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementExpect(Document):
    """The policy that was agreed on, and what is known of the trade.

    ``policy_id`` says what was agreed: market, venues, windows, notaries and log
    policy.  ``trade``, ``player``, ``side`` and ``stake`` are the trade's, where the
    reader knows them; ``digest`` its promised commitment and ``logged_by_us`` until when
    it had to be logged; ``operators`` who may run the notaries.
    """

    policy_id: Hex32
    trade: Hex32 | None = None
    market: Text | None = None
    player: HashString | None = None
    side: Annotated[str, OneOf(("up", "down"))] | None = None
    stake: Price | None = None
    digest: HashString | None = None
    logged_by_us: Micros | None = None
    operators: tuple[Text, ...] | None = None
    insecure_allow_development: bool | None = None

    @classmethod
    def parse(cls, toml: bytes) -> Self:
        """Reads an expect file; raises UsageError."""
        try:
            value: JsonObject = tomllib.loads(toml.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"expect file is not TOML: {error}") from None
        encode(value)
        try:
            return cls.from_json(value)
        except MalformedError as error:
            raise UsageError(
                f"expect file: {error}", rule=error.rule, found=error.found, wanted=error.wanted
            ) from None

    def promised(self, promise: Promise) -> SettlementExpect:
        """Returns this with what an operator promised: its leaf, and by when it is logged."""
        return dataclasses.replace(
            self, trade=promise.trade, digest=promise.digest, logged_by_us=promise.log_by_us
        )


def check_trade(trade: TradeProof, expect: SettlementExpect) -> None:
    """Raises ExpectationError (``expect.<member>``) for another trade or leaf."""
    leaf = trade.leaf
    for member in ("trade", "market", "player", "side", "stake"):
        found, wanted = getattr(leaf, member), getattr(expect, member)
        if wanted is not None and found != wanted:
            raise ExpectationError(
                "the bundle is of another trade",
                rule=f"expect.{member}",
                found=found,
                wanted=wanted,
            )
    digest = TradeOpening(salt=trade.salt, leaf=leaf).commitment().digest
    if expect.digest not in (None, digest):
        raise ExpectationError(
            "the trade's leaf is another than the promised one",
            rule="expect.digest",
            found=digest,
            wanted=expect.digest,
        )


def check_promised(terms: Terms, expect: SettlementExpect) -> None:
    """Raises ExpectationError (``expect.logged_by_us``) for a trade that was logged late."""
    if expect.logged_by_us is not None and terms.logged_us > expect.logged_by_us:
        raise ExpectationError(
            "the trade was logged later than promised, or is a second leaf of it",
            rule="expect.logged_by_us",
            found=terms.logged_us,
            wanted=expect.logged_by_us,
        )


def check_operators(policy: SettlementPolicy, trust: Trust, expect: SettlementExpect) -> None:
    """Raises ExpectationError (``expect.operators``) for a notary that another runs."""
    if expect.operators is None:
        return
    for notary in policy.notaries:
        operator = trust.operator_of(notary.notary)
        if operator not in expect.operators:
            raise ExpectationError(
                f"{notary.notary} is run by another operator",
                rule="expect.operators",
                found=operator,
                wanted=list(expect.operators),
            )
