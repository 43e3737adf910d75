"""What a feed's parts tell one another: frozen records, and sinks that take them.

A record is a document like any other (``attestation.schema``), so that it can be written
to disk and read back exactly.  ``notary`` is the notary's name, as its keys have it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from attestation.document import Attestation, GapField, ObservationField, SlotField
from attestation.encoding import decode_object
from attestation.errors import MalformedError
from attestation.log.entry import Fault, Reason
from attestation.log.inclusion import Inclusion
from attestation.schema import Count, Document, Hex16, Micros, Name, Price, Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Started(Document):
    """A live session's start was attested; ``log`` is where the notary's log has it."""

    TYPE: ClassVar[str | None] = "quotary/record_started/v1"

    notary: Text
    feed: Name
    venue: Name
    instrument: Text
    session: Hex16
    attestation: Attestation
    log: Inclusion | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Received(Document):
    """One data message of a live session; ``received_us`` is the prover's own clock."""

    TYPE: ClassVar[str | None] = "quotary/record_received/v1"

    notary: Text
    venue: Name
    session: Hex16
    index: Count
    received_us: Micros
    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Document):
    """A quote for display, attested by nobody; times as in ``Received``."""

    TYPE: ClassVar[str | None] = "quotary/record_tick/v1"

    notary: Text
    venue: Name
    instrument: Text
    bid: Price
    ask: Price
    received_us: Micros
    exchange_us: Micros | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slot(Document):
    """A slot's attestation, checked by whoever emits it.

    The properties read the attestation's fields and raise MalformedError for an
    attestation that is not of a slot.
    """

    TYPE: ClassVar[str | None] = "quotary/record_slot/v1"

    notary: Text
    attestation: Attestation
    log: Inclusion | None = None

    @property
    def head(self) -> SlotField:
        """Field 0."""
        first = self.attestation.fields[0] if self.attestation.fields else None
        if first is None or first.name != SlotField.FIELD:
            raise MalformedError("field 0 is not slot")
        return SlotField.from_json(first.value)

    @property
    def feed(self) -> str:
        """The feed's name."""
        return self.head.feed

    @property
    def market(self) -> str:
        """The feed's market."""
        return self.head.market

    @property
    def slot_us(self) -> int:
        """The instant."""
        return self.head.slot_us

    @property
    def fields(self) -> dict[str, ObservationField | GapField]:
        """What the slot says of each venue, in the order of its fields."""
        found: dict[str, ObservationField | GapField] = {}
        for field in self.attestation.fields:
            if field.name == ObservationField.FIELD:
                observation = ObservationField.from_json(field.value)
                found[observation.venue] = observation
            elif field.name == GapField.FIELD:
                gap = GapField.from_json(field.value)
                found[gap.venue] = gap
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Missed(Document):
    """A slot that has no attestation and will get none, by whose fault."""

    TYPE: ClassVar[str | None] = "quotary/record_missed/v1"

    notary: Text
    feed: Name
    slot_us: Micros
    fault: Fault


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Document):
    """A message that could not be read; ``rule`` and ``detail`` are its error's."""

    TYPE: ClassVar[str | None] = "quotary/record_dead_letter/v1"

    received: Received
    rule: Text
    detail: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Document):
    """A live session ended; ``reason`` is None where the prover cannot tell."""

    TYPE: ClassVar[str | None] = "quotary/record_ended/v1"

    notary: Text
    venue: Name
    session: Hex16
    reason: Reason | None = None
    detail: Text


Record: TypeAlias = Started | Received | Tick | Slot | Missed | DeadLetter | Ended

Sink: TypeAlias = Callable[[Record], None]
"""Takes a record, from the thread of the feed's event loop; returns at once."""

_BY_TYPE: dict[str | None, type[Record]] = {
    kind.TYPE: kind for kind in (Started, Received, Tick, Slot, Missed, DeadLetter, Ended)
}
_LIMIT = 32 * 2**20


def read_record(data: bytes) -> Record:
    """Reads a record of any kind from its canonical bytes; raises MalformedError."""
    value = decode_object(data, limit=_LIMIT)
    name = value.get("type")
    kind = _BY_TYPE.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedError("not a record of a feed", rule="type")
    return kind.from_json(value)
