"""Who may have sessions, with what, and where to: the operator's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.errors import RefusedError
from attestation.request import SessionRequest
from attestation.venues import VenueFile
from notary.limits import ProverLimits

ANONYMOUS = "anonymous"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may have sessions, with what."""

    notary: str
    venues: Mapping[str, VenueFile]
    hosts: frozenset[tuple[str, int]]
    provers: frozenset[str]
    unknown_provers: bool
    anonymous: bool
    prover_limits: ProverLimits
    unknown_limits: ProverLimits
    address_limits: ProverLimits = dataclasses.field(default_factory=ProverLimits)
    strangers_limits: ProverLimits = dataclasses.field(default_factory=ProverLimits)
    shared_addresses: frozenset[str] = frozenset()

    def place(self, request: SessionRequest) -> tuple[str, int, VenueFile | None]:
        """Returns host, port and venue file (W14); raises RefusedError."""
        if request.venue is not None and request.instrument is not None:
            venue = self.venues.get(request.venue)
            if venue is None:
                raise RefusedError(
                    "this notary does not serve the venue",
                    rule="W14",
                    found=request.venue,
                    wanted=sorted(self.venues),
                    http_status=403,
                )
            venue.target(request.instrument)
            if request.mode == "live":
                return _live_host(venue, request.host), venue.channel.port, venue
            return venue.hosts[0], venue.port, venue
        assert request.host is not None
        assert request.port is not None
        if (request.host, request.port) not in self.hosts:
            raise RefusedError(
                "ad hoc hosts are those of the notary's configuration alone",
                rule="W14",
                found=f"{request.host}:{request.port}",
                http_status=403,
            )
        return request.host, request.port, None

    def limits(self, prover: str) -> ProverLimits:
        """Returns the limits of a prover; raises RefusedError if it may have none."""
        if prover in self.provers:
            return self.prover_limits
        if prover == ANONYMOUS and not self.anonymous:
            raise RefusedError("session requests must be signed", rule="prover", http_status=403)
        if prover != ANONYMOUS and not self.unknown_provers:
            raise RefusedError(
                "this notary does not know the prover", rule="prover", http_status=403
            )
        return self.unknown_limits


def _live_host(venue: VenueFile, host: str | None) -> str:
    """Returns which of its channel's hosts a live session is for (W14)."""
    hosts = venue.channel.hosts
    if host is None and "*" not in hosts[0]:
        return hosts[0]
    if host is None or not venue.channel.allows(host):
        raise RefusedError(
            f"name a live host of {venue.name}",
            rule="W14",
            found=host,
            wanted=list(hosts),
            http_status=403,
        )
    return host
