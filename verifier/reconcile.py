"""Compares an operator's ledger with the log and with what each trade's bundle leads to.

Pure: the log is read by any function of a path, bundles by any function of a trade's id.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import Checkpoint, SignedCheckpoint
from attestation.log.entry import TradesEntry, read_entry
from attestation.log.files import LogFiles, Read
from attestation.log.note import Note
from attestation.log.policy import LogPolicy
from attestation.log.tree import Frontier
from attestation.observation import read_venue_field
from attestation.price import format_exact, fraction
from attestation.reasons import PARTIES
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine, open_batches
from attestation.settlement.outcome import OutcomeDocument, dispersion
from attestation.settlement.promise import (
    LoggedBatch,
    SignedPromise,
    broken_promise,
    double_trades,
)
from attestation.settlement.recompute import VerifiedSettlement, verify_settlement
from attestation.settlement.reconciliation import (
    FINDINGS,
    GapCount,
    LedgerFinding,
    OutcomeCount,
    Reconciliation,
    VoidCount,
)
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.logfiles import read_all

OUTCOMES = ("up", "down", "tie", "void")
SECOND_US = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """By what bundles are recomputed: as in ``verify_settlement``."""

    trust: Trust
    log_policy: bytes
    expect: SettlementExpect
    venue_files: Mapping[str, VenueFile]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """Promises that players kept, and the key that the operator signs them with."""

    promises: tuple[SignedPromise, ...]
    operator: VerifyingKey


def reconcile(
    lines: Iterable[LedgerLine],
    *,
    note: bytes,
    read: Read,
    bundle: Callable[[str], SettlementBundle | None],
    reading: Reading,
    promised: Promised | None = None,
    from_us: int = 0,
    until_us: int | None = None,
    step: Callable[[str, int, int], None] = lambda what, position, size: None,
) -> Reconciliation:
    """Reconciles the batches that were logged from ``from_us`` to just before ``until_us``.

    ``note`` is the log's checkpoint; ``bundle`` returns a trade's bundle, None where
    it is not shown; ``step(what, position, size)`` tells how far it is.  Findings are in
    the report; raises UnavailableError and InvalidProofError for a log that cannot be
    read or does not fold to its checkpoint, MalformedError for a ledger that is none.
    """
    found = _Findings()
    known = LogPolicy.parse(reading.log_policy)
    signed = known.open_log(note)
    log = _Log.read(read, signed, step)
    end_us = log.until_us + 1 if until_us is None else until_us
    entries = {
        index: entry for index, entry in log.batches.items() if from_us <= entry.logged_us < end_us
    }
    # What lies outside the times asked for is another reconciliation's.
    every = [line for line in lines if line.entry in entries or line.entry not in log.batches]
    batches = _batches(every, entries, found)
    for violation in double_trades(batches):
        found.add(violation.kind, violation.detail, entry=violation.entries[-1])
    first = _first(batches)
    kept = 0 if promised is None else _promises(promised, first, log.until_us, found)
    trades = _trades(every, entries)
    tally = _Tally()
    seen = _Seen(log.files, signed.checkpoint)
    for number, line in enumerate(trades):
        step("trades", number, len(trades))
        if line.leaf.policy_id != reading.expect.policy_id:
            tally.other_policy += 1
            continue
        tally.take(line, bundle, reading, seen, found)
    return Reconciliation(
        origin=signed.checkpoint.origin,
        checkpoint=note.decode("utf-8"),
        size=signed.checkpoint.size,
        quorum_us=_quorum_us(known, signed),
        policy_id=reading.expect.policy_id,
        from_us=from_us,
        until_us=end_us,
        batches=len(entries),
        trades=len(trades),
        promises=kept,
        findings=found.sorted(),
        **tally.counts(),
    )


class _Log:
    """A log that was read whole: its batches, and the time of its last entry."""

    def __init__(self, files: LogFiles) -> None:
        self.files = files
        self.batches: dict[int, TradesEntry] = {}
        self.until_us = 0

    @classmethod
    def read(
        cls, read: Read, signed: SignedCheckpoint, step: Callable[[str, int, int], None]
    ) -> _Log:
        head = signed.checkpoint
        log = cls(LogFiles(read, head.size))
        raw = b""
        entries = read_all(read, head, step=lambda position, size: step("entries", position, size))
        for index, raw in enumerate(entries):
            if b'"kind":"trades"' in raw:
                entry = read_entry(raw)
                if isinstance(entry, TradesEntry):
                    log.batches[index] = entry
        if head.size:
            log.until_us = read_entry(raw).logged_us
        return log


class _Seen:
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


class _Tally:
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
        reading: Reading,
        seen: _Seen,
        found: _Findings,
    ) -> None:
        """Recomputes one trade and compares."""
        self._stakes += fraction(line.leaf.stake)
        self._payouts += fraction(line.payout)
        place: dict[str, Any] = {"trade": line.trade, "entry": line.entry}
        try:
            shown = bundle(line.trade)
            if shown is None:
                self._ends["not_shown"] += 1
                found.add("not_shown", "no bundle of the trade", **place)
                return
            verified = self._recompute(line, shown, reading, seen)
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

    def _recompute(
        self, line: LedgerLine, shown: SettlementBundle, reading: Reading, seen: _Seen
    ) -> VerifiedSettlement:
        verified = verify_settlement(
            shown,
            trust=reading.trust,
            log_policy=reading.log_policy,
            expect=dataclasses.replace(reading.expect, trade=line.trade),
            venue_files=reading.venue_files,
        )
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
        line.check(verified.outcome)
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
            **{name: self._ends[name] for name in ("equal", "different", "refused", "not_shown")},
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


class _Findings:
    """Findings as they come; ``sorted`` puts the worst first."""

    def __init__(self) -> None:
        self._found: list[LedgerFinding] = []

    def add(self, kind: str, detail: str, **where: Any) -> None:
        self._found.append(LedgerFinding(kind=kind, detail=detail[:1_000], **where))

    def error(self, kind: str, error: QuotaryError, **where: Any) -> None:
        found, wanted = (
            None if value is None else str(value)[:400] for value in (error.found, error.wanted)
        )
        self.add(kind, error.detail, rule=error.rule, found=found, wanted=wanted, **where)

    def sorted(self) -> tuple[LedgerFinding, ...]:
        return tuple(sorted(self._found, key=lambda one: FINDINGS.index(one.kind)))


def _batches(
    lines: Iterable[LedgerLine], entries: Mapping[int, TradesEntry], found: _Findings
) -> list[LoggedBatch]:
    """Opens each batch by itself; what is wrong with one is a finding."""
    by_entry: dict[int, list[LedgerLine]] = {index: [] for index in entries}
    for line in lines:
        if line.entry in by_entry:
            by_entry[line.entry].append(line)
        else:
            found.add(
                "unknown_batch", "the log has no batch there", trade=line.trade, entry=line.entry
            )
    opened = []
    for index, entry in sorted(entries.items()):
        try:
            opened += open_batches(by_entry[index], {index: entry})
        except IncompleteError as error:
            found.error("missing_leaf", error, entry=index)
        except QuotaryError as error:
            found.error("other_leaf", error, entry=index)
    return opened


def _first(batches: Iterable[LoggedBatch]) -> dict[str, tuple[int, LoggedBatch]]:
    """Returns where each trade's first leaf is, which is the trade."""
    found: dict[str, tuple[int, LoggedBatch]] = {}
    for logged in batches:
        for item in logged.batch.commitments:
            found.setdefault(item.trade, (logged.index, logged))
    return found


def _trades(lines: Iterable[LedgerLine], entries: Mapping[int, TradesEntry]) -> list[LedgerLine]:
    """Returns the line of each trade's first leaf, as far as the ledger opens them."""
    found: dict[str, LedgerLine] = {}
    for line in lines:
        if line.entry in entries:
            known = found.setdefault(line.trade, line)
            if line.entry < known.entry:
                found[line.trade] = line
    return sorted(found.values(), key=lambda line: (line.entry, line.trade))


def _promises(
    promised: Promised,
    first: Mapping[str, tuple[int, LoggedBatch]],
    until_us: int,
    found: _Findings,
) -> int:
    """Checks promises; returns how many were kept."""
    kept = 0
    for signed in promised.promises:
        trade = signed.promise.trade
        place = first.get(trade)
        try:
            violation = broken_promise(
                signed,
                promised.operator,
                [] if place is None else [place[1]],
                read_until_us=until_us,
            )
        except IncompleteError:
            continue
        except QuotaryError as error:
            raise UsageError(
                f"a promise of trade {trade}: {error.detail}", rule=error.rule, found=error.found
            ) from error
        if violation is None:
            kept += 1
        else:
            index = violation.entries[-1] if violation.entries else None
            found.add(violation.kind, violation.detail, trade=trade, entry=index)
    return kept


def _is_close(outcome: OutcomeDocument) -> bool:
    noise = dispersion(outcome)
    if noise is None or outcome.change is None or outcome.change == "inf":
        return False
    return abs(Fraction(outcome.change) - 1) < noise


def _quorum_us(known: LogPolicy, signed: SignedCheckpoint) -> int | None:
    try:
        time = known.check(signed).quorum_time
    except IncompleteError:
        return None
    return None if time is None else time * SECOND_US
