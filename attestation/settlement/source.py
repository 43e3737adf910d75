"""A notary's log as bundles are built from it: its checkpoints, and entries read once.

What a path names of a log never changes, so that what was read is kept.  Nothing of it
is believed for that: whoever takes a bundle folds its entries to a signed root.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

from attestation.encoding import JsonObject, decode_object
from attestation.errors import IncompleteError, UsageError
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AnyEntry, Entry, FeedEntry, read_entry
from attestation.log.files import LogFiles, Read
from attestation.log.note import Note
from attestation.log.policy import LogPolicy
from attestation.settlement.bundle import IncludedEntry
from attestation.settlement.entries import LogRange

MAX_KEPT = 100_000
"""Entries that are kept; with more they are read anew."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceLog:
    """A notary's log to build from.

    ``read`` returns its files by path; ``notes`` are checkpoints of it that were kept, in
    any order: one from before the trade, and one that witnesses had seen after its
    outcome was final.  ``feed`` is the index of the feed's entry.
    """

    notary: str
    read: Read
    notes: Sequence[bytes]
    feed: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The checkpoint that a bundle begins with."""

    size: int
    note: str


class LogSource:
    """The log that a notary keeps, under the checkpoints of it that were shown.

    ``read`` returns its files by path; ``feed`` is the index of the feed's entry.
    """

    def __init__(self, notary: str, read: Read, known: LogPolicy, *, feed: int) -> None:
        self.notary = notary
        self.feed = feed
        self._read = read
        self._known = known
        self._notes: dict[int, bytes] = {}
        self._sizes: list[int] = []
        self._opened: set[tuple[int, bytes]] = set()
        self._entries: dict[int, tuple[JsonObject, Entry]] = {}
        self._files = LogFiles(read, 0)
        self._feed_entry: FeedEntry | None = None

    @property
    def size(self) -> int:
        """How many entries the largest checkpoint shown covers; 0 before the first."""
        return self._files.size

    def show(self, notes: Iterable[bytes]) -> None:
        """Takes checkpoints' notes, in any order; one takes the place of another of its size."""
        for note in notes:
            size = Checkpoint.parse(Note.parse(note).text).size
            if size not in self._notes:
                insort(self._sizes, size)
            self._notes[size] = note
        if self._sizes and self._sizes[-1] > self._files.size:
            self._files = LogFiles(self._read, self._sizes[-1])

    def forget(self, size: int) -> None:
        """Lets go of smaller checkpoints, and of the entries before."""
        self._sizes = [one for one in self._sizes if one >= size]
        self._notes = {one: self._notes[one] for one in self._sizes}
        self._opened = {place for place in self._opened if place[0] >= size}
        self._entries = {index: one for index, one in self._entries.items() if index >= size}

    def start(self, first_us: int, most: int | None = None) -> Start:
        """Returns the last checkpoint whose next entry comes before a slot.

        Of at most ``most`` entries.  Raises IncompleteError (``build.start``) without one.
        """
        below = self._files.size if most is None else min(self._files.size, most + 1)
        # Times never decrease: neither do those of the entries after checkpoints.
        stop = bisect_left(self._sizes, below)
        stop = bisect_left(
            self._sizes, True, hi=stop, key=lambda size: self._is_late(size, first_us)
        )
        if stop == 0:
            raise IncompleteError(
                "no checkpoint from before the trade was kept",
                rule="build.start",
                found=[self.notary, *self._sizes[:1]],
                wanted=first_us,
            )
        size = self._sizes[stop - 1]
        note = self._notes[size]
        if (size, note) not in self._opened:
            self._known.open_log(note)
            self._opened.add((size, note))
        return Start(size=size, note=note.decode("utf-8"))

    def until(self, latest_us: int) -> int:
        """Returns the size of the first checkpoint that goes on after a time, else of the last."""
        at = bisect_left(self._sizes, True, key=lambda size: self._ends_after(size, latest_us))
        return self._sizes[min(at, len(self._sizes) - 1)]

    def end(self, first: int, final_after_us: int) -> tuple[int, str]:
        """Returns the first checkpoint after ``first`` to cover a final outcome, and its note.

        Raises IncompleteError (``settlement.final``) while none has its witnesses.
        """
        begin = bisect_right(self._sizes, first)
        begin = bisect_left(
            self._sizes, True, lo=begin, key=lambda size: self._ends_after(size, final_after_us)
        )
        for size in self._sizes[begin:]:
            try:
                self._known.open(self._notes[size])
            except IncompleteError:
                continue
            return size, self._notes[size].decode("utf-8")
        raise IncompleteError(
            "no checkpoint with its witnesses covers the outcome yet",
            rule="settlement.final",
            found=self.notary,
            wanted=final_after_us + 1,
        )

    def range(self, first: int, stop: int) -> LogRange:
        """Returns entries of the log."""
        if self._feed_entry is None:
            self._feed_entry = self.entry(self.feed, FeedEntry)
        entries = tuple([entry for _, entry in self._given(first, stop)])
        return LogRange(notary=self.notary, feed=self._feed_entry, first=first, entries=entries)

    def entries(self, first: int, stop: int) -> tuple[JsonObject, ...]:
        """Returns entries as bundles hold them."""
        return tuple([value for value, _ in self._given(first, stop)])

    def entry(self, index: int, kind: type[AnyEntry]) -> AnyEntry:
        """Returns an entry; raises UsageError for one of another kind."""
        entry = self._given(index, index + 1)[0][1]
        if not isinstance(entry, kind):
            raise UsageError("an entry of another kind", rule="build.entry", found=entry.kind)
        return entry

    def included(self, index: int, size: int) -> IncludedEntry:
        """Returns an entry with its path to the root of the first ``size`` entries."""
        return IncludedEntry(
            index=index,
            entry=self._given(index, index + 1)[0][0],
            proof=tuple([node.hex() for node in self._files.inclusion(index, size)]),
        )

    def frontier(self, size: int) -> tuple[str, ...]:
        """Returns the roots of the perfect subtrees of the first ``size`` entries, in hex."""
        return tuple([node.hex() for node in self._files.frontier(size)])

    def _is_late(self, size: int, first_us: int) -> bool:
        return size > 0 and self._logged_us(size) >= first_us

    def _ends_after(self, size: int, time_us: int) -> bool:
        return size > 0 and self._logged_us(size - 1) > time_us

    def _logged_us(self, index: int) -> int:
        return self._given(index, index + 1)[0][1].logged_us

    def _given(self, first: int, stop: int) -> Sequence[tuple[JsonObject, Entry]]:
        """Returns entries as they are and as they are read; reads what is not kept."""
        kept = self._entries
        missing = [index for index in range(first, stop) if index not in kept]
        if missing:
            if len(kept) + len(missing) > MAX_KEPT:
                kept.clear()
                missing = list(range(first, stop))
            begin = missing[0]
            data = self._files.entries(begin, missing[-1] + 1)
            for index in missing:
                raw = data[index - begin]
                kept[index] = decode_object(raw, limit=MAX_ENTRY_SIZE), read_entry(raw)
        return [kept[index] for index in range(first, stop)]
