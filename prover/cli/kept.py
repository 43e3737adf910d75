"""What a feed has kept: ``prover rederive``, ``prover feed dead-letters``, ``... reconcile``."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import MAX_INTEGER, Json, JsonObject, base64url_encode
from attestation.errors import MalformedError, UsageError
from attestation.trust import parse_time
from attestation.venues import VenueFile, parse_venue, shipped_venues
from prover.cli.boundary import JsonOption, answer, boundary, progress, read, safe, say
from prover.feed.dead_letters import (
    StoredLetter,
    count_letters,
    read_again,
    read_letter,
    read_letters,
)
from prover.feed.reconcile import find_holes, latest_counts
from prover.feed.rederive import Rederivation
from prover.feed.store_database import DATABASE_FILE
from prover.feed.store_reads import StoreReader

DataOption = Annotated[
    Path, typer.Option(metavar="DIR", help="The feed's folder, `data` of its configuration.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="RFC 3339 in UTC, or microseconds.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="The first slot that is left out.")
]
VenueFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--venue-file", metavar="FILE", help="Read by this venue file instead of the shipped one."
    ),
]

dead_letters = typer.Typer(
    no_args_is_help=True, help="Messages that could not be read: list, show, read again."
)

_DAY_US = 86_400_000_000


def rederive(
    data: DataOption,
    since: FromOption = None,
    to: ToOption = None,
    feed: Annotated[str | None, typer.Option(help="Only this feed.")] = None,
    notary: Annotated[str | None, typer.Option(help="Only this notary's slots.")] = None,
    venue_file: VenueFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every stored observation again from the venue's messages, and compare the bytes.

    Exit codes: 0 all are the same, 11 one differs or is damaged, 15 a message is missing.
    """
    with boundary(as_json=as_json):
        reader = _open(data)
        walk = Rederivation(reader, _venues(venue_file))
        first, last = _time(since, 0), _time(to, MAX_INTEGER)
        streams = [
            stream
            for stream in reader.streams()
            if feed in (None, stream.feed) and notary in (None, stream.notary)
        ]
        if not streams:
            raise UsageError("no such slots are stored", rule="store")
        with progress("reading") as show:

            def tell(name: str) -> Callable[[int], None]:
                return lambda at_us: show(f"{name}: {_clock(at_us)}, {walk.report().slots} slots")

            for stream in streams:
                name = f"{safe(stream.feed)} of {safe(stream.notary)}"
                walk.walk(stream, from_us=first, to_us=last, progress=tell(name))
        report = walk.report()
        if as_json:
            answer(report.to_json())
        say(
            f"{report.slots} slots, {report.missed} missed; {report.observations} observations: "
            f"{report.same} the same, {report.different} different, {report.missing} without "
            f"their messages; {report.damaged} damaged slots; {report.gaps} gaps; "
            f"{report.rest} of the observations by REST"
        )
        for each in report.differences:
            place = f"{_clock(each.slot_us)} {safe(each.feed)} {safe(each.notary)}"
            compared = "" if each.found is None else f"; found {each.found}, wanted {each.wanted}"
            venue = "" if each.venue is None else f" {safe(each.venue)}"
            say(f"  {place}{venue}: [{safe(each.rule)}] {safe(each.detail, 400)}{compared}")
        if report.failure is not None:
            raise typer.Exit(report.failure.exit_code)


@dead_letters.command("list", short_help="List messages that could not be read, and counts.")
def list_letters(
    data: DataOption,
    venue: Annotated[str | None, typer.Option(help="Only this venue's.")] = None,
    after: Annotated[int, typer.Option(metavar="N", help="Only later ones than number N.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List messages that could not be read, and how many there are by venue."""
    with boundary(as_json=as_json):
        reader = _open(data)
        counts = count_letters(reader)
        letters = read_letters(reader, venue=venue, after=after, limit=limit)
        if as_json:
            answer(
                {
                    "type": "quotary/dead_letters/v1",
                    "counts": [dict(each._asdict()) for each in counts],
                    "letters": [_row(letter) for letter in letters],
                }
            )
            return
        for letter in letters:
            typer.echo(
                f"{letter.number:>6}  {_clock(letter.received.received_us)}  "
                f"{safe(letter.received.venue):<12} [{safe(letter.rule)}] {safe(letter.detail)}"
            )
        for each in counts:
            say(f"{safe(each.venue)}: {each.letters} by rule {safe(each.rule)}")
        if not counts:
            say("every message could be read")


@dead_letters.command("show")
def show_letter(
    data: DataOption,
    number: Annotated[int, typer.Argument(metavar="N", help="As `list` numbers them.")],
    as_json: JsonOption = False,
) -> None:
    """Show one of them with its bytes."""
    with boundary(as_json=as_json):
        letter = read_letter(_open(data), number)
        if letter is None:
            raise UsageError("no dead letter has this number", rule="number", found=number)
        received = letter.received
        if as_json:
            payload = base64url_encode(received.payload)
            answer({"type": "quotary/dead_letter/v1", **_row(letter), "payload": payload})
            return
        for name, value in _row(letter).items():
            typer.echo(f"{name:<12} {safe(value, 1_000)}")
        typer.echo(f"{'payload':<12} {safe(received.payload.decode('latin-1'), 100_000)}")


@dead_letters.command("replay", short_help="Read them again by this version's venue files.")
def replay_letters(
    data: DataOption,
    venue: Annotated[str | None, typer.Option(help="Only this venue's.")] = None,
    venue_file: VenueFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read them again by this version's code and venue files, and say what each would be.

    Nothing is changed by it: a slot that was attested with a gap keeps the gap.
    """
    with boundary(as_json=as_json):
        reader, files = _open(data), _venues(venue_file)
        counts: dict[str, int] = {}
        rows: list[Json] = []
        after, total = 0, sum(each.letters for each in count_letters(reader))
        with progress("reading") as show:
            while letters := read_letters(reader, venue=venue, after=after):
                after = letters[-1].number
                for letter in letters:
                    row = _reread(letter, files)
                    counts[str(row["now"])] = counts.get(str(row["now"]), 0) + 1
                    if as_json:
                        rows.append(row)
                    else:
                        said = [f"{name} {safe(row[name])}" for name in _SAID if name in row]
                        name = safe(letter.received.venue)
                        typer.echo(f"{letter.number:>6}  {name:<12} {', '.join(said)}")
                show(f"{sum(counts.values())} of {total}")
        if as_json:
            found: list[Json] = [
                {"now": kind, "count": count} for kind, count in sorted(counts.items())
            ]
            answer({"type": "quotary/dead_letters_replayed/v1", "counts": found, "letters": rows})
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        say(f"now: {told or 'nothing to read'}")
        say("attested slots are not changed by this: their gaps stay")


def reconcile(
    data: DataOption,
    since: FromOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where every record went, and which slots of the grid are not stored.

    Counts are those of the store's process, taken every minute and at its end; the grid is
    looked at from --from on, by default the last day. Exit code 15 if any is missing.
    """
    with boundary(as_json=as_json):
        reader = _open(data)
        counts = latest_counts(reader)
        first = _time(since, time.time_ns() // 1_000 - _DAY_US)
        holes = find_holes(reader, from_us=first)
        missing = counts.missing if counts is not None else 0
        lost = counts.lost if counts is not None else 0
        if as_json:
            found: list[Json] = [
                {name: value for name, value in each._asdict().items() if value is not None}
                for each in holes
            ]
            document: JsonObject = {"type": "quotary/reconciled/v1", "streams": found}
            if counts is not None:
                document["counts"] = counts.to_json()
            answer(document)
        elif counts is None:
            say("no counts were taken yet: the first are after a minute")
        else:
            say(f"counts of {_clock(counts.at_us)}, since {_clock(counts.since_us)}")
            for row in counts.rows:
                parts = ", ".join(
                    f"{part} {getattr(row, part)}" for part in _PARTS if getattr(row, part)
                )
                name = " ".join(safe(part) for part in (row.kind, row.venue, row.notary) if part)
                typer.echo(f"{name}: {parts}")
        for each in holes:
            where = "" if each.first_us is None else f", the first {_clock(each.first_us)}"
            name = f"{safe(each.feed)} of {safe(each.notary)}"
            say(f"{name}: {each.slots} slots, {each.holes} not stored{where}")
        say(f"{missing} records unaccounted for, {lost} given up")
        if missing or lost or any(each.holes for each in holes):
            raise typer.Exit(15)


_PARTS = (
    "received",
    "recovered",
    "stored",
    "duplicate",
    "spooled",
    "waiting",
    "dropped",
    "unfit",
    "missing",
)
_SAID = ("now", "bid", "ask", "rule", "detail")


def _open(folder: Path) -> StoreReader:
    if not (folder / DATABASE_FILE).exists():
        raise UsageError("no store of a feed is there", rule="store", found=str(folder))
    return StoreReader(folder)


def _venues(names: list[str] | None) -> dict[str, VenueFile]:
    given = [parse_venue(read(name)) for name in names or ()]
    return {**shipped_venues(), **{file.name: file for file in given}}


def _time(text: str | None, default: int) -> int:
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return int(text)
    try:
        return parse_time(text)
    except MalformedError as error:
        raise UsageError(error.detail, rule="time", found=text[:40]) from None


def _clock(at_us: int) -> str:
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC)
    try:
        moment += datetime.timedelta(microseconds=at_us)
    except OverflowError:
        return str(at_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(letter: StoredLetter) -> JsonObject:
    received = letter.received
    row: JsonObject = {
        "number": letter.number,
        "notary": received.notary,
        "venue": received.venue,
        "session": received.session,
        "index": received.index,
        "received_us": received.received_us,
        "rule": letter.rule,
        "detail": letter.detail,
    }
    if letter.instrument is not None:
        row["instrument"] = letter.instrument
    return row


def _reread(letter: StoredLetter, files: dict[str, VenueFile]) -> JsonObject:
    row: JsonObject = {"number": letter.number, "venue": letter.received.venue}
    file = files.get(letter.received.venue)
    if file is None or letter.instrument is None:
        why = "no venue file" if file is None else "the session's start is not stored"
        return row | {"now": "unknown", "detail": why}
    found = read_again(letter.received.payload, file, letter.instrument)
    row["now"] = found.kind
    for name in _SAID[1:]:
        value = getattr(found, name)
        if value is not None:
            row[name] = value
    return row
