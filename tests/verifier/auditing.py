"""Logs to audit, honest and not, and an auditor of what they serve."""

from __future__ import annotations

import random
from collections.abc import Iterable, MutableMapping

from attestation.log.entry import Entry, TickEntry, logged_at, write_entry
from attestation.log.policy import LogPolicy
from attestation.log.report import AuditReport, AuditState
from attestation.reasons import FAULTS
from tests.adversaries.log import ServedLog
from tests.docs.worked_session import T0
from tests.log.example import FEED, GRID, aborted, attested, feed, identifier, missed, opened, slot
from tests.log.keys import LOG, OTHER_PROVER, WITNESS_KEYS
from verifier.audit import Audit
from verifier.given import GivenAttestation
from verifier.logfiles import audit_log

SECOND = 1_000_000
POLICY = LogPolicy.threshold([LOG.verifying_key], WITNESS_KEYS[:2], 1)


def served(*planned: tuple[int, Entry] | bytes) -> ServedLog:
    """A log of these entries, at times after T0."""
    return ServedLog(LOG).log(
        [item if isinstance(item, bytes) else logged_at(item[1], T0 + item[0]) for item in planned]
    )


def audited(
    log: ServedLog,
    *,
    policy: LogPolicy = POLICY,
    state: AuditState | None = None,
    spent: MutableMapping[bytes, bytes] | None = None,
    given: Iterable[GivenAttestation] = (),
) -> tuple[Audit, AuditReport]:
    audit = Audit(policy, state=state, spent=spent, given=given)
    report = audit_log(audit, log.read)
    assert AuditReport.decode(report.encode()) == report
    return audit, report


def kinds(report: AuditReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def open_at(
    at: int, label: str, purpose: str = "trade/t-1/open", **changes: object
) -> tuple[int, Entry]:
    return at, opened(label, purpose, deadline_us=T0 + at + 10 * SECOND, **changes)


def honest(sessions: int, seed: int = 1) -> list[tuple[int, Entry]]:
    """Sessions that end in every way, retries among them, a feed, a crash in the middle."""
    draw = random.Random(seed)
    planned: list[tuple[int, Entry]] = [(0, feed(from_us=T0 + SECOND))]
    at, prev, next_slot = 0, None, SECOND
    crash = sessions // 2
    for number in range(sessions):
        at += 5_000
        label = f"s{number}"
        planned.append(open_at(at, label, f"trade/t-{number}/open"))
        if number == crash:
            # The notary is down for three seconds, and owns up to what passed meanwhile.
            at += 3 * SECOND
            planned.append((at, aborted(label, "restart")))
        elif draw.random() < 0.8:
            planned.append((at + 2_000, attested(label)))
        else:
            planned.append((at + 2_000, aborted(label, "venue_refused")))
            again = f"{label}-again"
            planned.append(
                open_at(at + 3_000, again, f"trade/t-{number}/open", retry_of=identifier(label))
            )
            planned.append((at + 4_000, aborted(again, draw.choice(sorted(FAULTS)))))
        while next_slot + GRID < at:
            late = at > next_slot + SECOND
            if late or draw.random() < 0.1:
                planned.append((at + 4_000, missed(next_slot, "notary" if late else "venue")))
            else:
                planned.append((at + 4_000, slot(next_slot, prev)))
                prev = len(planned) - 1
            next_slot += GRID
    return planned


def grow(log: ServedLog, count: int, label: str) -> ServedLog:
    at = 40 * SECOND + len(log.entries) * 10
    return log.log(
        [
            logged_at(entry, T0 + at + number)
            for number in range(count)
            for entry in (
                opened(f"{label}{number}", "adhoc/x", deadline_us=T0 + at + number + SECOND),
                attested(f"{label}{number}"),
            )
        ]
    )


BEGUN = open_at(0, "a")
TICK = (30 * SECOND, TickEntry())
CHEATS: dict[str, tuple[list[tuple[int, Entry] | bytes], str]] = {
    "three sessions for one place, the best one shown": (
        [
            BEGUN,
            (1, attested("a")),
            open_at(2, "b"),
            (3, attested("b")),
            open_at(4, "c"),
            (5, attested("c")),
        ],
        "duplicate",
    ),
    "another prover's name for the second session": (
        [BEGUN, (1, attested("a")), open_at(2, "b", prover=OTHER_PROVER), (3, attested("b"))],
        "duplicate",
    ),
    "a retry earned by the prover's own fault": (
        [
            BEGUN,
            (1, aborted("a", "violation")),
            open_at(2, "b", retry_of=identifier("a")),
            (3, attested("b")),
        ],
        "duplicate",
    ),
    "a session whose end was kept back": ([BEGUN, TICK], "unclosed"),
    "an end that came when the outcome was known": (
        [BEGUN, (20 * SECOND, aborted("a", "timeout"))],
        "late",
    ),
    "a slot that was left out": ([(0, feed()), TICK], "missed"),
    "a slot that was signed when it suited": (
        [(0, feed()), (5 * SECOND, slot(SECOND, None))],
        "late",
    ),
    "a second attestation for a slot": (
        [(0, feed()), (SECOND, slot(SECOND, None)), (SECOND, slot(SECOND, 1))],
        "duplicate",
    ),
    "a slot declared missed and attested after all": (
        [(0, feed()), (SECOND, missed(SECOND, "venue")), (SECOND, slot(SECOND, None))],
        "duplicate",
    ),
    "a clock set back": ([(5, TickEntry()), (4, TickEntry())], "backdated"),
    "a prover that the feed does not name": (
        [
            (0, feed()),
            open_at(1, "l", f"live/{FEED}/binance", prover=OTHER_PROVER),
            (2, aborted("l", "timeout")),
        ],
        "bad_entry",
    ),
    "a fault that is not the reason's": (
        [
            BEGUN,
            write_entry(logged_at(aborted("a", "timeout"), T0 + 1)).replace(
                b'"fault":"prover"', b'"fault":"venue"'
            ),
            (2, aborted("a", "timeout")),
        ],
        "bad_entry",
    ),
    "an entry of no known kind": ([b'{"kind":"secret","type":"quotary/entry/v1"}'], "bad_entry"),
    "bytes that are no entry": ([b"\xff\x00", b""], "bad_entry"),
    "a feed announced after its first slot": ([(5 * SECOND, feed())], "bad_entry"),
}
