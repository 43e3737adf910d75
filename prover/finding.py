"""What a probe asks for, what it can find, and what to do about it: pure data and rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from attestation.venues import VenueFile

WORKS = "works"

CURES: Mapping[str, str] = MappingProxyType(
    {
        WORKS: "",
        "notary": "ask the notary's operator whether it serves this venue and prover, and for its "
        "limits; `prover doctor --notary` tells whether it answers at all",
        "dns": "check the resolver there, and that it may ask for this name",
        "address": "a notary refuses this address: use a resolver that gives the venue's own",
        "connect": "allow connections to port 443; if the address is IPv6, check its route",
        "tls": "look for a middlebox that blocks or changes TLS; try another network",
        "tls12": "only TLS 1.3 can be witnessed: take another venue, or a network that leaves "
        "TLS alone",
        "certificate": "someone on the path may answer for the venue: try another network; or the "
        "root certificates here are old: update certifi, or name others by --roots",
        "silent": "try again with a longer --timeout; else the venue drops requests from here: try "
        "another network",
        "closed": "try again; if it stays, the venue ends connections from here: try another "
        "network",
        "witness": "a notary refuses such a session: take another venue, and report this one",
        "http": "a notary refuses such an answer: take another venue, and report this one",
        "blocked": "the venue refuses this address, as many do those of data centres: try another "
        "network",
        "legal": "the venue does not serve this country: take another venue, or another network",
        "rate": "too many requests from this address: wait, and ask less often",
        "path": "the venue file may be out of date: compare it with the venue's documentation",
        "down": "the venue is down: try again later",
        "status": "compare the venue file with the venue's documentation",
        "cached": "a cache answers, and makes no quote: try again, or try another network",
        "parse": "the answer is not JSON as the venue file says: compare it with the venue's "
        "documentation",
        "symbol": "the venue answers for another instrument: compare the venue file with its "
        "documentation",
        "quote": "the answer lacks what the venue file names: compare it with the venue's "
        "documentation",
        "slow": "by default a notary gives an answer 2 s: try a network nearer to the venue, or a "
        "notary with longer deadlines",
        "clock": "set this machine's clock by NTP; if it is right, the venue's is wrong",
    }
)
"""Every verdict and its cure, in the order in which a probe can meet them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A host of a venue, and the instrument to ask it for."""

    venue: VenueFile
    host: str
    instrument: str


class StopError(Exception):
    """Ends a probe with a verdict."""

    def __init__(self, verdict: str, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict
        self.detail = detail


@dataclasses.dataclass(slots=True, kw_only=True)
class Finding:
    """What became of one target; a member is None where the probe did not come so far.

    ``verdict`` is one of ``CURES``.  ``chain`` counts the
    certificates of a chain that is valid by a notary's rule.  ``skew_us`` is how
    far ``Date`` lies outside the time of the exchange on this machine's clock,
    0 within it.  ``symbol`` is the instrument as the venue repeats it.
    """

    venue: str
    host: str
    instrument: str
    verdict: str = WORKS
    detail: str = ""
    cure: str = ""
    addresses: tuple[str, ...] = ()
    tls: str | None = None
    suite: str | None = None
    group: str | None = None
    chain: int | None = None
    status: int | None = None
    skew_us: int | None = None
    symbol: str | None = None
    bid: str | None = None
    ask: str | None = None
    took_us: int = 0

    @property
    def works(self) -> bool:
        """Whether a notary at this place could attest the quote."""
        return self.verdict == WORKS


def verdict_of_status(status: int) -> str:
    """Returns the verdict on a status other than 200."""
    if status in (418, 429):  # 418 is how some venues answer who ignored a 429
        return "rate"
    if status == 451:
        return "legal"
    if status in (401, 403):
        return "blocked"
    if status in (400, 404, 410):
        return "path"
    return "down" if status >= 500 else "status"


def cure_of(verdict: str, venue: VenueFile, host: str) -> str:
    """Returns what to do; of a venue's other hosts its file's note knows more."""
    if verdict in ("legal", "blocked") and venue.note is not None and host != venue.hosts[0]:
        return venue.note
    return CURES[verdict]
