"""``notary backup``: a copy of the store, taken while the notary serves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from notary.cli.boundary import boundary


def backup(
    config: Annotated[Path | None, typer.Option(help="The configuration, notary.toml.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to make; it must not exist.")
    ] = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Copy the private keys too (0600).")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Check a backup made before, and end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Copy the store into a new folder and verify the copy; the notary may go on serving."""
    from notary.backup import Source, make_backup, verify_backup
    from notary.config import load_config
    from notary.server import software

    with boundary():
        if verify is not None:
            if config is not None or out is not None or with_keys:
                raise UsageError("--verify takes no other option", rule="verify")
            folder, manifest = verify, verify_backup(verify)
        else:
            if config is None or out is None:
                raise UsageError("--config and --out are required", rule="backup")
            # A copy is as good for simulated venues as for real ones.
            settings = load_config(config, development=True)
            source = Source(
                data=settings.data,
                name=settings.name,
                software=software(),
                key_files=(*settings.key_files, *settings.retired) if with_keys else (),
            )
            folder = out
            manifest = make_backup(source, out, now_us=time.time_ns() // 1_000)
    if as_json:
        typer.echo(manifest.encode().decode("utf-8"))
        return
    keys = f"with {len(manifest.keys)} private keys" if manifest.keys else "no private key"
    typer.echo(
        f"{folder}: {manifest.sessions} sessions, {manifest.attestations} attestations, "
        f"{manifest.store_bytes // 1024:,} KiB, {keys}; verified",
        err=True,
    )
