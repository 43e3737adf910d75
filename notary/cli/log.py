"""``notary log`` and ``notary witness``: the transparency log of a notary, and of others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import AuditFinding, UsageError
from notary.cli.boundary import boundary

if TYPE_CHECKING:
    from attestation.keys import SigningKey
    from notary.config import Config
    from notary.log.published import PublishedFile

log = typer.Typer(no_args_is_help=True, help="Make, look at and check the transparency log.")
witness = typer.Typer(no_args_is_help=True, help="Cosign the checkpoints of logs.")

ConfigOption = Annotated[Path, typer.Option(help="The configuration, notary.toml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@log.command("create")
def create(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Make the log, once; the notary must not be running."""
    from notary.log.creation import create_log
    from notary.store import STORE_FILE
    from notary.writer import offline

    with boundary():
        settings, key, published = _open(config)
        with offline(settings.data / STORE_FILE) as database:
            checkpoint = create_log(database, key, published)
        published.close()
    if as_json:
        typer.echo(json.dumps({"origin": checkpoint.origin, "vkey": key.verifying_key.vkey}))
        return
    typer.echo(f"log {key.verifying_key.vkey}")
    typer.echo("created; give this line to auditors and to your witnesses", err=True)


@log.command("status")
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Tell how far the log is; the notary may be serving."""
    from notary.log.tables import read_head

    with boundary():
        settings, key, published = _open(config)
        with _reading(settings) as database:
            head = read_head(database)
        shown = published.read(key.verifying_key)
    if as_json:
        document = {
            "origin": head.origin,
            "size": head.size,
            "root": head.root.hex(),
            "logged_us": head.logged_us,
            "published_size": None if shown is None else shown.size,
        }
        typer.echo(json.dumps(document))
        return
    typer.echo(f"origin     {head.origin}\nentries    {head.size}\nroot       {head.root.hex()}")
    typer.echo(f"last entry {_instant(head.logged_us)}")
    typer.echo(f"published  {'nothing' if shown is None else f'{shown.size} entries'}")


@log.command("fsck", short_help="Read everything again; exit code 16 if a hash is wrong.")
def fsck(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Read everything again and compare every hash; exit code 16 if one is wrong."""
    from notary.log.fsck import check_log

    with boundary():
        settings, key, published = _open(config)
        with _reading(settings) as database:
            # One snapshot: a notary that serves goes on writing.
            database.execute("BEGIN")
            report = check_log(database, key.verifying_key, published, progress=_progress())
    damages = [{"where": each.where, "detail": each.detail} for each in report.damages]
    if as_json:
        typer.echo(json.dumps({"origin": report.origin, "size": report.size, "damages": damages}))
    else:
        for each in report.damages:
            typer.echo(f"{each.where}: {each.detail}")
        verdict = "nothing wrong" if not damages else f"{len(damages)} things wrong"
        typer.echo(f"{report.origin}: {report.size} entries, {verdict}", err=True)
    if damages:
        raise typer.Exit(AuditFinding.exit_code)


@witness.command("serve", short_help="Cosign what extends all that was cosigned before.")
def serve_witness(
    key: Annotated[Path, typer.Option(help="From `notary keygen --role witness`.")],
    data: Annotated[Path, typer.Option(help="Folder of what was cosigned; never restore it.")],
    logs: Annotated[list[str], typer.Option("--log", help="vkey of a log to follow; repeat.")],
    listen: Annotated[str, typer.Option(help="Address; port 0 is the system's choice.")] = (
        "127.0.0.1:7052"
    ),
) -> None:
    """Cosign what extends all that was cosigned before; prints one READY line of JSON."""
    from attestation.keys import VerifyingKey
    from notary.listening import bind
    from notary.log.witness_server import Witness, serve_witness, system_seconds
    from notary.log.witness_store import WitnessStore
    from notary.logs import configure_logging
    from notary.signer import read_key

    with boundary():
        configure_logging("info")
        followed = [VerifyingKey.parse(vkey) for vkey in logs]
        store = WitnessStore(data / "witness.db")
        try:
            serving = Witness(read_key(key), followed, store, system_seconds)
            listener = bind(listen)
            asyncio.run(serve_witness(serving, listener, announce=_announce))
        finally:
            store.close()


def _announce(line: str) -> None:
    print(line, flush=True)


def _open(config: Path) -> tuple[Config, SigningKey, PublishedFile]:
    from notary.config import load_config
    from notary.log.published import PUBLISHED_FILE, PublishedFile
    from notary.server import read_log_key

    settings = load_config(config, development=True)
    # Under systemd the keys of attestations are the running service's alone.
    key = read_log_key(settings)
    if key is None:
        raise UsageError("the configuration has no [log]", rule="log")
    return settings, key, PublishedFile(settings.data / PUBLISHED_FILE)


@contextlib.contextmanager
def _reading(settings: Config) -> Iterator[sqlite3.Connection]:
    from notary.store import STORE_FILE

    path = settings.data / STORE_FILE
    if not path.exists():
        raise UsageError("there is no store", rule="log", found=str(path))
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        yield database
    finally:
        database.close()


def _progress() -> Callable[[int, int], None]:
    def show(done: int, size: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == size else ""
            print(f"\r{done:,} of {size:,} entries", end=end, file=sys.stderr, flush=True)

    return show


def _instant(us: int) -> str:
    if not us:
        return "none"
    seconds, rest = divmod(us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:06}Z"
