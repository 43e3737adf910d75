"""What a consumer demands of a presentation (docs/formats.md, "Verify").

Read from ``expect.toml`` or from the verify API's JSON.  Without the optional
members: modes sealed and live, binding full, one notary.
"""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Annotated, Self

from attestation.document import Binding, Mode
from attestation.encoding import JsonObject, encode
from attestation.errors import MalformedError, UsageError
from attestation.schema import AtLeast, Document, HashString, Micros, Name, Pattern, Text

DEFAULT_MODES = ("sealed", "live")
DEFAULT_BINDINGS = ("full",)
DEFAULT_DATE_SKEW_US = 5_000_000
DEFAULT_DIVERGENCE_BPS = 20
DEFAULT_APART_US = 10_000_000

Positive = Annotated[int, AtLeast(1)]
Place = Annotated[
    str,
    Pattern(
        r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::(?!443\Z)[1-9][0-9]{0,4})?",
        "a lower-case host name, with its port where that is not 443",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotaryQuorum(Document):
    """How many differently named notaries must agree, and who may run them.

    ``max_div_bps``: how far, in basis points of their median, the prices of
    several notaries may lie from it.  ``max_apart_us``: how far apart the first
    and the last instant of all their intervals may be.  Two notaries of one
    operator count once unless ``insecure_shared_operators``.
    """

    count: Positive
    operators: tuple[Text, ...] | None = None
    max_div_bps: Positive | None = None
    max_apart_us: Micros | None = None
    insecure_shared_operators: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogExpectation(Document):
    """How many witnesses' cosignatures a log proof must carry, and how soon after logging.

    Witnesses are those of the trust file.  Two of one operator count once, and one of
    the notary's own operator not at all, unless ``insecure_shared_operators``.
    """

    quorum: Positive
    max_delay_us: Micros | None = None
    insecure_shared_operators: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expect(Document):
    """Either ``venues`` and ``market`` (a quote), or ``hosts`` (a transcript).

    A host stands for its port 443; another port is named (``example.com:8443``).
    The proven interval must lie within ``not_before_us..not_after_us``;
    ``max_age_us`` bounds now minus its start.
    """

    venues: tuple[Name, ...] | None = None
    market: Text | None = None
    hosts: tuple[Place, ...] | None = None
    instruments: tuple[Text, ...] | None = None
    not_before_us: Micros | None = None
    not_after_us: Micros | None = None
    max_age_us: Micros | None = None
    purpose: Text | None = None
    modes: tuple[Mode, ...] | None = None
    bindings: tuple[Binding, ...] | None = None
    notaries: NotaryQuorum | None = None
    log: LogExpectation | None = None
    max_date_skew_us: Micros | None = None
    roots: HashString | None = None
    insecure_allow_development: bool | None = None

    def __post_init__(self) -> None:
        quote = self.venues is not None
        if (
            quote == (self.hosts is not None)
            or quote != (self.market is not None)
            or not (self.venues or self.hosts)
        ):
            raise MalformedError("expect names either venues and market, or hosts")
        if self.instruments is not None and not quote:
            # A demand that nothing would check must not look like one that was met.
            raise MalformedError("a transcript has no instrument", rule="instruments")

    @classmethod
    def parse(cls, toml: bytes) -> Self:
        """Reads an expect file; raises UsageError."""
        try:
            value: JsonObject = tomllib.loads(toml.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"expect file is not TOML: {error}") from None
        encode(value)  # TOML has values that the verify API's JSON does not: they are refused
        try:
            return cls.from_json(value)
        except MalformedError as error:
            raise UsageError(
                f"expect file: {error}", rule=error.rule, found=error.found, wanted=error.wanted
            ) from None

    @property
    def accepted_modes(self) -> tuple[str, ...]:
        return DEFAULT_MODES if self.modes is None else self.modes

    @property
    def accepted_bindings(self) -> tuple[str, ...]:
        return DEFAULT_BINDINGS if self.bindings is None else self.bindings

    @property
    def notary_count(self) -> int:
        return 1 if self.notaries is None else self.notaries.count

    @property
    def date_skew_us(self) -> int:
        return DEFAULT_DATE_SKEW_US if self.max_date_skew_us is None else self.max_date_skew_us

    @property
    def divergence_bps(self) -> int:
        if self.notaries is None or self.notaries.max_div_bps is None:
            return DEFAULT_DIVERGENCE_BPS
        return self.notaries.max_div_bps

    @property
    def apart_us(self) -> int:
        if self.notaries is None or self.notaries.max_apart_us is None:
            return DEFAULT_APART_US
        return self.notaries.max_apart_us

    @property
    def shared_operators(self) -> bool:
        return bool(self.notaries is not None and self.notaries.insecure_shared_operators)
