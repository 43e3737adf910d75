"""The settlement document: every value on the way, and the same bytes everywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest

from attestation.errors import IncompleteError, OutcomeMismatchError
from attestation.settlement.outcome import (
    OutcomeDocument,
    display_price,
    judged_slots,
    void_fault,
    write_outcome,
)
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Terms, VenueReturn, WindowValue, needed_slots, settle
from attestation.settlement.slots import LoggedSlot
from attestation.settlement.value import finite
from tests.settlement import cases

TRADE = "0f" * 32


def attested(logged: list[LoggedSlot]) -> list[LoggedSlot]:
    """Gives each slot the header id of its own."""
    return [
        dataclasses.replace(
            record,
            attestation=None
            if record.fields is None
            else hashlib.sha256(f"{record.notary}/{record.slot_us}".encode()).hexdigest()[:32],
        )
        for record in logged
    ]


def document(policy: SettlementPolicy, terms: Terms, logged: list[LoggedSlot]) -> OutcomeDocument:
    settlement = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
    return write_outcome(settlement, policy=policy, terms=terms, trade=TRADE, logged=logged)


def case(seed: int) -> tuple[SettlementPolicy, Terms, list[LoggedSlot]]:
    policy, terms, logged = cases.random_case(seed)
    return policy, terms, attested(logged)


def test_document_reads_back_and_does_not_depend_on_the_order_of_inputs() -> None:
    for seed in range(150):
        policy, terms, logged = case(seed)
        one = document(policy, terms, logged)
        random.Random(seed).shuffle(logged)
        again = document(policy, terms, logged)
        assert one.encode() == again.encode()
        assert OutcomeDocument.decode(one.encode()) == one


def test_bytes_are_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "import hashlib\n"
        "from tests.settlement.test_outcome import case, document\n"
        "data = b''.join(document(*case(seed)).encode() for seed in range(40))\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    data = b"".join(document(*case(seed)).encode() for seed in range(40))
    assert found == {hashlib.sha256(data).hexdigest() + "\n"}


def test_every_value_recomputes_from_the_ones_below_it() -> None:
    for seed in range(150):
        policy, terms, logged = case(seed)
        found = document(policy, terms, logged)
        for venue in found.venues:
            for window in (venue.opening, venue.closing):
                if window is None:
                    continue
                values = sorted(number(slot.value) for slot in window.slots if slot.value)
                assert len(window.slots) == policy.slots
                assert window.valid == len(values)
                assert window.real == sum(slot.real for slot in window.slots)
                assert (window.value is None) == (len(values) < policy.windows.min_slots)
                assert all(slot.value or slot.why for slot in window.slots)
            if venue.real and venue.closing is not None:
                close, opening = venue.closing.value, venue.opening.value
                assert Fraction(str(close)) / Fraction(str(opening)) == Fraction(str(venue.change))
        counted = sorted(number(venue.change) for venue in found.venues if venue.change)
        assert (found.change is None) == (not counted)
        if found.change is not None:
            half = len(counted) // 2
            middle = counted[half] if len(counted) % 2 else (counted[half - 1] + counted[half]) / 2
            assert number(found.change) == middle


def number(text: str | None) -> Any:
    return float("inf") if text == "inf" else Fraction(str(text))


def test_attestations_are_those_of_the_slots_judged() -> None:
    policy, terms = cases.policy(notaries=3), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    logged = attested(cases.whole(policy, terms, mids))
    found = document(policy, terms, logged)
    by_place = {(record.slot_us, record.notary): record.attestation for record in logged}
    _, opening, _ = needed_slots(policy, terms)
    closing = range(found.close_us - 3 * cases.GRID, found.close_us + 1, cases.GRID)
    assert list(found.attestations) == [
        by_place[slot, f"n{index}"] for slot in (*opening, *closing) for index in range(3)
    ]
    # A stranger's slots are nothing to the outcome.
    other = [dataclasses.replace(record, notary="n9") for record in logged if record.notary == "n0"]
    assert document(policy, terms, [*logged, *other]).encode() == found.encode()


def test_slide_and_void_name_every_window_tried() -> None:
    policy, terms = cases.policy(), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    logged = attested(cases.whole(policy, terms, mids))
    before, opening, closing = needed_slots(policy, terms)
    close_us = opening[0] + terms.duration_us
    hole = {close_us, close_us - cases.GRID}
    slid = settle(
        policy,
        terms,
        [record for record in logged if record.slot_us not in hole],
        read_until_us=cases.end(policy, terms),
    )
    wanted = [*opening, *range(closing[0], close_us + slid.slid_us + 1, cases.GRID)]
    assert judged_slots(policy, terms, slid) == wanted
    early = [record for record in logged if record.slot_us not in opening]
    void = settle(policy, terms, early, read_until_us=cases.end(policy, terms))
    assert judged_slots(policy, terms, void) == sorted({*before, *opening})
    found = write_outcome(void, policy=policy, terms=terms, trade=TRADE, logged=early)
    assert found.outcome == "void"
    assert all(venue.closing is None for venue in found.venues)


def returned(close: str, *, real: bool = True) -> VenueReturn:
    window = WindowValue(slots=(), valid=6, real=6, value=finite(Fraction(close)))
    return VenueReturn(
        venue="v", opening=window, closing=window, change=finite(Fraction(1)), real=real
    )


@pytest.mark.parametrize(
    ("closes", "shown"),
    [
        (["64000.1"], "64000.1"),
        (["1", "2"], "1.5"),
        (["1/3"], "0.33333333"),
        (["0.000000005"], "0"),
        (["0.000000015"], "0.00000002"),
        (["0.000000025"], "0.00000002"),
        (["9" * 29 + ".25"], None),
        ([], None),
    ],
)
def test_display_price_rounds_half_to_even(closes: list[str], shown: str | None) -> None:
    assert display_price([returned(close) for close in closes]) == shown


def test_withheld_close_is_not_displayed() -> None:
    assert display_price([returned("5"), returned("9", real=False)]) == "5"


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"outcome": "down"}, "outcome"),
        ({"fee": True}, "fee"),
        ({"slid_us": 1}, "slid_us"),
        ({"display_price": "1"}, "display_price"),
        ({"attestations": ()}, "attestations"),
        ({"change": "2"}, "change"),
        ({"venues": ()}, "venues"),
    ],
)
def test_claim_that_differs_is_refused_by_its_member(change: dict[str, Any], member: str) -> None:
    policy, terms = cases.policy(), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    found = document(policy, terms, attested(cases.whole(policy, terms, mids)))
    found.check_claim(OutcomeDocument.decode(found.encode()))
    with pytest.raises(OutcomeMismatchError) as caught:
        found.check_claim(dataclasses.replace(found, **change))
    assert caught.value.rule == f"outcome.{member}"


def test_attestation_that_was_not_given_stops_the_rule_exactly_where_it_counts() -> None:
    policy, terms = cases.policy(), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    logged = attested(cases.whole(policy, terms, mids))
    settled = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
    judged = judged_slots(policy, terms, settled)
    for number_, record in enumerate(logged):
        hidden = dataclasses.replace(record, fields=None, not_given=True)
        partly = [*logged[:number_], hidden, *logged[number_ + 1 :]]
        if record.slot_us in judged:
            with pytest.raises(IncompleteError) as caught:
                settle(policy, terms, partly, read_until_us=cases.end(policy, terms))
            assert caught.value.rule == "slots.missing"
        else:
            again = settle(policy, terms, partly, read_until_us=cases.end(policy, terms))
            assert again == settled


def test_log_must_be_read_from_before_the_first_slot_judged() -> None:
    policy, terms = cases.policy(), cases.terms("up")
    mids = {
        venue.venue: dict.fromkeys(cases.all_slots(policy, terms), 640_000)
        for venue in policy.venues
    }
    logged = cases.whole(policy, terms, mids)
    before, opening, _ = needed_slots(policy, terms)
    end = cases.end(policy, terms)
    settle(policy, terms, logged, read_until_us=end, read_from_us=opening[0] - 1)
    with pytest.raises(IncompleteError) as caught:
        settle(policy, terms, logged, read_until_us=end, read_from_us=opening[0])
    assert caught.value.rule == "settlement.start"
    # A void asks for the window before t_c as well.
    with pytest.raises(IncompleteError):
        settle(policy, terms, [], read_until_us=end, read_from_us=opening[0] - 1)
    void = settle(policy, terms, [], read_until_us=end, read_from_us=before[0] - 1)
    assert void.outcome == "void"


@pytest.mark.parametrize(
    ("reason", "fault"), [("venue_closed", "venue"), ("restart", "notary"), ("overload", "notary")]
)
def test_void_is_by_the_fault_of_its_holes(reason: str, fault: str) -> None:
    policy, terms = cases.policy(venues=3), cases.terms("up")
    slots = cases.all_slots(policy, terms)
    logged = [
        LoggedSlot(
            notary="n0",
            slot_us=slot,
            fields={
                venue.venue: cases.gap(venue.venue, reason)
                if slot > terms.logged_us
                else cases.observation(venue.venue, slot, 640_000)
                for venue in policy.venues
            },
        )
        for slot in slots
    ]
    found = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
    assert (found.outcome, void_fault(found)) == ("void", fault)


def test_decided_trade_is_nobodys_fault_and_a_withheld_quorum_the_provers() -> None:
    faults = set()
    for seed in range(1_000):
        policy, terms, logged = cases.random_case(seed)
        found = settle(policy, terms, logged, read_until_us=cases.end(policy, terms))
        fault = void_fault(found)
        assert (fault is None) == (found.outcome != "void")
        if found.reason == "the quorum rests on withheld slots":
            assert fault == "prover"
        faults.add(fault)
    assert faults == {None, "venue", "notary", "prover"}
