"""Messages that could not be read: kept as they came, and read again after a fix.

Reading one again tells what it would have been.  It changes nothing: a slot that was
attested with a gap has that gap for good.
"""

from __future__ import annotations

from typing import NamedTuple

from attestation.errors import MalformedError
from attestation.feed import Channel, Update
from attestation.venues import VenueFile
from prover.feed.records import Received
from prover.feed.store_reads import StoreReader, read_received


class StoredLetter(NamedTuple):
    """A message that could not be read, why at the time, and of which instrument it is.

    ``instrument`` is None where the session's start is not stored.
    """

    number: int
    received: Received
    rule: str
    detail: str
    instrument: str | None


class LetterCount(NamedTuple):
    """How many there are."""

    venue: str
    rule: str
    letters: int


class Reading(NamedTuple):
    """What a message is now: a ``quote`` with bid and ask, another kind that the venue
    file knows, or ``malformed`` still, by ``rule``."""

    kind: str
    bid: str | None = None
    ask: str | None = None
    rule: str | None = None
    detail: str | None = None


def read_letters(
    reader: StoreReader, *, venue: str | None = None, after: int = 0, limit: int = 1_000
) -> list[StoredLetter]:
    """Returns dead letters by number, oldest first."""
    with reader.reading() as database:
        rows = database.execute(
            f"{_LETTERS} WHERE dead_letters.no > ?1 AND (?2 IS NULL OR venue = ?2) "
            "ORDER BY dead_letters.no LIMIT ?3",
            (after, venue, limit),
        ).fetchall()
    return [_letter(reader, row) for row in rows]


def read_letter(reader: StoreReader, number: int) -> StoredLetter | None:
    """Returns one by its number."""
    with reader.reading() as database:
        row = database.execute(f"{_LETTERS} WHERE dead_letters.no = ?", (number,)).fetchone()
    return None if row is None else _letter(reader, row)


def count_letters(reader: StoreReader) -> list[LetterCount]:
    """Returns how many there are by venue and rule."""
    with reader.reading() as database:
        return [
            LetterCount(*row)
            for row in database.execute(
                "SELECT venue, rule, count(*) FROM dead_letters "
                "JOIN sessions ON sessions.no = dead_letters.session "
                "GROUP BY venue, rule ORDER BY venue, rule"
            )
        ]


def read_again(payload: bytes, venue: VenueFile, instrument: str) -> Reading:
    """Reads a message by itself, as it would be read first in its session.

    A message that needs those before it - one side of a book, a channel's number - is
    ``partial`` or ``malformed`` here, whatever it would have been among them.
    """
    try:
        found = Channel(venue, instrument, excerpt=True).read(payload, 0)
    except MalformedError as error:
        return Reading("malformed", rule=error.rule or error.slug, detail=error.detail)
    if isinstance(found, Update):
        return Reading("quote", bid=found.quote.bid, ask=found.quote.ask)
    return Reading(found.kind)


_LETTERS = (
    "SELECT notary, venue, sessions.session, idx, received_us, payload, rule, "
    "dead_letters.detail, dead_letters.no FROM dead_letters "
    "JOIN sessions ON sessions.no = dead_letters.session"
)


def _letter(
    reader: StoreReader, row: tuple[str, str, str, int, int, bytes, str, str, int]
) -> StoredLetter:
    received = read_received(row, row[5])
    start = reader.session(received.session, received.notary)
    instrument = None if start is None else start.instrument
    return StoredLetter(row[8], received, row[6], row[7], instrument)
