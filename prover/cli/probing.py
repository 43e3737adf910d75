"""``prover venues probe``: what of the venues can be reached and used from this network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.encoding import JsonObject
from attestation.errors import UnavailableError, UsageError
from attestation.trust import Trust
from attestation.venues import load_venue, shipped_venues
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    answer,
    boundary,
    progress,
    read,
    read_key,
    safe,
    say,
)

if TYPE_CHECKING:
    from prover.finding import Finding
    from prover.route import Route

_MEMBERS = (
    "venue",
    "host",
    "instrument",
    "verdict",
    "detail",
    "cure",
    "addresses",
    "tls",
    "suite",
    "group",
    "chain",
    "status",
    "skew_us",
    "symbol",
    "bid",
    "ask",
    "took_us",
)


def probe(
    venue: Annotated[
        list[str] | None, typer.Option(help="Only this venue; may be repeated. Default: all.")
    ] = None,
    market: Annotated[
        str | None, typer.Option(help="Ask for this market instead of each venue's first.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For each host.")] = 10.0,
    limit: Annotated[int, typer.Option(help="Hosts probed at a time.")] = 6,
    roots: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Root certificates (PEM) instead of certifi's."),
    ] = None,
    notary: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Go through this notary's relay, to see what works there."
        ),
    ] = None,
    key: KeyOption = DEFAULT_KEY,
    development_connect_to: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Simulated venues: connect to them instead of the real ones."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask every venue for a quote and say what works from this network.

    Nothing is attested. Venues see the address of the notary that connects to them: run
    this where the notary runs, or name it by --notary. Exit code 20 if no venue works.
    """
    with boundary(as_json=as_json):
        if not 0 < timeout <= 600 or not 1 <= limit <= 64:
            raise UsageError("--timeout is up to 600 s, --limit 1 to 64", rule="timeout")
        if notary is not None and development_connect_to is not None:
            raise UsageError("a notary connects where it is configured to", rule="notary")
        from attestation.tls13.certificates import RootStore
        from prover.probe import Probe, targets

        files = [load_venue(name) for name in dict.fromkeys(venue or ())]
        # A notary connects to a venue's first host alone.
        wanted = targets(
            files or shipped_venues().values(), market=market, all_hosts=notary is None
        )
        pem = _certifi() if roots is None else read(roots)
        findings: list[Finding] = []
        with (
            _route(notary, key, development_connect_to) as (route, simulated),
            progress(f"probing {len(wanted)} hosts") as tell,
        ):
            how = Probe(
                roots_pem=pem,
                roots=RootStore.from_pem(pem),
                seconds=timeout,
                limit=limit,
                route=route,
            )
            for finding in how.run(wanted):
                findings.append(finding)
                tell(f"probing {len(wanted)} hosts, {len(findings)} done")
        if as_json:
            document: JsonObject = {
                "type": "quotary/probe/v1",
                "simulated": simulated,
                "hosts": [_row(finding) for finding in findings],
            }
            if notary is not None:
                document["notary"] = safe(notary)
            answer(document)
        else:
            _print_table(findings)
        _explain(findings, "simulated venues" if simulated else "venues", notary)
        if not any(finding.works for finding in findings):
            raise typer.Exit(UnavailableError.exit_code)


def _certifi() -> bytes:
    import certifi

    return Path(certifi.where()).read_bytes()


@contextlib.contextmanager
def _route(notary: str | None, key: str, connect_to: str | None) -> Iterator[tuple[Route, bool]]:
    """How to come to the venues, and whether those are simulated."""
    from prover.notary_client import Notary
    from prover.route import Direct, ThroughNotary

    if notary is None:
        place = None if connect_to is None else _place(connect_to)
        yield Direct(connect_to=place), place is not None
        return
    # No attestation is asked for: none would be believed.
    with Notary(notary, prover_key=read_key(key), trust=Trust()) as client:
        simulated = client.info().document.get("development") is True
        yield ThroughNotary(notary=client), simulated


def _place(text: str) -> tuple[str, int]:
    from attestation.errors import MalformedError
    from prover.session import split_proxy

    try:
        return split_proxy(text)
    except MalformedError:
        raise UsageError("not HOST:PORT", rule="development_connect_to", found=text[:120]) from None


def _row(finding: Finding) -> JsonObject:
    row: JsonObject = {}
    for member in _MEMBERS:
        value = getattr(finding, member)
        if isinstance(value, tuple):
            row[member] = [safe(item) for item in value]
        elif isinstance(value, str):
            row[member] = safe(value, 400)
        elif value is not None:
            row[member] = value
    return row


def _print_table(findings: Sequence[Finding]) -> None:
    """Aligned lines that are never cut; the verdict first, so that no fold hides it."""
    heads = ("verdict", "venue", "host", "address", "TLS", "chain", "HTTP", "Date", "symbol")
    rows: list[tuple[str, ...]] = [(*heads, "bid / ask")]
    for finding in findings:
        cells = (
            finding.verdict,
            finding.venue,
            finding.host,
            ", ".join(finding.addresses[:1]) + (" ..." if len(finding.addresses) > 1 else ""),
            finding.tls if finding.suite is None else f"1.3 {finding.suite}",
            None if finding.chain is None else "valid",
            finding.status,
            None if finding.skew_us is None else f"{finding.skew_us / 1e6:+.1f} s",
            finding.symbol,
            None if finding.bid is None else f"{finding.bid} / {finding.ask}",
        )
        rows.append(tuple("-" if cell in (None, "") else safe(cell, 60) for cell in cells))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)])
        typer.echo(line.rstrip())


def _explain(findings: Sequence[Finding], what: str, notary: str | None) -> None:
    failed = [finding for finding in findings if not finding.works]
    for cure in dict.fromkeys(finding.cure for finding in failed):
        for finding in failed:
            if finding.cure == cure:
                place = f"{finding.verdict}: {finding.venue}, {finding.host}"
                say(f"{place}: {safe(finding.detail, 400)}")
        say(f"    -> {safe(cure, 400)}")
    working = {finding.venue for finding in findings if finding.works}
    venues = {finding.venue for finding in findings}
    where = "from here" if notary is None else f"through {safe(notary)}"
    say(f"{len(working)} of {len(venues)} {what} work {where}; nothing was attested")
