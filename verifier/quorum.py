"""Several notaries for one quote: each verified alone, then compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

from attestation.errors import ExpectationError, IncompleteError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.verify import VerifiedQuote, VerifiedTranscript, verify_one


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


def verify_quorum(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuorum:
    """Verifies one quote witnessed by several notaries.

    All presentations must verify and tell of the same venue, market,
    instrument and purpose, no two may be of one notary name (two of one name
    would count one voice twice), and every mid must lie within
    ``expect.notaries.max_div_bps`` of their median.  Raises IncompleteError if
    there are fewer than ``expect.notaries.count``.
    """
    quotes = []
    for presentation in presentations:
        verified = verify_one(
            presentation, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
        )
        if isinstance(verified, VerifiedTranscript):
            raise ExpectationError("a quorum is of quotes", rule="expect.hosts")
        quotes.append(verified)
    names = [quote.notary.name for quote in quotes]
    if len(set(names)) < max(expect.notary_count, 1):
        raise IncompleteError(
            "fewer notaries than expected",
            rule="expect.notaries.count",
            found=len(set(names)),
            wanted=expect.notary_count,
        )
    if len(set(names)) != len(names):
        raise ExpectationError("one notary speaks twice", rule="expect.notaries.count", found=names)
    _check_same(quotes)
    middle = median([quote.mid for quote in quotes])
    for quote in quotes:
        if abs(quote.mid - middle) * 10_000 > middle * expect.divergence_bps:
            raise ExpectationError(
                "the notaries saw different prices",
                rule="expect.notaries.max_div_bps",
                found=[f"{each.notary.name} {each.bid} {each.ask}" for each in quotes],
                wanted=expect.divergence_bps,
            )
    return VerifiedQuorum(
        quotes=tuple(quotes),
        mid=middle,
        not_before_us=min(quote.not_before_us for quote in quotes),
        not_after_us=max(quote.not_after_us for quote in quotes),
    )


def median(values: Sequence[Fraction]) -> Fraction:
    """Returns the exact median; of an even number, the mean of the two middles."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def _check_same(quotes: Sequence[VerifiedQuote]) -> None:
    for member in ("venue", "market", "instrument", "purpose"):
        found = {getattr(quote, member) for quote in quotes}
        if len(found) > 1:
            raise ExpectationError(
                f"the notaries attest different {member}s",
                rule=f"expect.{member}",
                found=sorted(found),
            )
