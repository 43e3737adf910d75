"""What an audit finds in a log, and what it counts (docs/log.md, "Findings")."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation.document import Header
from attestation.log.entry import KINDS
from attestation.log.state import RulesState
from attestation.reasons import FAULTS, PARTIES
from attestation.schema import Count, Document, Hex, Hex32, Micros, Name, OneOf, Text

FINDINGS = (
    "forked_log",
    "bad_root",
    "bad_signature",
    "double_trade",
    "broken_promise",
    "unlogged_attestation",
    "duplicate",
    "backdated",
    "bad_entry",
    "unclosed",
    "missed",
    "late",
    "clock_off",
)
"""The kinds of findings, worst first."""

FindingKind = Annotated[str, OneOf(FINDINGS)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Document):
    """One thing that is wrong, and what shows it.

    ``index`` is the entry that is wrong, ``entries`` the others that show it; all
    are under the report's checkpoint.  ``checkpoints`` are notes; with two of
    them ``proof`` holds the nodes that lead from one tree to the other.
    ``header`` and ``signature`` are of an attestation that was given.
    """

    TYPE: ClassVar[str | None] = "quotary/finding/v1"

    kind: FindingKind
    detail: Text
    index: Count | None = None
    entries: tuple[Count, ...]
    checkpoints: tuple[str, ...]
    proof: tuple[Hex32, ...]
    header: Header | None = None
    signature: Hex | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Document):
    """An entry that a finding names, with the proof that it is logged (tlog-proof)."""

    index: Count
    entry: bytes
    proof: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProvenFinding(Document):
    """A finding and every entry it names, each proven under one checkpoint."""

    finding: Finding
    evidence: tuple[Evidence, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FindingsFile(Document):
    """What to hand to somebody who does not take the auditor's word."""

    TYPE: ClassVar[str | None] = "quotary/findings/v1"

    origin: Text
    findings: tuple[ProvenFinding, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FindingCount(Document):
    """How many findings of a kind there are; a report shows the first of them only."""

    kind: FindingKind
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntryCount(Document):
    """How many entries of a kind there are."""

    kind: Annotated[str, OneOf(tuple(KINDS))]
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionCount(Document):
    """How many sessions of a prover at a venue ended so."""

    prover: Text
    venue: Name | None = None
    end: Annotated[str, OneOf(("attested", *FAULTS))]
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotCount(Document):
    """How many slots of a feed were attested, or missed by whose fault."""

    feed: Name
    end: Annotated[str, OneOf(("slot", *PARTIES))]
    count: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport(Document):
    """The whole log up to one checkpoint: findings, worst first, and statistics.

    ``quorum_time`` (seconds) is absent where the log policy's witnesses have not
    cosigned the checkpoint, or none are asked for.
    """

    TYPE: ClassVar[str | None] = "quotary/audit/v1"

    origin: Text
    checkpoint: str
    size: Count
    last_us: Micros
    quorum_time: Count | None = None
    findings: tuple[Finding, ...]
    found: tuple[FindingCount, ...]
    entries: tuple[EntryCount, ...]
    sessions: tuple[SessionCount, ...]
    slots: tuple[SlotCount, ...]
    open: Count

    @property
    def exit_code(self) -> int:
        """0 without a finding, else AuditFinding's."""
        return 16 if self.found else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditState(Document):
    """What an auditor keeps to go on from a checkpoint it has audited.

    ``nodes`` is the frontier of the tree, ``cosigned_s`` the earliest cosignature.
    """

    TYPE: ClassVar[str | None] = "quotary/audit_state/v1"

    checkpoint: str
    cosigned_s: Count | None = None
    nodes: tuple[Hex32, ...]
    rules: RulesState
    report: AuditReport
