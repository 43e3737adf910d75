"""What a policy would have decided of past slots: for a ledger's trades, or for made up ones.

Prices alone are judged: sessions and messages behind the slots are not read again.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from attestation.errors import IncompleteError
from attestation.settlement.attested import AttestedSlot
from attestation.settlement.entries import LogRange, read_slots
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Outcome, Terms, needed_slots, settle, slot_at_or_after
from attestation.settlement.slots import LoggedSlot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PastTrade:
    """A trade to decide again; ``ended`` is how it did end, if it was one."""

    terms: Terms
    ended: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """How trades would have ended.

    ``undecided``: their slots were not all there.  ``slid`` closes had to wait, the
    longest ``longest_us``.  ``same`` and ``other`` compare with how they did end.
    """

    trades: int
    outcomes: dict[Outcome, int]
    fees: int
    slid: int
    longest_us: int
    undecided: int
    same: int
    other: int
    reasons: dict[str, int]


def made_up(
    policy: SettlementPolicy, logs: Sequence[LogRange], *, every_us: int
) -> Iterator[PastTrade]:
    """Yields a trade of each side and duration for every so often in the logs."""
    first = max(log.entries[0].logged_us for log in logs) + policy.windows.w_us
    last = min(log.until_us for log in logs)
    for at_us in range(slot_at_or_after(first, policy.grid_us), last, every_us):
        for duration_us in policy.durations_us:
            yield PastTrade(terms=Terms(side="up", duration_us=duration_us, logged_us=at_us))
            yield PastTrade(terms=Terms(side="down", duration_us=duration_us, logged_us=at_us))


def dry_run(
    policy: SettlementPolicy,
    *,
    logs: Sequence[LogRange],
    slots: Iterable[AttestedSlot],
    trades: Iterable[PastTrade],
) -> DryRun:
    """Decides past trades by a policy; raises what ``read_slots`` raises for its feeds.

    Trades of another duration than the policy's are left out.
    """
    read = read_slots(policy, logs, slots)
    by_slot: dict[int, list[LoggedSlot]] = {}
    for record in read.logged:
        by_slot.setdefault(record.slot_us, []).append(record)
    outcomes: Counter[Outcome] = Counter()
    reasons: Counter[str] = Counter()
    count = fees = slid = longest_us = undecided = same = other = 0
    for trade in trades:
        if trade.terms.duration_us not in policy.durations_us:
            continue
        count += 1
        # Of a day's slots a trade needs a few.
        needed = {slot for window in needed_slots(policy, trade.terms) for slot in window}
        try:
            found = settle(
                policy,
                trade.terms,
                [record for slot in needed for record in by_slot.get(slot, ())],
                read_until_us=read.read_until_us,
                read_from_us=read.read_from_us,
            )
        except IncompleteError as error:
            undecided += 1
            reasons[f"{error.rule}: {error.detail}"] += 1
            continue
        outcomes[found.outcome] += 1
        fees += found.fee
        slid += found.slid_us > 0
        longest_us = max(longest_us, found.slid_us)
        if found.reason is not None:
            reasons[found.reason] += 1
        if trade.ended is not None:
            same += found.outcome == trade.ended
            other += found.outcome != trade.ended
    return DryRun(
        trades=count,
        outcomes=dict(outcomes),
        fees=fees,
        slid=slid,
        longest_us=longest_us,
        undecided=undecided,
        same=same,
        other=other,
        reasons=dict(reasons),
    )
