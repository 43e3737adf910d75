"""The settlement rule (docs/settlement-policy.md, S2 and S6 to S10): a pure function.

The same policy, trade and slots give the same outcome everywhere; order of inputs
does not matter, and nothing but them does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal, TypeAlias

from attestation.errors import IncompleteError, MalformedError
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.slots import (
    End,
    LoggedSlot,
    Side,
    VenueSlot,
    favourable,
    venue_slot,
)
from attestation.settlement.value import Value, finite, median, ratio

Outcome: TypeAlias = Literal["up", "down", "tie", "void"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What of a trade the rule needs; ``logged_us`` is its batch's time in the log (t_c)."""

    side: Side
    duration_us: int
    logged_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WindowValue:
    """A venue's window: its slots in order, and their median if enough are valid.

    ``valid`` counts slots with a value, ``real`` those not withheld.
    """

    slots: tuple[VenueSlot, ...]
    valid: int
    real: int
    value: Value | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VenueReturn:
    """A venue at both ends; ``change`` is close over open where it counts (S8).

    ``real``: it has enough slots at both ends that were not withheld.
    """

    venue: str
    opening: WindowValue
    closing: WindowValue | None
    change: Value | None
    real: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What the rule says, with every intermediate value.

    ``open_us`` is T_open, ``close_us`` T_close before it slid by ``slid_us``;
    ``final_after_us``: the outcome is final at the first entry logged later (S10).
    ``fee``: a void for which the operator pays.
    """

    outcome: Outcome
    reason: str | None
    fee: bool
    open_us: int
    close_us: int
    slid_us: int
    final_after_us: int
    change: Value | None
    venues: tuple[VenueReturn, ...]


def slot_at_or_after(time_us: int, grid_us: int) -> int:
    """Returns the first slot that is not before ``time_us``."""
    return -(-time_us // grid_us) * grid_us


def needed_slots(policy: SettlementPolicy, terms: Terms) -> tuple[range, range, range]:
    """Returns the slots of the window before t_c, of the open window, and of the close.

    The last range runs through all the slides that the policy allows.
    """
    grid, w_us = policy.grid_us, policy.windows.w_us
    before = slot_at_or_after(terms.logged_us, grid)
    opening = slot_at_or_after(terms.logged_us + policy.entry_delay_us, grid)
    closing = opening + terms.duration_us
    return (
        range(before - w_us, before, grid),
        range(opening, opening + w_us, grid),
        range(closing - w_us + grid, closing + policy.slide_us + grid, grid),
    )


def settle(
    policy: SettlementPolicy,
    terms: Terms,
    logged: Iterable[LoggedSlot],
    *,
    read_until_us: int,
    read_from_us: int | None = None,
) -> Settlement:
    """Settles a trade.

    ``logged`` holds one record for each notary and slot that the log has, and
    ``read_until_us`` is the time of the last entry read: slots whose entry could
    still come are not judged.  ``read_from_us``: the time of the first entry read,
    if the log was not read from its beginning; only slots after it are judged.

    Raises MalformedError for a duration the policy does not have or two records of
    one place, IncompleteError while the outcome is not final, or where it rests on
    entries or an attestation that were not read.
    """
    if terms.duration_us not in policy.durations_us:
        raise MalformedError("the policy has no such duration", rule="trade.duration_us")
    ends = _Ends(policy, terms.side, logged, read_from_us, read_until_us)
    before, opening, _ = needed_slots(policy, terms)
    at_open = ends.windows(opening, "open")
    span = policy.windows.w_us
    close_us = opening[0] + terms.duration_us
    end_us, both = opening[-1], []
    at_close: dict[str, WindowValue] = {}
    if _quorum(at_open, policy):
        for end_us in range(close_us, close_us + policy.slide_us + 1, policy.grid_us):
            window = range(end_us - span + policy.grid_us, end_us + 1, policy.grid_us)
            at_close = ends.windows(window, "close")
            both = [name for name in at_open if _both(at_open[name], at_close[name])]
            if len(both) >= policy.k:
                break
        else:
            both = []
    least = policy.windows.min_slots
    venues = tuple(
        [
            _return(name, at_open[name], at_close.get(name), both, terms.side, least)
            for name in at_open
        ]
    )
    changes = [venue.change for venue in venues if venue.change is not None]
    change = median(changes) if changes else None
    outcome, reason = _decide(change, venues, terms.side, policy)
    fee = outcome == "void" and _quorum(ends.windows(before, "open"), policy)
    return Settlement(
        outcome=outcome,
        reason=reason,
        fee=fee,
        open_us=opening[0],
        close_us=close_us,
        slid_us=max(0, end_us - close_us),
        final_after_us=end_us + policy.late_us,
        change=change,
        venues=venues,
    )


class _Ends:
    """The values of all venues in windows, each slot judged once for each end."""

    def __init__(
        self,
        policy: SettlementPolicy,
        side: Side,
        logged: Iterable[LoggedSlot],
        read_from_us: int | None,
        read_until_us: int,
    ) -> None:
        self._policy = policy
        self._side = side
        self._notaries = {notary.notary for notary in policy.notaries}
        self._read_from_us = read_from_us
        self._read_until_us = read_until_us
        self._records: dict[int, list[LoggedSlot]] = {}
        self._values: dict[tuple[int, Value], list[VenueSlot]] = {}
        seen = set()
        for record in logged:
            place = (record.notary, record.slot_us)
            if place in seen:
                raise MalformedError(
                    "two records of one notary's slot", rule="slots", found=list(place)
                )
            seen.add(place)
            self._records.setdefault(record.slot_us, []).append(record)

    def windows(self, slots: range, end: End) -> dict[str, WindowValue]:
        """Returns each venue's window (S6); raises IncompleteError while a slot may still come."""
        due_us = slots[-1] + self._policy.late_us
        if self._read_until_us <= due_us:
            raise IncompleteError(
                "the log is not read to the end of what counts",
                rule="settlement.final",
                found=self._read_until_us,
                wanted=due_us + 1,
            )
        # An entry comes after its slot: what was logged up to here is of earlier ones.
        if self._read_from_us is not None and self._read_from_us >= slots[0]:
            raise IncompleteError(
                "the log is not read from before the first slot that counts",
                rule="settlement.start",
                found=self._read_from_us,
                wanted=slots[0] - 1,
            )
        for slot_us in slots:
            for record in self._records.get(slot_us, ()):
                if record.not_given and record.notary in self._notaries:
                    raise IncompleteError(
                        "the attestation of a slot that counts is missing",
                        rule="slots.missing",
                        found=[record.notary, slot_us],
                    )
        withheld = favourable(self._side, end)
        by_slot = [self._judged(slot_us, withheld) for slot_us in slots]
        found = {}
        for place, venue in enumerate(self._policy.venues):
            judged = tuple([values[place] for values in by_slot])
            values = [slot.value for slot in judged if slot.value is not None]
            enough = len(values) >= self._policy.windows.min_slots
            found[venue.venue] = WindowValue(
                slots=judged,
                valid=len(values),
                real=sum(slot.real for slot in judged),
                value=median(values) if enough else None,
            )
        return found

    def _judged(self, slot_us: int, withheld: Value) -> list[VenueSlot]:
        """Returns each venue's value in a slot; windows that slide share most of theirs."""
        known = self._values.get((slot_us, withheld))
        if known is None:
            records = self._records.get(slot_us, ())
            known = self._values[slot_us, withheld] = [
                venue_slot(venue, slot_us, records, self._policy, withheld=withheld)
                for venue in self._policy.venues
            ]
        return known


def _decide(
    change: Value | None,
    venues: tuple[VenueReturn, ...],
    side: Side,
    policy: SettlementPolicy,
) -> tuple[Outcome, str | None]:
    if change is None:
        return "void", "no quorum of venues"
    one = finite(Fraction(1))
    outcome: Outcome = "tie" if change == one else ("up" if change > one else "down")
    real = [venue for venue in venues if venue.change is not None and venue.real]
    # S8: nobody loses by a quorum that only withheld slots made.
    if len(real) < policy.k and outcome not in (side, "tie"):
        return "void", "the quorum rests on withheld slots"
    return outcome, None


def _return(
    name: str,
    opening: WindowValue,
    closing: WindowValue | None,
    both: list[str],
    side: Side,
    least: int,
) -> VenueReturn:
    change, real = None, False
    if name in both and closing is not None and opening.value is not None:
        real = opening.real >= least and closing.real >= least
        # Without enough real slots at both ends a venue never counts against the player.
        counted = closing.value if real else favourable(side, "close")
        if counted is None:
            raise AssertionError("a venue counts whose window has no value")
        change = ratio(counted, opening.value if real else finite(Fraction(1)))
    return VenueReturn(venue=name, opening=opening, closing=closing, change=change, real=real)


def _quorum(windows: Mapping[str, WindowValue], policy: SettlementPolicy) -> bool:
    return sum(window.value is not None for window in windows.values()) >= policy.k


def _both(opening: WindowValue, closing: WindowValue) -> bool:
    return opening.value is not None and closing.value is not None
