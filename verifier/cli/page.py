"""``verifier page``: the fairness page as a file, and its hash."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from verifier.cli.boundary import answer, boundary, say
from verifier.cli.documents import JsonOption


def page_command(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write the page.")
    ] = None,
    show_hash: Annotated[
        bool, typer.Option("--hash", help="Print the page's SHA-256 on stdout.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the fairness page: one file that verifies bundles in a browser, offline."""
    with boundary(as_json=as_json):
        from attestation.encoding import encode
        from verifier.page import page, page_hash

        if out is None and not show_hash and not as_json:
            raise UsageError("say what you want: --out FILE, --hash, or both", rule="page")
        if out is not None:
            out.write_bytes(page())
            say(f"wrote {out}: open it in any browser, no server is needed")
        if as_json:
            answer(encode({"type": "quotary/page/v1", "hash": f"sha256:{page_hash()}"}))
        elif show_hash:
            typer.echo(page_hash())
