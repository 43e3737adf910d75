"""Server-sent events as a notary sends them, lines ending in LF: bytes in, events out."""

from __future__ import annotations

from typing import NamedTuple

from attestation.errors import MalformedError

MAX_EVENT = 1024 * 1024
"""Bytes of one event."""


class Event(NamedTuple):
    """One event: its name (``message`` where it has none), its id, its data."""

    name: str
    id: str
    data: str


class EventReader:
    """Reads a stream in any pieces; comments keep it alive and are no events."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """Returns the events that are complete now; raises MalformedError."""
        self._buffer += data
        events: list[Event] = []
        while (end := self._buffer.find(b"\n\n")) >= 0:
            block = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            event = _read(block)
            if event is not None:
                events.append(event)
        if len(self._buffer) > MAX_EVENT:
            raise MalformedError("an event does not end", rule="events", found=len(self._buffer))
        return events


def _read(block: bytes) -> Event | None:
    name, identifier, data = "message", "", list[str]()
    try:
        lines = block.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("an event is not UTF-8", rule="events") from None
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            identifier = value
        elif field == "data":
            data.append(value)
    return Event(name, identifier, "\n".join(data)) if data else None
