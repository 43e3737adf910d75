"""``verifier audit``, ``mirror`` and ``prove``: a log, from a URL or a folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import AuditFinding, UnavailableError, UsageError
from verifier.cli.boundary import answer, boundary, now, read, read_trust, say, write
from verifier.cli.documents import JsonOption
from verifier.text import safe, utc

if TYPE_CHECKING:
    from attestation.log.policy import LogPolicy
    from attestation.log.report import AuditReport
    from verifier.given import GivenAttestation

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The log: its URL, or a folder that mirrors it.")
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--log-policy", metavar="FILE", help="Log policy: the log's key, witnesses, quorum."
    ),
]


def audit_command(
    source: SourceArgument,
    log_policy: PolicyOption,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep what was audited here, and go on from it: only so is a fork found.",
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Presentation that must be in the log; needs --trust, no --state."
        ),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option("--trust", metavar="FILE", help="Trust file for what --given names."),
    ] = None,
    findings: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the findings here, with proven entries."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute a whole log and name what is wrong: 0 nothing, 16 findings, 20 cannot be read."""
    with boundary(as_json=as_json), _storage():
        from attestation.log.report import FindingsFile, ProvenFinding
        from verifier.audit import Audit
        from verifier.auditstore import AuditStore
        from verifier.logfiles import audit_log, gather_evidence
        from verifier.logsource import open_source

        policy = _policy(log_policy)
        if state is not None and given:
            raise UsageError("--given is looked for in a whole log: without --state", rule="given")
        shown = [_given(name, trust) for name in given or ()]
        with AuditStore(state) as store, open_source(source) as log:
            audit = Audit(policy, state=store.load(), spent=store.spent, given=shown)
            with _progress() as step:
                report = audit_log(audit, log.read, step=step)
            if audit.is_sound:
                store.save(audit.state())
            if findings is not None:
                # Entries that fold to no signed root prove nothing.
                proven = [
                    ProvenFinding(
                        finding=finding,
                        evidence=gather_evidence(finding, report, log.read)
                        if audit.is_sound
                        else (),
                    )
                    for finding in report.findings
                ]
                made = FindingsFile(origin=report.origin, findings=tuple(proven))
                Path(findings).write_bytes(made.encode() + b"\n")
        if as_json:
            answer(report.encode())
        _say(report)
        if report.exit_code:
            raise typer.Exit(AuditFinding.exit_code)


def mirror_command(
    source: SourceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the copy is kept.")],
    log_policy: PolicyOption,
    as_json: JsonOption = False,
) -> None:
    """Copy a log into a folder, or go on where the copy ends; checked against the signed root."""
    with boundary(as_json=as_json):
        from attestation.encoding import Json, encode
        from verifier.logsource import open_source
        from verifier.mirror import mirror_log

        policy = _policy(log_policy)
        with open_source(source) as log, _progress() as step:
            head = mirror_log(log.read, folder, policy, step=step)
        say(f"{safe(head.origin)}: {head.size} entries, root {head.root.hex()}")
        if as_json:
            known: dict[str, Json] = {
                "origin": head.origin,
                "size": head.size,
                "root": head.root.hex(),
            }
            answer(encode({"type": "quotary/mirror/v1", **known}))


def prove_command(
    source: SourceArgument,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The entry's index.")],
    log_policy: PolicyOption,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Where the proof is written, - for stdout.")
    ] = "-",
) -> None:
    """Prove that an entry is logged: a tlog-proof that anyone can check offline."""
    with boundary():
        from attestation.log.proof import LogProof
        from attestation.log.tiles import CHECKPOINT_PATH
        from verifier.logfiles import prove_entry
        from verifier.logsource import open_source

        policy = _policy(log_policy)
        with open_source(source) as log:
            note = log.read(CHECKPOINT_PATH)
            signed = policy.open_log(note)
            size = signed.checkpoint.size
            if index >= size:
                raise UsageError("the log has no such entry", found=index, wanted=size)
            shown = prove_entry(index, size, note, log.read)
        proof = shown.proof.encode("utf-8")
        LogProof.parse(proof).check(shown.entry, signed)
        say(f"entry {index} of {size}: {safe(shown.entry.decode('utf-8', 'replace'))}")
        if out == "-":
            write(proof)
        else:
            Path(out).write_bytes(proof)


def _policy(name: str) -> LogPolicy:
    from attestation.log.policy import MAX_POLICY_SIZE, LogPolicy

    return LogPolicy.parse(read(name, limit=MAX_POLICY_SIZE))


def _given(name: str, trust: str | None) -> GivenAttestation:
    from verifier.given import authenticate_given

    if trust is None:
        raise UsageError("--given needs --trust: who signed it?", rule="trust")
    believed = read_trust(trust)
    return authenticate_given(read(name), trust=believed, now_us=now())


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    """A full disk under the state is no bug."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise UnavailableError(f"the state cannot be kept: {error}", rule="state") from error


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A line that counts, where somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return

    def step(position: int, size: int) -> None:
        done = 100 if not size else 100 * position // size
        sys.stderr.write(f"\r{position} of {size} entries, {done} %")
        sys.stderr.flush()

    try:
        yield step
    finally:
        sys.stderr.write("\r\x1b[K")


def _say(report: AuditReport) -> None:
    say(f"{safe(report.origin)}: {report.size} entries, the last of {utc(report.last_us)}")
    if report.quorum_time is None:
        say("  not cosigned by a quorum of witnesses: other readers may be shown another log")
    else:
        say(f"  cosigned by a quorum of witnesses until {utc(report.quorum_time * 1_000_000)}")
    for row in report.sessions:
        say(f"  sessions {row.end:<17} {row.count:>8}  {safe(row.prover)} {safe(row.venue or '-')}")
    for slot in report.slots:
        what = "attested" if slot.end == "slot" else f"missed by the {slot.end}"
        say(f"  slots    {what:<17} {slot.count:>8}  {safe(slot.feed)}")
    if report.open:
        say(f"  sessions open              {report.open:>8}")
    for finding in report.findings:
        where = "" if finding.index is None else f" entry {finding.index}"
        named = ", ".join(str(index) for index in finding.entries)
        say(
            f"FINDING {finding.kind}{where}: {safe(finding.detail, limit=300)}"
            + (f" (see {named})" if named else "")
        )
    for kind in report.found:
        say(f"{kind.count} x {kind.kind}")
    if not report.found:
        say("no finding")
