"""The rules of the log on feeds, slots and live sessions."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.log.entry import Entry, PolicyEntry, TickEntry
from tests.docs.worked_session import T0
from tests.log.example import GRID, LATE, aborted, attested, entries, feed, missed, slot
from tests.log.judging import SECOND, Planned, closed, kinds, live, open_at, run, slots

# Feeds and slots (attack 38: times of entries alone decide).


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
