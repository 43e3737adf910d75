"""The settlement document: what the rule says of a trade, with every value on the way.

Exact values are written as fractions in lowest terms, ``n`` or ``n/d``, and
``inf``.  The same policy, trade and slots give the same bytes everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Annotated, ClassVar

from attestation.errors import MalformedError, OutcomeMismatchError
from attestation.price import format_exact
from attestation.schema import (
    AtLeast,
    Count,
    Document,
    Hex16,
    Hex32,
    Micros,
    Name,
    OneOf,
    Pattern,
    Price,
)
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import (
    Settlement,
    Terms,
    VenueReturn,
    WindowValue,
    needed_slots,
)
from attestation.settlement.slots import Fault, LoggedSlot
from attestation.settlement.value import Value, median

Positive = Annotated[int, AtLeast(1)]
Exact = Annotated[str, Pattern("(?:0|[1-9][0-9]*)(?:/[1-9][0-9]*)?|inf", "an exact value")]
DISPLAY_DIGITS = 8
"""Decimals of the display price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSlot(Document):
    """A venue's value in a slot; ``why`` says what of it is missing or withheld."""

    slot_us: Micros
    value: Exact | None = None
    real: bool
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeWindow(Document):
    """A venue's window: the median of its slots, if ``valid`` are enough."""

    valid: Count
    real: Count
    value: Exact | None = None
    slots: tuple[OutcomeSlot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeVenue(Document):
    """A venue at both ends; ``change`` is its return as it counts, if it does."""

    venue: Name
    opening: OutcomeWindow
    closing: OutcomeWindow | None = None
    change: Exact | None = None
    real: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDocument(Document):
    """How a trade ended, and why.

    ``change`` is the median of the venues' returns; ``display_price`` the median of
    the counting venues' closes, rounded half to even, which decides nothing;
    ``attestations`` the header ids of the slots judged, by slot, then by notary as
    in the policy.
    """

    TYPE: ClassVar[str | None] = "quotary/outcome/v1"

    trade: Hex32
    policy_id: Hex32
    side: Annotated[str, OneOf(("up", "down"))]
    duration_us: Positive
    logged_us: Micros
    outcome: Annotated[str, OneOf(("up", "down", "tie", "void"))]
    reason: str | None = None
    fee: bool
    open_us: Micros
    close_us: Micros
    slid_us: Micros
    final_after_us: Micros
    change: Exact | None = None
    display_price: Price | None = None
    venues: tuple[OutcomeVenue, ...]
    attestations: tuple[Hex16, ...]

    def check_claim(self, claimed: OutcomeDocument) -> None:
        """Raises OutcomeMismatchError, with the first member, unless the claim is this."""
        for field in fields(self):
            found, wanted = getattr(claimed, field.name), getattr(self, field.name)
            if found != wanted:
                plain = isinstance(wanted, str | int | None) and not isinstance(found, tuple)
                raise OutcomeMismatchError(
                    f"the claimed {field.name} does not follow from the log",
                    rule=f"outcome.{field.name}",
                    found=found if plain else None,
                    wanted=wanted if plain else None,
                )


def judged_slots(policy: SettlementPolicy, terms: Terms, settlement: Settlement) -> list[int]:
    """Returns the slots that a settlement rests on, in order.

    The open window, the close windows tried, and for a void the window before t_c.
    """
    before, opening, closing = needed_slots(policy, terms)
    slots = set(opening)
    if any(venue.closing is not None for venue in settlement.venues):
        last = settlement.close_us + settlement.slid_us
        slots.update(slot for slot in closing if slot <= last)
    if settlement.outcome == "void":
        slots.update(before)
    return sorted(slots)


def write_outcome(
    settlement: Settlement,
    *,
    policy: SettlementPolicy,
    terms: Terms,
    trade: str,
    logged: Iterable[LoggedSlot],
) -> OutcomeDocument:
    """Writes what ``settle`` returned of these inputs; ``trade`` is the trade's id."""
    order = {notary.notary: place for place, notary in enumerate(policy.notaries)}
    judged = set(judged_slots(policy, terms, settlement))
    used = sorted(
        (record.slot_us, order[record.notary], record.attestation)
        for record in logged
        if record.slot_us in judged
        and record.notary in order
        and record.fields is not None
        and record.attestation is not None
    )
    _, opening, _ = needed_slots(policy, terms)
    last = settlement.close_us + settlement.slid_us
    closing = range(last - policy.windows.w_us + policy.grid_us, last + 1, policy.grid_us)
    return OutcomeDocument(
        trade=trade,
        policy_id=policy.policy_id,
        side=terms.side,
        duration_us=terms.duration_us,
        logged_us=terms.logged_us,
        outcome=settlement.outcome,
        reason=settlement.reason,
        fee=settlement.fee,
        open_us=settlement.open_us,
        close_us=settlement.close_us,
        slid_us=settlement.slid_us,
        final_after_us=settlement.final_after_us,
        change=_exact(settlement.change),
        display_price=display_price(settlement.venues),
        venues=tuple([_venue(venue, opening, closing) for venue in settlement.venues]),
        attestations=tuple([attestation for _, _, attestation in used]),
    )


def display_price(venues: Iterable[VenueReturn]) -> str | None:
    """Returns the median of the closes that count and are real, at most 8 decimals.

    None where there is no such close, or no price of 30 digits.
    """
    closes = [
        venue.closing.value
        for venue in venues
        if venue.change is not None
        and venue.real
        and venue.closing is not None
        and venue.closing.value is not None
    ]
    if not closes:
        return None
    # A fraction rounds half to even.
    scaled = round(median(closes).number * 10**DISPLAY_DIGITS)
    try:
        return format_exact(Fraction(scaled, 10**DISPLAY_DIGITS))
    except MalformedError:
        return None


def _exact(value: Value | None) -> str | None:
    return None if value is None else str(value)


def _venue(venue: VenueReturn, opening: range, closing: range) -> OutcomeVenue:
    return OutcomeVenue(
        venue=venue.venue,
        opening=_window(venue.opening, opening),
        closing=None if venue.closing is None else _window(venue.closing, closing),
        change=_exact(venue.change),
        real=venue.real,
    )


def _window(window: WindowValue, slots: range) -> OutcomeWindow:
    return OutcomeWindow(
        valid=window.valid,
        real=window.real,
        value=_exact(window.value),
        slots=tuple(
            [
                OutcomeSlot(slot_us=slot_us, value=_exact(slot.value), real=slot.real, why=slot.why)
                for slot_us, slot in zip(slots, window.slots, strict=True)
            ]
        ),
    )


def dispersion(outcome: OutcomeDocument) -> Fraction | None:
    """Returns how far venues' returns lie from their median: the median of the distances.

    Of the venues that count by enough real slots; None where there is none.  A trade
    decided by less was decided by noise between venues as much as by the market.
    """
    changes = sorted(
        Fraction(venue.change)
        for venue in outcome.venues
        if venue.real and venue.change is not None
    )
    if not changes:
        return None
    middle = _middle(changes)
    return _middle(sorted(abs(change - middle) for change in changes))


def void_fault(settlement: Settlement) -> Fault | None:
    """Returns by whose fault a trade is void; None for one that is not.

    Whose holes are most in the windows that have no value; between equals the notary's.
    A quorum that rests on withheld slots is the prover's.
    """
    if settlement.outcome != "void":
        return None
    windows = [
        window
        for venue in settlement.venues
        for window in (venue.opening, venue.closing)
        if window is not None and window.value is None
    ]
    counts = Counter(
        slot.fault for window in windows for slot in window.slots if slot.value is None
    )
    if settlement.change is not None or not counts:
        return "prover"
    return "venue" if counts["venue"] > counts["notary"] else "notary"


def _middle(ordered: list[Fraction]) -> Fraction:
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2
