"""The settlement rule once more, written from the page alone and in another way.

Prices are pairs of integers (n, d), n/d, where (1, 0) is infinity and (0, 1) is what a
withheld price is at the other end; nothing here is imported from the rule.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cmp_to_key
from typing import Any

Pair = tuple[int, int]


def compare(left: Pair, right: Pair) -> int:
    a, b = left[0] * right[1], right[0] * left[1]
    if left[1] == 0 and right[1] == 0:
        return 0
    return (a > b) - (a < b)


def middle(pairs: list[Pair]) -> Pair:
    ordered = sorted(pairs, key=cmp_to_key(compare))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if high[1] == 0:
        return (1, 0)
    return (low[0] * high[1] + high[0] * low[1], 2 * low[1] * high[1])


def number(text: str) -> Pair:
    value = Decimal(text)
    places = max(0, -int(value.as_tuple().exponent))
    return (int(value.scaleb(places)), 10**places)


def one_slot(
    policy: Any, venue: Any, slot: int, records: dict[tuple[str, int], Any], extreme: Pair
) -> Any:
    """None for a hole, else (pair, whether it is real)."""
    mids, ours = [], False
    for notary in policy.notaries:
        record = records.get((notary.notary, slot))
        if record is None:
            continue
        if record.fields is None:
            ours = ours or record.fault == "prover"
            if record.fault == "prover":
                mids.append((extreme, False))
            continue
        seen = record.fields.get(venue.venue)
        if seen is None:
            continue
        if hasattr(seen, "fault"):
            if seen.fault == "prover":
                ours = True
                mids.append((extreme, False))
            continue
        if ("live" if seen.source is None else seen.source) not in policy.sources:
            ours = True
            mids.append((extreme, False))
            continue
        if venue.venue in record.refused:
            continue
        bid, ask = number(seen.bid), number(seen.ask)
        total, double = bid[0] * ask[1] + ask[0] * bid[1], 2 * bid[1] * ask[1]
        spread = (ask[0] * bid[1] - bid[0] * ask[1], bid[1] * ask[1])
        if bid[0] <= 0 or spread[0] < 0:
            continue
        if spread[0] * double * 10_000 > policy.max_spread_bps * total * spread[1]:
            continue
        if seen.received_us > slot or slot - seen.received_us > venue.max_staleness_us:
            continue
        if venue.max_skew_us and seen.exchange_us is not None:
            if abs(seen.received_us - seen.exchange_us) > venue.max_skew_us:
                continue
        if seen.instrument != venue.instrument:
            continue
        mids.append(((total, double), True))
    if mids:
        at = middle([pair for pair, _ in mids])
        near = 0
        for pair, real in mids:
            if real and at[1] and at[0]:
                gap = abs(pair[0] * at[1] - at[0] * pair[1]) * 10_000
                near += gap <= policy.div_bps * at[0] * pair[1]
        if near >= policy.q:
            return at, True
    return (extreme, False) if ours else None


def outcome(policy: Any, terms: Any, logged: list[Any]) -> tuple[str, bool, int]:
    """Returns (outcome, fee, slid_us)."""
    records = {(record.notary, record.slot_us): record for record in logged}
    grid, count = policy.grid_us, policy.windows.w_us // policy.grid_us
    low, high = ((0, 1), (1, 0)) if terms.side == "up" else ((1, 0), (0, 1))

    def window(first: int, extreme: Pair) -> dict[str, tuple[Pair, bool]]:
        found = {}
        for venue in policy.venues:
            slots = [
                one_slot(policy, venue, first + step * grid, records, extreme)
                for step in range(count)
            ]
            valid = [slot for slot in slots if slot is not None]
            if len(valid) >= policy.windows.min_slots:
                enough = sum(real for _, real in valid) >= policy.windows.min_slots
                found[venue.venue] = (middle([pair for pair, _ in valid]), enough)
        return found

    t_c = terms.logged_us
    before = -(-t_c // grid) * grid - count * grid
    fee = len(window(before, low)) >= policy.k
    start = -(-(t_c + policy.entry_delay_us) // grid) * grid
    opening = window(start, low)
    if len(opening) < policy.k:
        return "void", fee, 0
    for slid in range(0, policy.slide_us + 1, grid):
        closing = window(start + terms.duration_us + slid - (count - 1) * grid, high)
        names = opening.keys() & closing.keys()
        if len(names) >= policy.k:
            break
    else:
        return "void", fee, policy.slide_us
    changes, sure = [], 0
    for name in names:
        (first, real_first), (last, real_last) = opening[name], closing[name]
        if real_first and real_last:
            sure += 1
            top, bottom = last[0] * first[1], last[1] * first[0]
            changes.append((0, 1) if top == 0 else (1, 0) if bottom == 0 else (top, bottom))
        else:
            changes.append(high)
    sign = compare(middle(changes), (1, 1))
    result = {1: "up", 0: "tie", -1: "down"}[sign]
    if sure < policy.k and result not in ("tie", terms.side):
        return "void", fee, slid
    return result, False, slid
