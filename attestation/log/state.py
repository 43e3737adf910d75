"""What the rules remember of a log, as documents: to save it and go on later."""

from __future__ import annotations

import dataclasses
import struct
from typing import ClassVar

from attestation.errors import MalformedError
from attestation.log.entry import FeedEntry
from attestation.schema import Count, Document, Hex16, Micros, Name, Text

_RECORD = struct.Struct(">16sQBB")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlaceRecord:
    """The last session for a place, the index of its ``opened``, how many there were.

    ``retriable``: it has ended in a way that allows another.
    """

    session: str
    index: int
    tries: int
    retriable: bool = False

    def encode(self) -> bytes:
        """Returns 26 bytes."""
        return _RECORD.pack(bytes.fromhex(self.session), self.index, self.tries, self.retriable)

    @classmethod
    def decode(cls, data: bytes) -> PlaceRecord:
        """Reads ``encode``'s bytes; MalformedError for any others."""
        if len(data) != _RECORD.size or data[-1] > 1:
            raise MalformedError("not the record of a place", rule="log_state")
        session, index, tries, retriable = _RECORD.unpack(data)
        return cls(session=session.hex(), index=index, tries=tries, retriable=bool(retriable))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession(Document):
    """A session without a terminal; ``started``: a live one whose start is attested."""

    session: Hex16
    prover: Text
    venue: Name | None = None
    index: Count
    logged_us: Micros
    deadline_us: Micros
    live: bool
    started: bool
    feed: Name | None = None
    place: Text | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span(Document):
    """Overdue slots: from ``first_us`` to before ``stop_us``."""

    first_us: Micros
    stop_us: Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlace(Document):
    """A place among the slots that are due, and the record of its last session."""

    place: Text
    record: bytes

    def __post_init__(self) -> None:
        if not self.place.startswith("slot/") or not self.place.rpartition("/")[2].isdecimal():
            raise MalformedError("not the place of a slot", rule="log_state")
        PlaceRecord.decode(self.record)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedState(Document):
    """A feed, where it stands in the log, and its slots."""

    entry: FeedEntry
    index: Count
    floor_us: Micros
    settled: tuple[Micros, ...]
    spans: tuple[Span, ...]
    places: tuple[SlotPlace, ...]
    slot_index: Count | None = None
    slot_logged_us: Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RulesState(Document):
    """The state after ``size`` entries, the latest of ``now_us``."""

    TYPE: ClassVar[str | None] = "quotary/log_state/v1"

    size: Count
    now_us: Micros
    feeds: tuple[FeedState, ...]
    sessions: tuple[OpenSession, ...]
