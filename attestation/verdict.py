"""The verdict: one schema for the CLI's ``--json`` and the verify API.

``accepted`` needs an ``expect``; without one (``--insecure-no-expect``) a
presentation is only ``authentic``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation.encoding import Json
from attestation.errors import QuotaryError
from attestation.schema import Count, Document, Hex16, Micros, OneOf, Price, Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictQuote(Document):
    """A quote a verdict vouches for; the price held in the closed interval."""

    attestation: Hex16
    venue: str
    market: str
    instrument: str
    bid: Price
    ask: Price
    mid: Price
    not_before_us: Micros
    not_after_us: Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictMid(Document):
    """The exact median of several notaries' mids of one venue."""

    venue: str
    mid: Price


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictNotary(Document):
    """A notary that witnessed, and who runs it, by the trust file."""

    name: Text
    operator: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictLog(Document):
    """Where a trusted log has an attestation.

    ``quorum_us`` is when as many witnesses as were demanded had cosigned, of whom
    ``witnesses`` are the first; absent and empty where none were demanded.
    """

    attestation: Hex16
    origin: Text
    operator: Text
    index: Count
    logged_us: Micros
    quorum_us: Micros | None = None
    witnesses: tuple[Text, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Document):
    """A favourable verdict.  ``attestation`` is the first presentation's header id.

    ``mid`` is there for several notaries: the exact median of their mids; ``mids``, venue
    by venue, for several notaries' slots of several venues.
    ``logs`` is there if a log proof was verified.
    """

    TYPE: ClassVar[str | None] = "quotary/verdict/v1"

    verdict: Annotated[str, OneOf(("accepted", "authentic"))]
    attestation: Hex16
    quotes: tuple[VerdictQuote, ...]
    mode: str
    binding: str
    purpose: str
    not_before_us: Micros
    not_after_us: Micros
    notaries: tuple[VerdictNotary, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]
    host: str | None = None
    mid: Price | None = None
    mids: tuple[VerdictMid, ...] | None = None
    logs: tuple[VerdictLog, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Document):
    """An unfavourable verdict: which kind of error, and by which rule."""

    TYPE: ClassVar[str | None] = "quotary/verdict/v1"

    verdict: Annotated[str, OneOf(("rejected",))]
    error: str
    detail: str
    rule: str | None = None
    found: str | None = None
    wanted: str | None = None


def rejected(error: QuotaryError) -> Rejected:
    """Turns an error into a verdict; ``found`` and ``wanted`` become short texts."""
    return Rejected(
        verdict="rejected",
        error=error.slug,
        detail=error.detail,
        rule=error.rule,
        found=_short(error.found),
        wanted=_short(error.wanted),
    )


def read_verdict(value: Json) -> Accepted | Rejected:
    """Reads a verdict strictly; raises MalformedError."""
    is_rejected = isinstance(value, dict) and value.get("verdict") == "rejected"
    return Rejected.from_json(value) if is_rejected else Accepted.from_json(value)


def _short(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(str(item) for item in value)[:400]
    return str(value)[:400]
