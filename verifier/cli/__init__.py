"""The ``verifier`` command.

``verify`` decides, ``inspect`` prints, ``recheck`` repeats a notary's work,
``recompute`` a trade's settlement,
``trust`` keeps the keys one believes, ``selftest`` runs known samples, ``audit``,
``mirror`` and ``prove`` read a log from a URL or a folder, ``serve`` answers over
HTTP, ``page`` writes the fairness page.  All but ``serve`` need the base install;
nothing but a log's URL is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifier.cli import bundle, policy, trust
from verifier.cli.boundary import BUG, Options, answer, boundary, say
from verifier.cli.documents import (
    JsonOption,
    inspect_command,
    recheck_command,
    verify_command,
)
from verifier.cli.log import audit_command, mirror_command, prove_command
from verifier.cli.page import page_command
from verifier.cli.serving import serve_command
from verifier.cli.settlement import recompute_command, reconcile_command
from verifier.text import safe

app = typer.Typer(
    name="verifier",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Check attested prices offline: against keys you trust and what you expect.",
    epilog="Exit codes: 0 yes, 2 usage, 10 not the format, 11 proof does not match, 12 key not "
    "trusted, 13 outside the times, 14 another outcome, 15 something is missing, 16 findings in a "
    "log, 17 not what was expected, 20 network or disk, 1 a bug.",
)
app.add_typer(trust.app, name="trust")
app.add_typer(bundle.app, name="bundle")
app.add_typer(policy.app, name="policy")
app.command("verify")(verify_command)
app.command("inspect")(inspect_command)
app.command("recheck", short_help="Repeat a notary's work on raw TLS records.")(recheck_command)
app.command("recompute", short_help="Recompute how a trade ended, from its bundle.")(
    recompute_command
)
app.command("reconcile", short_help="Compare a ledger with the log and every bundle.")(
    reconcile_command
)
app.command("audit", short_help="Recompute a whole log and name what is wrong.")(audit_command)
app.command("mirror", short_help="Copy a log into a folder, or go on with a copy.")(mirror_command)
app.command("prove", short_help="Prove that an entry is logged, for anyone offline.")(prove_command)
app.command("page", short_help="Write the fairness page, one file for any browser.")(page_command)
app.command("serve")(serve_command)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    from verifier.show import FORMATS

    try:
        package = version("quotary")
    except PackageNotFoundError:
        package = "(not installed)"
    typer.echo(f"quotary {package}")
    for name in FORMATS:
        typer.echo(name)
    raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print package and formats."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    Options.debug = debug


@app.command(short_help="Run the shipped samples: does this installation work?")
def selftest(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of samples; the shipped ones by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the shipped valid and tampered samples: does this installation tell them apart?"""
    with boundary(as_json=as_json):
        from attestation.encoding import Json, encode
        from verifier.selftest import SAMPLES, run

        outcomes = list(run(SAMPLES if folder is None else folder))
        wrong = [outcome for outcome in outcomes if not outcome.as_expected]
        for outcome in outcomes:
            mark = "ok   " if outcome.as_expected else "WRONG"
            why = "accepted" if outcome.error is None else str(outcome.error)
            say(f"{mark} {outcome.code:>2} {safe(outcome.sample.name)}: {safe(why, limit=200)}")
        say(f"{len(outcomes) - len(wrong)} of {len(outcomes)} samples came out as they must")
        if as_json:
            rows: list[Json] = [
                {
                    "name": outcome.sample.name,
                    "wanted": outcome.sample.code,
                    "found": outcome.code,
                }
                for outcome in outcomes
            ]
            answer(encode({"type": "quotary/selftest/v1", "passed": not wrong, "samples": rows}))
        if wrong:
            raise typer.Exit(BUG)


def main() -> None:
    """Runs the command line; exits with the codes of docs/formats.md."""
    app()
