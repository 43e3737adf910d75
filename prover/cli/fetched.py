"""What ``prover fetch`` keeps and says of each notary."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from attestation.encoding import Json, JsonObject
from attestation.errors import QuotaryError
from prover.cli.boundary import answer, explain, naming_files, problem_document, safe, say
from prover.fetch import AttestedFetch

if TYPE_CHECKING:
    from attestation.secrets import Evidence
    from prover.logged import LogReceipt
    from prover.quorum import QuorumFetch, Voice

DEFAULT_OUT = Path("attested")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A voice, and the folder that holds its attestation."""

    voice: Voice
    folder: Path | None = None


def keep(found: QuorumFetch, out: Path | None) -> list[Kept]:
    """Keeps every attestation in a folder; one that cannot be kept is a failure."""
    from prover.quorum import Voice
    from prover.vault import save

    kept = []
    for voice in found.voices:
        if voice.fetch is None:
            kept.append(Kept(voice=voice))
            continue
        if out is None:
            folder = DEFAULT_OUT / voice.fetch.attestation.header.id
        else:
            folder = out if len(found.voices) == 1 else out / _folder_name(voice.name or "")
        try:
            with naming_files():
                save(folder, voice.fetch)
        except QuotaryError as error:
            kept.append(Kept(voice=Voice(url=voice.url, error=error)))
        else:
            kept.append(Kept(voice=voice, folder=folder))
    return kept


def report(kept: list[Kept], quorum: int, *, as_json: bool) -> None:
    """Prints what each notary did; exits by what is missing, of one notary by its failure."""
    from prover.quorum import QuorumFetch

    found = QuorumFetch(voices=tuple(item.voice for item in kept))
    several = len(kept) > 1
    rows: list[Json] = []
    failures: list[Json] = []
    for item in kept:
        voice = item.voice
        if voice.fetch is not None and item.folder is not None:
            rows.append(fetch_row(voice.name or "", item.folder, voice.fetch))
            say(fetch_line(voice.name or "", item.folder, voice.fetch))
        elif voice.error is not None:
            if not several:
                raise voice.error
            problem = problem_document(voice.error)
            del problem["type"]
            failures.append({"notary": safe(voice.url), **problem})
            say(f"{safe(voice.url)}: {explain(voice.error)}")
    agreeing = found.agreeing
    reached = len(agreeing) >= quorum
    disagreeing: list[Json] = [
        voice.name
        for voice in found.voices
        if voice.name is not None and voice.fetch not in agreeing
    ]
    if several:
        if disagreeing:
            names = ", ".join(map(safe, disagreeing))
            say(f"saw another price than the others, leave it out: {names}")
        state = "reached" if reached else f"missed by {quorum - len(agreeing)}"
        say(f"{len(rows)} of {len(kept)} notaries attested it; a quorum of {quorum} is {state}")
    if as_json:
        answer(
            {
                "type": "quotary/fetch/v1",
                "fetches": rows,
                "failures": failures,
                "disagreeing": disagreeing,
                "quorum": quorum,
                "reached": reached,
            }
        )
    try:
        found.require(quorum)
    except QuotaryError as error:
        raise typer.Exit(error.exit_code) from error


def _folder_name(name: str) -> str:
    """Makes one path component of a notary's name, which the notary chose."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return plain.lstrip(".")[:100] or "notary"


def fetch_row(name: str, folder: Path, fetch: AttestedFetch) -> JsonObject:
    """Returns the summary of a kept attestation for programs."""
    connection, http = fetch.attestation.connection(), fetch.attestation.http()
    session = fetch.attestation.session()
    row: JsonObject = {
        "notary": name,
        "attestation": fetch.attestation.header.id,
        "folder": str(folder),
        "host": connection.host,
        "target": http.target,
        "status": http.status,
        "purpose": session.purpose,
        "mode": session.mode,
        "binding": session.binding,
        "not_before_us": connection.request_first_us,
        "not_after_us": connection.response_last_us,
    }
    if fetch.quote is not None:
        row["quote"] = fetch.quote.to_json()
    if fetch.receipt is not None:
        receipt = fetch.receipt
        row["log"] = {
            "origin": receipt.origin,
            "index": receipt.index,
            "logged_us": receipt.logged_us,
            "trusted": receipt.trusted,
        }
    return row


def fetch_line(name: str, folder: Path, fetch: AttestedFetch) -> str:
    """Returns the summary of a kept attestation for people."""
    connection, http = fetch.attestation.connection(), fetch.attestation.http()
    took = (connection.response_last_us - connection.request_first_us) / 1000
    quote = fetch.quote
    what = (
        f"{connection.host}{http.target} status {http.status}, {len(fetch.response.body)} bytes"
        if quote is None
        else f"{quote.venue} {quote.market} ({quote.instrument}) bid {quote.bid} ask {quote.ask}"
    )
    binding = fetch.attestation.session().binding
    weaker = "" if binding == "full" else f", binding {binding}"
    return (
        f"{safe(what)}; witnessed by {safe(name)} within {took:.1f} ms{weaker}"
        f"{_logged(fetch.receipt)}; kept in {folder}"
    )


def _logged(receipt: LogReceipt | None) -> str:
    if receipt is None:
        return ""
    unknown = "" if receipt.trusted else ", a log that the trust file does not name"
    return f"; logged as entry {receipt.index} of {safe(receipt.origin)}{unknown}"


class Against:
    """Keeps what shows that a notary's attestation does not hold, and says so."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder

    def keep(self, evidence: Evidence, error: QuotaryError) -> None:
        from prover.vault import write_private

        # The attestation's own word for its id is checked to be hex.
        path = self._folder / f"refused-{evidence.attestation.header.id}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, evidence.encode() + b"\n")
        say(
            f"{safe(self._address)}: evidence of what does not hold kept in {path}: "
            "verifier recheck"
        )
