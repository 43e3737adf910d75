"""``prover present`` and ``prover dispute``: from a kept fetch to what others may see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import PRESENTATION_LIMIT
from attestation.errors import UsageError
from prover.cli.boundary import boundary, say, write
from prover.present import build_presentation
from prover.vault import load, load_evidence

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder that `prover fetch` wrote.")
]


def present(
    folder: FolderArgument,
    out: Annotated[str, typer.Option(metavar="FILE", help="- for stdout.")] = "-",
    whole: Annotated[bool, typer.Option("--whole", help="Show everything (the default).")] = False,
    show: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="Show only these sections.")
    ] = None,
    hide: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="Show all but these sections.")
    ] = None,
    pointer: Annotated[
        list[str] | None,
        typer.Option(metavar="POINTER", help="Of the body show only these JSON members."),
    ] = None,
    quote: Annotated[
        bool, typer.Option("--quote", help="Of the body show only what the quote needs.")
    ] = False,
) -> None:
    """Make a presentation that anyone can verify with a trust file and no network."""
    with boundary():
        if whole and (show or hide or pointer or quote):
            raise UsageError("--whole excludes every other choice", rule="whole")
        stored = load(folder)
        presentation = build_presentation(
            stored, show=show or None, hide=hide or (), pointers=pointer or (), quote_only=quote
        )
        data = presentation.encode()
        if len(data) > PRESENTATION_LIMIT:
            raise UsageError(
                f"the presentation is larger than {PRESENTATION_LIMIT} bytes: show less of it",
                found=len(data),
            )
        write(out, data + b"\n")
        sections = {field.name: index for index, field in stored.attestation.sections().items()}
        opened = {opening.index for opening in presentation.openings}
        shown = [name for name, index in sections.items() if index in opened]
        hidden = [name for name, index in sections.items() if index not in opened]
        say(f"{len(data)} bytes; shown: {', '.join(shown) or 'no section'}")
        if hidden:
            say(f"hidden: {', '.join(hidden)}")


def dispute(
    folder: FolderArgument,
    out: Annotated[str, typer.Option(metavar="FILE", help="- for stdout.")],
) -> None:
    """Write the evidence with which anyone can repeat the notary's work.

    It reveals everything that was sent and received, keys in headers included.
    """
    with boundary():
        evidence = load_evidence(folder)
        write(out, evidence.encode() + b"\n")
        say("this file reveals the whole session; check it with: verifier recheck FILE")
