"""The rules of the log on sessions: each cheat breaks the rule it is about."""

from __future__ import annotations

import pytest

from attestation.log.entry import ClosedEntry, TickEntry
from attestation.log.rules import Rules
from attestation.log.sessions import MAX_LIFE_US, MAX_RETRIES, RETRY_REASONS
from attestation.log.violation import Violation
from attestation.reasons import FAULTS
from tests.docs.worked_session import T0
from tests.log.example import (
    FEED,
    GRID,
    LATE,
    aborted,
    attested,
    entries,
    feed,
    identifier,
    opened,
    slot,
)
from tests.log.judging import SECOND, TRADE, Planned, kinds, open_at, run
from tests.log.keys import OTHER_PROVER


def test_the_example_keeps_every_rule() -> None:
    rules = Rules()
    for entry in entries():
        step = rules.admit(entry)
        assert step.violations == ()
        step.take()
    assert rules.size == len(entries())
    assert rules.open_sessions == ()
    # The last slots of the feed are due, or would be at the next entry.
    assert [violation.kind for violation in rules.overdue()] == []


def test_session_that_never_ends_is_unclosed_once_its_deadline_has_passed() -> None:
    begun = open_at(0, "a")
    assert kinds(begun, (10 * SECOND, TickEntry())) == []
    found = run(begun, (10 * SECOND + 1, TickEntry()))
    assert found == [
        (
            2,
            Violation(
                kind="unclosed",
                detail=f"session {identifier('a')} has no terminal",
                entries=(0,),
            ),
        )
    ]


@pytest.mark.parametrize("reason", sorted(FAULTS))
def test_terminal_after_the_deadline_is_late_but_for_a_restart(reason: str) -> None:
    begun = open_at(0, "a")
    assert kinds(begun, (10 * SECOND, aborted("a", reason))) == []
    late = [] if reason == "restart" else ["late"]
    assert kinds(begun, (10 * SECOND + 1, aborted("a", reason))) == late


def test_attestation_after_the_deadline_is_late() -> None:
    assert kinds(open_at(0, "a"), (10 * SECOND + 1, attested("a"))) == ["late"]


def test_session_has_exactly_one_terminal() -> None:
    begun = open_at(0, "a")
    for first in (attested("a"), aborted("a", "timeout")):
        for second in (attested("a"), aborted("a", "timeout")):
            assert kinds(begun, (1, first), (2, second)) == ["bad_entry"]
    assert kinds((0, attested("never"))) == ["bad_entry"]


def test_session_id_is_used_once() -> None:
    assert kinds(open_at(0, "a", "adhoc/x"), open_at(1, "a", "adhoc/y"), (2, attested("a"))) == [
        "bad_entry"
    ]
    again = kinds(
        open_at(0, "a", "adhoc/x"),
        (1, attested("a")),
        open_at(2, "a", "adhoc/y"),
        (3, attested("a")),
    )
    assert again == ["bad_entry"]


def test_deadline_lies_ahead_and_not_out_of_sight() -> None:
    for deadline, wanted in (
        (T0 + 5, []),
        (T0 + 4, ["bad_entry"]),
        (T0 + 5 + MAX_LIFE_US, []),
        (T0 + 6 + MAX_LIFE_US, ["bad_entry"]),
    ):
        entry = opened("a", TRADE, deadline_us=deadline)
        assert kinds((5, entry), (5, aborted("a", "restart"))) == wanted


# One session per place (attack 25).


@pytest.mark.parametrize("end", ["open", "attested", *sorted(FAULTS)])
def test_second_session_for_a_place_is_a_duplicate_whatever_became_of_the_first(end: str) -> None:
    ends: list[Planned] = []
    if end != "open":
        ends.append((1, attested("a") if end == "attested" else aborted("a", end)))
    found = run(open_at(0, "a"), *ends, open_at(2, "b"), (3, attested("b")))
    assert [violation.kind for _, violation in found] == ["duplicate"]
    assert found[0][1].entries == (0,)


def test_ten_sessions_for_one_place_are_nine_duplicates() -> None:
    planned: list[Planned] = []
    for number in range(10):
        prover = OTHER_PROVER if number % 2 else opened("x", TRADE).prover
        planned.append(open_at(number * 10, f"s{number}", prover=prover))
        planned.append((number * 10 + 1, attested(f"s{number}")))
    assert kinds(*planned) == ["duplicate"] * 9


def test_other_leg_venue_or_trade_is_another_place() -> None:
    planned: list[Planned] = []
    for number, (purpose, venue) in enumerate(
        [
            (TRADE, "binance"),
            ("trade/t-1/close", "binance"),
            ("trade/t-2/open", "binance"),
            (TRADE, "kraken"),
        ]
    ):
        planned.append(open_at(number * 10, f"s{number}", purpose, venue=venue))
        planned.append((number * 10 + 1, attested(f"s{number}")))
    assert kinds(*planned) == []


def test_adhoc_and_live_sessions_have_no_place() -> None:
    planned: list[Planned] = [(0, feed())]
    for number in range(3):
        planned.append(open_at(number * 10, f"a{number}", "adhoc/x"))
        planned.append(open_at(number * 10, f"l{number}", f"live/{FEED}/binance"))
        planned.append((number * 10 + 1, attested(f"a{number}")))
        planned.append((number * 10 + 1, attested(f"l{number}")))
        planned.append(
            (
                number * 10 + 2,
                ClosedEntry(session=identifier(f"l{number}"), reason="prover_closed", messages=1),
            )
        )
    assert kinds(*planned) == []


# The retry rule (attack 36).


@pytest.mark.parametrize("reason", sorted(FAULTS))
def test_retry_needs_an_end_that_is_the_venues_doing(reason: str) -> None:
    retry = open_at(2, "b", retry_of=identifier("a"))
    wanted = [] if reason in RETRY_REASONS else ["duplicate"]
    assert kinds(open_at(0, "a"), (1, aborted("a", reason)), retry, (3, attested("b"))) == wanted
    assert all(FAULTS[allowed] == "venue" for allowed in RETRY_REASONS)


def test_retry_names_its_predecessor() -> None:
    first = [open_at(0, "a"), (1, aborted("a", "venue_refused"))]
    other = [open_at(1, "z", "trade/t-9/open"), (1, aborted("z", "venue_refused"))]
    for named in ("z", "nobody"):
        retry = open_at(2, "b", retry_of=identifier(named))
        assert kinds(*first, *other, retry, (3, attested("b"))) == ["duplicate"]
    assert kinds(open_at(0, "b", retry_of=identifier("a")), (3, attested("b"))) == ["bad_entry"]


def test_retry_while_the_first_is_open_is_a_duplicate() -> None:
    retry = open_at(1, "b", retry_of=identifier("a"))
    found = kinds(open_at(0, "a"), retry, (2, aborted("a", "venue_refused")), (3, attested("b")))
    assert found == ["duplicate"]


def test_place_is_tried_three_times_at_most() -> None:
    planned: list[Planned] = [open_at(0, "s0"), (1, aborted("s0", "venue_silent"))]
    for number in range(1, 5):
        planned.append(open_at(number * 10, f"s{number}", retry_of=identifier(f"s{number - 1}")))
        planned.append((number * 10 + 1, aborted(f"s{number}", "venue_closed")))
    assert MAX_RETRIES == 2
    assert kinds(*planned) == ["duplicate", "duplicate"]


def test_attested_place_is_never_tried_again() -> None:
    retry = open_at(2, "b", retry_of=identifier("a"))
    assert kinds(open_at(0, "a"), (1, attested("a")), retry, (3, attested("b"))) == ["duplicate"]


def test_duplicate_does_not_change_who_has_the_place() -> None:
    found = kinds(
        open_at(0, "a"),
        open_at(1, "b"),
        (2, aborted("b", "venue_refused")),
        (3, attested("a")),
        open_at(4, "c", retry_of=identifier("b")),
        (5, attested("c")),
    )
    assert found == ["duplicate", "duplicate"]


# Purposes, provers, venues.


@pytest.mark.parametrize(
    ("purpose", "changes"),
    [
        (TRADE, {"venue": None}),
        (TRADE, {"mode": "live"}),
        (TRADE, {"prover": "anonymous"}),
        ("live/nobody/binance", {}),
        (f"live/{FEED}/binance", {"prover": OTHER_PROVER}),
        (f"live/{FEED}/binance", {"prover": "anonymous"}),
        (f"live/{FEED}/binance", {"venue": "kraken"}),
        (f"live/{FEED}/gemini", {"venue": "gemini"}),
        (f"live/{FEED}/binance", {"mode": "sealed"}),
        (f"live/{FEED}/binance", {"retry_of": identifier("a")}),
        (f"slot/{FEED}/binance/{T0 + SECOND}", {"prover": OTHER_PROVER}),
        (f"slot/{FEED}/binance/{T0 + SECOND}", {"venue": "kraken"}),
        (f"slot/{FEED}/binance/{T0 + SECOND}", {"mode": "open"}),
        (f"slot/{FEED}/binance/{T0 + SECOND}", {"mode": "live"}),
        (f"slot/{FEED}/binance/{T0 + SECOND + 1}", {}),
        (f"slot/{FEED}/binance/{T0}", {}),
        (f"slot/{FEED}/binance/{T0 + 3_600 * SECOND}", {}),
        ("adhoc/x", {"conn": identifier("nobody")}),
        ("adhoc/x", {"retry_of": identifier("a")}),
    ],
)
def test_session_that_its_purpose_does_not_allow_is_a_bad_entry(
    purpose: str, changes: dict[str, object]
) -> None:
    found = kinds((0, feed()), open_at(10, "s", purpose, **changes), (11, aborted("s", "timeout")))
    assert set(found) == {"bad_entry"}


def test_session_of_a_kept_alive_connection_names_one_that_was_opened() -> None:
    planned = [
        open_at(0, "a", "adhoc/x"),
        (1, attested("a")),
        open_at(2, "b", "adhoc/y", conn=identifier("a")),
        (3, attested("b")),
    ]
    assert kinds(*planned) == []


def test_one_session_for_a_venue_and_slot_of_a_feed() -> None:
    purpose = f"slot/{FEED}/binance/{T0 + SECOND}"
    other = f"slot/{FEED}/kraken/{T0 + SECOND}"
    found = kinds(
        (0, feed(provers=(opened("x", TRADE).prover, OTHER_PROVER))),
        open_at(10, "a", purpose),
        open_at(11, "b", purpose, prover=OTHER_PROVER),
        open_at(12, "c", other, venue="kraken"),
        (13, attested("a")),
        (14, attested("b")),
        (15, attested("c")),
    )
    assert found == ["duplicate"]


def test_session_for_a_slot_that_is_over_is_late() -> None:
    purpose = f"slot/{FEED}/binance/{T0 + SECOND}"
    for at, wanted in ((SECOND + LATE, []), (SECOND + LATE + 1, ["late"])):
        settled = [(SECOND, slot(SECOND, None)), (SECOND + GRID, slot(SECOND + GRID, 1))]
        found = kinds((0, feed()), *settled, open_at(at, "a", purpose), (at, attested("a")))
        assert found == wanted
