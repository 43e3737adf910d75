"""``prover venues``: what can be fetched as a quote."""

from __future__ import annotations

from typing import Annotated

import typer

from attestation.encoding import Json, JsonObject
from attestation.errors import MalformedError, UntrustedError
from attestation.venues import VenueFile, parse_venue, shipped_venues
from prover.cli import probing
from prover.cli.boundary import JsonOption, answer, boundary, read, safe, say

app = typer.Typer(no_args_is_help=True, help="List, check and try venue files.")
app.command("probe")(probing.probe)


@app.command("list", short_help="List the shipped venues, markets and instruments.")
def list_venues(as_json: JsonOption = False) -> None:
    """List the venues shipped with this version, their markets and instruments."""
    with boundary(as_json=as_json):
        files = shipped_venues().values()
        if as_json:
            rows: list[Json] = [_row(file) for file in files]
            answer({"type": "quotary/venues/v1", "venues": rows})
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("venue", "market", "instrument", "quoted in", "host")
        for file in files:
            for number, listing in enumerate(file.markets):
                first = number == 0
                table.add_row(
                    f"{file.name}{' (optional)' if file.optional else ''}" if first else "",
                    listing.market,
                    listing.instrument,
                    listing.quote,
                    file.hosts[0] if first else "",
                )
        Console().print(table)


@app.command()
def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Venue files; the shipped ones by default."),
    ] = None,
    notary: Annotated[
        str | None, typer.Option(metavar="URL", help="Compare with what this notary serves.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check venue files and print their hashes, which attestations name."""
    with boundary(as_json=as_json):
        found = [_parsed(name) for name in files] if files else list(shipped_venues().values())
        served = None if notary is None else _served(notary)
        rows: list[Json] = []
        different = []
        for file in found:
            row = _row(file)
            remark = ""
            if served is not None:
                same = served.get(file.name) == file.hash
                row["served"] = same
                remark = "" if same else "  not served" if file.name not in served else "  differs"
                if not same:
                    different.append(file.name)
            rows.append(row)
            say(f"{file.name:<12} {file.hash}  {row.get('websocket', 'no websocket')}{remark}")
        if as_json:
            answer({"type": "quotary/venues/v1", "venues": rows})
        if different:
            raise UntrustedError(
                "the notary does not serve these files", rule="venue_file", found=different
            )


def _parsed(name: str) -> VenueFile:
    """Reads a venue file; what is wrong names the file, for several may be given."""
    try:
        return parse_venue(read(name))
    except MalformedError as error:
        raise MalformedError(
            f"{name}: {error.detail}", rule=error.rule, found=error.found, wanted=error.wanted
        ) from None


def _row(file: VenueFile) -> JsonObject:
    markets: list[Json] = [
        {
            "market": listing.market,
            "instrument": listing.instrument,
            "quote": listing.quote,
            "url": f"https://{file.hosts[0]}{file.target(listing.instrument)}",
        }
        for listing in file.markets
    ]
    row: JsonObject = {"name": file.name, "hash": file.hash, "markets": markets}
    if file.optional:
        row["optional"] = True
    if file.websocket is not None:
        row["websocket"] = f"wss://{file.websocket.hosts[0]}:{file.websocket.port}"
    return row


def _served(url: str) -> dict[str, str]:
    from prover.notary_client import read_info

    venues = read_info(url).document.get("venues")
    if not isinstance(venues, list):
        return {}
    return {
        safe(item["name"]): str(item.get("hash"))
        for item in venues
        if isinstance(item, dict) and "name" in item
    }
