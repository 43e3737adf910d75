"""The auditor on signatures: forks, roots, times of witnesses, attestations that were given."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.errors import InvalidProofError, UnavailableError, UntrustedError, UsageError
from attestation.hashing import hash_string
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import AttestedEntry, TickEntry, logged_at, write_entry
from attestation.log.report import AuditReport, AuditState, Finding
from attestation.merkle import verify_consistency
from tests.adversaries.log import ServedLog
from tests.docs import worked_session
from tests.docs.worked_session import T0
from tests.log.keys import LOG, OTHER_LOG, TIME, WITNESSES, signing_key
from tests.verifier.auditing import CHEATS, POLICY, SECOND, audited, grow, kinds, open_at, served
from verifier.audit import Audit
from verifier.given import GivenAttestation

# Cheats on the tree.


def resumed(log: ServedLog, more: ServedLog) -> AuditReport:
    """Audits a log, then goes on with another that is served under its name."""
    spent: dict[bytes, bytes] = {}
    audit, _ = audited(log, spent=spent)
    state = AuditState.decode(audit.state().encode())
    return audited(more, state=state, spent=spent)[1]


def test_log_that_goes_on_yields_no_finding_and_reads_only_what_is_new() -> None:
    log = grow(ServedLog(LOG), 400, "a")
    spent: dict[bytes, bytes] = {}
    audit, first = audited(log, spent=spent)
    state = audit.state()
    grow(log, 300, "b")
    log.asked.clear()
    audit, report = audited(log, state=state, spent=spent)
    assert report.findings == ()
    assert report.size == 1_400
    assert [row.count for row in report.entries if row.kind == "opened"] == [700]
    assert log.asked[1] == "tile/entries/003"
    # An audit of the whole says the same.
    whole, again = audited(log)
    assert again == report
    assert whole.state() == audit.state()
    assert first.size == 800


@pytest.mark.parametrize(("shared", "more"), [(0, 0), (100, 0), (100, 50), (599, 7), (600, 5)])
def test_fork_is_found_and_proven(shared: int, more: int) -> None:
    log = grow(ServedLog(LOG), 300, "a")
    other = grow(log.fork(shared), (600 - shared + more) // 2 + 1, "f")
    report = resumed(log, other)
    if shared == 600:
        assert report.findings == ()
        return
    finding = report.findings[0]
    assert kinds(report) == ["forked_log"]
    _check_fork(finding)


def test_rewritten_entry_is_a_fork_of_the_same_size() -> None:
    log = grow(ServedLog(LOG), 300, "a")
    other = log.fork(600)
    other.entries[17] = write_entry(logged_at(TickEntry(), T0 + 40 * SECOND))
    report = resumed(log, other.publish())
    assert kinds(report) == ["forked_log"]
    old, new = (
        open_checkpoint(note.encode(), logs=[LOG.verifying_key]).checkpoint
        for note in report.findings[0].checkpoints
    )
    assert (old.size, old.root != new.root) == (new.size, True)


def test_shorter_log_is_a_fork_if_it_differs_and_unavailable_if_not() -> None:
    log = grow(ServedLog(LOG), 300, "a")
    with pytest.raises(UnavailableError, match="older checkpoint"):
        resumed(log, log.fork(500).publish())
    shorter = grow(log.fork(100), 50, "f")
    shorter.files |= {path: data for path, data in log.files.items() if path.startswith("tile/")}
    report = resumed(log, shorter)
    assert kinds(report) == ["forked_log"]
    _check_fork(report.findings[0])


def _check_fork(finding: Finding) -> None:
    """What a third party does with the evidence: two signed heads that cannot be of one log."""
    heads = [
        open_checkpoint(note.encode(), logs=[LOG.verifying_key]).checkpoint
        for note in finding.checkpoints
    ]
    older, newer = sorted(heads, key=lambda head: head.size)
    if older.size == newer.size:
        assert older.root != newer.root
        return
    # The proof leads to the newer root, and so to another older one than was signed.
    with pytest.raises(InvalidProofError, match="older root"):
        verify_consistency(
            old_size=older.size,
            new_size=newer.size,
            old_root=older.root,
            new_root=newer.root,
            proof=[bytes.fromhex(node) for node in finding.proof],
        )


def test_entry_served_otherwise_than_logged_is_a_bad_root() -> None:
    log = grow(ServedLog(LOG), 300, "a")
    path = log.last_bundle()
    for wrong in (
        log.files[path].replace(b"adhoc/x", b"adhoc/y", 1),
        log.files[path][:-1],
        log.files[path] + b"\0",
        b"",
        bytes(100_000),
    ):
        lying = grow(ServedLog(LOG), 300, "a")
        lying.files[path] = wrong
        _, report = audited(lying)
        assert kinds(report) == ["bad_root"]


def test_findings_in_entries_that_are_not_the_trees_are_not_reported() -> None:
    log = served(*CHEATS["three sessions for one place, the best one shown"][0])
    honest_log = grow(ServedLog(LOG), 3, "a")
    honest_log.files[honest_log.last_bundle()] = log.files[log.last_bundle()]
    _, report = audited(honest_log)
    assert kinds(report) == ["bad_root"]


def test_tiles_that_lie_make_no_fork() -> None:
    log = grow(ServedLog(LOG), 300, "a")
    spent: dict[bytes, bytes] = {}
    audit, _ = audited(log, spent=spent)
    state = audit.state()
    grow(log, 10, "b")
    log.files[log.last_bundle()] = b"\0\0"
    for path in list(log.files):
        if path.startswith("tile/0/"):
            log.files[path] = bytes(len(log.files[path]))
    assert kinds(audited(log, state=state, spent=spent)[1]) == ["bad_root"]


def test_bad_signature_is_found_and_an_unknown_log_is_untrusted() -> None:
    log = grow(ServedLog(LOG), 3, "a")
    other = grow(ServedLog(LOG), 4, "a")
    text, _, lines = log.files["checkpoint"].rpartition(b"\n\n")
    log.files["checkpoint"] = text + b"\n\n" + other.files["checkpoint"].rpartition(b"\n\n")[2]
    assert lines
    assert kinds(audited(log)[1]) == ["bad_signature"]
    for key in (OTHER_LOG, signing_key(LOG.name, 99)):
        with pytest.raises(UntrustedError):
            audited(ServedLog(key).publish())


@pytest.mark.parametrize("data", [b"", b"garbage", b"<html>404</html>\n", b"\xff" * 100, b"\n" * 9])
def test_checkpoint_that_is_none_cannot_be_read(data: bytes) -> None:
    log = grow(ServedLog(LOG), 3, "a")
    log.files["checkpoint"] = data
    with pytest.raises(UnavailableError):
        audited(log)


def test_whole_bundle_stands_in_for_a_partial_one_that_is_gone() -> None:
    log = grow(ServedLog(LOG), 50, "a")
    checkpoint = log.files["checkpoint"]
    partial = log.last_bundle()
    grow(log, 200, "b")
    log.files["checkpoint"] = checkpoint
    del log.files[partial]
    assert audited(log)[1].findings == ()
    del log.files["tile/entries/000"]
    with pytest.raises(UnavailableError):
        audited(log)


# Times of witnesses, and attestations that were given.


def test_entry_dated_before_a_cosigned_checkpoint_is_backdated() -> None:
    log = grow(ServedLog(LOG), 3, "a").publish(cosigners=WITNESSES[:2], time=TIME + 100)
    spent: dict[bytes, bytes] = {}
    audit, report = audited(log, spent=spent)
    assert report.quorum_time == TIME + 100
    state = audit.state()
    assert state.cosigned_s == TIME + 100
    edge = (TIME + 98) * SECOND
    for logged_us, wanted in ((edge, []), (edge - 1, ["backdated"])):
        more = log.fork(len(log.entries)).log([logged_at(TickEntry(), logged_us)])
        report = audited(more, state=state, spent=dict(spent))[1]
        assert kinds(report) == wanted
        assert all(finding.checkpoints == (state.checkpoint,) for finding in report.findings)


def test_report_says_whether_the_witnesses_quorum_has_cosigned() -> None:
    log = grow(ServedLog(LOG), 3, "a")
    assert audited(log)[1].quorum_time is None
    log.publish(cosigners=WITNESSES[2:4], time=TIME)
    assert audited(log)[1].quorum_time is None
    log.publish(cosigners=WITNESSES[1:3], time=TIME + 7)
    assert audited(log)[1].quorum_time == TIME + 7


def attestation(**changes: object) -> GivenAttestation:
    session, _, _ = worked_session.session()
    shown = GivenAttestation(
        header=session.header, signature=session.signature, session=session.session().id
    )
    return dataclasses.replace(shown, **changes)


def logged_attestation(at: int = 9 * SECOND, **changes: object) -> ServedLog:
    shown = attestation()
    entry = AttestedEntry(session=shown.session or "", header=hash_string(shown.header.encode()))
    return served(
        open_at(0, "x", session=shown.session),
        (at, dataclasses.replace(entry, **changes)),
        (29 * SECOND, TickEntry()),
    )


def test_given_attestation_that_is_logged_yields_no_finding() -> None:
    assert audited(logged_attestation(), given=[attestation()])[1].findings == ()


def test_given_attestation_that_is_not_in_the_log_is_found() -> None:
    log = grow(ServedLog(LOG), 3, "a")
    _, report = audited(log, given=[attestation()])
    assert kinds(report) == ["unlogged_attestation"]
    assert report.findings[0].header == attestation().header
    assert report.findings[0].signature == attestation().signature
    # A log that ends before it was issued does not know of it yet.
    assert audited(served((0, TickEntry())), given=[attestation()])[1].findings == ()


def test_attestation_issued_after_it_was_logged_is_backdated() -> None:
    issued = attestation().header.issued_us - T0
    assert audited(logged_attestation(issued), given=[attestation()])[1].findings == ()
    report = audited(logged_attestation(issued - 1), given=[attestation()])[1]
    assert kinds(report) == ["backdated"]


def test_attestation_logged_for_another_session_is_found() -> None:
    report = audited(logged_attestation(), given=[attestation(session="0" * 32)])[1]
    assert kinds(report) == ["bad_entry"]


@pytest.mark.parametrize(
    ("date", "wanted"),
    [(0, []), (-6, []), (-7, ["clock_off"]), (6, []), (7, ["clock_off"]), (-3_600, ["clock_off"])],
)
def test_date_that_contradicts_the_notarys_times_is_found(date: int, wanted: list[str]) -> None:
    shown = attestation(
        date_us=T0 + date * SECOND, request_first_us=T0, response_last_us=T0 + SECOND
    )
    assert kinds(audited(logged_attestation(), given=[shown])[1]) == wanted


def test_attestations_are_looked_for_in_a_whole_log_alone() -> None:
    audit, _ = audited(grow(ServedLog(LOG), 3, "a"))
    with pytest.raises(UsageError):
        Audit(POLICY, state=audit.state(), given=[attestation()])
