"""One trade of a ledger after the other, recomputed and compared; and what they come to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from attestation.document import GapField
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    OutcomeMismatchError,
    QuotaryError,
    UnavailableError,
    UsageError,
)
from attestation.log.checkpoint import Checkpoint
from attestation.log.files import LogFiles
from attestation.log.note import Note
from attestation.log.tree import Frontier
from attestation.observation import read_venue_field
from attestation.price import format_exact, fraction
from attestation.reasons import PARTIES
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.outcome import OutcomeDocument, dispersion
from attestation.settlement.recompute import SettlementVerifier, VerifiedSettlement
from attestation.settlement.reconciliation import (
    FINDINGS,
    GapCount,
    LedgerFinding,
    OutcomeCount,
    VoidCount,
)
from attestation.trust import Trust
from attestation.venues import VenueFile

OUTCOMES = ("up", "down", "tie", "void")
ENDS = ("equal", "different", "refused", "evidence_lost", "not_shown")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """By what bundles are recomputed: as in ``verify_settlement``."""

    trust: Trust
    log_policy: bytes
    expect: SettlementExpect
    venue_files: Mapping[str, VenueFile]

    def verifier(self) -> SettlementVerifier:
        """Returns what recomputes them: what trades share once, while it is at hand."""
        return SettlementVerifier(
            trust=self.trust, log_policy=self.log_policy, venue_files=self.venue_files
        )


class Findings:
    """Findings as they come; ``sorted`` puts the worst first."""

    def __init__(self) -> None:
        self._found: list[LedgerFinding] = []
        self.broken: set[str] = set()
        """Trades whose promise was broken: void with the fee, whatever their prices."""

    def add(self, kind: str, detail: str, **where: Any) -> None:
        self._found.append(LedgerFinding(kind=kind, detail=detail[:1_000], **where))

    def error(self, kind: str, error: QuotaryError, **where: Any) -> None:
        found, wanted = (
            None if value is None else str(value)[:400] for value in (error.found, error.wanted)
        )
        self.add(kind, error.detail, rule=error.rule, found=found, wanted=wanted, **where)

    def sorted(self) -> tuple[LedgerFinding, ...]:
        return tuple(sorted(self._found, key=lambda one: FINDINGS.index(one.kind)))


class SeenLog:
    """Checkpoints of bundles that the log read is known to begin with."""

    def __init__(self, files: LogFiles, head: Checkpoint) -> None:
        self._files = files
        self._head = head
        self._known: dict[int, bytes] = {}

    def check(self, note: str) -> None:
        """Raises InvalidProofError (``log.forked``) for a checkpoint of another history."""
        shown = Checkpoint.parse(Note.parse(note.encode("utf-8")).text)
        if shown.size > self._head.size:
            raise IncompleteError(
                "the bundle's checkpoint is newer than the log that was read",
                rule="log.checkpoint",
                found=shown.size,
                wanted=self._head.size,
            )
        if shown.size not in self._known:
            self._known[shown.size] = Frontier(shown.size, self._files.frontier(shown.size)).root()
        if shown.origin != self._head.origin or shown.root != self._known[shown.size]:
            raise InvalidProofError(
                "the bundle's checkpoint is not of the log that was read",
                rule="log.forked",
                found=shown.root.hex(),
                wanted=self._known[shown.size].hex(),
            )


class TradeTally:
    """What the trades came to."""

    def __init__(self) -> None:
        self.other_policy = 0
        self._ends: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._fees: Counter[str] = Counter()
        self._voids: Counter[str] = Counter()
        self._gaps: Counter[tuple[str, str, str]] = Counter()
        self._slots: set[str] = set()
        self._observations = self._close = 0
        self._stakes = self._payouts = Fraction(0)

    def take(
        self,
        line: LedgerLine,
        bundle: Callable[[str], SettlementBundle | None],
        verify: Callable[[str, SettlementBundle], VerifiedSettlement],
        seen: SeenLog,
        found: Findings,
    ) -> None:
        """Recomputes one trade and compares."""
        self._stakes += fraction(line.leaf.stake)
        self._payouts += fraction(line.payout)
        place: dict[str, Any] = {"trade": line.trade, "entry": line.entry}
        try:
            shown = bundle(line.trade)
            if shown is None and line.trade in found.broken and line.is_returned:
                self._count_broken()
                return
            if shown is None and line.is_returned and line.is_unsettled:
                self._ends["evidence_lost"] += 1
                found.add("evidence_lost", "void and returned, but without a settlement", **place)
                return
            if shown is None:
                self._ends["not_shown"] += 1
                found.add("not_shown", "no bundle of the trade", **place)
                return
            verified = self._recompute(line, shown, verify, seen)
        except (UnavailableError, UsageError):
            raise
        except QuotaryError as error:
            kind = "different" if isinstance(error, OutcomeMismatchError) else "refused"
            self._ends[kind] += 1
            found.error("forked_log" if error.rule == "log.forked" else kind, error, **place)
            return
        outcome = verified.outcome
        self._ends["equal"] += 1
        if verified.fault is not None:
            self._voids[verified.fault] += 1
        self._outcomes[outcome.outcome] += 1
        self._fees[outcome.outcome] += outcome.fee
        self._close += _is_close(outcome)
        self._count(shown)

    def _count_broken(self) -> None:
        """Counts a trade that is void as its promise was broken, which is found already."""
        self._ends["equal"] += 1
        self._outcomes["void"] += 1
        self._fees["void"] += 1
        self._voids["prover"] += 1

    def _recompute(
        self,
        line: LedgerLine,
        shown: SettlementBundle,
        verify: Callable[[str, SettlementBundle], VerifiedSettlement],
        seen: SeenLog,
    ) -> VerifiedSettlement:
        verified = verify(line.trade, shown)
        for member, found, wanted in (
            ("entry", shown.batch, line.entry),
            ("salt", shown.trade.salt, line.salt),
        ):
            if found != wanted:
                raise InvalidProofError(
                    f"the bundle's {member} is not the ledger's",
                    rule=f"ledger.{member}",
                    found=found,
                    wanted=wanted,
                )
        seen.check(shown.logs[0].checkpoint)
        line.check(verified.outcome, verified.settlement)
        return verified

    def _count(self, shown: SettlementBundle) -> None:
        for attestation in shown.slots:
            if attestation.header.id in self._slots:
                continue
            self._slots.add(attestation.header.id)
            for raw in attestation.fields[1:-1]:
                field = read_venue_field(raw.name, raw.value)
                self._observations += 1
                if isinstance(field, GapField):
                    self._gaps[field.venue, field.reason, field.fault] += 1

    def counts(self) -> dict[str, Any]:
        """Returns the members of a report that count trades and slots."""
        return {
            "other_policy": self.other_policy,
            **{name: self._ends[name] for name in ENDS},
            "outcomes": tuple(
                [
                    OutcomeCount(outcome=name, count=self._outcomes[name], fees=self._fees[name])
                    for name in OUTCOMES
                ]
            ),
            "voids": tuple(
                [
                    VoidCount(fault=fault, count=self._voids[fault])
                    for fault in PARTIES
                    if self._voids[fault]
                ]
            ),
            "close_calls": self._close,
            "stakes": format_exact(self._stakes),
            "payouts": format_exact(self._payouts),
            "slots": len(self._slots),
            "observations": self._observations,
            "gaps": tuple(
                [
                    GapCount(venue=venue, reason=reason, fault=fault, count=count)
                    for (venue, reason, fault), count in sorted(self._gaps.items())
                ]
            ),
        }


def _is_close(outcome: OutcomeDocument) -> bool:
    noise = dispersion(outcome)
    if noise is None or outcome.change is None or outcome.change == "inf":
        return False
    return abs(Fraction(outcome.change) - 1) < noise
