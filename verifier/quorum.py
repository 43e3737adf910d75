"""Several notaries for one quote or one slot: each verified alone, then compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

from attestation.errors import ExpectationError, IncompleteError, QuotaryError, StaleError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.verified import Verified, VerifiedQuote, VerifiedSlot, VerifiedTranscript
from verifier.verify import verify_one


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuorum:
    """Quotes of one venue by differently named notaries that agree.

    ``mid`` is the exact median of their mids (of an even number, the mean of
    the two middles); the proven interval spans all of theirs.
    """

    quotes: tuple[VerifiedQuote, ...]
    mid: Fraction
    not_before_us: int
    not_after_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSlotQuorum:
    """Slots of one instant by differently named notaries that agree on every venue.

    ``venues`` has the quorum of each expected venue, in the slots' order.
    """

    slots: tuple[VerifiedSlot, ...]
    venues: tuple[VerifiedQuorum, ...]
    not_before_us: int
    not_after_us: int


def verify_quorum(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuorum:
    """Verifies one quote witnessed by several notaries.

    Each presentation must verify alone; an error then names the one it is about.
    Together, in this order, else the error in brackets:

    - no notary name speaks twice (ExpectationError, ``quorum.notary``)
    - ``expect.notaries.count`` names (IncompleteError, ``expect.notaries.count``)
      of as many operators (ExpectationError, ``quorum.operator``)
    - one venue, instrument and purpose (ExpectationError, ``quorum.venue`` ...); of
      slots one instant, whatever each notary calls the feed
    - intervals within ``expect.notaries.max_apart_us`` (StaleError)
    - bids, asks, mids and last prices, each within ``expect.notaries.max_div_bps`` of
      their median (ExpectationError): a lie may leave the middle where it is
    """
    found = verify_voices(
        presentations, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
    )
    if isinstance(found, VerifiedSlotQuorum):
        raise ExpectationError("slots of several venues are no one quote", rule="quorum.kind")
    return found


def verify_slot_quorum(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedSlotQuorum:
    """Verifies several venues at one instant, witnessed by several notaries.

    Each notary's slot has every expected venue; they are compared as ``verify_quorum``
    compares quotes, venue by venue.
    """
    found = verify_voices(
        presentations, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
    )
    if isinstance(found, VerifiedQuorum):
        raise ExpectationError("not slots of several venues", rule="quorum.kind")
    return found


def verify_voices(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuorum | VerifiedSlotQuorum:
    """Verifies what several notaries witnessed, quotes or slots, by what they are."""
    voices = [
        _voice(number, presentation, trust, expect, now_us, venue_files)
        for number, presentation in enumerate(presentations, start=1)
    ]
    _check_voices(voices, expect)
    slots = [voice for voice in voices if isinstance(voice, VerifiedSlot)]
    if not slots:
        return _agreed([voice for voice in voices if isinstance(voice, VerifiedQuote)], expect)
    if len(slots) != len(voices):
        raise ExpectationError("some notaries show a slot, some do not", rule="quorum.kind")
    by_venue = zip(*[slot.quotes for slot in slots], strict=True)
    venues = [_agreed(quotes, expect) for quotes in by_venue]
    return VerifiedSlotQuorum(
        slots=tuple(slots),
        venues=tuple(venues),
        not_before_us=min(slot.not_before_us for slot in slots),
        not_after_us=max(slot.not_after_us for slot in slots),
    )


def _agreed(quotes: Sequence[VerifiedQuote], expect: Expect) -> VerifiedQuorum:
    """Compares the notaries' quotes of one venue."""
    # Of one market they are already: the one that is expected.
    _check_same(quotes, ("venue", "instrument", "purpose"))
    first_us = min(quote.not_before_us for quote in quotes)
    last_us = max(quote.not_after_us for quote in quotes)
    if last_us - first_us > expect.apart_us:
        raise StaleError(
            "the notaries witnessed at different times",
            rule="expect.notaries.max_apart_us",
            found=last_us - first_us,
            wanted=expect.apart_us,
        )
    _check_prices(quotes, expect)
    return VerifiedQuorum(
        quotes=tuple(quotes),
        mid=median([quote.mid for quote in quotes]),
        not_before_us=first_us,
        not_after_us=last_us,
    )


def median(values: Sequence[Fraction]) -> Fraction:
    """Returns the exact median; of an even number, the mean of the two middles."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def _voice(
    number: int,
    presentation: Presentation | bytes,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> VerifiedQuote | VerifiedSlot:
    whose = f"presentation {number}"
    try:
        if isinstance(presentation, bytes):
            presentation = Presentation.decode(presentation)
        whose += f" ({presentation.header.key})"
        verified = verify_one(
            presentation, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
        )
    except QuotaryError as error:
        error.detail = f"{whose}: {error.detail}"
        raise
    if isinstance(verified, VerifiedTranscript):
        raise ExpectationError("a quorum is of quotes", rule="expect.hosts")
    return verified


def _check_voices(voices: Sequence[Verified], expect: Expect) -> None:
    """Names are counted, since one notary may have several keys; so are who runs them."""
    names = [voice.notary.name for voice in voices]
    if len(set(names)) != len(names):
        raise ExpectationError("one notary speaks twice", rule="quorum.notary", found=names)
    if len(names) < expect.notary_count:
        raise IncompleteError(
            "fewer notaries than expected",
            rule="expect.notaries.count",
            found=len(names),
            wanted=expect.notary_count,
        )
    operators = [voice.notary.operator for voice in voices]
    if len(set(operators)) < expect.notary_count and not expect.shared_operators:
        raise ExpectationError(
            "the notaries are run by fewer operators than notaries are expected",
            rule="quorum.operator",
            found=operators,
            wanted=expect.notary_count,
        )


def _check_prices(quotes: Sequence[VerifiedQuote], expect: Expect) -> None:
    for member in ("mid", "bid", "ask", "last"):
        values = [getattr(quote, member) for quote in quotes]
        prices = [Fraction(value) for value in values if value is not None]
        middle = median(prices) if prices else Fraction(0)
        if any(abs(price - middle) * 10_000 > middle * expect.divergence_bps for price in prices):
            raise ExpectationError(
                "the notaries saw different prices",
                rule="expect.notaries.max_div_bps",
                found=[f"{each.notary.name} {each.bid} {each.ask}" for each in quotes],
                wanted=expect.divergence_bps,
            )


def _check_same(voices: Sequence[Verified], members: Sequence[str]) -> None:
    for member in members:
        found = {_said(voice, member) for voice in voices}
        if len(found) > 1:
            raise ExpectationError(
                f"the notaries attest different {member}s",
                rule=f"quorum.{member}",
                found=sorted(found),
            )


def _said(voice: Verified, member: str) -> str:
    """A member; of a slot's purpose what is not the notary's own name for the feed."""
    value: str = getattr(voice, member)
    kind, _, rest = value.partition("/")
    return f"slot/{rest.partition('/')[2]}" if member == "purpose" and kind == "slot" else value
