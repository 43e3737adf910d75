"""The rules of sessions: exactly one end, in time; one for each place (docs/log.md, "Rules")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, TypeAlias

from attestation.errors import MalformedError
from attestation.hashing import digest
from attestation.log.entry import ANONYMOUS, AbortedEntry, AttestedEntry, ClosedEntry, OpenedEntry
from attestation.log.feeds import Effect, Feed, Feeds
from attestation.log.state import OpenSession, PlaceRecord
from attestation.log.violation import Violation, bad_entry

MAX_LIFE_US = 600_000_000
"""The furthest that a session's deadline may lie ahead."""
MAX_OPEN = 100_000
MAX_RETRIES = 2
RETRY_REASONS = frozenset({"venue_refused", "venue_silent", "venue_closed"})
"""Ends after which a place may be tried again, as far as the log can show."""

Spent: TypeAlias = MutableMapping[bytes, bytes]


class Sessions:
    """The sessions of a log.  The judges append violations and return the entry's effect.

    ``spent`` remembers every session's id, and every trade's place, for good.
    """

    def __init__(self, spent: Spent, feeds: Feeds) -> None:
        self._spent = spent
        self._feeds = feeds
        self._open: dict[str, OpenSession] = {}

    @property
    def open(self) -> tuple[OpenSession, ...]:
        """The sessions without a terminal, in the order they were opened."""
        return tuple(self._open.values())

    def get(self, session: str) -> OpenSession | None:
        """Returns a session that is open."""
        return self._open.get(session)

    def restore(self, sessions: Iterable[OpenSession]) -> None:
        """Goes on with these sessions open; raises MalformedError where a feed is missing."""
        for session in sessions:
            if session.place is not None:
                self._store(session.place)
            self._open[session.session] = session

    def overdue(self, now_us: int) -> Iterator[Violation]:
        """Yields the sessions that should have their terminal by ``now_us``."""
        for session in self._open.values():
            if self._deadline(session) < now_us:
                yield Violation(
                    kind="unclosed",
                    detail=f"session {session.session} has no terminal",
                    entries=(session.index,),
                )

    def judge_opened(self, entry: OpenedEntry, index: int, found: list[Violation]) -> Effect | None:
        key = _session_key(entry.session)
        if key in self._spent:
            found.append(bad_entry("the session's id was used before"))
        if not 0 <= entry.deadline_us - entry.logged_us <= MAX_LIFE_US:
            found.append(bad_entry("the session's deadline is behind it or too far ahead"))
        if entry.conn is not None and _session_key(entry.conn) not in self._spent:
            found.append(bad_entry("the connection's first session was never opened"))
        if len(self._open) >= MAX_OPEN:
            found.append(bad_entry("too many sessions are open"))
            return None
        place, feed = self._place(entry, found)
        tries = self._check_place(entry, place, found)
        if entry.session in self._open:
            return None
        session = OpenSession(
            session=entry.session,
            prover=entry.prover,
            venue=entry.venue,
            index=index,
            logged_us=entry.logged_us,
            deadline_us=entry.deadline_us,
            live=entry.mode == "live",
            started=False,
            feed=feed,
            # A session that had no right to its place does not change who has it.
            place=place if tries else None,
        )

        def take() -> None:
            self._open[entry.session] = session
            self._spent[key] = b""
            if place is not None and tries:
                self._write_place(
                    place,
                    PlaceRecord(session=entry.session, index=session.index, tries=tries),
                )

        return take

    def _place(self, entry: OpenedEntry, found: list[Violation]) -> tuple[str | None, str | None]:
        """Returns the place a session takes and the feed it is for, if any."""
        what, *rest = entry.purpose.split("/")
        if what == "adhoc":
            return None, None
        if entry.prover == ANONYMOUS:
            found.append(bad_entry("an anonymous prover's purpose is adhoc"))
        if what == "trade":
            if entry.venue is None or entry.mode == "live":
                found.append(bad_entry("a trade's session names a venue and is not live"))
            return f"{entry.purpose}/{entry.venue}", None
        feed = self._feeds.get(rest[0])
        if feed is None:
            found.append(bad_entry("the feed is not in the log"))
            return None, None
        if entry.prover not in feed.entry.provers:
            found.append(bad_entry("the prover is none of the feed's", feed.index))
        if entry.venue != rest[1] or rest[1] not in feed.venues:
            found.append(
                bad_entry("the venue is none of the feed's, or not the purpose's", feed.index)
            )
        if (entry.mode == "live") != (what == "live") or entry.mode == "open":
            found.append(bad_entry("a feed's sessions are live, those for one slot sealed"))
        if what == "live":
            return None, rest[0]
        return self._slot_place(entry, feed, int(rest[2]), found), rest[0]

    def _slot_place(
        self, entry: OpenedEntry, feed: Feed, slot_us: int, found: list[Violation]
    ) -> str | None:
        if not feed.grid.has(slot_us) or slot_us - entry.logged_us > MAX_LIFE_US:
            found.append(bad_entry("the feed has no such slot, or not soon", feed.index))
            return None
        if entry.logged_us > slot_us + feed.entry.late_us:
            found.append(
                Violation(
                    kind="late",
                    detail="a session for a slot that is over",
                    entries=(feed.index,),
                )
            )
            return None
        if len(feed.places) >= MAX_OPEN:
            found.append(bad_entry("too many sessions for slots", feed.index))
            return None
        return entry.purpose

    def _check_place(self, entry: OpenedEntry, place: str | None, found: list[Violation]) -> int:
        """Returns how many sessions the place has had with this one; 0 if it may not be."""
        record = None if place is None else self._read_place(place)
        if record is None:
            if entry.retry_of is not None:
                found.append(bad_entry("a retry of nothing"))
            return 1
        if entry.retry_of is None:
            detail = "a second session for one place"
        elif entry.retry_of != record.session:
            detail = "a retry that does not name its predecessor"
        elif not record.retriable:
            detail = "a retry after an end that allows none"
        elif record.tries > MAX_RETRIES:
            detail = f"more than {MAX_RETRIES} retries"
        else:
            return record.tries + 1
        found.append(Violation(kind="duplicate", detail=detail, entries=(record.index,)))
        return 0

    def judge_attested(
        self, entry: AttestedEntry, index: int, found: list[Violation]
    ) -> Effect | None:
        session = self._find(entry.session, found)
        if session is None:
            return None
        if session.started:
            found.append(bad_entry("the session was attested before", session.index))
            return None
        self._check_deadline(session, entry.logged_us, found)
        if session.live:
            started = dataclasses.replace(session, started=True)
            return lambda: self._open.__setitem__(session.session, started)
        return lambda: self._end(session, retriable=False)

    def judge_aborted(
        self, entry: AbortedEntry, index: int, found: list[Violation]
    ) -> Effect | None:
        session = self._find(entry.session, found)
        if session is None:
            return None
        if session.started:
            found.append(
                bad_entry("a live session that has started is closed, not aborted", session.index)
            )
        if entry.reason != "restart":
            self._check_deadline(session, entry.logged_us, found)
        return lambda: self._end(session, retriable=entry.reason in RETRY_REASONS)

    def judge_closed(self, entry: ClosedEntry, index: int, found: list[Violation]) -> Effect | None:
        session = self._find(entry.session, found)
        if session is None:
            return None
        if not session.started:
            found.append(bad_entry("only a live session that has started is closed", session.index))
        if entry.reason != "restart":
            self._check_deadline(session, entry.logged_us, found)
        return lambda: self._end(session, retriable=False)

    def _find(self, session: str, found: list[Violation]) -> OpenSession | None:
        known = self._open.get(session)
        if known is None:
            found.append(bad_entry("a terminal of a session that is not open"))
        return known

    def _check_deadline(self, session: OpenSession, logged_us: int, found: list[Violation]) -> None:
        if logged_us > self._deadline(session):
            found.append(
                Violation(
                    kind="late",
                    detail="a terminal after the session's deadline",
                    entries=(session.index,),
                )
            )

    def _deadline(self, session: OpenSession) -> int:
        """A live session's deadline is renewed, for its whole length, by its feed's slots."""
        if session.live and session.feed is not None:
            feed = self._feeds.get(session.feed)
            if feed is not None and feed.slot_index is not None and feed.slot_index > session.index:
                length = session.deadline_us - session.logged_us
                return max(session.deadline_us, feed.slot_logged_us + length)
        return session.deadline_us

    def _end(self, session: OpenSession, *, retriable: bool) -> None:
        del self._open[session.session]
        if session.place is not None:
            record = self._read_place(session.place)
            if record is not None:
                self._write_place(session.place, dataclasses.replace(record, retriable=retriable))

    def _read_place(self, place: str) -> PlaceRecord | None:
        store, key = self._store(place)
        data = store.get(key)
        return None if data is None else PlaceRecord.decode(data)

    def _write_place(self, place: str, record: PlaceRecord) -> None:
        store, key = self._store(place)
        store[key] = record.encode()

    def _store(self, place: str) -> tuple[MutableMapping[Any, bytes], Any]:
        if place.startswith("slot/"):
            feed = self._feeds.get(place.split("/")[1])
            if feed is None:
                raise MalformedError("a place of no feed of the state", rule="log_state")
            return feed.places, place
        return self._spent, b"p" + digest(place.encode())[:16]


def _session_key(session: str) -> bytes:
    return b"s" + bytes.fromhex(session)
