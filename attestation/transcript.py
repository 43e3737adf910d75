"""Byte ranges of the two directions of a witnessed exchange.

``sent`` is what the client sent to the server, ``received`` what came back,
both as TLS plaintext of one claim (one HTTP request and its response).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

from attestation.errors import InvalidProofError, MalformedError

Direction: TypeAlias = Literal["sent", "received"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The whole plaintext of one claim."""

    sent: bytes
    received: bytes

    def direction(self, direction: str) -> bytes:
        """Returns the bytes of ``sent`` or ``received``."""
        return self.sent if direction == "sent" else self.received

    def cut(self, direction: str, start: int, end: int) -> bytes:
        """Returns a byte range; raises MalformedError outside the transcript."""
        data = self.direction(direction)
        if not 0 <= start <= end <= len(data):
            raise MalformedError(
                "range outside the transcript", found=[start, end], wanted=len(data)
            )
        return data[start:end]


@dataclasses.dataclass(slots=True)
class PartialTranscript:
    """The authenticated ranges of one direction, checked to agree where they overlap."""

    _ranges: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)

    def add(self, start: int, data: bytes) -> None:
        """Adds a range; raises InvalidProofError if it contradicts an earlier one."""
        for other_start, other in self._ranges:
            low = max(start, other_start)
            high = min(start + len(data), other_start + len(other))
            if (
                low < high
                and data[low - start : high - start]
                != (other[low - other_start : high - other_start])
            ):
                raise InvalidProofError("two opened sections disagree on the same bytes")
        self._ranges.append((start, data))
