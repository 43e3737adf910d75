"""``verifier audit``, ``mirror`` and ``prove`` as processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from attestation.errors import InvalidProofError, UnavailableError, UsageError
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import logged_at
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.log.report import AuditReport, FindingsFile
from tests.adversaries.log import ServedLog
from tests.docs.worked_session import T0
from tests.log.example import attested, entries, opened
from tests.log.keys import LOG, OTHER_LOG
from tests.verifier import forge
from tests.verifier.auditing import CHEATS, POLICY, audited, grow, served
from tests.verifier.shell import Shell
from verifier.auditstore import AuditStore
from verifier.mirror import mirror_log

POLICY_TEXT = f"log {LOG.verifying_key.vkey}\nquorum none\n".encode()
OPTIONS = ("--log-policy", "policy.txt")
CHEAT = CHEATS["three sessions for one place, the best one shown"][0]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.write("policy.txt", POLICY_TEXT)
    return shell


def spread(log: ServedLog, folder: Path) -> str:
    """Writes a log as plain files."""
    for path, data in log.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return str(folder)


def lines(run: subprocess.CompletedProcess[bytes]) -> str:
    return run.stderr.decode()


def test_honest_log_exits_with_0_and_prints_statistics(shell: Shell) -> None:
    source = spread(ServedLog(LOG).log(entries()), shell.folder / "log")
    run = shell.run("audit", source, *OPTIONS, "--json")
    assert run.returncode == 0, lines(run)
    report = AuditReport.decode(run.stdout)
    assert (report.size, report.findings) == (len(entries()), ())
    assert "no finding" in lines(run)
    assert "sessions venue_refused" in lines(run)
    assert "missed by the notary" in lines(run)


def test_cheat_exits_with_16_and_its_evidence_is_written(shell: Shell) -> None:
    log = served(*CHEAT)
    source = spread(log, shell.folder / "log")
    run = shell.run("audit", source, *OPTIONS, "--json", "--findings", "findings.json")
    assert run.returncode == 16
    assert "FINDING duplicate entry 2" in lines(run)
    report = AuditReport.decode(run.stdout)
    written = FindingsFile.decode((shell.folder / "findings.json").read_bytes())
    assert [proven.finding for proven in written.findings] == list(report.findings)
    signed = open_checkpoint(report.checkpoint.encode(), logs=[LOG.verifying_key])
    for proven in written.findings:
        assert {shown.index for shown in proven.evidence} >= set(proven.finding.entries)
        for shown in proven.evidence:
            LogProof.parse(shown.proof.encode()).check(shown.entry, signed)


def test_log_that_cannot_be_read_exits_with_20(shell: Shell) -> None:
    log = ServedLog(LOG).log(entries())
    del log.files[log.last_bundle()]
    run = shell.run("audit", spread(log, shell.folder / "log"), *OPTIONS)
    assert run.returncode == 20
    assert shell.run("audit", "http://127.0.0.1:1/", *OPTIONS).returncode == 20
    assert shell.run("audit", "nowhere", *OPTIONS).returncode == 2
    other = spread(ServedLog(OTHER_LOG).publish(), shell.folder / "other")
    assert shell.run("audit", other, *OPTIONS).returncode == 12


def test_audit_goes_on_from_its_state_and_finds_a_fork(shell: Shell) -> None:
    log = grow(ServedLog(LOG), 300, "a")
    source = spread(log, shell.folder / "log")
    again = ("audit", source, *OPTIONS, "--state", "state.db", "--json")
    assert shell.run(*again).returncode == 0
    spread(grow(log, 20, "b"), shell.folder / "log")
    run = shell.run(*again)
    assert run.returncode == 0
    assert AuditReport.decode(run.stdout).size == 640
    forked = grow(log.fork(500), 80, "f")
    spread(forked, shell.folder / "log")
    for _ in range(2):
        # The state of the sound audit stays: the fork is found again.
        run = shell.run(*again)
        assert run.returncode == 16
        assert [row["kind"] for row in json.loads(run.stdout)["found"]] == ["forked_log"]


def test_given_attestation_is_looked_for(shell: Shell) -> None:
    shell.write("trust.toml", forge.trust().dump())
    name = shell.write("given.json", forge.session().present().encode())
    source = spread(grow(ServedLog(LOG), 3, "a"), shell.folder / "log")
    given = ("audit", source, *OPTIONS, "--given", name)
    assert shell.run(*given).returncode == 2
    assert shell.run(*given, "--trust", "trust.toml", "--state", "s.db").returncode == 2
    shell.write("strangers.toml", forge.trust().dump().replace(b"attest", b"log"))
    assert shell.run(*given, "--trust", "strangers.toml").returncode == 12


def test_mirror_serves_like_the_log_and_grows_with_it(shell: Shell) -> None:
    log = grow(ServedLog(LOG), 300, "a")
    source = spread(log, shell.folder / "log")
    for count in (0, 250):
        spread(grow(log, count, f"b{count}"), shell.folder / "log")
        run = shell.run("mirror", source, "copy", *OPTIONS)
        assert run.returncode == 0, lines(run)
    copy = shell.folder / "copy"
    made = {
        path.relative_to(copy).as_posix(): path.read_bytes()
        for path in copy.rglob("*")
        if path.is_file()
    }
    assert made.items() <= log.files.items()
    assert shell.run("audit", "copy", *OPTIONS).returncode == 0
    assert shell.run("mirror", source, "copy", *OPTIONS).returncode == 0


def test_proof_of_an_entry_holds(shell: Shell) -> None:
    log = grow(ServedLog(LOG), 300, "a")
    source = spread(log, shell.folder / "log")
    run = shell.run("prove", source, "417", *OPTIONS)
    assert run.returncode == 0, lines(run)
    assert shell.run("prove", source, "417", *OPTIONS, "--out", "p").returncode == 0
    assert (shell.folder / "p").read_bytes() == run.stdout
    proof = LogProof.parse(run.stdout)
    signed = open_checkpoint(proof.note, logs=[LOG.verifying_key])
    proof.check(log.entries[417], signed)
    assert shell.run("prove", source, "600", *OPTIONS).returncode == 2
    wrong = shell.folder / "log" / "tile" / "0" / "001"
    wrong.write_bytes(bytes(8_192))
    assert shell.run("prove", source, "417", *OPTIONS).returncode == 11


def test_policy_that_is_none_is_named(shell: Shell) -> None:
    shell.write("policy.txt", b"quorum\n")
    run = shell.run("audit", ".", *OPTIONS)
    assert run.returncode == 10
    assert "line 1" in lines(run)


# What is kept, and what a lying log leaves behind.


def test_lying_log_leaves_the_mirror_as_it_was(tmp_path: Path) -> None:
    log = grow(ServedLog(LOG), 300, "a")
    mirror_log(log.read, tmp_path, POLICY)
    kept = (tmp_path / "checkpoint").read_bytes()
    with pytest.raises(InvalidProofError):
        mirror_log(grow(log.fork(400), 150, "f").read, tmp_path, POLICY)
    with pytest.raises(UnavailableError, match="older"):
        mirror_log(log.fork(400).publish().read, tmp_path, POLICY)
    other = LogPolicy.threshold([LOG.verifying_key, OTHER_LOG.verifying_key], [], 0)
    with pytest.raises(InvalidProofError, match="another log"):
        mirror_log(grow(ServedLog(OTHER_LOG), 301, "a").read, tmp_path, other)
    assert (tmp_path / "checkpoint").read_bytes() == kept
    # And the honest one goes on over what the liar left.
    assert mirror_log(grow(log, 99, "b").read, tmp_path, POLICY).size == 798
    (tmp_path / "tile" / "1" / "000.p" / "3").write_bytes(bytes(96))
    with pytest.raises(InvalidProofError, match="damaged"):
        mirror_log(grow(log, 9, "c").read, tmp_path, POLICY)


def test_state_is_one_auditors_and_no_other_file(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with AuditStore(path) as store:
        with pytest.raises(UsageError):
            AuditStore(path)
        store.spent[b"k"] = b"v"
        assert (store.spent[b"k"], len(store.spent), list(store.spent)) == (b"v", 1, [b"k"])
        del store.spent[b"k"]
        assert store.spent.get(b"k") is None
        with pytest.raises(KeyError):
            del store.spent[b"k"]
    (tmp_path / "text").write_text("hello" * 1_000)
    for name in ("text", "."):
        with pytest.raises(UsageError):
            AuditStore(str(tmp_path / name))


def test_state_that_was_not_saved_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    log = served((0, opened("a", "trade/t/open", deadline_us=T0 + 5)), (1, attested("a")))
    with AuditStore(path) as store:
        audited(log, spent=store.spent)
        assert len(store.spent) == 2
    with AuditStore(path) as store:
        assert (store.load(), len(store.spent)) == (None, 0)
        audit, _ = audited(log, spent=store.spent)
        store.save(audit.state())
    with AuditStore(path) as store:
        assert (store.load(), len(store.spent)) == (audit.state(), 2)
        again = opened("b", "trade/t/open", deadline_us=T0 + 9)
        log.log([logged_at(again, T0 + 2), logged_at(attested("b"), T0 + 3)])
        _, report = audited(log, state=store.load(), spent=store.spent)
        assert [finding.kind for finding in report.findings] == ["duplicate"]
