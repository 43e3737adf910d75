"""``prover fetch``: one URL or quote, through one notary or several at once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from attestation.keys import DEFAULT_SIGNATURE
from attestation.venues import load_venue
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    boundary,
    progress,
    read,
    read_key,
    read_trust,
    safe,
    say,
)
from prover.cli.fetched import DEFAULT_OUT, Against, keep, report


def fetch(
    notary: Annotated[
        list[str], typer.Option(metavar="URL", help="A notary's control API; may be repeated.")
    ],
    trust: Annotated[str, typer.Option(metavar="FILE", help="Trust file: whose word counts.")],
    url: Annotated[
        str | None, typer.Argument(help="An https URL; or name --venue and --market.")
    ] = None,
    venue: Annotated[str | None, typer.Option(help="See `prover venues list`.")] = None,
    market: Annotated[str | None, typer.Option(help="Such as BTC/USD.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Instead of --market.")] = None,
    mode: Annotated[str, typer.Option(help="sealed or open.")] = "sealed",
    purpose: Annotated[str | None, typer.Option(help="Text of an ad hoc purpose.")] = None,
    trade: Annotated[str | None, typer.Option(help="The trade the quote is for.")] = None,
    leg: Annotated[str | None, typer.Option(help="open or close, of the trade.")] = None,
    retry_of: Annotated[
        str | None,
        typer.Option(
            metavar="SESSION", help="The trade's session before this one, if the venue spoiled it."
        ),
    ] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=SCHEME]",
            help="Sections to commit, instead of the default; SCHEME: hash, tree/json or "
            "tree/fixed:BYTES.",
        ),
    ] = None,
    hash_algorithm: Annotated[str, typer.Option("--hash", help="sha256 or sha3-256.")] = "sha256",
    signature_algorithm: Annotated[
        str, typer.Option("--signature", help="ed25519 or ecdsa-secp256k1.")
    ] = DEFAULT_SIGNATURE,
    quorum: Annotated[
        int | None,
        typer.Option(help="How many of the notaries have to attest it. Default: all."),
    ] = None,
    key: KeyOption = DEFAULT_KEY,
    roots: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Root certificates (PEM) instead of certifi's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to keep it; of several notaries, each in a folder of its name. "
            "Default: attested/<id>.",
        ),
    ] = None,
    allow_template: Annotated[
        bool,
        typer.Option(
            "--allow-template",
            help="Where no libssl is found, fetch registered venues' quotes with a key log: "
            "the binding is then template, not full.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a quote or a URL and keep what proves it.

    Of several notaries, those that fail keep no other from its attestation. Exit
    code 0 if as many as --quorum attested it and agree, 17 if they do not agree,
    else that of the failure, or 15 if only some attested it or they failed in
    different ways.
    """
    with boundary(as_json=as_json):
        from prover.notary_client import Notary
        from prover.quorum import fetch_quorum
        from prover.sections import DEFAULT_SECTIONS

        wanted = url or _quote_url(venue, market, instrument)
        if len(set(notary)) != len(notary):
            raise UsageError("a notary is named twice", rule="notary")
        if retry_of is not None and len(notary) > 1:
            raise UsageError("a session is of one notary: name that alone", rule="retry_of")
        needed = len(notary) if quorum is None else quorum
        if not 1 <= needed <= len(notary):
            raise UsageError(
                "a quorum is of the notaries named", rule="quorum", found=needed, wanted=len(notary)
            )
        prover_key, believed = read_key(key), read_trust(trust)
        pem = None if roots is None else read(roots)
        with contextlib.ExitStack() as stack:
            notaries = [
                stack.enter_context(
                    Notary(
                        address,
                        prover_key=prover_key,
                        trust=believed,
                        roots_pem=pem,
                        on_refused=Against(address, out or DEFAULT_OUT).keep,
                        allow_template=allow_template,
                        on_fallback=lambda text: say(safe(text, 600)),
                    )
                )
                for address in notary
            ]
            with progress(f"fetching {safe(wanted)} through {len(notary)} notaries"):
                found = fetch_quorum(
                    notaries,
                    wanted,
                    mode=mode,
                    venue=venue,
                    market=market,
                    instrument=instrument,
                    purpose=purpose,
                    trade=trade,
                    leg=leg,
                    retry_of=retry_of,
                    sections=tuple(section or DEFAULT_SECTIONS),
                    hash_algorithm=hash_algorithm,
                    signature_algorithm=signature_algorithm,
                )
        report(keep(found, out), needed, as_json=as_json)


def _quote_url(venue: str | None, market: str | None, instrument: str | None) -> str:
    if venue is None or (market is None) == (instrument is None):
        raise UsageError("name a URL, or --venue with --market or --instrument", rule="url")
    file = load_venue(venue)
    listed = file.instrument(market) if market is not None else instrument or ""
    return f"https://{file.hosts[0]}{file.target(listed)}"
