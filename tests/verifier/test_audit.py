"""The auditor: an honest log yields nothing, and every planted cheat is named.

The auditor sees what a log serves and nothing else.
"""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, UnavailableError, UntrustedError, UsageError
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import TickEntry, logged_at, read_entry, write_entry
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.log.report import FINDINGS
from attestation.log.tileproof import TileReader
from tests.adversaries.log import ServedLog
from tests.docs.worked_session import T0
from tests.log.example import aborted, attested, entries
from tests.log.keys import LOG, OTHER_LOG
from tests.verifier.auditing import (
    BEGUN,
    CHEATS,
    POLICY,
    SECOND,
    TICK,
    audited,
    grow,
    honest,
    kinds,
    open_at,
    served,
)
from verifier.audit import Audit
from verifier.auditstore import AuditStore
from verifier.logfiles import gather_evidence
from verifier.tally import MAX_SHOWN


def test_honest_log_yields_no_finding() -> None:
    log = ServedLog(LOG).log(entries())
    _, report = audited(log)
    assert (report.exit_code, report.findings, report.size) == (0, (), len(entries()))
    assert {row.kind: row.count for row in report.entries}["slot"] == 2
    ends = {(row.venue, row.end): row.count for row in report.sessions}
    assert ends == {
        ("binance", "venue_refused"): 1,
        ("binance", "attested"): 2,
        ("binance", "prover_closed"): 1,
    }
    assert {(row.end, row.count) for row in report.slots} == {("slot", 2), ("notary", 1)}


def test_honest_log_of_10000_sessions_with_faults_and_a_crash_yields_no_finding() -> None:
    log = served(*honest(10_000))
    _, report = audited(log)
    assert report.findings == ()
    assert sum(row.count for row in report.sessions) == sum(
        row.count for row in report.entries if row.kind == "opened"
    )
    assert any(row.end == "restart" for row in report.sessions)
    assert any(row.end == "notary" for row in report.slots)
    # Each bundle is read once, and no tile.
    bundles = [path for path in log.asked if path != "checkpoint"]
    assert len(set(bundles)) == len(bundles) == -(-len(log.entries) // 256)


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for sessions in (600, 6_000):
        log = served(*honest(sessions))
        with AuditStore(str(tmp_path / f"{sessions}.db")) as store:
            tracemalloc.start()
            audited(log, spent=store.spent)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # What both have in common: one bundle, the feed, the statistics, SQLite's own cache is no
    # Python memory and bounded by itself.
    assert peaks[1] < peaks[0] + 200_000


def test_empty_log_yields_no_finding() -> None:
    assert audited(ServedLog(LOG).publish())[1].size == 0


# Cheats that entries show.


@pytest.mark.parametrize("name", CHEATS)
def test_planted_cheat_is_found(name: str) -> None:
    planted, kind = CHEATS[name]
    _, report = audited(served(*planted))
    assert kind in kinds(report)
    assert report.exit_code == 16


@pytest.mark.parametrize("name", CHEATS)
def test_cheat_is_found_in_the_middle_of_an_honest_log(name: str) -> None:
    planted, kind = CHEATS[name]
    log = ServedLog(LOG).log(
        [item if isinstance(item, bytes) else logged_at(item[1], T0 + item[0]) for item in planted]
    )
    for number in range(600):
        at = 31 * SECOND + number * 10
        log.entries += [
            write_entry(logged_at(entry, T0 + when))
            for when, entry in (
                open_at(at, f"h{number}", f"trade/h-{number}/open"),
                (at + 1, attested(f"h{number}")),
            )
        ]
    _, report = audited(log.publish())
    assert kind in kinds(report)
    assert report.findings[0].index is None or report.findings[0].index < len(planted)


@pytest.mark.parametrize("name", CHEATS)
def test_evidence_of_a_finding_is_proven_to_be_logged(name: str) -> None:
    log = served(*CHEATS[name][0])
    _, report = audited(log)
    for finding in report.findings:
        for shown in gather_evidence(finding, report, log.read):
            signed = open_checkpoint(report.checkpoint.encode(), logs=[LOG.verifying_key])
            LogProof.parse(shown.proof.encode()).check(shown.entry, signed)
            assert log.entries[shown.index] == shown.entry
        assert finding.index is not None or finding.entries


# The audit itself.


def test_every_kind_of_finding_is_known_and_the_worst_come_first() -> None:
    planted = [
        item for name in ("a clock set back", "bytes that are no entry") for item in CHEATS[name][0]
    ]
    planted += CHEATS["three sessions for one place, the best one shown"][0]
    _, report = audited(served(*planted, TICK))
    order = [FINDINGS.index(kind) for kind in kinds(report)]
    assert order == sorted(order)
    assert [row.kind for row in report.found] == list(dict.fromkeys(kinds(report)))


def test_number_of_findings_shown_is_bounded_and_all_are_counted() -> None:
    report = audited(served(*[b"junk %d" % number for number in range(MAX_SHOWN + 50)]))[1]
    assert len(report.findings) == MAX_SHOWN
    assert report.found[0].count == MAX_SHOWN + 50


def test_overdue_session_that_ends_later_is_late_and_no_longer_unclosed() -> None:
    log = served(BEGUN, (11 * SECOND, TickEntry()))
    spent: dict[bytes, bytes] = {}
    audit, report = audited(log, spent=spent)
    assert kinds(report) == ["unclosed"]
    log.log([logged_at(aborted("a", "timeout"), T0 + 12 * SECOND)])
    assert kinds(audited(log, state=audit.state(), spent=spent)[1]) == ["late"]


def test_state_of_another_log_or_tree_is_refused() -> None:
    audit, _ = audited(grow(ServedLog(LOG), 3, "a"))
    state = audit.state()
    both = LogPolicy.threshold([LOG.verifying_key, OTHER_LOG.verifying_key], [], 0)
    with pytest.raises(UsageError, match="another log"):
        audited(grow(ServedLog(OTHER_LOG), 3, "a"), policy=both, state=state)
    with pytest.raises(MalformedError):
        Audit(POLICY, state=dataclasses.replace(state, nodes=("00" * 32,) * 2))


def test_steps_out_of_order_are_the_callers_mistake() -> None:
    log = grow(ServedLog(LOG), 3, "a")
    reader = TileReader(lambda tile: log.read(tile.path()))
    audit = Audit(POLICY)
    with pytest.raises(UsageError):
        audit.finish(reader)
    audit.start(log.files["checkpoint"])
    for ask in (lambda: audit.finish(reader), audit.state):
        with pytest.raises(UsageError):
            ask()
    audit.take(log.files[log.last_bundle()])
    with pytest.raises(UsageError):
        audit.take(b"")


SOUND = grow(ServedLog(LOG), 200, "a")


@given(st.data())
def test_whatever_a_server_sends_is_reported_or_unavailable(data: st.DataObject) -> None:
    log = SOUND.fork(400)
    log.files = dict(SOUND.files)
    for path in data.draw(st.lists(st.sampled_from(sorted(log.files)), max_size=3, unique=True)):
        content = log.files[path]
        at = data.draw(st.integers(0, len(content) - 1))
        flipped = bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))])
        junk = data.draw(st.binary(max_size=200))
        sent = data.draw(
            st.sampled_from((content[:at], content[:at] + flipped + content[at + 1 :], junk, None))
        )
        log.files.pop(path)
        if sent is not None:
            log.files[path] = sent
    try:
        _, report = audited(log)
    except (UnavailableError, UntrustedError):
        return
    assert set(kinds(report)) <= {"bad_root", "bad_signature"}


def test_every_entry_of_an_honest_log_is_read_as_one() -> None:
    for _, entry in honest(50):
        assert read_entry(write_entry(entry)) == entry
