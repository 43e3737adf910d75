"""The prover: fetches prices over TLS through notaries and keeps what proves them.

with Notary(url, prover_key=key, trust=trust) as notary:
    with httpx.Client(transport=AttestedTransport(notary)) as client:
        response = client.get(url)
        attested = response.extensions["attestation"]
"""

from __future__ import annotations

from prover.fetch import AttestedFetch
from prover.flow import Timeouts
from prover.notary_client import Notary, NotaryInfo
from prover.present import build_presentation
from prover.sections import DEFAULT_SECTIONS, Section
from prover.transport import (
    AsyncAttestedTransport,
    AsyncPendingAttestation,
    AttestedTransport,
    PendingAttestation,
)
from prover.vault import StoredFetch, load, load_evidence, save

__all__ = [
    "Notary",
    "NotaryInfo",
    "Timeouts",
    "AttestedTransport",
    "AsyncAttestedTransport",
    "AttestedFetch",
    "PendingAttestation",
    "AsyncPendingAttestation",
    "Section",
    "DEFAULT_SECTIONS",
    "StoredFetch",
    "save",
    "load",
    "load_evidence",
    "build_presentation",
]
