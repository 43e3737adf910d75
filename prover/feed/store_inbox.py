"""Records on their way to the store's writer: bounded, counted, never blocking."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from prover.feed.records import DeadLetter, Ended, Missed, Received, Record, Slot, Started, Tick

Key: TypeAlias = tuple[str, str, str]
"""What records are counted by: kind, notary, venue (empty for a slot)."""

_KINDS = {
    Started: "started",
    Received: "received",
    Tick: "tick",
    Slot: "slot",
    Missed: "missed",
    DeadLetter: "dead_letter",
    Ended: "ended",
}
_OVERHEAD = 600
"""About what a record takes in memory beside its payload."""
_DOCUMENT = 20_000
"""About what an attestation takes."""


class Waiting(NamedTuple):
    """A record and when it was given (``time.monotonic``)."""

    record: Record
    since: float


class Inbox:
    """A queue of about ``limit`` bytes; a quarter more for what is vital.

    ``put`` may be called in any thread, the rest in the writer's.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._queue: deque[Waiting] = deque()
        self._bytes = 0
        self._received: Counter[Key] = Counter()
        self._dropped: Counter[Key] = Counter()

    def put(self, record: Record) -> bool:
        """Takes a record; False where there is no room for it."""
        key, cost = key_of(record), _cost(record)
        limit = self._limit + (self._limit // 4 if is_vital(record) else 0)
        with self._lock:
            self._received[key] += 1
            if self._bytes + cost > limit:
                self._dropped[key] += 1
                return False
            self._bytes += cost
            self._queue.append(Waiting(record, time.monotonic()))
        self._ready.set()
        return True

    def wait(self, seconds: float) -> bool:
        """Waits until there is a record, or ``wake``."""
        return self._ready.wait(seconds)

    def wake(self) -> None:
        """Ends a wait."""
        self._ready.set()

    def take(self, most: int) -> list[Waiting]:
        """Takes the oldest records out."""
        with self._lock:
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self._bytes -= sum(_cost(each.record) for each in taken)
            if not self._queue:
                self._ready.clear()
        return taken

    def put_back(self, taken: Sequence[Waiting]) -> None:
        """Returns what could not be placed to the head of the queue."""
        with self._lock:
            self._queue.extendleft(reversed(taken))
            self._bytes += sum(_cost(each.record) for each in taken)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """About what the waiting records take."""
        return self._bytes

    def counts(self) -> tuple[Counter[Key], Counter[Key], Counter[Key]]:
        """Returns what was received, dropped, and is waiting, at one moment."""
        with self._lock:
            waiting = Counter(key_of(each.record) for each in self._queue)
            return self._received.copy(), self._dropped.copy(), waiting


def key_of(record: Record) -> Key:
    """Returns what a record is counted by."""
    inner = record.received if isinstance(record, DeadLetter) else record
    venue = "" if isinstance(inner, (Slot, Missed)) else inner.venue
    return _KINDS[type(record)], inner.notary, venue


def is_vital(record: Record) -> bool:
    """Whether a record is given up last: few, and needed to make sense of the others."""
    return not isinstance(record, (Received, DeadLetter))


def _cost(record: Record) -> int:
    if isinstance(record, Received):
        return _OVERHEAD + len(record.payload)
    if isinstance(record, DeadLetter):
        return 2 * _OVERHEAD + len(record.received.payload)
    return _DOCUMENT if isinstance(record, (Slot, Started)) else _OVERHEAD
