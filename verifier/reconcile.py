"""Compares an operator's ledger with the log and with what each trade's bundle leads to.

Pure: the log is read by any function of a path, bundles by any function of a trade's id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from attestation.errors import (
    IncompleteError,
    QuotaryError,
    UsageError,
)
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import SignedCheckpoint
from attestation.log.entry import TradesEntry, read_entry
from attestation.log.files import LogFiles, Read
from attestation.log.policy import LogPolicy
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.ledger import LedgerLine, open_batches
from attestation.settlement.promise import (
    LoggedBatch,
    SignedPromise,
    broken_promise,
    double_trades,
)
from attestation.settlement.recompute import VerifiedSettlement
from attestation.settlement.reconciliation import (
    Reconciliation,
)
from verifier.logfiles import read_all
from verifier.reconcile_trades import Findings, Reading, SeenLog, TradeTally

SECOND_US = 1_000_000


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
    found = Findings()
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
    tally = TradeTally()
    seen = SeenLog(log.files, signed.checkpoint)
    verifier = reading.verifier()

    def verify(trade: str, shown: SettlementBundle) -> VerifiedSettlement:
        return verifier.verify(shown, dataclasses.replace(reading.expect, trade=trade))

    for number, line in enumerate(trades):
        step("trades", number, len(trades))
        if line.leaf.policy_id != reading.expect.policy_id:
            tally.other_policy += 1
            continue
        tally.take(line, bundle, verify, seen, found)
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


def _batches(
    lines: Iterable[LedgerLine], entries: Mapping[int, TradesEntry], found: Findings
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
    found: Findings,
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
            found.broken.add(trade)
    return kept


def _quorum_us(known: LogPolicy, signed: SignedCheckpoint) -> int | None:
    try:
        time = known.check(signed).quorum_time
    except IncompleteError:
        return None
    return None if time is None else time * SECOND_US
