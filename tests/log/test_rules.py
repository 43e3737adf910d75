"""The rules of the log: an honest one breaks none, and each cheat breaks the rule it is about."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, RefusedError
from attestation.log.entry import ClosedEntry, Entry, PolicyEntry, TickEntry, logged_at
from attestation.log.rules import Rules
from attestation.log.sessions import MAX_LIFE_US, MAX_RETRIES, RETRY_REASONS
from attestation.log.slots import MAX_SPANS, SlotGrid
from attestation.log.state import RulesState
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
    missed,
    opened,
    slot,
)
from tests.log.keys import OTHER_PROVER

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


# Feeds and slots (attack 38: times of entries alone decide).


def slots(count: int) -> list[Planned]:
    """The feed's first slot entries in time, from index 1 on."""
    return [
        (SECOND + number * GRID + 100_000, slot(SECOND + number * GRID, number or None))
        for number in range(count)
    ]


def test_feed_whose_every_slot_is_logged_breaks_nothing() -> None:
    assert kinds((0, feed()), *slots(20)) == []


def test_slot_without_any_entry_is_missed_once_its_time_has_passed() -> None:
    planned: list[Planned] = [(0, feed()), (SECOND + 1, slot(SECOND, None))]
    due = SECOND + GRID + LATE
    assert kinds(*planned, (due, TickEntry())) == []
    found = run(*planned, (due + 1, TickEntry()))
    assert [violation.kind for _, violation in found] == ["missed"]
    assert found[0][1].entries == (0,)
    # A run of slots is one finding that says how many.
    found = run(*planned, (due + 9 * GRID + 1, TickEntry()))
    assert [violation.detail.split()[0] for _, violation in found] == ["10"]


@pytest.mark.parametrize("fault", ["venue", "prover", "notary"])
def test_missed_entry_in_time_settles_its_slot(fault: str) -> None:
    planned: list[Planned] = [(0, feed()), (SECOND + LATE, missed(SECOND, fault))]
    assert kinds(*planned) == []
    late = kinds((0, feed()), (SECOND + LATE + 1, missed(SECOND, fault)))
    assert late == ([] if fault == "notary" else ["late"])


def test_slot_entry_after_its_time_is_late() -> None:
    assert kinds((0, feed()), (SECOND + LATE, slot(SECOND, None))) == []
    assert kinds((0, feed()), (SECOND + LATE + 1, slot(SECOND, None))) == ["late"]


def test_slot_has_one_entry() -> None:
    for first in (slot(SECOND, None), missed(SECOND, "venue")):
        for second in (slot(SECOND, 1 if first.kind == "slot" else None), missed(SECOND, "venue")):
            found = kinds((0, feed()), (SECOND + 1, first), (SECOND + 2, second))
            assert found == ["duplicate"]
    after = [(0, feed()), *slots(10), (7 * SECOND, missed(SECOND, "notary"))]
    assert "duplicate" in kinds(*after)


def test_slot_may_come_before_an_earlier_one_that_is_still_due() -> None:
    found = kinds(
        (0, feed()),
        (SECOND + GRID, slot(SECOND + GRID, None)),
        (SECOND + GRID + 1, missed(SECOND, "venue")),
        (SECOND + 2 * GRID, slot(SECOND + 2 * GRID, 1)),
    )
    assert found == []


@pytest.mark.parametrize(
    "entry",
    [
        slot(SECOND + 1, None),
        slot(0, None),
        slot(3 * SECOND, None),
        slot(SECOND, 0),
        dataclasses.replace(slot(SECOND, None), feed="nobody"),
        missed(3 * SECOND, "venue"),
        dataclasses.replace(missed(SECOND, "venue"), feed="nobody"),
    ],
)
def test_slot_entry_that_cannot_be_is_a_bad_entry(entry: Entry) -> None:
    assert "bad_entry" in kinds((0, feed()), (SECOND + 1, entry))


def test_prev_is_the_feeds_slot_entry_before_also_across_missed_ones() -> None:
    planned: list[Planned] = [
        (0, feed()),
        (SECOND, slot(SECOND, None)),
        (SECOND + GRID, missed(SECOND + GRID, "venue")),
    ]
    at = SECOND + 2 * GRID
    assert kinds(*planned, (at, slot(at, 1))) == []
    for prev in (None, 0, 2, 7):
        assert kinds(*planned, (at, slot(at, prev))) == ["bad_entry"]


def test_feed_is_public_before_its_first_slot_and_unique() -> None:
    assert kinds((SECOND + 1, feed())) == ["bad_entry"]
    assert kinds((0, feed()), (1, feed(market="ETH/USD"))) == ["duplicate"]
    for changes in ({"late_us": 3_600 * SECOND}, {"grid_us": 1, "late_us": SECOND}):
        assert kinds((0, feed(**changes))) == ["bad_entry"]


def test_policy_is_public_before_it_takes_effect() -> None:
    policy = next(entry for entry in entries() if isinstance(entry, PolicyEntry))
    assert kinds((0, policy)) == []
    assert kinds((0, dataclasses.replace(policy, effective_us=T0 - 1))) == ["bad_entry"]


def test_rotation_that_a_key_did_not_sign_is_a_bad_signature() -> None:
    entry = next(entry for entry in entries() if entry.kind == "key")
    assert kinds((0, entry)) == []
    for member in ("old_signature", "new_signature"):
        statement = dataclasses.replace(entry.statement, **{member: "00" * 64})
        assert kinds((0, dataclasses.replace(entry, statement=statement))) == ["bad_signature"]


def test_time_that_goes_back_is_backdated() -> None:
    found = run((5, TickEntry()), (4, TickEntry()), (5, TickEntry()))
    assert [(index, violation.kind) for index, violation in found] == [(1, "backdated")]
    assert found[0][1].entries == (0,)


# Live sessions.


def live(label: str = "l") -> list[Planned]:
    purpose = f"live/{FEED}/binance"
    return [(0, feed()), open_at(0, label, purpose), (1, attested(label))]


def closed(label: str, reason: str = "prover_closed") -> ClosedEntry:
    return ClosedEntry(session=identifier(label), reason=reason, messages=3)


def test_live_session_is_opened_attested_closed() -> None:
    assert kinds(*live(), (2, closed("l"))) == []
    begun = live()[:2]
    assert kinds(*begun, (2, aborted("l", "timeout"))) == []
    assert kinds(*begun, (2, closed("l"))) == ["bad_entry"]
    assert kinds(*live(), (2, aborted("l", "timeout"))) == ["bad_entry"]
    assert kinds(*live(), (2, attested("l")), (3, closed("l"))) == ["bad_entry"]
    assert kinds(open_at(0, "a"), (1, closed("a"))) == ["bad_entry"]


def test_live_sessions_deadline_is_renewed_by_each_slot_of_its_feed() -> None:
    assert kinds(*live(), (10 * SECOND + 1, closed("l"))) == ["late", "missed"]
    fed = live()
    prev = None
    for number in range(30):
        at = SECOND + number * GRID
        fed.append((at, slot(at, prev)))
        prev = len(fed) - 1
    last = fed[-1][0]
    assert last > 15 * SECOND
    assert kinds(*fed, (last + LATE, closed("l"))) == []
    overdue = last + 10 * SECOND
    assert kinds(*fed, (overdue, closed("l"))) == ["missed"]
    assert kinds(*fed, (overdue + 1, closed("l"))) == ["late", "missed"]
    assert kinds(*fed, (overdue + 1, closed("l", "restart"))) == ["missed"]
    assert kinds(*fed, (overdue + 1, TickEntry())) == ["unclosed", "missed"]


# The sequencer's side.


def test_sequencer_refuses_by_the_finding_an_auditor_would_have() -> None:
    rules = Rules()
    for at, entry in (open_at(0, "a"), (1, attested("a"))):
        rules.admit(logged_at(entry, T0 + at)).take()
    before = rules.state()
    with pytest.raises(RefusedError, match=r"log\.duplicate") as refused:
        rules.admit(logged_at(open_at(2, "b")[1], T0 + 2))
    assert refused.value.http_status == 409
    with pytest.raises(RefusedError, match=r"log\.backdated"):
        rules.admit(logged_at(TickEntry(), T0))
    assert rules.state() == before


def test_sequencer_takes_a_late_end_and_no_late_slot() -> None:
    rules = Rules()
    for at, entry in ((0, feed()), open_at(0, "a")):
        rules.admit(logged_at(entry, T0 + at)).take()
    late = 20 * SECOND
    assert rules.admit(logged_at(aborted("a", "timeout"), T0 + late)).violations
    assert rules.admit(logged_at(missed(SECOND, "venue"), T0 + late)).violations
    with pytest.raises(RefusedError, match=r"log\.late"):
        rules.admit(logged_at(slot(SECOND, None), T0 + late))
    with pytest.raises(RefusedError, match=r"log\.late"):
        rules.admit(logged_at(attested("a"), T0 + late))


def test_judging_changes_nothing_until_the_step_is_taken() -> None:
    for entry in entries():
        rules, twin = Rules(), Rules()
        for earlier in entries():
            if earlier == entry:
                break
            rules.judge(earlier).take()
            twin.judge(earlier).take()
        rules.judge(entry)
        assert rules.state() == twin.state()


# Saving and going on.


def random_log(seed: int, length: int = 120) -> list[Entry]:
    """Entries that keep and break rules at random."""
    draw = random.Random(seed)
    at, result = 0, [logged_at(feed(), T0)]
    names = [f"s{number}" for number in range(12)]
    prev: int | None = None
    for index in range(1, length):
        at += draw.choice((0, 1_000, 300_000, 2_000_000)) - (draw.random() < 0.02) * 500
        name, other = draw.choice(names), draw.choice(names)
        instant = SECOND + draw.randrange(max(at // GRID, 1)) * GRID
        entry: Entry = draw.choice(
            (
                open_at(at, name, draw.choice((TRADE, "trade/t-2/close", "adhoc/x")))[1],
                open_at(at, name, retry_of=identifier(other))[1],
                open_at(at, name, f"slot/{FEED}/binance/{T0 + instant}")[1],
                open_at(at, name, f"live/{FEED}/kraken", venue="kraken")[1],
                attested(name),
                aborted(name, draw.choice(sorted(FAULTS))),
                closed(name),
                slot(instant, prev),
                missed(instant, draw.choice(("venue", "notary"))),
                TickEntry(),
            )
        )
        if entry.kind == "slot":
            prev = index
        result.append(logged_at(entry, T0 + at))
    return result


def judged(log: Sequence[Entry], rules: Rules) -> list[tuple[int, Violation]]:
    found = []
    for entry in log:
        step = rules.judge(entry)
        found += [(rules.size, violation) for violation in step.violations]
        step.take()
    return found


@given(st.integers(0, 10_000), st.integers(0, 120))
def test_saved_state_goes_on_as_if_nothing_had_been(seed: int, at: int) -> None:
    log = random_log(seed)
    whole = Rules()
    wanted = judged(log, whole)
    spent: dict[bytes, bytes] = {}
    first = Rules(spent)
    found = judged(log[:at], first)
    saved = first.state().encode()
    again = Rules(dict(spent), RulesState.decode(saved))
    assert again.state().encode() == saved
    assert found + judged(log[at:], again) == wanted
    assert list(again.overdue()) == list(whole.overdue())
    assert again.state() == whole.state()
    for saved_feed in again.state().feeds:
        assert again.feed_state(saved_feed.entry.feed) == saved_feed
    assert again.feed_state("nobody") is None


@given(st.integers(0, 10_000))
def test_what_a_sequencer_admits_an_auditor_accepts(seed: int) -> None:
    sequencer, admitted = Rules(), []
    for entry in random_log(seed):
        try:
            step = sequencer.admit(entry)
        except RefusedError:
            continue
        step.take()
        admitted.append(entry)
    found = judged(admitted, Rules())
    assert {violation.kind for _, violation in found} <= {"late"}


def test_state_that_no_log_leads_to_is_malformed() -> None:
    rules = Rules()
    judged([*random_log(3), *random_log(4)[1:]], rules)
    good = rules.state()
    (grid,) = good.feeds
    for wrong in (
        dataclasses.replace(grid, floor_us=grid.floor_us + 1),
        dataclasses.replace(grid, settled=(grid.floor_us - GRID,)),
        dataclasses.replace(grid, spans=(dataclasses.replace(grid.spans[0], first_us=5),)),
    ):
        with pytest.raises(MalformedError):
            Rules({}, dataclasses.replace(good, feeds=(wrong,)))
    orphan = dataclasses.replace(
        good, feeds=(), sessions=(dataclasses.replace(good.sessions[0], place="slot/a/b/5"),)
    )
    with pytest.raises(MalformedError):
        Rules({}, orphan)


# Memory and time do not follow a hostile log.


def test_jump_of_years_costs_no_more_than_one_entry() -> None:
    rules = Rules()
    judged([logged_at(feed(), T0), logged_at(TickEntry(), 2**53 - 1)], rules)
    (violation,) = rules.overdue()
    assert violation.kind == "missed"
    assert sys.getsizeof(rules.state().encode()) < 2_000


def test_gaps_beyond_a_bound_are_given_up_and_reported() -> None:
    grid = SlotGrid(grid_us=10, late_us=100, from_us=0)
    given_up = []
    for number in range(0, 4 * MAX_SPANS, 2):
        grid.settle(number * 10)
        given_up += grid.advance(number * 10 + 200)
    assert len(grid.spans) <= MAX_SPANS
    assert given_up[0] == (10, 20)
    assert len(given_up) + len(grid.spans) >= 2 * MAX_SPANS - 20
    # What is given up counts as over: an entry for it now would be a second one.
    assert not grid.is_open(10)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=80))
def test_grid_knows_each_slot_as_a_plain_set_does(steps: list[tuple[bool, int]]) -> None:
    grid, settled, now = SlotGrid(grid_us=10, late_us=35, from_us=5), set(), 0
    for is_settling, value in steps:
        if is_settling:
            slot_us = value * 10
            if grid.has(slot_us) and slot_us <= now:
                assert grid.is_open(slot_us) == (slot_us not in settled)
                if grid.is_open(slot_us):
                    grid.settle(slot_us)
                    settled.add(slot_us)
        else:
            now += value
            grid.advance(now)
    overdue = {slot_us for first, stop in grid.spans for slot_us in range(first, stop, 10)}
    assert overdue == {s for s in range(10, now, 10) if s + 35 < now} - settled


def test_closed_sessions_leave_a_few_bytes_behind() -> None:
    spent: dict[bytes, bytes] = {}
    rules = Rules(spent)
    for number in range(500):
        at = number * 10
        for when, entry in (
            open_at(at, f"s{number}", f"trade/t-{number}/open"),
            (at + 1, attested(f"s{number}")),
        ):
            rules.admit(logged_at(entry, T0 + when)).take()
    assert len(rules.state().encode()) < 200
    assert sum(len(key) + len(value) for key, value in spent.items()) == 500 * (17 + 17 + 26)
