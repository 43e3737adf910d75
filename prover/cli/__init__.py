"""The ``prover`` command.

``fetch`` fetches through notaries and keeps what proves it, ``sidecar`` has other
programs do the fetching, ``present`` and
``dispute`` make of that what others may see, ``present-slot`` of a feed's store;
``feed`` and ``serve`` do it live.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import JsonObject
from attestation.errors import MalformedError, UsageError
from attestation.keys import DEFAULT_SIGNATURE, SEED_SIZE, SigningKey
from prover.cli import doctor, feed, fetching, kept, policy, sidecar, slots, stored, venues
from prover.cli.boundary import DEFAULT_KEY, JsonOption, Options, answer, boundary, say

app = typer.Typer(
    name="prover",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fetch prices over TLS through notaries, and keep what proves them.",
    epilog="Exit codes: 0 done, 2 usage, 10 not the format, 11 proof does not match, 12 key not "
    "trusted, 13 outside the times, 15 something is missing, 17 not what was expected, 18 refused "
    "by the notary, 20 network or disk, 1 a bug.",
)
app.add_typer(venues.app, name="venues")
app.command("doctor", short_help="Check libssl, key, trust file, notaries, verify APIs.")(
    doctor.doctor
)
app.command("fetch")(fetching.fetch)
app.command("sidecar", short_help="Attest requests of curl, httpx or another client.")(
    sidecar.sidecar
)
app.command("present", short_help="Make a presentation that anyone can verify offline.")(
    stored.present
)
app.command("present-slot", short_help="Make a presentation of a stored slot.")(
    slots.present_slot_command
)
app.command("dispute", short_help="Write the evidence that repeats the notary's work.")(
    stored.dispute
)
app.command("rederive", short_help="Read stored observations again; compare the bytes.")(
    kept.rederive
)
app.command("policy", short_help="Draft a settlement policy over a feed's venues.")(policy.policy)
app.command("serve", short_help="Run a feed, and serve its slots and trades over HTTP.")(feed.serve)
feeds = typer.Typer(callback=feed.feed, invoke_without_command=True)
feeds.command("reconcile", short_help="Say where every record went, and what is missing.")(
    kept.reconcile
)
feeds.add_typer(kept.dead_letters, name="dead-letters")
app.add_typer(feeds, name="feed", short_help="Run a feed: every venue and notary, every slot kept.")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    from attestation.document import Attestation, Field, Header
    from attestation.presentation import Presentation
    from attestation.request import AttestationRequest, SessionRequest
    from attestation.seal import Seal
    from attestation.secrets import Evidence, Secrets

    try:
        package = version("quotary")
    except PackageNotFoundError:
        package = "(not installed)"
    typer.echo(f"quotary {package}")
    kinds = (SessionRequest, AttestationRequest, Seal, Header, Field, Attestation)
    for kind in (*kinds, Secrets, Evidence, Presentation):
        typer.echo(kind.TYPE)
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


@app.command(short_help="Make the key that signs session requests.")
def keygen(
    name: Annotated[str, typer.Option(help="The prover's name, such as a domain you own.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the private key goes.")] = Path(
        DEFAULT_KEY
    ),
    as_json: JsonOption = False,
) -> None:
    """Make the key that signs session requests; what notaries need of it is printed."""
    with boundary(as_json=as_json):
        try:
            key = SigningKey(name=name, algorithm=DEFAULT_SIGNATURE, seed=os.urandom(SEED_SIZE))
        except MalformedError as error:
            raise UsageError(error.detail, rule="name", found=name) from None
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{out} exists: keys are never overwritten", rule="out") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.encode() + "\n")
        vkey = key.verifying_key.vkey
        say(f"private key: {out} (mode 0600; keep it)")
        if as_json:
            document: JsonObject = {"type": "quotary/prover_key/v1", "vkey": vkey}
            answer(document)
        else:
            say("for a notary's configuration:")
            rows = {"name": name, "vkey": vkey}
            # A JSON string is a TOML string too.
            block = [f"{member} = {json.dumps(value)}" for member, value in rows.items()]
            typer.echo("\n".join(["[[provers]]", *block]))


def main() -> None:
    """Runs the command line."""
    app()
