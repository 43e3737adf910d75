"""What a prover keeps to itself: never sent, stored readable by its owner alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from attestation.document import Attestation
from attestation.request import AttestationRequest, Opened
from attestation.schema import Document, Hex16
from attestation.seal import SignedSeal

EVIDENCE_LIMIT = 64 * 1024 * 1024
"""Bytes of an evidence file."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Secrets(Document):
    """Plaintext of one claim and the salts of its sections (in ``request``).

    ``header`` is the id of the attestation it belongs to, whose own file holds
    the seed of the field salts.
    """

    TYPE: ClassVar[str | None] = "quotary/secrets/v1"

    header: Hex16
    request: AttestationRequest
    sent: bytes
    received: bytes

    def __repr__(self) -> str:
        return f"Secrets(header={self.header!r}, ...)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Document):
    """Everything needed to repeat the notary's work on one claim.

    ``sent`` and ``received`` are the raw bytes of the connection from byte 0 to
    the last record of the claim, as many as the attestation counts.  Reveals
    all plaintext: for disputes only (docs/formats.md, "Secrets, evidence").
    """

    TYPE: ClassVar[str | None] = "quotary/evidence/v1"

    attestation: Attestation
    request: AttestationRequest
    sent: bytes
    received: bytes
    opening: Opened
    seal: SignedSeal | None = None

    def __repr__(self) -> str:
        return f"Evidence(header={self.attestation.header.id!r}, ...)"
