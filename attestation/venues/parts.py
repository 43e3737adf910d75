"""What both halves of a venue file, ``[rest]`` and ``[websocket]``, are made of."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Annotated

from attestation.errors import MalformedError
from attestation.schema import Between, Document, OneOf, Pattern, Text
from attestation.strictjson import Scalar, scalar

PLACEHOLDER = "{instrument}"

VenueName = Annotated[str, Pattern(r"[a-z][a-z0-9_]{0,31}", "a venue's name")]
VenueHost = Annotated[
    str,
    Pattern(
        r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]",
        "a lower-case host name",
    ),
]
Port = Annotated[int, Between(1, 65_535)]
Market = Annotated[str, Pattern(r"[A-Z0-9]{1,16}/[A-Z0-9]{1,16}", "a market such as BTC/USD")]
# No character that a target or a pointer would have to escape.
Instrument = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,31}", "an instrument")]
Currency = Annotated[str, Pattern(r"[A-Z0-9]{1,16}", "a currency")]
SentAs = Annotated[str, OneOf(("string", "number"))]
Template = Annotated[str, Pattern(r"(?:[^{}]|\{instrument\})*", "text or {instrument}")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check(Document):
    """A member that must equal the scalar or empty container written in ``equals``.

    Both may hold ``{instrument}``.
    """

    at: Template
    equals: Text

    def __post_init__(self) -> None:
        _wanted(self.equals)

    @property
    def wanted(self) -> Scalar:
        """The value that ``equals`` writes."""
        return _wanted(self.equals)

    def filled(self, instrument: str) -> Scalar:
        """The value that ``equals`` writes for an instrument."""
        return _wanted(self.equals.replace(PLACEHOLDER, instrument))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTime(Document):
    """The venue's own time in the body.

    ``unit`` is us, ms or s (whole numbers since the epoch) or iso8601; ``of`` says
    what happened then: the quote, the last trade, or the sending of the reply.
    """

    at: Template
    sent_as: SentAs
    unit: Annotated[str, OneOf(("us", "ms", "s", "iso8601"))]
    of: Annotated[str, OneOf(("quote", "trade", "reply"))]

    def __post_init__(self) -> None:
        if self.unit == "iso8601" and self.sent_as != "string":
            raise MalformedError("an ISO 8601 time is a string")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Document):
    """How many requests the venue allows one address in a span of seconds."""

    requests: Annotated[int, Between(1, 1_000_000)]
    seconds: Annotated[int, Between(1, 86_400)]


@lru_cache(maxsize=256)
def _wanted(text: str) -> Scalar:
    return scalar(text.encode("utf-8"))
