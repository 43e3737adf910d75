"""What the reader of a bundle demands of it."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Annotated, Self

from attestation.encoding import JsonObject, encode
from attestation.errors import MalformedError, UsageError
from attestation.schema import Document, HashString, Hex32, Micros, OneOf, Price, Text
from attestation.settlement.promise import Promise


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementExpect(Document):
    """The policy that was agreed on, and what is known of the trade.

    ``policy_id`` says what was agreed: market, venues, windows, notaries and log
    policy.  ``trade``, ``player``, ``side`` and ``stake`` are the trade's, where the
    reader knows them; ``digest`` its promised commitment and ``logged_by_us`` until when
    it had to be logged; ``operators`` who may run the notaries.
    """

    policy_id: Hex32
    trade: Hex32 | None = None
    market: Text | None = None
    player: HashString | None = None
    side: Annotated[str, OneOf(("up", "down"))] | None = None
    stake: Price | None = None
    digest: HashString | None = None
    logged_by_us: Micros | None = None
    operators: tuple[Text, ...] | None = None
    insecure_allow_development: bool | None = None

    @classmethod
    def parse(cls, toml: bytes) -> Self:
        """Reads an expect file; raises UsageError."""
        try:
            value: JsonObject = tomllib.loads(toml.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"expect file is not TOML: {error}") from None
        encode(value)
        try:
            return cls.from_json(value)
        except MalformedError as error:
            raise UsageError(
                f"expect file: {error}", rule=error.rule, found=error.found, wanted=error.wanted
            ) from None

    def promised(self, promise: Promise) -> SettlementExpect:
        """Returns this with what an operator promised: its leaf, and by when it is logged."""
        return dataclasses.replace(
            self, trade=promise.trade, digest=promise.digest, logged_by_us=promise.log_by_us
        )
