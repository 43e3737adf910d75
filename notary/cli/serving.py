"""``notary serve``, and what ``--check`` prints instead."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import QuotaryError
from notary.cli.boundary import boundary

if TYPE_CHECKING:
    from notary.preflight import Finding


def serve(
    config: Annotated[Path, typer.Option(help="The configuration, notary.toml.")],
    development: Annotated[
        bool,
        typer.Option("--development", help="Accept a [development] section, for simulated venues."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check all that serving needs, change nothing, then exit."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Serve the relay and the control API; prints one READY line of JSON."""
    from notary.config import load_config
    from notary.logs import configure_logging
    from notary.server import load_roots, load_signer
    from notary.server import serve as run_server

    with boundary():
        if check:
            raise typer.Exit(_check(config, development=development, as_json=as_json))
        settings = load_config(config, development=development)
        configure_logging(settings.log_level)
        _run(run_server(settings, load_signer(settings), load_roots(settings), announce=_announce))


def _check(config: Path, *, development: bool, as_json: bool) -> int:
    """Prints what was found and returns the exit code."""
    from notary.config import load_config
    from notary.preflight import examine, failed

    try:
        settings = load_config(config, development=development)
    except QuotaryError as error:
        findings = [failed("configuration", error)]
    else:
        findings = examine(settings, config)
    code = max((finding.exit_code for finding in findings), default=0)
    if as_json:
        rows = [
            {"check": finding.check, "status": finding.status, "detail": finding.detail}
            for finding in findings
        ]
        document = {"type": "quotary/check/v1", "passed": code == 0, "checks": rows}
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        for finding in findings:
            typer.echo(_row(finding))
    return code


def _row(finding: Finding) -> str:
    first, *more = finding.detail.split("; ")
    rows = [f"{finding.status:<5} {finding.check:<14} {first}"]
    return "\n".join(rows + [" " * 21 + line for line in more])


def _run(server: object) -> None:
    """Runs the server's coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(server)  # type: ignore[arg-type]
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server)  # type: ignore[arg-type]


def _announce(line: str) -> None:
    print(line, flush=True)
