"""The seal: a notary's word on all raw bytes, given before it can read them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from attestation.document import KeyName
from attestation.schema import Count, Document, HashString, Hex, Hex16, Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SealTimes(Document):
    """When what passed, as far as the notary can tell without keys.

    Requests are stamped when forwarded, responses when they arrived; records
    that may be handshake are counted with the first of their direction after
    the release, so these times bound those of the attestation from outside.
    """

    connected_us: Micros
    hello_us: Micros
    released_us: Micros
    sealed_us: Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seal(Document):
    """Hashes of all raw bytes of each direction from byte 0, with their sizes.

    ``commitment``: of the key log, as it came before any application data; present
    under the binding ``template``.
    """

    TYPE: ClassVar[str | None] = "quotary/seal/v1"

    session: Hex16
    sent: HashString
    received: HashString
    sent_size: Count
    received_size: Count
    times: SealTimes
    commitment: HashString | None = None
    key: KeyName


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedSeal(Document):
    """A seal and the notary's signature over its canonical bytes."""

    seal: Seal
    signature: Hex
