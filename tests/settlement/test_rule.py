"""The settlement rule: what follows from attested slots, and that nobody can turn it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.document import ObservationField
from attestation.errors import IncompleteError, MalformedError
from attestation.price import format_exact, fraction
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import (
    Settlement,
    Terms,
    needed_slots,
    settle,
    slot_at_or_after,
)
from attestation.settlement.slots import LoggedSlot
from attestation.settlement.value import INFINITY, ZERO, finite, median, ratio
from tests.settlement import cases, plain

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
WORTH = {"win": 3, "tie": 2, "void": 2, "loss": 1}


Case = tuple[SettlementPolicy, Terms, list[LoggedSlot]]


def run(case: Case) -> Settlement:
    policy, terms, logged = case
    return settle(policy, terms, logged, read_until_us=cases.end(policy, terms))


def worth(settlement: Settlement, side: str) -> int:
    """What an outcome is worth to the player; a void gives the stake back."""
    if settlement.outcome in ("tie", "void"):
        return WORTH[settlement.outcome]
    return WORTH["win" if settlement.outcome == side else "loss"]


def flat(close: int, *, side: str = "up", venues: int = 5, notaries: int = 1) -> Case:
    """Every venue at 640000 before the close's window, and at ``close`` in it."""
    policy = cases.policy(venues=venues, notaries=notaries)
    terms = cases.terms(side)
    border = terms.logged_us + 5_000_000
    mids = {
        venue.venue: {
            slot: 640_000 if slot < border else close for slot in cases.all_slots(policy, terms)
        }
        for venue in policy.venues
    }
    return policy, terms, cases.whole(policy, terms, mids)


@pytest.mark.parametrize(
    ("close", "outcome"), [(640_001, "up"), (640_000, "tie"), (639_999, "down")]
)
def test_the_median_of_the_venues_returns_decides(close: int, outcome: str) -> None:
    found = run(flat(close))
    assert found.outcome == outcome
    assert found.change == finite(Fraction(close, 640_000))
    assert not found.fee
    assert found.slid_us == 0


def test_windows_begin_at_the_first_slot_after_the_entry_delay() -> None:
    found = run(flat(640_001))
    logged_us = cases.START + 137
    assert found.open_us == slot_at_or_after(logged_us + 1_000_000, cases.GRID)
    assert found.close_us == found.open_us + 10_000_000
    assert found.final_after_us == found.close_us + 1_000_000


def test_ten_thousand_random_cases_come_out_as_written_once_more() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(10_000):
        policy, terms, logged = cases.random_case(seed)
        found = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
        assert (found.outcome, found.fee, found.slid_us) == plain.outcome(policy, terms, logged)
        outcomes[found.outcome] = outcomes.get(found.outcome, 0) + 1
    # The cases must reach every end of the rule.
    assert all(outcomes.get(name, 0) > 100 for name in ("up", "down", "void"))


def test_sessions_that_the_policy_refuses_come_out_as_written_once_more() -> None:
    changed = 0
    for seed in range(1_000):
        policy, terms, logged = cases.random_case(seed)
        draw = random.Random(seed)
        refused = [
            dataclasses.replace(
                record,
                refused={venue: "refused" for venue in record.fields or () if draw.random() < 0.1},
            )
            for record in logged
        ]
        found = settle(policy, terms, refused, read_until_us=cases.end(policy, terms))
        assert (found.outcome, found.fee, found.slid_us) == plain.outcome(policy, terms, refused)
        changed += found.outcome != plain.outcome(policy, terms, logged)[0]
    assert changed > 50


@PROPERTY
@given(st.integers(min_value=0, max_value=5_000), st.randoms(use_true_random=False))
def test_order_of_inputs_is_irrelevant(seed: int, draw: random.Random) -> None:
    policy, terms, logged = cases.random_case(seed)
    shuffled = list(logged)
    draw.shuffle(shuffled)
    assert run((policy, terms, logged)) == run((policy, terms, shuffled))


@PROPERTY
@given(
    st.sampled_from(["up", "down"]),
    st.sampled_from([639_990, 639_999, 640_000, 640_001, 640_010]),
    st.sampled_from([1, 3]),
    st.randoms(use_true_random=False),
)
def test_withholding_observations_never_hurts_the_player(
    side: str, close: int, notaries: int, draw: random.Random
) -> None:
    policy, terms, logged = flat(close, side=side, notaries=notaries)
    rate = draw.choice((0.1, 0.5, 0.9, 1.0))
    names = [venue.venue for venue in policy.venues]
    chosen = draw.sample(names, draw.randint(1, 4))
    places = {
        (record.notary, record.slot_us, venue)
        for record in logged
        for venue in chosen
        if draw.random() < rate
    }
    before = run((policy, terms, logged))
    after = run((policy, terms, cases.withhold(logged, places)))
    assert worth(after, side) >= worth(before, side)


@PROPERTY
@given(st.integers(min_value=0, max_value=20_000), st.randoms(use_true_random=False))
def test_withholding_never_hurts_where_one_notary_has_holes(seed: int, draw: random.Random) -> None:
    policy, terms, logged = cases.random_case(seed)
    if len(policy.notaries) > 1:
        return
    before = run((policy, terms, logged))
    places = {
        (record.notary, record.slot_us, venue.venue)
        for record in logged
        for venue in policy.venues
        if draw.random() < 0.3
    }
    after = run((policy, terms, cases.withhold(logged, places)))
    assert worth(after, terms.side) >= worth(before, terms.side)


@PROPERTY
@given(st.sampled_from([639_990, 640_000, 640_010]), st.integers(min_value=2, max_value=1_000))
def test_scaling_all_prices_changes_no_outcome(close: int, scale: int) -> None:
    policy, terms, logged = flat(close)

    def mid(record: LoggedSlot) -> int:
        return 640_000 if record.slot_us < terms.logged_us + 5_000_000 else close

    scaled = [
        LoggedSlot(
            notary=record.notary,
            slot_us=record.slot_us,
            fields={
                venue: cases.observation(venue, record.slot_us, mid(record), scale=scale)
                for venue in record.fields or {}
            },
        )
        for record in logged
    ]
    assert run((policy, terms, scaled)).outcome == run((policy, terms, logged)).outcome


def test_scaling_all_prices_changes_no_outcome_of_any_random_case() -> None:
    def scaled(price: str, by: Fraction) -> str:
        return format_exact(fraction(price) * by)

    outcomes = set()
    for seed in range(300):
        policy, terms, logged = cases.random_case(seed)
        by = Fraction(random.Random(seed).choice(("1/8", "1/2", "3", "40", "1000")))
        larger = [
            dataclasses.replace(
                record,
                fields={
                    venue: dataclasses.replace(
                        seen, bid=scaled(seen.bid, by), ask=scaled(seen.ask, by)
                    )
                    if isinstance(seen, ObservationField)
                    else seen
                    for venue, seen in record.fields.items()
                },
            )
            if record.fields is not None
            else record
            for record in logged
        ]
        one, other = run((policy, terms, logged)), run((policy, terms, larger))
        assert (one.outcome, one.reason, one.fee, one.slid_us) == (
            other.outcome,
            other.reason,
            other.fee,
            other.slid_us,
        )
        assert one.change == other.change
        outcomes.add(one.outcome)
    assert outcomes >= {"up", "down", "void"}


def test_outcome_is_not_told_before_every_entry_that_counts_was_read() -> None:
    policy, terms, logged = flat(640_001)
    found = run((policy, terms, logged))
    with pytest.raises(IncompleteError):
        settle(policy, terms, logged, read_until_us=found.final_after_us)
    again = settle(policy, terms, logged, read_until_us=found.final_after_us + 1)
    assert again == found


def test_two_records_of_one_slot_are_refused() -> None:
    policy, terms, logged = flat(640_001)
    with pytest.raises(MalformedError, match="two records"):
        run((policy, terms, [*logged, logged[0]]))


def test_duration_that_the_policy_does_not_have_is_refused() -> None:
    policy, terms, logged = flat(640_001)
    other = dataclasses.replace(terms, duration_us=11_000_000)
    with pytest.raises(MalformedError, match="duration"):
        run((policy, other, logged))


@pytest.mark.parametrize("side", ["up", "down"])
def test_quorum_of_withheld_slots_takes_nothing_from_the_player(side: str) -> None:
    lost = 639_990 if side == "up" else 640_010
    policy, terms, logged = flat(lost, side=side)
    places = {
        (record.notary, record.slot_us, venue)
        for record in logged
        for venue in ("v00", "v01", "v02")
    }
    found = run((policy, terms, cases.withhold(logged, places)))
    assert found.outcome in (side, "void")


def test_no_quorum_at_the_open_is_void_and_the_operator_pays() -> None:
    policy, terms, logged = flat(640_001)
    first = needed_slots(policy, terms)[1]
    kept = [record for record in logged if record.slot_us not in first]
    found = run((policy, terms, kept))
    assert (found.outcome, found.fee) == ("void", True)
    early = needed_slots(policy, terms)[0]
    kept = [record for record in kept if record.slot_us not in early]
    assert not run((policy, terms, kept)).fee


def test_close_slides_over_a_hole_and_no_further_than_the_policy_says() -> None:
    policy, terms, logged = flat(640_001)
    found = run((policy, terms, logged))
    hole = {found.close_us, found.close_us - cases.GRID}
    kept = [record for record in logged if record.slot_us not in hole]
    slid = run((policy, terms, kept))
    assert (slid.outcome, slid.slid_us) == ("up", 3 * cases.GRID)
    away = [record for record in logged if record.slot_us < found.close_us - cases.GRID]
    assert run((policy, terms, away)).outcome == "void"


def test_one_venues_wick_does_not_decide() -> None:
    policy, terms, logged = flat(640_001)
    wick = [
        dataclasses.replace(
            record,
            fields={
                **(record.fields or {}),
                "v00": cases.observation("v00", record.slot_us, 500_000),
            },
        )
        for record in logged
    ]
    assert run((policy, terms, wick)).outcome == "up"


@pytest.mark.parametrize(
    ("source", "sources", "counts"),
    [
        (None, ("live",), True),
        (None, ("rest",), False),
        ("live", ("rest",), False),
        ("rest", ("live",), False),
        ("rest", ("live", "rest"), True),
    ],
)
def test_a_quote_counts_by_a_source_of_the_policy_and_none_named_is_live(
    source: str | None, sources: tuple[str, ...], counts: bool
) -> None:
    policy, terms, logged = flat(639_990)
    policy = dataclasses.replace(policy, sources=sources)
    named = [
        dataclasses.replace(
            record,
            fields={
                venue: dataclasses.replace(seen, source=source)  # type: ignore[type-var]
                for venue, seen in (record.fields or {}).items()
            },
        )
        for record in logged
    ]
    # The price fell; what does not count is withheld, and the player is not the worse for it.
    assert run((policy, terms, named)).outcome == ("down" if counts else "up")


@PROPERTY
@given(
    st.sampled_from(["up", "down"]),
    st.sampled_from([639_990, 640_000, 640_010]),
    st.randoms(use_true_random=False),
)
def test_request_in_a_live_sessions_place_is_no_hole_but_withheld(
    side: str, close: int, draw: random.Random
) -> None:
    policy, terms, logged = flat(close, side=side)
    places = {
        (record.slot_us, venue)
        for record in logged
        for venue in record.fields or ()
        if draw.random() < 0.4
    }

    def outcome(change: Callable[[ObservationField], Any]) -> tuple[Any, ...]:
        changed = [
            dataclasses.replace(
                record,
                fields={
                    venue: change(seen)
                    if (record.slot_us, venue) in places and isinstance(seen, ObservationField)
                    else seen
                    for venue, seen in (record.fields or {}).items()
                },
                # A session of a mode that the policy does not take makes no hole of it, either.
                refused=dict.fromkeys(
                    [venue for slot, venue in places if slot == record.slot_us], "sealed"
                ),
            )
            for record in logged
        ]
        found = run((policy, terms, changed))
        return found.outcome, found.change, found.fee, found.slid_us

    assert outcome(lambda seen: dataclasses.replace(seen, source="rest")) == outcome(
        lambda seen: cases.gap(seen.venue, "prover_closed")
    )


def test_values_order_and_divide_like_numbers_to_infinity() -> None:
    one, two = finite(Fraction(1)), finite(Fraction(2))
    assert ZERO < one < two < INFINITY
    assert median([INFINITY, one]) == INFINITY
    assert median([one, two]) == finite(Fraction(3, 2))
    assert median([ZERO, one, INFINITY]) == one
    assert ratio(one, ZERO) == INFINITY
    assert ratio(INFINITY, one) == INFINITY
    assert ratio(one, INFINITY) == ZERO
    assert ratio(ZERO, one) == ZERO
    assert ratio(one, two) == finite(Fraction(1, 2))


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"grid_us": 300_000}, "windows.w_us"),
        ({"k": 2}, "k"),
        ({"k": 6}, "k"),
        ({"q": 2}, "q"),
        ({"durations_us": (3_500_000,)}, "durations_us"),
        ({"durations_us": ()}, "durations_us"),
        ({"slide_us": 250_000}, "slide_us"),
        ({"slide_us": 1_001 * cases.GRID}, "slide_us"),
        ({"grid_us": 1}, "windows.w_us"),
        ({"venues": ()}, "venues"),
        ({"sources": ("live", "live")}, "sources"),
    ],
)
def test_policy_that_cannot_be_meant_is_refused_by_its_member(
    change: dict[str, Any], member: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        dataclasses.replace(cases.policy(), **change)
    assert caught.value.rule == member


def test_policy_id_is_the_hash_of_its_canonical_bytes() -> None:
    one = cases.policy()
    assert type(one).decode(one.encode()) == one
    assert one.policy_id == cases.policy().policy_id
    assert one.policy_id != dataclasses.replace(one, div_bps=21).policy_id
