"""A settlement policy to begin with: the reference's figures, over a feed's venues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attestation.settlement.policy import PolicyNotary, PolicyVenue, SettlementPolicy, Windows
from attestation.venues import VenueFile

SECOND_US = 1_000_000
MAX_SKEW_US = 2 * SECOND_US


def draft_policy(
    *,
    name: str,
    market: str,
    venues: Mapping[str, VenueFile],
    notaries: Sequence[PolicyNotary],
    log_policy: str,
    grid_us: int,
    late_us: int,
    window_us: int,
    durations_us: Sequence[int],
    fee: str,
    evidence_days: int,
    effective_us: int,
) -> SettlementPolicy:
    """Drafts a policy (docs/settlement-policy.md has the reason for each figure).

    ``log_policy`` is the hash string of the log policy's text.  Two thirds of a window's
    slots must be valid, three of five venues and one count; most notaries must agree.
    Raises MalformedError with the member for what cannot be meant.
    """
    slots = window_us // grid_us
    return SettlementPolicy(
        name=name,
        market=market,
        grid_us=grid_us,
        late_us=late_us,
        notaries=tuple(notaries),
        q=len(notaries) // 2 + 1,
        log_policy=log_policy,
        venues=tuple(
            [_venue(name, file, market) for name, file in sorted(venues.items())],
        ),
        k=min(len(venues) * 3 // 5 + 1, len(venues)),
        max_spread_bps=20,
        div_bps=20,
        windows=Windows(w_us=window_us, min_slots=max(-(-2 * slots // 3), slots // 2 + 1)),
        durations_us=tuple(durations_us),
        entry_delay_us=SECOND_US,
        slide_us=5 * SECOND_US // grid_us * grid_us,
        max_cosign_delay_us=5 * SECOND_US,
        sources=("live",),
        modes=("live",),
        bindings=("full",),
        fee=fee,
        log_by_us=SECOND_US // 2,
        evidence_days=evidence_days,
        effective_us=effective_us,
    )


def _venue(name: str, file: VenueFile, market: str) -> PolicyVenue:
    time = file.channel.quote.exchange_time
    return PolicyVenue(
        venue=name,
        instrument=file.instrument(market),
        venue_file=file.hash,
        max_staleness_us=file.channel.staleness_ms * 1_000,
        # Another time than the quote's own says nothing of a venue's clock.
        max_skew_us=MAX_SKEW_US if time is not None and time.of == "quote" else None,
    )
