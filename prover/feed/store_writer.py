"""What the store's thread does, step by step: inbox to database, or to the spool and back."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from attestation.errors import QuotaryError, UnavailableError
from prover.feed.records import Missed, Record, Slot, read_record
from prover.feed.spool import Spool
from prover.feed.store_database import Database, Result
from prover.feed.store_inbox import Inbox, Key, Waiting, is_vital, key_of

MAX_BATCH = 512
RETRY_S = 0.5
"""How often a database that is away is tried again."""
_BATCHES = 8
"""Batches between two looks at everything else."""
_REPEAT_S = 10.0
"""How often a state that goes on is said again."""
_MOST_LOST = 10_000

log = logging.getLogger("quotary.feed.store")


class Writer:
    """Moves records; ``step`` is called by one thread, over and over.

    ``on_stored`` gets the seconds from the inbox to the commit of each record that was
    not spooled.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        database: Database,
        spool: Spool,
        now_us: Callable[[], int],
        on_stored: Callable[[float], None] | None = None,
        trouble: str | None = None,
    ) -> None:
        self._inbox, self._database, self._spool = inbox, database, spool
        self._now_us, self._on_stored = now_us, on_stored
        self.trouble = trouble
        """Why records go to the spool; None while the database takes them."""
        self.parts: dict[str, Counter[Key]] = {
            part: Counter()
            for part in ("recovered", "stored", "duplicate", "spooled", "refused", "unfit")
        }
        """Counts of where records went; ``refused`` by the spool's bound."""
        self.progress = Progress()
        self._retry_at = self._pass_until = 0.0
        self._said: dict[str, float] = {}

    def step(self) -> bool:
        """Places what waits, replays some of the spool; False if nothing takes records."""
        if self.trouble is not None and time.monotonic() >= self._retry_at:
            self._return()
        placed = self._place()
        self._replay()
        return placed

    @property
    def replaying(self) -> bool:
        """Whether there is more to replay at once."""
        return self.trouble is None and self._is_queue

    @property
    def _is_queue(self) -> bool:
        """Whether records stand in the spool; one that cannot be read is passed over."""
        return not self._spool.empty and time.monotonic() >= self._pass_until

    def say(self, kind: str, text: str, *values: object) -> None:
        """Logs a state that may go on for long, now and then."""
        now = time.monotonic()
        if now - self._said.get(kind, -_REPEAT_S) >= _REPEAT_S:
            self._said[kind] = now
            log.error(text, *values)

    def _place(self) -> bool:
        for _ in range(_BATCHES):
            batch = self._inbox.take(MAX_BATCH)
            if not batch:
                break
            if self.trouble is not None or self._is_queue or not self._store(batch):
                left = self._to_spool(batch)
                if left:
                    self._inbox.put_back(left)
                    return False
        return True

    def _store(self, batch: Sequence[Waiting]) -> bool:
        records = [each.record for each in batch]
        try:
            results = self._database.write(records, self._now_us())
        except UnavailableError as error:
            self.go_away(error)
            return False
        self._settle(records, results)
        if self._on_stored is not None:
            now = time.monotonic()
            for each in batch:
                self._on_stored(now - each.since)
        return True

    def _settle(self, records: Sequence[Record], results: Sequence[Result]) -> None:
        """Counts what became of records."""
        for record, result in zip(records, results, strict=True):
            if isinstance(result, Exception):
                self.parts["unfit"][key_of(record)] += 1
                self.say("unfit", "a record cannot be stored: %r", result)
            else:
                self.parts[result][key_of(record)] += 1
                self.progress.note(record)

    def _to_spool(self, batch: Sequence[Waiting]) -> Sequence[Waiting]:
        """Spools records; returns those that the spool's disk did not take."""
        for at, each in enumerate(batch):
            record = each.record
            try:
                payload = record.encode()
            except (QuotaryError, ValueError, TypeError) as error:
                self._settle([record], [error])
                continue
            try:
                kept = self._spool.append(payload, vital=is_vital(record))
            except UnavailableError as error:
                self.say("spool", "the spool fails, records wait in memory: %s", error.detail)
                return batch[at:]
            if not kept and self.trouble is None:
                # The spool is being replayed: there is room soon.
                return batch[at:]
            if kept:
                self.parts["spooled"][key_of(record)] += 1
                self.progress.note(record)
            else:
                self.parts["refused"][key_of(record)] += 1
                self.lose(record, "the spool is full")
        with contextlib.suppress(UnavailableError):
            self._spool.sync()
        return ()

    def lose(self, record: Record, why: str) -> None:
        """Says that a record is given up."""
        self.progress.lose(record)
        kind, notary, venue = key_of(record)
        self.say(f"lost {kind}", "%s: records are lost, now a %s of %s", why, kind, venue or notary)

    def _replay(self) -> None:
        if not self.replaying:
            return
        try:
            frames = self._spool.peek(MAX_BATCH)
        except UnavailableError as error:
            # Its records wait where they are; those that come need not.
            self._pass_until = time.monotonic() + RETRY_S
            self.say("replay", "%s; %d bytes wait there", error.detail, self._spool.size)
            return
        records, earlier = [], []
        for frame in frames:
            try:
                records.append(read_record(frame.payload))
                earlier.append(frame.earlier)
            except QuotaryError:
                self._spool.damaged += 1
        try:
            results = self._database.write(records, self._now_us()) if records else []
        except UnavailableError as error:
            self.go_away(error)
            return
        self._settle(records, results)
        for record, was_earlier in zip(records, earlier, strict=True):
            if was_earlier:
                self.parts["recovered"][key_of(record)] += 1
            else:
                self.parts["spooled"][key_of(record)] -= 1
        if frames:
            self._spool.drop(len(frames))
        if self._spool.empty:
            log.warning("the spool is replayed")

    def go_away(self, error: UnavailableError) -> None:
        """Notes that the database is away."""
        if self.trouble is None:
            log.error("%s; records go to the spool", error.detail)
        self.trouble = error.detail
        self._retry_at = time.monotonic() + RETRY_S

    def _return(self) -> None:
        try:
            self._database.open()
            for place in self._database.newest_slots():
                self.progress.advance(*place)
        except QuotaryError as error:
            self.trouble = error.detail
            self._retry_at = time.monotonic() + RETRY_S
            self.say("away", "%s; %d bytes are spooled", error.detail, self._spool.size)
            return
        log.warning("the store is back; %d bytes are to be replayed", self._spool.size)
        self.trouble = None


class Progress:
    """How far each notary's slots are in safe keeping; may be used in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, str], int] = {}
        self._lost: dict[tuple[str, str], set[int]] = {}

    def note(self, record: Record) -> None:
        """Takes note of a slot that is in the database or the spool."""
        if isinstance(record, (Slot, Missed)):
            self.advance(record.notary, record.feed, record.slot_us)

    def advance(self, notary: str, feed: str, slot_us: int) -> None:
        """Takes note of a slot by its place."""
        key = (notary, feed)
        with self._lock:
            self._latest[key] = max(self._latest.get(key, 0), slot_us)
            self._lost.get(key, set()).discard(slot_us)

    def lose(self, record: Record) -> None:
        """Takes note of a slot that was given up."""
        if not isinstance(record, (Slot, Missed)):
            return
        with self._lock:
            lost = self._lost.setdefault((record.notary, record.feed), set())
            if len(lost) < _MOST_LOST or record.slot_us < min(lost):
                lost.add(record.slot_us)

    def latest(self, notary: str, feed: str) -> int | None:
        """Returns the slot up to which none was given up since, if any is known."""
        with self._lock:
            lost = self._lost.get((notary, feed))
            return min(lost) - 1 if lost else self._latest.get((notary, feed))
