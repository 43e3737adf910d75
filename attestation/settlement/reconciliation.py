"""What a ledger's reconciliation with its log and bundles came to."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation.reasons import PARTIES
from attestation.schema import Count, Document, Hex32, Micros, Name, OneOf, Price, Text

FINDINGS = (
    "forked_log",
    "double_trade",
    "broken_promise",
    "missing_leaf",
    "other_leaf",
    "unknown_batch",
    "different",
    "refused",
    "evidence_lost",
    "not_shown",
)
"""The kinds of findings, worst first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFinding(Document):
    """One thing that is wrong with a trade or a batch; ``rule`` is of what was refused."""

    kind: Annotated[str, OneOf(FINDINGS)]
    detail: Text
    trade: Hex32 | None = None
    entry: Count | None = None
    rule: Text | None = None
    found: Text | None = None
    wanted: Text | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCount(Document):
    """How many recomputed trades ended so; ``fees`` of them with the operator's fee."""

    outcome: Annotated[str, OneOf(("up", "down", "tie", "void"))]
    count: Count
    fees: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VoidCount(Document):
    """How many trades were void by whose fault."""

    fault: Annotated[str, OneOf(PARTIES)]
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GapCount(Document):
    """How many of a venue's slots that were judged had this gap."""

    venue: Name
    reason: Name
    fault: Annotated[str, OneOf(PARTIES)]
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Document):
    """A ledger's trades against the log and their bundles.

    ``checkpoint`` is the note of the log's ``size`` entries, ``quorum_us`` when its
    witnesses had cosigned it; ``from_us`` and ``until_us`` bound the batches looked at.
    ``equal`` trades came out as the ledger says; ``close_calls`` of them were decided
    by less than the dispersion of their venues' returns.  ``evidence_lost`` ended void,
    returned, without a settlement that anyone could check.  ``slots`` counts slot
    attestations, ``observations`` the quotes and gaps in them.
    """

    TYPE: ClassVar[str | None] = "quotary/reconciliation/v1"

    origin: Text
    checkpoint: str
    size: Count
    quorum_us: Micros | None = None
    policy_id: Hex32
    from_us: Micros
    until_us: Micros
    batches: Count
    trades: Count
    other_policy: Count
    equal: Count
    different: Count
    refused: Count
    evidence_lost: Count
    not_shown: Count
    outcomes: tuple[OutcomeCount, ...]
    voids: tuple[VoidCount, ...]
    close_calls: Count
    stakes: Price
    payouts: Price
    slots: Count
    observations: Count
    gaps: tuple[GapCount, ...]
    promises: Count
    findings: tuple[LedgerFinding, ...]
