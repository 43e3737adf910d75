"""What an audit counts: findings, entries, and how sessions and slots ended."""

from __future__ import annotations

from collections import Counter

from attestation.log.entry import KINDS
from attestation.log.report import (
    FINDINGS,
    AuditReport,
    EntryCount,
    Finding,
    FindingCount,
    SessionCount,
    SlotCount,
)
from attestation.log.violation import Violation

MAX_SHOWN = 100
"""Findings of one kind that a report shows; all are counted."""
MAX_ROWS = 10_000
"""Different provers and venues counted apart; the rest are counted together."""
OTHERS = "(others)"


class Tally:
    """Counts of one audit; starts empty or from an earlier report."""

    def __init__(self, report: AuditReport | None = None) -> None:
        self._findings: dict[str, list[Finding]] = {kind: [] for kind in FINDINGS}
        self._found: Counter[str] = Counter()
        self._entries: Counter[str] = Counter()
        self._sessions: Counter[tuple[str, str | None, str]] = Counter()
        self._slots: Counter[tuple[str, str]] = Counter()
        if report is not None:
            for finding in report.findings:
                self._findings[finding.kind].append(finding)
            self._found.update({row.kind: row.count for row in report.found})
            self._entries.update({row.kind: row.count for row in report.entries})
            for session in report.sessions:
                self._sessions[session.prover, session.venue, session.end] += session.count
            for slot in report.slots:
                self._slots[slot.feed, slot.end] += slot.count

    def find(self, finding: Finding) -> None:
        """Adds a finding."""
        self._found[finding.kind] += 1
        shown = self._findings[finding.kind]
        if len(shown) < MAX_SHOWN:
            shown.append(finding)

    def note(self, violation: Violation, index: int | None) -> None:
        """Adds a rule that the entry at ``index`` breaks, or that is broken by there being none."""
        self.find(
            Finding(
                kind=violation.kind,
                detail=violation.detail,
                index=index,
                entries=violation.entries,
                checkpoints=(),
                proof=(),
            )
        )

    def count_entry(self, kind: str) -> None:
        """Adds an entry."""
        self._entries[kind] += 1

    def count_session(self, prover: str, venue: str | None, end: str) -> None:
        """Adds an ended session."""
        row = (prover, venue, end)
        if row not in self._sessions and len(self._sessions) >= MAX_ROWS:
            row = (OTHERS, None, end)
        self._sessions[row] += 1

    def count_slot(self, feed: str, end: str) -> None:
        """Adds a slot that was attested (``slot``), or missed by that fault."""
        # Feeds are bounded by the rules: an entry of an unknown one is not counted.
        self._slots[feed, end] += 1

    def copy(self) -> Tally:
        """Returns one that counts on its own."""
        other = Tally()
        for kind, shown in self._findings.items():
            other._findings[kind] = list(shown)
        other._found, other._entries = self._found.copy(), self._entries.copy()
        other._sessions, other._slots = self._sessions.copy(), self._slots.copy()
        return other

    def report(
        self,
        *,
        origin: str,
        checkpoint: str,
        size: int,
        last_us: int,
        quorum_time: int | None,
        still_open: int,
    ) -> AuditReport:
        """Returns the report, findings worst first."""
        return AuditReport(
            origin=origin,
            checkpoint=checkpoint,
            size=size,
            last_us=last_us,
            quorum_time=quorum_time,
            findings=tuple([finding for kind in FINDINGS for finding in self._findings[kind]]),
            found=tuple(
                [
                    FindingCount(kind=kind, count=self._found[kind])
                    for kind in FINDINGS
                    if self._found[kind]
                ]
            ),
            entries=tuple(
                [
                    EntryCount(kind=kind, count=self._entries[kind])
                    for kind in KINDS
                    if self._entries[kind]
                ]
            ),
            sessions=tuple(
                [
                    SessionCount(prover=prover, venue=venue, end=end, count=count)
                    for (prover, venue, end), count in sorted(
                        self._sessions.items(), key=lambda row: (row[0][0], row[0][1] or "", row[0])
                    )
                ]
            ),
            slots=tuple(
                [
                    SlotCount(feed=feed, end=end, count=count)
                    for (feed, end), count in sorted(self._slots.items())
                ]
            ),
            open=still_open,
        )
