"""A reconciliation as a page to read and to keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attestation.settlement.reconciliation import GapCount, Reconciliation
from verifier.text import safe, utc

MAX_LISTED = 1_000
"""Findings that a report lists one by one; ``--json`` has all of them."""


def render(report: Reconciliation, *, commands: Sequence[str], versions: Sequence[str]) -> str:
    """Returns the report as Markdown; ``commands`` are the lines that repeat it."""
    return "\n".join(_lines(report, commands, versions)) + "\n"


def summary(report: Reconciliation) -> Iterator[str]:
    """Yields what a terminal shows of it."""
    verdict = "NO FINDING" if not report.findings else f"{len(report.findings)} FINDINGS"
    yield f"{verdict}: {report.trades} trades in {report.batches} batches of {safe(report.origin)}"
    yield (
        f"  {report.equal} equal, {report.different} different, {report.refused} refused,"
        f" {report.evidence_lost} void for lost evidence, {report.not_shown} not shown"
    )
    voids = next(row for row in report.outcomes if row.outcome == "void")
    yield "  " + ", ".join(f"{row.outcome} {row.count}" for row in report.outcomes)
    faults = "".join(f", {row.count} by the {row.fault}" for row in report.voids)
    yield (
        f"  void rate {_void_rate(report, voids.count)}{faults}; with the operator's fee"
        f" {voids.fees}"
    )
    for finding in report.findings[:20]:
        where = "" if finding.entry is None else f" entry {finding.entry}"
        trade = "" if finding.trade is None else f" trade {finding.trade}"
        rule = "" if finding.rule is None else f" [{safe(finding.rule)}]"
        yield f"FINDING {finding.kind}{where}{trade}{rule}: {safe(finding.detail, limit=200)}"
    if len(report.findings) > 20:
        yield f"... and {len(report.findings) - 20} more, in the report"


def _lines(
    report: Reconciliation, commands: Sequence[str], versions: Sequence[str]
) -> Iterator[str]:
    yield "# Reconciliation"
    yield ""
    yield f"Ledger against the log `{_code(report.origin)}`, {report.size} entries;"
    if report.quorum_us is None:
        yield "its checkpoint has not the witnesses that the log policy asks for."
    else:
        yield f"its checkpoint was cosigned by a quorum of witnesses by {utc(report.quorum_us)}."
    since = utc(report.from_us) if report.from_us else "its beginning"
    yield f"Batches logged from {since} to before {utc(report.until_us)}."
    yield f"Policy `{report.policy_id}`."
    yield ""
    yield "## Trades"
    yield ""
    yield from _table(
        ("", "trades", "share"),
        [
            (name, count, _percent(count, report.trades))
            for name, count in (
                ("as the ledger says", report.equal),
                ("different", report.different),
                ("refused: the bundle does not hold", report.refused),
                ("void and returned, evidence lost", report.evidence_lost),
                ("no bundle shown", report.not_shown),
                ("under another policy, not looked at", report.other_policy),
                ("all", report.trades),
            )
        ],
    )
    yield ""
    yield "Of those that came out as the ledger says:"
    yield ""
    yield from _table(
        ("outcome", "trades", "share", "with the operator's fee"),
        [
            (row.outcome, row.count, _percent(row.count, report.equal), row.fees)
            for row in report.outcomes
        ],
    )
    yield ""
    voids = sum(row.count for row in report.outcomes if row.outcome == "void")
    yield (
        f"Void rate {_void_rate(report, voids)}: {voids} by the rule, {report.evidence_lost} as the"
        " operator lost the evidence, which nobody can check."
    )
    yield ""
    if report.voids:
        faults = ", ".join(f"{row.fault} {row.count}" for row in report.voids)
        yield f"Voids by whose fault: {faults}."
    yield (
        f"{report.close_calls} ({_percent(report.close_calls, report.equal)}) were decided by less"
        " than the dispersion of their venues' returns (the median distance from their median)."
    )
    yield f"Stakes {report.stakes}, payouts {report.payouts}. Promises kept: {report.promises}."
    yield ""
    yield "## Gaps"
    yield ""
    yield f"{report.slots} slot attestations with {report.observations} quotes and gaps were read."
    yield ""
    if report.gaps:
        yield from _table(
            ("venue", "gaps", "share of slots", "reasons"), _by_venue(report.gaps, report.slots)
        )
    else:
        yield "No venue had a gap in them."
    yield ""
    yield f"## Findings: {len(report.findings)}"
    yield ""
    if report.findings:
        yield from _table(
            ("kind", "entry", "trade", "rule", "what"),
            [
                (
                    finding.kind,
                    "" if finding.entry is None else finding.entry,
                    "" if finding.trade is None else f"`{finding.trade}`",
                    "" if finding.rule is None else f"`{_code(finding.rule)}`",
                    _cell(_told(finding.detail, finding.found, finding.wanted)),
                )
                for finding in report.findings[:MAX_LISTED]
            ],
        )
        if len(report.findings) > MAX_LISTED:
            yield ""
            yield f"... and {len(report.findings) - MAX_LISTED} more."
    else:
        yield "None."
    yield ""
    yield "## To repeat this"
    yield ""
    for command in commands:
        yield f"    {safe(command)}"
    yield ""
    yield "With " + ", ".join(versions) + ". The log's checkpoint:"
    yield ""
    for line in report.checkpoint.splitlines():
        yield f"    {safe(line)}"


def _by_venue(gaps: Sequence[GapCount], slots: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for venue in sorted({row.venue for row in gaps}):
        mine = [row for row in gaps if row.venue == venue]
        count = sum(row.count for row in mine)
        reasons = ", ".join(f"{row.reason} {row.count} ({row.fault})" for row in mine)
        rows.append((venue, count, _percent(count, slots), reasons))
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def _told(detail: str, found: str | None, wanted: str | None) -> str:
    parts = [detail]
    if found is not None:
        parts.append(f"found {found}")
    if wanted is not None:
        parts.append(f"wanted {wanted}")
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Text of documents in a table: one line, and no markup of its own."""
    return "".join(f"\\{one}" if one in r"\`*_[]<>|#" else one for one in safe(text, limit=300))


def _code(text: str) -> str:
    return safe(text, limit=200).replace("`", "'").replace("|", "\\|")


def _void_rate(report: Reconciliation, voids: int) -> str:
    """Of the trades that are known to have ended, or are said to be void."""
    return _percent(voids + report.evidence_lost, report.equal + report.evidence_lost)


def _percent(count: int, whole: int) -> str:
    if not whole:
        return "-"
    hundredths = (20_000 * count + whole) // (2 * whole)
    return f"{hundredths // 100}.{hundredths % 100:02} %"
