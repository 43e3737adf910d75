"""``prover policy``: draft the settlement policy that a feed's trades are taken under."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from attestation.hashing import hash_string
from attestation.log.policy import LogPolicy
from attestation.settlement.policy import PolicyNotary
from prover.cli.boundary import JsonOption, answer, boundary, read, say
from prover.trades.draft import SECOND_US, draft_policy
from prover.vault import write_private


def policy(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The feed's configuration.")],
    log_policy: Annotated[
        Path, typer.Option(metavar="FILE", help="Whose logs and which witnesses count.")
    ],
    notary: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=LOG", help="A notary and its log's origin; the first logs the trades."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the policy goes.")],
    name: Annotated[str | None, typer.Option(help="Default: the feed's name.")] = None,
    window: Annotated[float, typer.Option(metavar="SECONDS", help="At both ends.")] = 3.0,
    duration: Annotated[
        list[float] | None, typer.Option(metavar="SECONDS", help="Of trades; default: 30.")
    ] = None,
    fee: Annotated[str, typer.Option(help="Paid for a void of the operator's making.")] = "1",
    effective_in: Annotated[
        float, typer.Option(metavar="SECONDS", help="It must be logged before it takes effect.")
    ] = 60.0,
    development: Annotated[
        bool, typer.Option("--development", help="Accept a [development] section.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a settlement policy over a feed's venues; read it before you log it.

    `prover serve` logs it and takes trades under it ([trades] of feed.toml);
    `verifier policy show` says it in words.
    """
    with boundary(as_json=as_json, extra="feed"):
        from prover.serve.config import load_config

        settings = load_config(config, development=development)
        text = read(str(log_policy))
        LogPolicy.parse(text)
        if out.exists():
            raise UsageError(f"{out} exists: policies are not overwritten", rule="out")
        made = draft_policy(
            name=name or settings.name,
            market=settings.market,
            venues=settings.listed,
            notaries=[_notary(one, settings.name) for one in notary],
            log_policy=hash_string(text),
            grid_us=settings.grid_ms * 1_000,
            late_us=settings.late_ms * 1_000,
            window_us=_us(window),
            durations_us=[_us(one) for one in duration or [30.0]],
            fee=fee,
            evidence_days=settings.evidence_days,
            effective_us=time.time_ns() // 1_000 + _us(effective_in),
        )
        write_private(out, made.encode() + b"\n")
        say(f"policy {made.policy_id} in {out}")
        if as_json:
            answer({"policy_id": made.policy_id, "policy": made.to_json()})


def _notary(text: str, feed: str) -> PolicyNotary:
    match = re.fullmatch(r"([^=\s]+)=(\S+)", text)
    if match is None:
        raise UsageError("not NAME=LOG", rule="notary", found=text[:120])
    return PolicyNotary(notary=match[1], log=match[2], feed=feed)


def _us(seconds: float) -> int:
    if not 0 < seconds < 1e9:
        raise UsageError("not so many seconds", found=seconds)
    return round(seconds * SECOND_US)
