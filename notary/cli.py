"""The ``notary`` command."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.keys import ALGORITHMS, DEFAULT_SIGNATURE, SEED_SIZE, SigningKey, check_name
from attestation.trust import MAX_TEXT

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Witness TLS sessions and attest what was fetched through them.",
    epilog="Exit codes: 0 done, 2 usage, 20 network or disk, 1 a bug.",
)


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print versions and exit.")] = False,
) -> None:
    if version:
        from notary.server import software

        typer.echo(f"{software()} (formats v1)")
        raise typer.Exit


@app.command()
def keygen(
    name: Annotated[str, typer.Option(help="The notary's name, as provers will know it.")],
    operator: Annotated[str, typer.Option(help="Who runs it, as readers will know them.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the key file goes.")] = Path(),
    algorithm: Annotated[
        str, typer.Option(help=f"One of: {', '.join(ALGORITHMS)}.")
    ] = DEFAULT_SIGNATURE,
    years: Annotated[int, typer.Option(min=1, max=10, help="Years of validity.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a signing key; prints the vkey, its fingerprint and the block for trust files."""
    from notary.signer import key_path, write_key

    try:
        key = _new_key(name, operator, algorithm)
        path = key_path(folder, algorithm)
        write_key(path, key)
    except QuotaryError as error:
        _fail(error)
    except OSError as error:
        _fail(UsageError(f"{error.strerror}: {error.filename}", rule="dir"))
    public = key.verifying_key
    fingerprint = "sha256:" + hashlib.sha256(public.public).hexdigest()
    now = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = now.replace(year=now.year + years, day=min(now.day, 28))
    block = {
        "name": name,
        "operator": operator,
        "vkey": public.vkey,
        "role": "attest",
        "valid_from": now.isoformat().replace("+00:00", "Z"),
        "valid_until": until.isoformat().replace("+00:00", "Z"),
    }
    if as_json:
        typer.echo(json.dumps({"file": str(path), "fingerprint": fingerprint, "trust": block}))
        return
    # All of standard output is TOML: it can be appended to a trust file as it is.
    typer.echo(f"# vkey        {public.vkey}")
    typer.echo(f"# fingerprint {fingerprint}")
    typer.echo("[[notary]]")
    for member, value in block.items():
        typer.echo(f"{member} = {json.dumps(value, ensure_ascii=False)}")
    typer.echo(f"private key written to {path} (0600): back it up, show it to nobody", err=True)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The configuration, notary.toml.")],
    development: Annotated[
        bool,
        typer.Option("--development", help="Accept a [development] section, for simulated venues."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check configuration and keys, then exit.")
    ] = False,
) -> None:
    """Serve the relay and the control API; prints one READY line of JSON."""
    from notary.config import load_config
    from notary.logs import configure_logging
    from notary.server import allowed_venues, load_roots, load_signer
    from notary.server import serve as run_server

    try:
        settings = load_config(config, development=development)
        configure_logging(settings.log_level)
        signer = load_signer(settings)
        roots = load_roots(settings)
        venues = allowed_venues(settings)
        if check:
            typer.echo(
                json.dumps(
                    {
                        "name": settings.name,
                        "vkeys": list(signer.vkeys),
                        "venues": list(venues),
                        "roots": roots.hash,
                    }
                )
            )
            return
        _run(run_server(settings, signer, roots, announce=_announce))
    except QuotaryError as error:
        _fail(error)


def main() -> None:
    """Entry point of the console command."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("attestation", "notary"):
            raise
        print(f"notary: {package} is not installed: pip install 'quotary[notary]'", file=sys.stderr)
        raise SystemExit(UsageError.exit_code) from None


def _new_key(name: str, operator: str, algorithm: str) -> SigningKey:
    """Raises UsageError unless what is printed can stand in a trust file."""
    if algorithm not in ALGORITHMS:
        raise UsageError("no such algorithm", rule="algorithm", found=algorithm)
    if not 0 < len(operator) <= MAX_TEXT or not operator.isprintable():
        raise UsageError(f"operator is not 1 to {MAX_TEXT} printable characters", rule="operator")
    try:
        check_name(name)
    except MalformedError as error:
        raise UsageError(error.detail, rule="name", found=name) from None
    return SigningKey(name=name, algorithm=algorithm, seed=os.urandom(SEED_SIZE))


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


def _fail(error: QuotaryError) -> NoReturn:
    found = f" (found: {error.found})" if error.found is not None else ""
    print(f"notary: {error}{found}", file=sys.stderr)
    raise typer.Exit(error.exit_code)
