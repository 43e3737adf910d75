"""The state behind the rules of the log: refusing, saving and going on, bounded memory."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, RefusedError
from attestation.log.entry import Entry, TickEntry, logged_at
from attestation.log.rules import Rules
from attestation.log.slots import MAX_SPANS, SlotGrid
from attestation.log.state import RulesState
from attestation.log.violation import Violation
from attestation.reasons import FAULTS
from tests.docs.worked_session import T0
from tests.log.example import FEED, GRID, aborted, attested, entries, feed, identifier, missed, slot
from tests.log.judging import SECOND, TRADE, closed, open_at

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
