"""Where every record went: received = stored, spooled, waiting, or dropped and counted.

The parts are counted where they happen - at the door, in the queue, in the spool, by the
database's own count of the rows it changed - so that a record lost in between shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from attestation.encoding import MAX_INTEGER
from attestation.schema import Count, Document, Hex16, Micros, Text
from prover.feed.store_inbox import Key
from prover.feed.store_reads import StoreReader

PARTS = ("recovered", "stored", "duplicate", "spooled", "waiting", "dropped", "unfit")
"""What a row counts beside ``received``; all but ``recovered`` are where records are now."""


_PAGE = 5_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CountRow(Document):
    """The records of one kind, notary and venue (none for slots) since the process began.

    ``recovered`` were spooled by an earlier process; ``unfit`` can never be stored.
    """

    kind: Text
    notary: Text
    venue: Text
    received: Count
    recovered: Count
    stored: Count
    duplicate: Count
    spooled: Count
    waiting: Count
    dropped: Count
    unfit: Count

    @property
    def missing(self) -> int:
        """Records of which nobody knows where they went; 0 as it should be."""
        placed = self.stored + self.duplicate + self.spooled
        given_up = self.dropped + self.unfit
        return self.received + self.recovered - placed - self.waiting - given_up


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Document):
    """All counts at one moment; ``run`` names the process, ``damaged`` counts the places
    where the spool lost frames of an earlier one."""

    TYPE: ClassVar[str | None] = "quotary/reconciliation/v1"

    run: Hex16
    since_us: Micros
    at_us: Micros
    rows: tuple[CountRow, ...]
    damaged: Count

    @property
    def missing(self) -> int:
        """Records that are unaccounted for, in all rows; 0 as it should be."""
        return sum(abs(row.missing) for row in self.rows)

    @property
    def lost(self) -> int:
        """Records that were given up, and said so."""
        return sum(row.dropped + row.unfit for row in self.rows)


def count_rows(
    received: Mapping[Key, int], parts: Mapping[str, Mapping[Key, int]]
) -> tuple[CountRow, ...]:
    """Joins counts by key; ``parts`` has those of ``PARTS``."""
    keys = sorted({*received, *(key for counts in parts.values() for key in counts)})
    return tuple(
        CountRow(
            kind=key[0],
            notary=key[1],
            venue=key[2],
            received=received.get(key, 0),
            **{part: max(parts[part].get(key, 0), 0) for part in PARTS},
        )
        for key in keys
    )


class Holes(NamedTuple):
    """Slots of a stream that are neither attested nor missed here; ``first_us`` of them."""

    notary: str
    feed: str
    slots: int
    holes: int
    first_us: int | None


def latest_counts(reader: StoreReader) -> Reconciliation | None:
    """Returns the counts that the store's process took for the record last."""
    with reader.reading() as database:
        row = database.execute(
            "SELECT document FROM reconciled ORDER BY at_us DESC LIMIT 1"
        ).fetchone()
    return None if row is None else Reconciliation.decode(row[0])


def find_holes(reader: StoreReader, *, from_us: int) -> list[Holes]:
    """Counts what is missing of each stream's grid, between its slots from ``from_us`` on.

    The grid is the smallest step that occurs.
    """
    found = []
    for stream in reader.streams():
        before: int | None = None
        places, start_us = 0, from_us
        widths: dict[int, tuple[int, int]] = {}
        while page := reader.places(
            stream.feed, stream.notary, from_us=start_us, to_us=MAX_INTEGER, limit=_PAGE
        ):
            for slot_us in page:
                if before is not None:
                    count, first = widths.get(slot_us - before, (0, before))
                    widths[slot_us - before] = count + 1, first
                before = slot_us
            places += len(page)
            start_us = page[-1] + 1
        grid = min(widths, default=1)
        holes = sum(count * (width // grid - 1) for width, (count, _) in widths.items())
        first_us = min(
            (at + grid for width, (_, at) in widths.items() if width > grid), default=None
        )
        found.append(Holes(stream.notary, stream.feed, places, holes, first_us))
    return found
