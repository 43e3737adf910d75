"""``prover present`` and ``prover dispute``: from a kept fetch to what others may see."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from attestation.commitment import SectionField
from attestation.encoding import PRESENTATION_LIMIT, Json, JsonObject
from attestation.errors import UsageError
from attestation.presentation import Presentation, SectionOpening
from attestation.trust import Trust
from prover.cli.boundary import answer, boundary, read_trust, safe, say, write
from prover.logged import check_inclusion, read_origin, renew_inclusion
from prover.present import build_presentation
from prover.vault import ATTESTATION_FILE, StoredFetch, keep_log, load, load_evidence, load_set

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder that `prover fetch` wrote.")
]

SummaryOption = Annotated[
    bool, typer.Option("--json", help="Print a summary as JSON on stdout; needs --out FILE.")
]


def present(
    folder: FolderArgument,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="- for stdout. Of several notaries: a folder.")
    ] = "-",
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
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="The notary: ask its log for a proof that witnesses have cosigned, and keep that "
            "from now on. Of several notaries: each.",
        ),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="With --log: trust file, whose log key must have signed the proof."
        ),
    ] = None,
    as_json: SummaryOption = False,
) -> None:
    """Make a presentation that anyone can verify with a trust file and no network.

    Of a folder with the attestations of several notaries: one for each of them, to be
    verified together.
    """
    with boundary(as_json=as_json):
        if whole and (show or hide or pointer or quote):
            raise UsageError("--whole excludes every other choice", rule="whole")

        if trust is not None and not log:
            raise UsageError("--trust is for the proofs that --log asks for", rule="trust")
        believed = None if trust is None else read_trust(trust)

        def build(stored: StoredFetch) -> tuple[Presentation, bytes]:
            presentation = build_presentation(
                stored, show=show or None, hide=hide or (), pointers=pointer or (), quote_only=quote
            )
            data = presentation.encode()
            if len(data) > PRESENTATION_LIMIT:
                raise UsageError(
                    f"the presentation is larger than {PRESENTATION_LIMIT} bytes: show less of it",
                    found=len(data),
                )
            return presentation, data

        if (folder / ATTESTATION_FILE).exists() or not folder.is_dir():
            _one_document(out, as_json)
            stored = load(folder)
            if log:
                stored = renewed({folder: stored}, log, believed)[folder]
            presentation, data = build(stored)
            write(out, data + b"\n")
            row = _shown(stored, presentation, len(data), out)
            if as_json:
                answer({"type": "quotary/presented/v1", **row})
            return
        if out == "-":
            raise UsageError("of several notaries: name a folder by --out DIR", rule="out")
        stored_set = load_set(folder)
        if log:
            fresh = renewed(
                {folder / name: each for name, each in stored_set.items()}, log, believed
            )
            stored_set = {path.name: each for path, each in fresh.items()}
        built = {name: build(stored) for name, stored in stored_set.items()}
        place = Path(out)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        rows: list[Json] = []
        for name, (presentation, data) in built.items():
            file = str(place / f"{name}.json")
            write(file, data + b"\n")
            rows.append(_shown(stored_set[name], presentation, len(data), file))
        if as_json:
            answer({"type": "quotary/presented_set/v1", "presentations": rows})


def dispute(
    folder: FolderArgument,
    out: Annotated[str, typer.Option(metavar="FILE", help="- for stdout.")],
    as_json: SummaryOption = False,
) -> None:
    """Write the evidence with which anyone can repeat the notary's work.

    It reveals everything that was sent and received, keys in headers included.
    """
    with boundary(as_json=as_json):
        _one_document(out, as_json)
        data = load_evidence(folder).encode()
        write(out, data + b"\n")
        if as_json:
            answer({"type": "quotary/disputed/v1", "file": out, "bytes": len(data)})
        where = "-" if out == "-" else safe(out)
        say("this file reveals the whole session")
        say(f"anyone can check it with: verifier recheck {where} --trust TRUST [--roots PEM]")


def _one_document(out: str, as_json: bool) -> None:
    if out == "-" and as_json:
        raise UsageError("stdout holds one document: with --json name a file by --out", rule="out")


def renewed(
    kept: Mapping[Path, StoredFetch], urls: Sequence[str], trust: Trust | None
) -> dict[Path, StoredFetch]:
    """Asks for the log proof of each folder's attestation anew and keeps it there.

    Several notaries are told apart by the logs they keep.
    """
    if any(stored.log is None for stored in kept.values()):
        raise UsageError("the notary gave no log proof to renew", rule="log")
    places = {read_origin(url): url for url in urls} if len(urls) > 1 or len(kept) > 1 else {}
    found = {}
    for folder, stored in kept.items():
        assert stored.log is not None
        origin = stored.log.fold().checkpoint.origin
        url = places.get(origin, urls[0] if not places else None)
        if url is None:
            raise UsageError("no --log names the notary that keeps this log", found=origin)
        log = renew_inclusion(stored.log, stored.attestation, url, trust=trust)
        keep_log(folder, log)
        found[folder] = dataclasses.replace(stored, log=log)
    return found


def _shown(stored: StoredFetch, presentation: Presentation, size: int, file: str) -> JsonObject:
    """Says what a presentation that was written shows; returns the same for programs."""
    opened = {opening.index: opening for opening in presentation.openings}
    sections = stored.attestation.sections()
    shown: list[Json] = [field.name for index, field in sections.items() if index in opened]
    hidden: list[Json] = [field.name for index, field in sections.items() if index not in opened]
    told = [_told(sections[index], opening) for index, opening in opened.items()]
    name = "" if file == "-" else f"{safe(file)}: "
    say(f"{name}{size} bytes; shown: {', '.join(told) or 'no section'}")
    if hidden:
        say(f"hidden: {', '.join(map(str, hidden))}")
    row: JsonObject = {"file": file, "bytes": size, "shown": shown, "hidden": hidden}
    if stored.log is not None:
        receipt = check_inclusion(stored.log, stored.attestation, None)
        cosigners = ", ".join(map(safe, receipt.cosigners)) or "no witness yet: see --log"
        say(f"log: entry {receipt.index} of {safe(receipt.origin)}, cosigned by {cosigners}")
        row["log"] = {
            "origin": receipt.origin,
            "index": receipt.index,
            "cosigners": list(receipt.cosigners),
        }
    return row


def _told(section: SectionField, opening: SectionOpening) -> str:
    """Names a section and, if some of its parts are hidden, how many are shown."""
    if opening.parts is None or len(opening.parts) == section.parts:
        return section.name
    return f"{section.name} ({len(opening.parts)} of {section.parts} parts)"
