"""``verifier bundle pack``: one file of a trade's parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import IncompleteError
from verifier.cli.boundary import boundary, read, say, write

app = typer.Typer(no_args_is_help=True, help="Join the parts of a settlement's bundle.")


@app.callback()
def _group() -> None:
    """Keeps ``pack`` a command of its own."""


@app.command("pack", short_help="Join a trade's part with those that it names.")
def pack_command(
    part: Annotated[
        str, typer.Argument(metavar="TRADE_PART", help="The trade's own part, - for stdin.")
    ],
    parts: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Where the shared parts are, each as <64 hex digits>.json."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Where the bundle is written, - for stdout.")
    ] = "-",
) -> None:
    """Join a trade's part with those it names; every part must be what its name says."""
    with boundary():
        from attestation.settlement.parts import TRADE_PART_LIMIT, TradePart, join_parts

        trade = TradePart.decode(read(part, limit=TRADE_PART_LIMIT), limit=TRADE_PART_LIMIT)
        data = join_parts(trade, read_parts(parts)).encode()
        if out == "-":
            write(data + b"\n")
        else:
            Path(out).write_bytes(data + b"\n")
        say(f"trade {trade.trade.leaf.trade}: {len(data)} bytes; nothing of it is checked yet")


def read_parts(folder: Path) -> Callable[[str], bytes]:
    """Returns what reads a part of a folder by its hash."""
    from attestation.settlement.bundle import BUNDLE_LIMIT

    def read_part(name: str) -> bytes:
        path = folder / f"{name.partition(':')[2]}.json"
        if not path.is_file():
            raise IncompleteError("a part is not there", rule="parts.missing", wanted=name)
        return read(str(path), limit=BUNDLE_LIMIT)

    return read_part
