"""What a store forgets, and when: in steps so small that writing hardly waits.

A message that no slot names goes after minutes, but not before its notary's slots have
come past it: while they are late, it may yet be named.  What a slot names stays for the
evidence days, counted from the last slot that names it.
"""

from __future__ import annotations

import dataclasses
import sqlite3

STEP = 500
"""Rows deleted in one transaction: a few milliseconds."""
MAX_DEAD_LETTERS = 100_000
"""Messages that could not be read, kept at a time: a venue may send nothing else for days."""
_DAY_US = 86_400_000_000

_EVIDENCE = (
    """DELETE FROM kept WHERE last_slot_us < ?1
        AND no IN (SELECT no FROM kept ORDER BY no LIMIT ?2)""",
    """DELETE FROM wanted WHERE (session, idx) IN
        (SELECT session, idx FROM wanted WHERE last_slot_us < ?1 LIMIT ?2)""",
    """DELETE FROM dead_letters WHERE received_us < ?1
        AND no IN (SELECT no FROM dead_letters ORDER BY no LIMIT ?2)""",
)
"""Each takes the horizon and a number of rows; the oldest rows have the lowest numbers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things stay.

    ``recent_us``: messages, after the slots have passed them; ``unseen_us``: messages
    whose slots never come.  ``evidence_days``: slots and what they name.
    """

    evidence_days: int = 90
    recent_us: int = 300_000_000
    unseen_us: int = 1_800_000_000

    @property
    def evidence_us(self) -> int:
        """``evidence_days`` in microseconds."""
        return self.evidence_days * _DAY_US


def expire_recent(database: sqlite3.Connection, retention: Retention, now_us: int) -> int:
    """Deletes the oldest messages that no slot can name any more; returns how many."""
    oldest = now_us - retention.unseen_us
    # One look at the newest slot per stream: an index's end.
    newest = database.execute(
        "SELECT (SELECT max(slot_us) FROM slots WHERE stream = streams.no) FROM streams"
    ).fetchall()
    # A feed that has ended holds nothing back.
    seen = [slot_us for (slot_us,) in newest if slot_us is not None and slot_us > oldest]
    horizon = max(min([now_us, *seen]) - retention.recent_us, oldest) if seen else oldest
    return database.execute(
        "DELETE FROM recent WHERE no IN (SELECT no FROM recent ORDER BY no LIMIT ?) "
        "AND received_us < ?",
        (STEP, horizon),
    ).rowcount


def evidence_clock(database: sqlite3.Connection, now_us: int) -> int:
    """Returns the time by which evidence ages: no later than the newest slot.

    A clock that is wrong by years would otherwise delete all of it.
    """
    (newest,) = database.execute(
        "SELECT max((SELECT max(slot_us) FROM slots WHERE stream = streams.no)) FROM streams"
    ).fetchone()
    return min(now_us, newest or 0)


def expire_evidence(database: sqlite3.Connection, retention: Retention, now_us: int) -> int:
    """Deletes some of what is older than the evidence days; returns how many rows."""
    horizon = now_us - retention.evidence_us
    count = 0
    for (stream,) in database.execute("SELECT no FROM streams").fetchall():
        for (slot_us,) in database.execute(
            "SELECT slot_us FROM slots WHERE stream = ? AND slot_us < ? ORDER BY slot_us LIMIT ?",
            (stream, horizon, STEP // 10),
        ).fetchall():
            for statement in (
                "DELETE FROM slots WHERE stream = ? AND slot_us = ?",
                "DELETE FROM observations WHERE stream = ? AND slot_us = ?",
                "DELETE FROM disputed WHERE stream = ? AND slot_us = ?",
            ):
                count += database.execute(statement, (stream, slot_us)).rowcount
        count += database.execute(
            "DELETE FROM missed WHERE stream = ?1 AND slot_us IN (SELECT slot_us FROM missed "
            "WHERE stream = ?1 AND slot_us < ?2 ORDER BY slot_us LIMIT ?3)",
            (stream, horizon, STEP),
        ).rowcount
    for statement in _EVIDENCE:
        count += database.execute(statement, (horizon, STEP)).rowcount
    return count


def expire_dead_letters(database: sqlite3.Connection, most: int = MAX_DEAD_LETTERS) -> int:
    """Deletes the oldest messages that could not be read beyond ``most``."""
    first, last = database.execute(
        "SELECT coalesce(min(no), 0), coalesce(max(no), 0) FROM dead_letters"
    ).fetchone()
    bound = min(last - most, first + STEP - 1)
    return database.execute("DELETE FROM dead_letters WHERE no <= ?", (bound,)).rowcount


def expire_sessions(database: sqlite3.Connection, retention: Retention, now_us: int) -> int:
    """Deletes old sessions of which no message is left."""
    return database.execute(
        "DELETE FROM sessions WHERE since_us < ? AND "
        "no IN (SELECT no FROM sessions ORDER BY no LIMIT ?) AND "
        "NOT EXISTS (SELECT 1 FROM kept WHERE kept.session = sessions.no) AND "
        "NOT EXISTS (SELECT 1 FROM recent WHERE recent.session = sessions.no) AND "
        "NOT EXISTS (SELECT 1 FROM wanted WHERE wanted.session = sessions.no) AND "
        "NOT EXISTS (SELECT 1 FROM dead_letters WHERE dead_letters.session = sessions.no)",
        (now_us - retention.evidence_us, STEP),
    ).rowcount
