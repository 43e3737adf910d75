"""What may follow what in a log (docs/log.md, "Rules"), one entry at a time.

One machine for both sides: a sequencer asks ``admit``, which refuses an entry that
breaks a rule; an auditor asks ``judge``, notes the violations and goes on.  Rules
refer to entry times only.  State is the sessions that are open and the slots that
are due; what is over is remembered in ``spent``, a mapping of the caller's, in less
than 100 bytes a session: a dictionary, or a table on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from attestation.errors import InvalidProofError, RefusedError
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    Entry,
    FeedEntry,
    KeyEntry,
    MissedEntry,
    OpenedEntry,
    PolicyEntry,
    SlotEntry,
    TickEntry,
    TradesEntry,
)
from attestation.log.feeds import Effect, Feeds
from attestation.log.sessions import Sessions, Spent
from attestation.log.state import FeedState, OpenSession, RulesState
from attestation.log.violation import Violation, bad_entry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an entry breaks; ``take`` lets it happen, violations or not."""

    violations: tuple[Violation, ...]
    take: Effect


class Rules:
    """The state after ``size`` entries; starts empty or from a saved one.

    ``spent`` belongs to the same log and size as the state.  Raises
    MalformedError for a state that no log leads to.
    """

    def __init__(self, spent: Spent | None = None, state: RulesState | None = None) -> None:
        self._size = self._now_us = 0
        self._feeds = feeds = Feeds()
        self._sessions = sessions = Sessions({} if spent is None else spent, feeds)
        self._judges: dict[type, Callable[[Any, int, list[Violation]], Effect | None]] = {
            FeedEntry: feeds.judge_feed,
            OpenedEntry: sessions.judge_opened,
            AttestedEntry: sessions.judge_attested,
            AbortedEntry: sessions.judge_aborted,
            ClosedEntry: sessions.judge_closed,
            SlotEntry: feeds.judge_slot,
            MissedEntry: feeds.judge_missed,
            PolicyEntry: _judge_policy,
            TradesEntry: _judge_nothing,
            KeyEntry: _judge_key,
            TickEntry: _judge_nothing,
        }
        if state is not None:
            self._size, self._now_us = state.size, state.now_us
            feeds.restore(state.feeds)
            sessions.restore(state.sessions)

    @property
    def size(self) -> int:
        """The entries taken: the index of the next one."""
        return self._size

    @property
    def now_us(self) -> int:
        """The latest time of an entry."""
        return self._now_us

    @property
    def open_sessions(self) -> tuple[OpenSession, ...]:
        """The sessions without a terminal, in the order they were opened."""
        return self._sessions.open

    def open_session(self, session: str) -> OpenSession | None:
        """Returns a session without a terminal by its id."""
        return self._sessions.get(session)

    def has_feed(self, name: str) -> bool:
        """Tells whether a feed of that name is in the log."""
        return self._feeds.get(name) is not None

    def slot_index(self, feed: str) -> int | None:
        """Returns the index of a feed's latest slot entry, which the next one names."""
        found = self._feeds.get(feed)
        return None if found is None else found.slot_index

    def slot_open(self, feed: str, slot_us: int) -> bool:
        """Tells whether a feed has such a slot, and no entry of it is in the log."""
        found = self._feeds.get(feed)
        return found is not None and found.grid.has(slot_us) and found.grid.is_open(slot_us)

    def judge(self, entry: Entry) -> Step:
        """Tells what the next entry breaks; changes nothing until the step is taken."""
        found: list[Violation] = []
        logged_us, size = entry.logged_us, self._size
        if logged_us < self._now_us:
            found.append(
                Violation(
                    kind="backdated",
                    detail="logged earlier than an entry before it",
                    entries=(size - 1,),
                )
            )
        effect = self._judges[type(entry)](entry, size, found)

        def take() -> None:
            if effect is not None:
                effect()
            self.skip(logged_us)

        return Step(violations=tuple(found), take=take)

    def admit(self, entry: Entry) -> Step:
        """Judges for a sequencer: raises RefusedError, ``log.<kind>``, for a broken rule.

        The end of a session and a slot's ``missed`` are admitted late: without
        them the log would be wrong for good.
        """
        step = self.judge(entry)
        for violation in step.violations:
            ending = isinstance(entry, AbortedEntry | ClosedEntry | MissedEntry)
            if violation.kind != "late" or not ending:
                raise RefusedError(violation.detail, rule=f"log.{violation.kind}", http_status=409)
        return step

    def skip(self, logged_us: int = 0) -> None:
        """Passes over an entry that cannot be read."""
        self._now_us = max(self._now_us, logged_us)
        self._size += 1

    def overdue(self) -> Iterator[Violation]:
        """Yields what should have an entry by the time of the last one, and has none.

        A session or slot that is not due yet is pending and no violation.
        """
        yield from self._sessions.overdue(self._now_us)
        yield from self._feeds.overdue(self._now_us)

    def given_up(self) -> list[Violation]:
        """Returns what was overdue for so long that it is not followed any more, once."""
        return self._feeds.given_up()

    def feed_state(self, name: str) -> FeedState | None:
        """Returns what ``state`` holds of one feed."""
        return self._feeds.save_one(name, self._now_us)

    def state(self) -> RulesState:
        """Returns the state, to go on from later."""
        return RulesState(
            size=self._size,
            now_us=self._now_us,
            feeds=self._feeds.save(self._now_us),
            sessions=self._sessions.open,
        )


def _judge_policy(entry: PolicyEntry, index: int, found: list[Violation]) -> None:
    if entry.effective_us < entry.logged_us:
        found.append(bad_entry("a policy is logged before it takes effect"))


def _judge_key(entry: KeyEntry, index: int, found: list[Violation]) -> None:
    try:
        entry.statement.check_signatures()
    except InvalidProofError:
        found.append(Violation(kind="bad_signature", detail="the keys did not sign the rotation"))


def _judge_nothing(entry: TradesEntry | TickEntry, index: int, found: list[Violation]) -> None:
    return None
