"""The ``notary`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from attestation.errors import UsageError
from notary.cli.backup import backup
from notary.cli.boundary import Options
from notary.cli.keys import keygen, rotate
from notary.cli.log import log, witness
from notary.cli.serving import serve

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Witness TLS sessions and attest what was fetched through them.",
    epilog="Exit codes: 0 done, 2 usage, 10 or 11 a damaged backup, 16 a damaged log,"
    " 20 network or disk, 1 a bug.",
)
app.command("keygen", short_help="Make a signing key; print the block for trust files.")(keygen)
app.command("serve", short_help="Serve relay and control API; or --check, then exit.")(serve)
app.command("rotate", short_help="Prepare a new key, and --switch to it when it is due.")(rotate)
app.command("backup", short_help="Copy the store while it is served; verify the copy.")(backup)
app.add_typer(log, name="log")
app.add_typer(witness, name="witness")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from notary.server import software

    typer.echo(f"{software()} (formats v1)")
    raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print versions."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    Options.debug = debug


def main() -> None:
    """Entry point of the console command."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("attestation", "notary"):
            raise
        cure = "in a checkout of Quotary, pip install '.[notary]'"
        print(f"notary: {package} is not installed: {cure}", file=sys.stderr)
        raise SystemExit(UsageError.exit_code) from None
