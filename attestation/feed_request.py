"""What a prover signs to have an entry logged, and to read a feed's slots.

The envelope of each is ``{"request", "signature"}``, the signature over the canonical
request.  Of an entry it is the body of ``POST /v1/entries``; of a feed it is canonical
and, in base64url, the token of ``Authorization: Bearer``.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from attestation.encoding import JsonObject, base64url_decode, base64url_encode
from attestation.errors import MalformedError
from attestation.keys import SigningKey
from attestation.log.entry import FeedEntry, PolicyEntry, TradesEntry, load_entry
from attestation.schema import Document, Hex, Hex16, Micros, Name, Text

SUBMITTED = (FeedEntry, PolicyEntry, TradesEntry)
"""The kinds of entries that provers submit; the notary makes all others."""

MAX_BEARER = 8 * 1024
"""Characters of a feed request's token."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedRequest(Document):
    """A prover's request to read the slots of one feed.

    ``notary``, ``at_us`` (the prover's clock) and ``nonce`` keep it from being replayed.
    """

    TYPE: ClassVar[str | None] = "quotary/feed_request/v1"

    notary: Text
    feed: Name
    at_us: Micros
    nonce: Hex16
    prover: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntryRequest(Document):
    """A prover's request to have an entry logged; the entry's ``logged_us`` is 0."""

    TYPE: ClassVar[str | None] = "quotary/entry_request/v1"

    notary: Text
    at_us: Micros
    nonce: Hex16
    prover: Text
    entry: JsonObject

    def submitted(self) -> FeedEntry | PolicyEntry | TradesEntry:
        """Reads the entry; raises MalformedError unless it is of a kind that provers submit."""
        entry = load_entry(self.entry)
        if not isinstance(entry, SUBMITTED):
            raise MalformedError(
                "provers submit no such entry",
                rule="entry.kind",
                found=entry.kind,
                wanted=["feed", "policy", "trades"],
            )
        if entry.logged_us != 0:
            raise MalformedError(
                "the log says when an entry was logged",
                rule="entry.logged_us",
                found=entry.logged_us,
                wanted=0,
            )
        return entry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedFeedRequest(Document):
    """A feed request under its prover's signature."""

    request: FeedRequest
    signature: Hex

    @classmethod
    def sign(cls, request: FeedRequest, key: SigningKey) -> SignedFeedRequest:
        """Signs a request with the key of its prover."""
        return cls(request=request, signature=key.sign(request.encode()).hex())

    @property
    def bearer(self) -> str:
        """The token: base64url of the canonical envelope."""
        return base64url_encode(self.encode())

    @classmethod
    def parse(cls, bearer: str) -> SignedFeedRequest:
        """Reads a token; raises MalformedError for any but its one spelling."""
        if len(bearer) > MAX_BEARER:
            raise MalformedError("the token is too long", rule="token", wanted=MAX_BEARER)
        return cls.decode(base64url_decode(bearer))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedEntryRequest(Document):
    """An entry request under its prover's signature."""

    request: EntryRequest
    signature: Hex

    @classmethod
    def sign(cls, request: EntryRequest, key: SigningKey) -> SignedEntryRequest:
        """Signs a request with the key of its prover."""
        return cls(request=request, signature=key.sign(request.encode()).hex())
