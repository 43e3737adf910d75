"""The auditor: an honest log yields nothing, and every planted cheat is named.

The auditor sees what a log serves and nothing else.
"""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
from collections.abc import Iterable, MutableMapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import (
    InvalidProofError,
    MalformedError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.hashing import hash_string
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import (
    AttestedEntry,
    Entry,
    TickEntry,
    logged_at,
    read_entry,
    write_entry,
)
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.log.report import FINDINGS, AuditReport, AuditState, Finding
from attestation.log.tileproof import TileReader
from attestation.merkle import verify_consistency
from attestation.reasons import FAULTS
from tests.adversaries.log import ServedLog
from tests.docs import worked_session
from tests.docs.worked_session import T0
from tests.log.example import (
    FEED,
    GRID,
    aborted,
    attested,
    entries,
    feed,
    identifier,
    missed,
    opened,
    slot,
)
from tests.log.keys import LOG, OTHER_LOG, OTHER_PROVER, TIME, WITNESS_KEYS, WITNESSES, signing_key
from verifier.audit import Audit
from verifier.auditstore import AuditStore
from verifier.given import GivenAttestation
from verifier.logfiles import audit_log, gather_evidence
from verifier.tally import MAX_SHOWN

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


# Cheats on the tree.


def resumed(log: ServedLog, more: ServedLog) -> AuditReport:
    """Audits a log, then goes on with another that is served under its name."""
    spent: dict[bytes, bytes] = {}
    audit, _ = audited(log, spent=spent)
    state = AuditState.decode(audit.state().encode())
    return audited(more, state=state, spent=spent)[1]


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
