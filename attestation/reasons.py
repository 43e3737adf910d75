"""Why a session or a slot ended without an attestation, and whose fault that is (docs/log.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PARTIES = ("venue", "prover", "notary")
"""Who may be at fault."""

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "venue_closed": "venue",
        "venue_refused": "venue",
        "venue_silent": "venue",
        "venue_malformed": "venue",
        "venue_tls": "venue",
        "prover_closed": "prover",
        "prover_slow": "prover",
        "keepalive_missed": "prover",
        "not_opened": "prover",
        "invalid": "prover",
        "violation": "prover",
        "timeout": "prover",
        "absent": "prover",
        "restart": "notary",
        "clock": "notary",
        "overload": "notary",
    }
)
"""The fault of each reason; it follows from the reason alone."""
