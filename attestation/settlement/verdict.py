"""The verdict on a settlement bundle, as the verify API answers it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation.encoding import Json
from attestation.schema import Count, Document, HashString, Micros, OneOf, Text
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.trade import TradeLeaf
from attestation.verdict import Rejected, VerdictNotary


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRange(Document):
    """Entries ``first`` to just before ``size`` of a notary's log, of which all were seen.

    ``until_us`` is the last entry's time; ``quorum_us`` when as many witnesses as the log
    policy asks for had cosigned, absent where it asks for none.
    """

    notary: Text
    origin: Text
    first: Count
    size: Count
    until_us: Micros
    quorum_us: Micros | None = None
    witnesses: tuple[Text, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementVerdict(Document):
    """A favourable verdict: the claimed settlement is what follows.

    ``settlement`` is the hash of ``outcome``, the settlement document, with every value
    on the way; ``notaries`` those of the policy, in its order.
    """

    TYPE: ClassVar[str | None] = "quotary/settlement_verdict/v1"

    verdict: Annotated[str, OneOf(("accepted",))]
    trade: TradeLeaf
    outcome: OutcomeDocument
    settlement: HashString
    notaries: tuple[VerdictNotary, ...]
    logs: tuple[VerdictRange, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


def read_settlement_verdict(value: Json) -> SettlementVerdict | Rejected:
    """Reads a verdict strictly; raises MalformedError."""
    if isinstance(value, dict) and value.get("verdict") == "rejected":
        return Rejected.from_json(value)
    return SettlementVerdict.from_json(value)
