"""Key rotation: a statement, signed by the old key, that names the new one."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation.encoding import hex_decode
from attestation.errors import MalformedError
from attestation.keys import SigningKey, VerifyingKey
from attestation.schema import Document, Hex, Micros, OneOf, Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rotation(Document):
    """From ``from_us`` on, the key ``new`` signs in place of ``old``; both vkeys of one name."""

    TYPE: ClassVar[str | None] = "quotary/rotation/v1"

    role: Annotated[str, OneOf(("attest", "log"))]
    old: Text
    new: Text
    from_us: Micros

    def __post_init__(self) -> None:
        old, new = VerifyingKey.parse(self.old), VerifyingKey.parse(self.new)
        if old.name != new.name or old == new:
            raise MalformedError("a rotation names another key of the same name", rule="rotation")

    def sign(self, key: SigningKey) -> SignedRotation:
        """Signs with the old key; InvalidProofError if ``key`` is another."""
        signed = SignedRotation(rotation=self, signature=key.sign(self.encode()).hex())
        signed.verify()
        return signed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedRotation(Document):
    """A rotation and the old key's signature over its canonical bytes."""

    rotation: Rotation
    signature: Hex

    def verify(self) -> VerifyingKey:
        """Returns the new key; raises InvalidProofError unless the old one signed."""
        VerifyingKey.parse(self.rotation.old).verify(
            hex_decode(self.signature), self.rotation.encode()
        )
        return VerifyingKey.parse(self.rotation.new)
