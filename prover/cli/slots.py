"""``prover present-slot``: from a feed's store to what others may see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.encoding import PRESENTATION_LIMIT, Json, JsonObject
from attestation.errors import IncompleteError, UsageError
from prover.cli.boundary import answer, boundary, safe, say, write

if TYPE_CHECKING:
    from attestation.presentation import Presentation
    from prover.feed.records import Slot
    from prover.feed.store_reads import StoreReader


def present_slot_command(
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The feed's folder, `data` of its configuration."),
    ],
    at_us: Annotated[
        int | None,
        typer.Option(
            "--at-us",
            metavar="MICROSECONDS",
            help="The first slot at or after this instant; the newest by default.",
        ),
    ] = None,
    venue: Annotated[
        list[str] | None, typer.Option(metavar="VENUE", help="Show only these venues.")
    ] = None,
    feed: Annotated[str | None, typer.Option(help="Where the store has several.")] = None,
    notary: Annotated[str | None, typer.Option(help="Where the store has several.")] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the venues' messages and the sessions.")
    ] = False,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also write the slot before it, with no venue shown: that it is the first.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="- for stdout.")] = "-",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON on stdout; needs --out FILE.")
    ] = False,
) -> None:
    """Make a presentation of a stored slot, which anyone can verify without a network."""
    with boundary(as_json=as_json):
        from attestation.slot_presentation import present_slot
        from prover.feed.presented import PresentedSlot, present_stored
        from prover.feed.store_reads import StoreReader

        if out == "-" and as_json:
            raise UsageError("stdout holds one document: with --json name a file by --out")
        reader = StoreReader(data)
        try:
            name, who = _stream(reader, feed, notary)
            slot, earlier = _slots(reader, name, who, at_us)
            if alone:
                bare = present_slot(slot.attestation, venue or None, log=slot.log)
                made = PresentedSlot(presentation=bare, without_messages=(), without_session=())
            else:
                made = present_stored(slot, reader, venue or None)
        finally:
            reader.close()
        files = [(out, made.presentation)]
        if before is not None:
            if earlier is None:
                raise IncompleteError("the store has no slot before it", rule="before")
            files.append((before, present_slot(earlier.attestation, (), log=earlier.log)))
        for file, presentation in files:
            _write(file, presentation)
        size = len(made.presentation.encode())
        say(f"slot {slot.slot_us} of {safe(slot.feed)} by {safe(slot.notary)}: {size} bytes")
        for what, venues in (
            ("messages", made.without_messages),
            ("session's start", made.without_session),
        ):
            if venues:
                say(f"without the {what}: {', '.join(map(safe, venues))}")
        if as_json:
            without_messages: list[Json] = list(made.without_messages)
            without_session: list[Json] = list(made.without_session)
            row: JsonObject = {
                "type": "quotary/presented_slot/v1",
                "file": out,
                "bytes": size,
                "feed": slot.feed,
                "notary": slot.notary,
                "slot_us": slot.slot_us,
                "without_messages": without_messages,
                "without_session": without_session,
            }
            answer(row)


def _stream(reader: StoreReader, feed: str | None, notary: str | None) -> tuple[str, str]:
    """Returns the one feed and notary that are meant."""
    streams = [(stream.feed, stream.notary) for stream in reader.streams()]
    meant = [(name, who) for name, who in streams if feed in (None, name) and notary in (None, who)]
    if len(meant) != 1:
        raise UsageError(
            "name one of the store's feeds and notaries: --feed, --notary",
            rule="feed",
            found=[feed or "-", notary or "-"],
            wanted=[f"{name} by {who}" for name, who in streams],
        )
    return meant[0]


def _slots(
    reader: StoreReader, feed: str, notary: str, at_us: int | None
) -> tuple[Slot, Slot | None]:
    from prover.feed.records import Slot

    if at_us is None:
        newest = reader.newest(feed, notary)
        at_us = 0 if newest is None else newest
    earlier, settled = reader.around(feed, notary, at_us)
    if settled is None:
        raise IncompleteError("no slot at or after this instant yet", rule="slot", found=at_us)
    if not isinstance(settled, Slot):
        raise IncompleteError(
            "the slot was missed: it has no attestation", rule="slot.missed", found=settled.fault
        )
    return settled, earlier


def _write(file: str, presentation: Presentation) -> None:
    data = presentation.encode()
    if len(data) > PRESENTATION_LIMIT:
        raise UsageError(
            f"the presentation is larger than {PRESENTATION_LIMIT} bytes: show less of it",
            found=len(data),
        )
    write(file, data + b"\n")
