"""A recomputed settlement in words and tables for a terminal, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from attestation.settlement.outcome import OutcomeDocument, OutcomeWindow, dispersion
from attestation.settlement.policy import BASIS
from attestation.settlement.recompute import VerifiedSettlement
from attestation.settlement.rule import needed_slots
from attestation.trust import Trust
from verifier.text import safe, utc

NOT_CHECKED = "that a message was its venue's last before the slot; raw TLS records (recheck)"
"""What a bundle leaves to the notaries' word."""
MAX_HOLES = 60
"""Slots without a real value that are listed one by one."""


def headline(found: VerifiedSettlement, trust: Trust) -> list[str]:
    """Returns what came out, of which trade, and who witnessed it."""
    outcome, leaf = found.outcome, found.leaf
    lines = [f"RECOMPUTED {outcome.outcome.upper()}: {_reason(outcome)}"]
    lines.append(
        f"  trade {leaf.trade}: {leaf.side}, stake {leaf.stake}, {_seconds(leaf.duration_us)},"
        f" {safe(leaf.market)}"
    )
    lines.append(f"  policy {outcome.policy_id} ({safe(found.policy.name)})")
    lines.append(f"  {_result(found)}")
    lines.append(f"  {safe(witnesses(found, trust))}")
    lines.append(f"  not checked: {NOT_CHECKED}")
    return lines


def explain(found: VerifiedSettlement, trust: Trust) -> Iterator[str]:
    """Yields the steps by which the outcome follows."""
    policy, outcome, terms = found.policy, found.outcome, found.terms
    yield "1. The policy that was agreed on is logged, and so are its feeds"
    yield (
        f"   {len(policy.venues)} venues, {policy.k} needed; windows of {policy.slots} slots of"
        f" {_seconds(policy.grid_us)}, {policy.windows.min_slots} needed; in effect from"
        f" {utc(policy.effective_us)}"
    )
    yield "2. Nothing between two checkpoints of each log is left out"
    for log in found.logs:
        yield (
            f"   {safe(log.origin)}: entries {log.first} to {log.size - 1}, the last of"
            f" {utc(log.until_us)}"
        )
        if log.quorum_us is None:
            yield "     cosigned by nobody the log policy asks for"
        else:
            names = ", ".join(map(safe, log.witnesses))
            yield f"     cosigned by {utc(log.quorum_us)} by {names}"
    yield "3. The trade was committed to before its prices"
    yield f"   t_c     {utc(terms.logged_us)}  its batch in the log"
    _, opening, _ = needed_slots(policy, terms)
    yield f"   open    {utc(opening[0])}  to {utc(opening[-1])}"
    if any(venue.closing is not None for venue in outcome.venues):
        last = outcome.close_us + outcome.slid_us
        first = last - policy.windows.w_us + policy.grid_us
        slid = f", slid by {_seconds(outcome.slid_us)}" if outcome.slid_us else ""
        yield f"   close   {utc(first)}  to {utc(last)}{slid}"
    else:
        yield "   close   not looked at: no quorum at the open"
    yield f"   final   {utc(outcome.final_after_us)}  at the first entry logged later"
    yield f"4. The slots name {len(found.sessions)} live sessions, each logged before them"
    for session in found.sessions:
        attested = session.attested
        yield (
            f"   {safe(attested.session.purpose):<28} {safe(attested.connection.place)}"
            f" (entry {session.index}, {safe(attested.notary)})"
        )
    yield (
        f"5. {found.slots} slot attestations are signed and logged in time, {found.messages}"
        " messages give the same quotes again"
    )
    yield from _table(outcome)
    yield f"6. {_result(found)}"
    yield "7. The operator's claim is this very document"


def witnesses(found: VerifiedSettlement, trust: Trust) -> str:
    """Says who witnessed, and how far that goes."""
    operators = [trust.operator_of(notary.notary) for notary in found.policy.notaries]
    if len(operators) == 1:
        return (
            f"witnessed by a single notary, run by {operators[0]}: this checks the arithmetic,"
            " not the operator"
        )
    count = len(set(operators))
    told = f"witnessed by {len(operators)} notaries of {count} operators ({', '.join(operators)})"
    if found.policy.q == 1:
        return f"{told}, of which the price of a single notary is enough"
    return f"{told}, {found.policy.q} of which must agree"


def _reason(outcome: OutcomeDocument) -> str:
    if outcome.outcome == "void":
        fee = "the operator pays the fee" if outcome.fee else "no fee is due"
        return f"{outcome.reason}; the stake is returned, {fee}"
    if outcome.outcome == "tie":
        return "the stake is returned"
    return "the player's side" if outcome.outcome == outcome.side else "the other side"


def _result(found: VerifiedSettlement) -> str:
    outcome = found.outcome
    if outcome.change is None:
        return f"fewer than {found.policy.k} venues have enough slots at both ends"
    counting = sum(venue.change is not None for venue in outcome.venues)
    noise = dispersion(outcome)
    withheld = sum(venue.change is not None and not venue.real for venue in outcome.venues)
    told = "" if noise is None else f"; venues differ by {_bp(noise)} bp"
    if withheld:
        told += f"; {withheld} count for the player, as their prices were withheld"
    price = "" if outcome.display_price is None else f", display price {outcome.display_price}"
    return f"the median return of {counting} venues is {_change(outcome.change)}{told}{price}"


def _table(outcome: OutcomeDocument) -> Iterator[str]:
    yield f"   {'venue':<12} {'open':>18} {'slots':>6} {'close':>18} {'slots':>6}  return"
    for venue in outcome.venues:
        closing = venue.closing
        change = "does not count" if venue.change is None else _change(venue.change)
        real = "" if venue.real or venue.change is None else "  (withheld)"
        yield (
            f"   {venue.venue:<12} {_value(venue.opening):>18} {_slots(venue.opening):>6}"
            f" {_value(closing):>18} {_slots(closing):>6}  {change}{real}"
        )
    holes = [
        f"   {venue.venue:<12} {utc(slot.slot_us)}  {safe(slot.why or '', limit=160)}"
        for venue in outcome.venues
        for window in (venue.opening, venue.closing)
        if window is not None
        for slot in window.slots
        if not slot.real
    ]
    if holes:
        yield "   slots without a real value:"
        yield from holes[:MAX_HOLES]
    if len(holes) > MAX_HOLES:
        yield f"   ... and {len(holes) - MAX_HOLES} more (--json has all)"


def _value(window: OutcomeWindow | None) -> str:
    if window is None or window.value is None:
        return "-"
    return window.value if window.value == "inf" else _decimal(Fraction(window.value), 8)


def _slots(window: OutcomeWindow | None) -> str:
    return "-" if window is None else f"{window.real}/{len(window.slots)}"


def _change(change: str) -> str:
    if change == "inf":
        return "infinite"
    return f"{_decimal((Fraction(change) - 1) * BASIS, 4, sign=True)} bp"


def _bp(distance: Fraction) -> str:
    return _decimal(distance * BASIS, 4)


def _seconds(duration_us: int) -> str:
    return f"{_decimal(Fraction(duration_us, 1_000_000), 6)} s"


def _decimal(number: Fraction, digits: int, *, sign: bool = False) -> str:
    """Rounds half to even; drops trailing zeros."""
    scaled = round(number * 10**digits)
    whole, rest = divmod(abs(scaled), 10**digits)
    text = f"{whole}.{rest:0{digits}}".rstrip("0").rstrip(".")
    mark = "-" if scaled < 0 else ("+" if sign and scaled > 0 else "")
    return mark + text
