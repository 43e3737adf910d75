"""Planned entries, and what the rules of the log find in them."""

from __future__ import annotations

from attestation.log.entry import ClosedEntry, Entry, logged_at
from attestation.log.rules import Rules
from attestation.log.violation import Violation
from tests.docs.worked_session import T0
from tests.log.example import FEED, GRID, attested, feed, identifier, opened, slot

SECOND = 1_000_000
TRADE = "trade/t-1/open"
Planned = tuple[int, Entry]


def run(*planned: Planned, rules: Rules | None = None) -> list[tuple[int, Violation]]:
    """Judges and takes entries at times after T0; returns what is broken, then what is overdue."""
    rules = Rules() if rules is None else rules
    found = []
    for at, entry in planned:
        step = rules.judge(logged_at(entry, T0 + at))
        found += [(rules.size, violation) for violation in step.violations]
        step.take()
    return found + [(rules.size, violation) for violation in rules.overdue()]


def kinds(*planned: Planned) -> list[str]:
    return [violation.kind for _, violation in run(*planned)]


def open_at(at: int, label: str, purpose: str = TRADE, **changes: object) -> Planned:
    return at, opened(label, purpose, deadline_us=T0 + at + 10 * SECOND, **changes)


def slots(count: int) -> list[Planned]:
    """The feed's first slot entries in time, from index 1 on."""
    return [
        (SECOND + number * GRID + 100_000, slot(SECOND + number * GRID, number or None))
        for number in range(count)
    ]


def live(label: str = "l") -> list[Planned]:
    purpose = f"live/{FEED}/binance"
    return [(0, feed()), open_at(0, label, purpose), (1, attested(label))]


def closed(label: str, reason: str = "prover_closed") -> ClosedEntry:
    return ClosedEntry(session=identifier(label), reason=reason, messages=3)
