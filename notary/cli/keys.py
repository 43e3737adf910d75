"""``notary keygen``: the key that signs attestations."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import MalformedError, UsageError
from attestation.keys import ALGORITHMS, DEFAULT_SIGNATURE, SEED_SIZE, SigningKey, check_name
from attestation.trust import MAX_TEXT
from notary.cli.boundary import boundary


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

    with boundary():
        key = _new_key(name, operator, algorithm)
        path = key_path(folder, algorithm)
        try:
            write_key(path, key)
        except OSError as error:
            raise UsageError(f"{error.strerror}: {error.filename}", rule="dir") from None
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
