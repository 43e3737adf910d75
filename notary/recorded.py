"""What a gate records of a connection: its records and their times, and when it moved."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from attestation.tls13.wire import Direction, Record

Taken: TypeAlias = tuple[list[Record], list[int]]
"""Records, and the time of each."""


@dataclasses.dataclass(slots=True)
class Stream:
    """One direction as recorded: whole records and the time of each."""

    direction: Direction
    records: list[Record] = dataclasses.field(default_factory=list)
    times: list[int] = dataclasses.field(default_factory=list)
    size: int = 0

    def add(self, record: Record, at_us: int) -> None:
        """Records a record."""
        self.records.append(record)
        self.times.append(at_us)
        self.size += len(record.raw)

    def take(self, most: int | None = None) -> Taken:
        """Hands over what was recorded since the last call and forgets it; ``size`` stays.

        With ``most`` the first records of so many bytes, at least one if there is one.
        """
        taken = self.records, self.times
        if most is None or sum([len(record.raw) for record in self.records]) <= most:
            self.records, self.times = [], []
            return taken
        count = size = 0
        while size < most:
            size += len(self.records[count].raw)
            count += 1
        taken = self.records[:count], self.times[:count]
        del self.records[:count], self.times[:count]
        return taken

    def raw(self) -> bytes:
        """Returns all bytes from byte 0."""
        return b"".join([record.raw for record in self.records])


@dataclasses.dataclass(slots=True)
class GateTimes:
    """When the gate moved, in microseconds; None until then.

    ``released_us`` is of the claim under way.
    """

    connected_us: int | None = None
    hello_us: int | None = None
    released_us: int | None = None
    sealed_us: int | None = None
    opened_us: int | None = None
