"""The prover: fetches prices over TLS through notaries and keeps what proves them.

with Notary(url, prover_key=key, trust=trust) as notary:
    with httpx.Client(transport=AttestedTransport(notary)) as client:
        response = client.get(url)
        attested = response.extensions["attestation"]

Names are loaded when they are first used: so the command can say what is not
installed, and starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prover.fetch import AttestedFetch
    from prover.flow import Timeouts
    from prover.logged import LogReceipt, renew_inclusion
    from prover.notary_client import Notary, NotaryInfo
    from prover.present import build_presentation, build_presentations
    from prover.quorum import QuorumFetch, Voice, fetch_quorum
    from prover.sections import DEFAULT_SECTIONS, Section
    from prover.transport import (
        AsyncAttestedTransport,
        AsyncPendingAttestation,
        AttestedTransport,
        PendingAttestation,
    )
    from prover.vault import StoredFetch, keep_log, load, load_evidence, load_set, save

_MODULES = {
    "prover.fetch": "AttestedFetch",
    "prover.flow": "Timeouts",
    "prover.logged": "LogReceipt renew_inclusion",
    "prover.notary_client": "Notary NotaryInfo",
    "prover.present": "build_presentation build_presentations",
    "prover.quorum": "QuorumFetch Voice fetch_quorum",
    "prover.sections": "DEFAULT_SECTIONS Section",
    "prover.transport": (
        "AsyncAttestedTransport AsyncPendingAttestation AttestedTransport PendingAttestation"
    ),
    "prover.vault": "StoredFetch keep_log load load_evidence load_set save",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

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
    "fetch_quorum",
    "QuorumFetch",
    "Voice",
    "load_set",
    "build_presentations",
    "LogReceipt",
    "renew_inclusion",
    "keep_log",
]


def __getattr__(name: str) -> object:
    module = _PLACES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
