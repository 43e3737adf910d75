"""A notary that signs whatever it is told."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from attestation import merkle
from attestation.document import Attestation, Field, Header, NotaryField, body_leaves
from attestation.hashing import format_hash
from attestation.keys import SigningKey
from attestation.trust import TrustedKey

T0 = 1_768_478_400_000_000
"""2026-01-15T12:00:00Z, when the forged sessions connect."""
YEAR = 365 * 86_400 * 1_000_000


def hash_of(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.sha256(b"forge/" + label.encode()).digest()[:size]


@dataclasses.dataclass(frozen=True)
class LyingNotary:
    """A notary with a key, who signs any fields."""

    name: str = "notary.one"
    operator: str = "One Ltd"
    algorithm: str = "ed25519"
    hash: str = "sha256"

    @property
    def key(self) -> SigningKey:
        return SigningKey(
            name=self.name, algorithm=self.algorithm, seed=hash_of(f"{self.name}/{self.algorithm}")
        )

    def trusted(self, **changes: Any) -> TrustedKey:
        """The notary as an entry of a trust file, valid for a year around ``T0``."""
        entry = TrustedKey(
            name=self.name,
            operator=self.operator,
            key=self.key.verifying_key,
            role="attest",
            valid_from_us=T0 - YEAR // 2,
            valid_until_us=T0 + 9 * YEAR,
        )
        return dataclasses.replace(entry, **changes)

    def notary_field(self) -> NotaryField:
        return NotaryField(
            name=self.name, vkey=self.key.verifying_key.vkey, software="quotary 0.1.0"
        )

    def sign(
        self, fields: Sequence[Field], *, label: str, issued_us: int, **changes: Any
    ) -> Attestation:
        """Signs a body; ``changes`` replace header members before signing."""
        seed = hash_of(f"seed/{label}").hex()
        root = merkle.root(body_leaves(fields, seed=seed, algorithm=self.hash), self.hash)
        header = Header(
            id=hash_of(f"header/{label}", 16).hex(),
            key=self.key.verifying_key.short,
            root=format_hash(root, self.hash),
            size=len(fields),
            issued_us=issued_us,
        )
        header = dataclasses.replace(header, **changes)
        return Attestation(
            header=header,
            signature=self.key.sign(header.encode()).hex(),
            fields=tuple(fields),
            seed=seed,
        )
