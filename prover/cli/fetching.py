"""``prover fetch``: one URL or quote, through one notary or several at once."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import Json, JsonObject
from attestation.errors import QuotaryError, UsageError
from attestation.keys import DEFAULT_SIGNATURE, SigningKey
from attestation.secrets import Evidence
from attestation.trust import Trust
from attestation.venues import load_venue
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    answer,
    boundary,
    progress,
    read,
    read_key,
    read_trust,
    safe,
    say,
)
from prover.fetch import AttestedFetch

DEFAULT_OUT = Path("attested")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is the same for every notary."""

    url: str
    key: SigningKey
    trust: Trust
    roots: bytes | None
    mode: str
    venue: str | None
    market: str | None
    instrument: str | None
    purpose: str | None
    trade: str | None
    leg: str | None
    sections: tuple[str, ...]
    hash_algorithm: str
    signature_algorithm: str
    out: Path | None


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
    section: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=SCHEME]", help="Sections to commit, instead of the default."),
    ] = None,
    hash_algorithm: Annotated[str, typer.Option("--hash")] = "sha256",
    signature_algorithm: Annotated[str, typer.Option("--signature")] = DEFAULT_SIGNATURE,
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
    as_json: JsonOption = False,
) -> None:
    """Fetch a quote or a URL and keep what proves it."""
    with boundary(as_json=as_json):
        job = _Job(
            url=url or _quote_url(venue, market, instrument),
            key=read_key(key),
            trust=read_trust(trust),
            roots=None if roots is None else read(roots),
            mode=mode,
            venue=venue,
            market=market,
            instrument=instrument,
            purpose=purpose,
            trade=trade,
            leg=leg,
            sections=tuple(section or ()),
            hash_algorithm=hash_algorithm,
            signature_algorithm=signature_algorithm,
            out=out,
        )
        if len(set(notary)) != len(notary):
            raise UsageError("a notary is named twice", rule="notary")
        with progress(f"fetching {safe(job.url)} through {len(notary)} notaries"):
            with ThreadPoolExecutor(len(notary)) as pool:
                results = [pool.submit(_fetch, address, job) for address in notary]
        _report(notary, results, out, as_json)


def _quote_url(venue: str | None, market: str | None, instrument: str | None) -> str:
    if venue is None or (market is None) == (instrument is None):
        raise UsageError("name a URL, or --venue with --market or --instrument", rule="url")
    file = load_venue(venue)
    listed = file.instrument(market) if market is not None else instrument or ""
    return f"https://{file.hosts[0]}{file.target(listed)}"


def _fetch(address: str, job: _Job) -> tuple[str, AttestedFetch]:
    import httpx

    from prover.notary_client import Notary
    from prover.sections import DEFAULT_SECTIONS
    from prover.transport import ATTESTATION, AttestedTransport, PendingAttestation
    from prover.vault import write_private

    def keep(evidence: Evidence, error: QuotaryError) -> None:
        # The attestation's own word for its id is checked to be hex.
        path = (job.out or DEFAULT_OUT) / f"refused-{evidence.attestation.header.id}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, evidence.encode() + b"\n")
        say(f"{safe(address)}: evidence of what does not hold kept in {path}: verifier recheck")

    with Notary(
        address, prover_key=job.key, trust=job.trust, roots_pem=job.roots, on_refused=keep
    ) as notary:
        transport = AttestedTransport(
            notary,
            mode=job.mode,
            venue=job.venue,
            market=job.market,
            instrument=job.instrument,
            purpose=job.purpose,
            trade=job.trade,
            leg=job.leg,
            sections=job.sections or DEFAULT_SECTIONS,
            hash_algorithm=job.hash_algorithm,
            signature_algorithm=job.signature_algorithm,
        )
        try:
            request_url = httpx.URL(job.url)
        except httpx.InvalidURL as error:
            raise UsageError(f"not a URL: {error}", rule="url") from None
        with httpx.Client(transport=transport, timeout=30.0) as client:
            attested = client.get(request_url).extensions[ATTESTATION]
            if isinstance(attested, PendingAttestation):
                attested = attested.result()
        return notary.info().name, attested


def _report(
    notaries: list[str],
    results: list[Future[tuple[str, AttestedFetch]]],
    out: Path | None,
    as_json: bool,
) -> None:
    """Keeps and prints what succeeded, then raises the first failure."""
    from prover.vault import save

    rows: list[Json] = []
    failures: list[QuotaryError] = []
    for address, result in zip(notaries, results, strict=True):
        try:
            name, attested = result.result()
        except QuotaryError as error:
            failures.append(error)
            if len(notaries) > 1:
                say(f"{safe(address)}: {safe(error, 400)}")
            continue
        if out is None:
            folder = DEFAULT_OUT / attested.attestation.header.id
        else:
            folder = out if len(notaries) == 1 else out / _folder_name(name)
        save(folder, attested)
        rows.append(_row(name, folder, attested))
        say(_line(name, folder, attested))
    if failures:
        raise failures[0]
    if as_json:
        answer({"type": "quotary/fetch/v1", "fetches": rows})


def _folder_name(name: str) -> str:
    """Makes one path component of a notary's name, which the notary chose."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return plain.lstrip(".")[:100] or "notary"


def _row(name: str, folder: Path, fetch: AttestedFetch) -> JsonObject:
    connection, http = fetch.attestation.connection(), fetch.attestation.http()
    row: JsonObject = {
        "notary": name,
        "attestation": fetch.attestation.header.id,
        "folder": str(folder),
        "host": connection.host,
        "target": http.target,
        "status": http.status,
        "purpose": fetch.attestation.session().purpose,
        "not_before_us": connection.request_first_us,
        "not_after_us": connection.response_last_us,
    }
    if fetch.quote is not None:
        row["quote"] = fetch.quote.to_json()
    return row


def _line(name: str, folder: Path, fetch: AttestedFetch) -> str:
    connection, http = fetch.attestation.connection(), fetch.attestation.http()
    took = (connection.response_last_us - connection.request_first_us) / 1000
    quote = fetch.quote
    what = (
        f"{connection.host}{http.target} status {http.status}, {len(fetch.response.body)} bytes"
        if quote is None
        else f"{quote.venue} {quote.market} ({quote.instrument}) bid {quote.bid} ask {quote.ask}"
    )
    return f"{safe(what)}; witnessed by {safe(name)} within {took:.1f} ms; kept in {folder}"
