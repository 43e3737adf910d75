"""From what notaries signed and logged of a slot to one value for each venue (S3 to S5, S7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, TypeAlias, TypeGuard

from attestation.document import GapField, ObservationField
from attestation.price import fraction
from attestation.settlement.policy import BASIS, PolicyVenue, SettlementPolicy
from attestation.settlement.value import INFINITY, ZERO, Value, finite, median

Side: TypeAlias = Literal["up", "down"]
End: TypeAlias = Literal["open", "close"]
Fault: TypeAlias = Literal["venue", "prover", "notary"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoggedSlot:
    """What one notary's log has of one slot, as far as it counts.

    ``fields`` are those of the slot's attestation by venue, whose entry came in
    time; None where there is none, by ``fault``.  ``attestation`` is its header's id.
    ``refused`` says, by venue, why the policy takes nothing from the session behind it.
    ``not_given``: the log names an attestation that the reader does not have; the
    rule refuses to judge such a slot.
    """

    notary: str
    slot_us: int
    fields: Mapping[str, ObservationField | GapField] | None
    fault: Fault = "notary"
    attestation: str | None = None
    not_given: bool = False
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VenueSlot:
    """A venue's value in a slot.  ``real``: from enough real mids, not a withheld one.

    ``value`` is None for a hole, and ``why`` says what is missing, ``fault`` by whom; a
    withheld slot has a value, and says so too.
    """

    value: Value | None
    real: bool
    why: str | None = None
    fault: Fault | None = None


def favourable(side: Side, end: End) -> Value:
    """The price that favours a player most (S7): up, 0 at the open and infinity at the close."""
    return ZERO if (side == "up") == (end == "open") else INFINITY


def venue_slot(
    venue: PolicyVenue,
    slot_us: int,
    logged: Sequence[LoggedSlot],
    policy: SettlementPolicy,
    *,
    withheld: Value,
) -> VenueSlot:
    """Returns the value of a venue in a slot from all notaries' records (S5).

    ``logged`` has at most one record of each notary; a notary without one is at
    fault itself.  ``withheld`` is what a prover's gap counts as.
    """
    by_notary = {record.notary: record for record in logged}
    mids: list[Fraction] = []
    values: list[Value] = []
    reasons: list[str] = []
    faults: set[Fault] = set()
    for notary in policy.notaries:
        found = _observe(venue, slot_us, by_notary.get(notary.notary), policy)
        if isinstance(found, Fraction):
            mids.append(found)
            values.append(finite(found))
            continue
        fault, why = found
        reasons.append(f"{notary.notary}: {why}")
        faults.add(fault)
        if fault == "prover":
            values.append(withheld)
    if values:
        middle = median(values)
        near = [mid for mid in mids if _within(mid, middle, policy.div_bps)]
        if len(near) >= policy.q:
            return VenueSlot(value=middle, real=True)
        if "prover" not in faults and len(mids) >= policy.q:
            reasons.append("the notaries' prices diverge")
            faults.add("notary")
    why = "; ".join(reasons)
    if "prover" in faults:
        return VenueSlot(value=withheld, real=False, why=why, fault="prover")
    # One notary that saw it is enough to tell the venue from its own.
    hole: Fault = "notary" if "notary" in faults else "venue"
    return VenueSlot(value=None, real=False, why=why, fault=hole)


def may_count(
    field: ObservationField | GapField | None, venue: PolicyVenue, policy: SettlementPolicy
) -> TypeGuard[ObservationField]:
    """Tells whether a field is a quote of the policy's instrument and sources."""
    return (
        isinstance(field, ObservationField)
        and field.instrument == venue.instrument
        and field.effective_source in policy.sources
    )


def _observe(
    venue: PolicyVenue, slot_us: int, record: LoggedSlot | None, policy: SettlementPolicy
) -> Fraction | tuple[Fault, str]:
    """Returns a notary's mid, or whose fault it is that there is none, and why (S3, S4)."""
    if record is None or record.fields is None:
        return ("notary", "no entry") if record is None else (record.fault, "no slot in time")
    field = record.fields.get(venue.venue)
    if field is None:
        return "notary", "the venue is not in the slot"
    if isinstance(field, GapField):
        return field.fault, f"gap {field.reason}"  # type: ignore[return-value]
    # What to fetch in a live session's place is the prover's choice, and hides whose fault it
    # is that there is none: before anything that would make a hole of it.
    if field.effective_source not in policy.sources:
        return "prover", "another source"
    if venue.venue in record.refused:
        return "notary", record.refused[venue.venue]
    return _filter(venue, slot_us, field, policy)


def _filter(
    venue: PolicyVenue, slot_us: int, seen: ObservationField, policy: SettlementPolicy
) -> Fraction | tuple[Fault, str]:
    bid, ask = fraction(seen.bid), fraction(seen.ask)
    mid = (bid + ask) / 2
    if not 0 < bid <= ask:
        return "venue", "bid and ask are no quote"
    if (ask - bid) * BASIS > policy.max_spread_bps * mid:
        return "venue", "the spread is too wide"
    if not 0 <= slot_us - seen.received_us <= venue.max_staleness_us:
        return "venue", "the quote is stale"
    skew = venue.max_skew_us
    if (
        skew is not None
        and seen.exchange_us is not None
        and abs(seen.received_us - seen.exchange_us) > skew
    ):
        return "venue", "the venue's clock is off"
    if seen.instrument != venue.instrument:
        return "notary", "another instrument"
    return mid


def _within(mid: Fraction, middle: Value, div_bps: int) -> bool:
    if middle.infinite or not middle.number:
        return False
    return abs(mid - middle.number) * BASIS <= div_bps * middle.number
