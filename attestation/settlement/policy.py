"""Settlement policies: the numbers of the rule, fixed and logged before they are used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar

from attestation.document import Binding, Mode
from attestation.errors import MalformedError, UntrustedError
from attestation.hashing import digest
from attestation.schema import AtLeast as _AtLeast
from attestation.schema import Document, HashString, Micros, Name, OneOf, Text
from attestation.venues import VenueFile

Positive = Annotated[int, _AtLeast(1)]
Source = Annotated[str, OneOf(("live", "rest"))]
BASIS = 10_000
"""Basis points in one."""
MAX_SLOTS = 1_000
"""Slots of a window, and slots that a close may slide: what judging a trade may cost."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVenue(Document):
    """A venue's listing that counts, and how old or skewed its quote may be."""

    venue: Name
    instrument: Text
    venue_file: HashString
    max_staleness_us: Positive
    max_skew_us: Positive | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyNotary(Document):
    """A notary whose slots count, its log's origin, and its feed there."""

    notary: Text
    log: Text
    feed: Name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Windows(Document):
    """Length of the windows at both ends, and how many valid slots each needs."""

    w_us: Positive
    min_slots: Positive


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementPolicy(Document):
    """A policy (docs/settlement-policy.md); its id is the SHA-256 of its canonical bytes.

    Times in microseconds, spreads and divergence in basis points.  The first of
    ``notaries`` keeps the log that holds the trades.  Raises MalformedError with
    the member, and why, for a policy that cannot be meant.
    """

    TYPE: ClassVar[str | None] = "quotary/policy/v1"

    name: Name
    market: Text
    grid_us: Positive
    late_us: Micros
    notaries: tuple[PolicyNotary, ...]
    q: Positive
    log_policy: HashString
    venues: tuple[PolicyVenue, ...]
    k: Positive
    max_spread_bps: Positive
    div_bps: Positive
    windows: Windows
    durations_us: tuple[Positive, ...]
    entry_delay_us: Positive
    slide_us: Micros
    max_cosign_delay_us: Micros
    sources: tuple[Source, ...]
    modes: tuple[Mode, ...]
    bindings: tuple[Binding, ...]
    roots: HashString | None = None
    fee: Text
    log_by_us: Positive
    evidence_days: Positive
    effective_us: Micros

    def __post_init__(self) -> None:
        windows, grid = self.windows, self.grid_us
        _demand(windows.w_us % grid == 0, "windows.w_us", "is a multiple of grid_us")
        slots = windows.w_us // grid
        _demand(slots <= MAX_SLOTS, "windows.w_us", f"is at most {MAX_SLOTS} slots")
        _demand(self.slide_us // grid <= MAX_SLOTS, "slide_us", f"is at most {MAX_SLOTS} slots")
        _demand(windows.min_slots <= slots, "windows.min_slots", "is at most the slots of a window")
        _demand(2 * windows.min_slots > slots, "windows.min_slots", "is more than half of them")
        _demand(self.slide_us % grid == 0, "slide_us", "is a multiple of grid_us")
        for name, items in (
            ("venues", [venue.venue for venue in self.venues]),
            ("notaries", [notary.notary for notary in self.notaries]),
            ("notaries", [notary.log for notary in self.notaries]),
            ("durations_us", list(self.durations_us)),
            ("sources", list(self.sources)),
            ("modes", list(self.modes)),
            ("bindings", list(self.bindings)),
        ):
            _demand(bool(items) and len(set(items)) == len(items), name, "has members, each once")
        names = [venue.venue for venue in self.venues]
        _demand(names == sorted(names), "venues", "is sorted by venue")
        _demand(self.k <= len(self.venues), "k", "is at most the number of venues")
        _demand(2 * self.k > len(self.venues), "k", "is more than half of the venues")
        _demand(self.q <= len(self.notaries), "q", "is at most the number of notaries")
        for duration in self.durations_us:
            _demand(duration % grid == 0, "durations_us", "holds multiples of grid_us")
            _demand(duration >= 2 * windows.w_us, "durations_us", "is at least two windows")

    @property
    def policy_id(self) -> str:
        """The SHA-256 of the canonical document, in hex."""
        return _identity(self)

    @property
    def slots(self) -> int:
        """Slots of a window."""
        return self.windows.w_us // self.grid_us

    def venue(self, name: str) -> PolicyVenue | None:
        """Returns a venue of the policy."""
        return next((venue for venue in self.venues if venue.venue == name), None)


@lru_cache(maxsize=64)
def _identity(policy: SettlementPolicy) -> str:
    return digest(policy.encode()).hex()


def policy_files(
    policy: SettlementPolicy, venue_files: Mapping[str, VenueFile]
) -> dict[str, VenueFile]:
    """Returns the files of the policy's venues; UntrustedError for one the reader has not."""
    found: dict[str, VenueFile] = {}
    for venue in policy.venues:
        file = venue_files.get(venue.venue)
        if file is None or file.hash != venue.venue_file:
            raise UntrustedError(
                f"the policy's venue file of {venue.venue} is not known",
                rule="policy.venue_file",
                found=venue.venue_file,
                wanted=None if file is None else file.hash,
            )
        found[venue.venue] = file
    return found


def _demand(holds: bool, member: str, what: str) -> None:
    if not holds:
        raise MalformedError(f"must be such that it {what}", rule=member)
