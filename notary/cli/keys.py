"""``notary keygen`` and ``notary rotate``: the keys that sign attestations."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import MalformedError, UsageError
from attestation.keys import ALGORITHMS, DEFAULT_SIGNATURE, SEED_SIZE, SigningKey, check_name
from attestation.log.cosignature import WitnessKey
from attestation.trust import MAX_TEXT, ROLES
from notary.cli.boundary import boundary

_DAY_US = 86_400 * 1_000_000


def keygen(
    name: Annotated[str, typer.Option(help="The notary's name, as provers will know it.")],
    operator: Annotated[str, typer.Option(help="Who runs it, as readers will know them.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the key file goes.")] = Path(),
    algorithm: Annotated[
        str, typer.Option(help=f"One of: {', '.join(ALGORITHMS)}.")
    ] = DEFAULT_SIGNATURE,
    role: Annotated[
        str, typer.Option(help="What it signs: attest, log (checkpoints), witness (cosignatures).")
    ] = "attest",
    years: Annotated[int, typer.Option(min=1, max=10, help="Years of validity.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a signing key; prints the vkey, its fingerprint and the block for trust files."""
    from notary.signer import key_path, write_key

    with boundary():
        key = _new_key(name, operator, algorithm)
        if role not in ROLES or (role != "attest" and algorithm != DEFAULT_SIGNATURE):
            raise UsageError("no such role, or not with that algorithm", rule="role", found=role)
        path = key_path(folder, algorithm) if role == "attest" else folder / f"{role}.key"
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
        "role": role,
        "valid_from": now.isoformat().replace("+00:00", "Z"),
        "valid_until": until.isoformat().replace("+00:00", "Z"),
    }
    if as_json:
        typer.echo(json.dumps({"file": str(path), "fingerprint": fingerprint, "trust": block}))
        return
    # All of standard output is TOML: it can be appended to a trust file as it is.
    typer.echo(f"# vkey        {public.vkey}")
    typer.echo(f"# fingerprint {fingerprint}")
    if role != "attest":
        typer.echo(f"# log policy  {_policy_line(role, key)}")
    typer.echo("[[notary]]")
    for member, value in block.items():
        typer.echo(f"{member} = {json.dumps(value, ensure_ascii=False)}")
    typer.echo(f"private key written to {path} (0600): back it up, show it to nobody", err=True)


def rotate(
    config: Annotated[Path, typer.Option(help="The configuration, notary.toml.")],
    switch: Annotated[
        bool, typer.Option("--switch", help="Put the prepared key into place; then restart.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="The key file, where it is not the configuration's.")
    ] = None,
    algorithm: Annotated[
        str, typer.Option(help=f"Which key: {', '.join(ALGORITHMS)}.")
    ] = DEFAULT_SIGNATURE,
    days: Annotated[int, typer.Option(min=0, max=365, help="Days until the new key may sign.")] = 7,
    overlap: Annotated[
        int, typer.Option(min=1, max=30, help="Days in which both keys may sign.")
    ] = 2,
    years: Annotated[int, typer.Option(min=1, max=9, help="Years of the new key.")] = 1,
) -> None:
    """Prepare a new key and print the statement to publish; --switch, when its time has come."""
    from notary.config import load_config
    from notary.rotation import Schedule, prepare_rotation, statement_path, switch_keys

    with boundary():
        settings = load_config(config, development=True)
        file = key or _key_file(settings.key_files, algorithm)
        now_us = time.time_ns() // 1_000
        if switch:
            retired = switch_keys(file, now_us=now_us)
            typer.echo(
                f"{file} is the new key: restart the notary. The old one is {retired}: list it"
                " under `retired`, so that it signs again what it signed, and nothing else",
                err=True,
            )
            return
        begin = now_us + days * _DAY_US
        schedule = Schedule(
            issued_us=now_us,
            from_us=begin,
            old_until_us=begin + overlap * _DAY_US,
            until_us=begin + years * 366 * _DAY_US,
        )
        statement = prepare_rotation(
            file, operator=settings.operator, schedule=schedule, seed=os.urandom(SEED_SIZE)
        )
        typer.echo(statement.encode().decode("utf-8"))
        typer.echo(
            f"kept as {statement_path(file)}: publish it, so that readers can run"
            f" `verifier trust rotate`; switch and restart between {_utc(schedule.from_us)}"
            f" and {_utc(schedule.old_until_us)}",
            err=True,
        )


def _key_file(files: Sequence[Path], algorithm: str) -> Path:
    from notary.signer import read_key

    for file in files:
        if read_key(file).algorithm == algorithm:
            return file
    raise UsageError("no key of the algorithm is configured", rule="algorithm", found=algorithm)


def _utc(at_us: int) -> str:
    moment = datetime.datetime.fromtimestamp(at_us // 1_000_000, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _policy_line(role: str, key: SigningKey) -> str:
    """Returns the line that names a log or witness in a log policy (c2sp.org/tlog-policy)."""
    public = key.verifying_key
    if role == "log":
        return f"log {public.vkey}"
    return f"witness {public.name} {WitnessKey.of(public).vkey}"


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
