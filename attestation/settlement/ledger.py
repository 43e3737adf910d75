"""The operator's ledger: one canonical document a line, one line for each leaf logged (S1).

A ledger opens every leaf of every batch; what it says of a trade must be what the
trade's bundle leads to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
)
from attestation.hashing import hash_string
from attestation.log.entry import TradesEntry
from attestation.price import fraction
from attestation.schema import Count, Document, HashString, Hex16, Hex32, OneOf, Price
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.promise import LoggedBatch
from attestation.settlement.trade import TradeBatch, TradeLeaf, TradeOpening

MAX_LINE = 64 * 1024
"""Bytes of the longest line that is read."""
NO_SETTLEMENT = hash_string(b"")
"""In the place of a settlement document's hash where there is none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine(Document):
    """A leaf of the batch that is entry ``entry`` of the log, and how its trade ended.

    ``settlement`` is the hash of the settlement document.  Raises MalformedError
    where ``trade`` is not the leaf's or the payout is below 0.
    """

    TYPE: ClassVar[str | None] = "quotary/ledger/v1"

    trade: Hex32
    salt: Hex16
    entry: Count
    leaf: TradeLeaf
    outcome: Annotated[str, OneOf(("up", "down", "tie", "void"))]
    payout: Price
    settlement: HashString
    attestations: tuple[Hex16, ...]

    def __post_init__(self) -> None:
        if self.trade != self.leaf.trade:
            raise MalformedError(
                "not the leaf's trade", rule="trade", found=self.trade, wanted=self.leaf.trade
            )
        if fraction(self.payout) < 0:
            raise MalformedError("a payout is not below 0", rule="payout", found=self.payout)

    def opening(self) -> TradeOpening:
        """Returns what opens the leaf's commitment."""
        return TradeOpening(salt=self.salt, leaf=self.leaf)

    @property
    def is_returned(self) -> bool:
        """Whether the line is of a void that returned at least the stake."""
        return self.outcome == "void" and fraction(self.payout) >= fraction(self.leaf.stake)

    @property
    def is_unsettled(self) -> bool:
        """Whether the operator itself says that there is no settlement document."""
        return self.settlement == NO_SETTLEMENT and not self.attestations

    def check(self, outcome: OutcomeDocument, settlement: str | None = None) -> None:
        """Compares with what the trade's bundle leads to; raises OutcomeMismatchError.

        ``settlement`` is the document's hash, if it is known.  A tie returns the stake, a
        void at least the stake.
        """
        hashed = hash_string(outcome.encode()) if settlement is None else settlement
        for member, found, wanted in (
            ("trade", self.trade, outcome.trade),
            ("outcome", self.outcome, outcome.outcome),
            ("settlement", self.settlement, hashed),
            ("attestations", list(self.attestations), list(outcome.attestations)),
        ):
            if found != wanted:
                raise OutcomeMismatchError(
                    f"the ledger's {member} is not what follows from the log",
                    rule=f"ledger.{member}",
                    found=found,
                    wanted=wanted,
                )
        stake, payout = fraction(self.leaf.stake), fraction(self.payout)
        short = payout < stake if outcome.outcome == "void" else payout != stake
        if outcome.outcome in ("tie", "void") and short:
            raise OutcomeMismatchError(
                "the stake was not returned",
                rule="ledger.payout",
                found=self.payout,
                wanted=self.leaf.stake,
            )


def read_ledger(lines: Iterable[bytes]) -> Iterator[LedgerLine]:
    """Reads a ledger's lines, each with or without its newline.

    Raises MalformedError, which names the line, and for one leaf twice.
    """
    seen: set[tuple[int, str]] = set()
    for number, data in enumerate(lines, 1):
        try:
            line = LedgerLine.decode(data, limit=MAX_LINE)
        except MalformedError as error:
            raise MalformedError(
                f"line {number}: {error.detail}",
                rule=f"ledger.{error.rule or 'line'}",
                found=error.found,
                wanted=error.wanted,
            ) from None
        if (line.entry, line.trade) in seen:
            raise MalformedError(
                f"line {number}: one leaf twice", rule="ledger.trade", found=line.trade
            )
        seen.add((line.entry, line.trade))
        yield line


def open_batches(
    lines: Iterable[LedgerLine], entries: Mapping[int, TradesEntry]
) -> list[LoggedBatch]:
    """Opens every batch of a log, ``entries`` by index; returns them in log order.

    Raises InvalidProofError for a line whose entry is no batch, or leaves that are not
    the batch's, and IncompleteError for a batch whose leaves are not all there.
    """
    by_entry: dict[int, list[LedgerLine]] = {index: [] for index in entries}
    for line in lines:
        if line.entry not in by_entry:
            raise InvalidProofError(
                "the log has no batch there",
                rule="ledger.entry",
                found=line.entry,
            )
        by_entry[line.entry].append(line)
    batches = []
    for index, entry in sorted(entries.items()):
        found = by_entry[index]
        if len(found) < entry.count:
            raise IncompleteError(
                "the ledger does not open all leaves of a batch",
                rule="ledger.batch",
                found=[index, len(found)],
                wanted=[index, entry.count],
            )
        batch = TradeBatch.of(line.opening().commitment() for line in found)
        batches.append(LoggedBatch(index=index, entry=entry, batch=batch))
    return batches
