"""``verifier page``: the fairness page as a file, and its hash."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from verifier.cli.boundary import boundary, say


def page_command(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write the page.")
    ] = None,
    show_hash: Annotated[
        bool, typer.Option("--hash", help="Print the page's SHA-256 on stdout.")
    ] = False,
) -> None:
    """Write the fairness page: one file that verifies bundles in a browser, offline."""
    with boundary():
        from verifier.page import page, page_hash

        if out is None and not show_hash:
            raise UsageError("say what you want: --out FILE, --hash, or both", rule="page")
        if out is not None:
            out.write_bytes(page())
            say(f"wrote {out}: open it in any browser, no server is needed")
        if show_hash:
            typer.echo(page_hash())
